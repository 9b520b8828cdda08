//! Connections with an owner. See the module above for why there is no pool.

use std::{future::Future, sync::Mutex, sync::PoisonError, time::Duration};

use sqlx::PgConnection;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::{connect::Database, error::StoreError};

/// The longest that one statement may take. The server's own `statement_timeout` is shorter, and the caller's patience
/// longer.
pub const STATEMENT_WITHIN: Duration = Duration::from_millis(4500);

/// Bounds a query. On expiry the caller drops the connection, and with it the socket; nothing is cancelled.
pub async fn bounded<T>(
    limit: Duration,
    query: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, StoreError> {
    match tokio::time::timeout(limit, query).await {
        Ok(result) => Ok(result?),
        Err(_) => Err(StoreError::Timeout(limit)),
    }
}

/// How long a poll may take. It takes a millisecond: on a connection that was idle, one that is not answered soon has
/// most likely met a dead network. A new connection has just shown that it works, and a slow database is waited for.
#[derive(Clone, Copy, Debug)]
pub struct Patience(Duration);

impl Patience {
    const SHORT: Duration = Duration::from_secs(1);
    pub const FRESH: Self = Self(STATEMENT_WITHIN);
    pub const USED: Self = Self(Self::SHORT);

    pub fn within(self) -> Duration {
        self.0
    }

    /// The last poll took so long.
    pub fn learn(&mut self, took: Duration) {
        self.0 = (took * 4).clamp(Self::SHORT, STATEMENT_WITHIN);
    }
}

/// One connection for one task, made when it is first needed and again after each failure.
pub struct Lane {
    database: Database,
    idle: Option<PgConnection>,
    pub patience: Patience,
}

impl Lane {
    pub fn new(database: Database) -> Self {
        Self { database, idle: None, patience: Patience::FRESH }
    }

    pub fn is_connected(&self) -> bool {
        self.idle.is_some()
    }

    /// The connection to work on. Whoever does not `give_back` it has closed it.
    pub async fn take(&mut self) -> Result<PgConnection, StoreError> {
        match self.idle.take() {
            Some(connection) => Ok(connection),
            None => {
                self.patience = Patience::FRESH;
                self.database.connect().await
            }
        }
    }

    pub fn give_back(&mut self, connection: PgConnection) {
        self.idle = Some(connection);
    }
}

/// A few connections for short reads by many.
pub struct Lanes {
    database: Database,
    places: Semaphore,
    idle: Mutex<Vec<PgConnection>>,
}

impl Lanes {
    pub fn new(database: Database, places: usize) -> Self {
        Self { database, places: Semaphore::new(places), idle: Mutex::default() }
    }

    /// Forgets the connections that nobody uses: where one has broken, the others most likely have too.
    pub fn forget_idle(&self) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    pub async fn take(&self, patience: Duration) -> Result<Borrowed<'_>, StoreError> {
        let Ok(Ok(place)) = tokio::time::timeout(patience, self.places.acquire()).await else {
            return Err(StoreError::Busy(patience));
        };
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let connection = match idle {
            Some(connection) => connection,
            None => self.database.connect().await?,
        };
        Ok(Borrowed { lanes: self, connection, _place: place })
    }
}

/// A connection of `Lanes`. Dropped, it is closed; `give_back` keeps it for the next.
pub struct Borrowed<'a> {
    lanes: &'a Lanes,
    pub connection: PgConnection,
    _place: SemaphorePermit<'a>,
}

impl Borrowed<'_> {
    pub fn give_back(self) {
        self.lanes.idle.lock().unwrap_or_else(PoisonError::into_inner).push(self.connection);
    }
}
