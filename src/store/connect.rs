//! How a connection comes to be: who logs in, what role it takes, and how long anything may last on it.

use std::{pin::Pin, str::FromStr, sync::Arc, time::Duration};

use futures_util::{StreamExt, stream::FuturesUnordered};
use sqlx::{
    ConnectOptions, Connection, PgConnection,
    postgres::{PgConnectOptions, PgSslMode},
};

use super::error::StoreError;
use crate::telemetry::Metrics;

const CONNECT_WITHIN: Duration = Duration::from_secs(4);
/// An attempt that has not succeeded for so long gets company: packets that a broken network swallowed never arrive,
/// however soon it is mended, and only a new attempt notices that it was.
const ATTEMPT_EVERY: Duration = Duration::from_millis(500);

/// A database, and how to reach it.
#[derive(Clone)]
pub struct Database {
    options: Arc<PgConnectOptions>,
    metrics: Metrics,
}

impl Database {
    pub fn new(options: PgConnectOptions, metrics: Metrics) -> Self {
        // slow statements are the metrics' business; the statement log would repeat each batch
        let options = options.application_name("rollcall").disable_statement_logging();
        Self { options: Arc::new(options), metrics }
    }

    /// A URL that names no user means the one that the environment names (PGUSER, USER), as with psql.
    pub fn from_url(url: &str, metrics: Metrics) -> Result<Self, StoreError> {
        let parsed = url::Url::parse(url)
            .map_err(|error| StoreError::Url(format!("DATABASE_URL is not a URL: {error}")))?;
        let mut options = PgConnectOptions::from_str(url)
            .map_err(|error| StoreError::Url(format!("DATABASE_URL cannot be used: {error}")))?;
        let names_user =
            !parsed.username().is_empty() || parsed.query_pairs().any(|(name, _)| name == "user");
        if !names_user {
            let user = ["PGUSER", "USER"].iter().find_map(|name| std::env::var(name).ok());
            options = options.username(user.as_deref().unwrap_or("postgres"));
        }
        if options.get_socket().is_some() {
            options = options.ssl_mode(PgSslMode::Disable);
        }
        Ok(Self::new(options, metrics))
    }

    /// The host and the port of the database; None where it is reached by a socket of this machine.
    pub fn address(&self) -> Option<(String, u16)> {
        let host = self.options.get_host();
        let by_socket = self.options.get_socket().is_some() || host.starts_with('/');
        (!by_socket).then(|| (host.to_owned(), self.options.get_port()))
    }

    /// Where the database is, without its password.
    pub fn describe(&self) -> String {
        let place = match self.options.get_socket() {
            Some(socket) => socket.display().to_string(),
            None => format!("{}:{}", self.options.get_host(), self.options.get_port()),
        };
        let user = self.options.get_username();
        format!("{user}@{place}/{}", self.options.get_database().unwrap_or(user))
    }

    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// A connection of the service: it may read, and call the functions that write the log.
    pub async fn connect(&self) -> Result<PgConnection, StoreError> {
        let connected = self.attempt(|options| Box::pin(as_service(options))).await;
        self.metrics.connected(connected.is_ok());
        connected
    }

    /// A connection as whoever logs in, for migrations.
    pub(super) async fn connect_as_owner(&self) -> Result<PgConnection, StoreError> {
        self.attempt(|options| Box::pin(as_owner(options))).await
    }

    /// Attempts until one succeeds, one is answered with an error, or the time is up.
    async fn attempt(
        &self,
        attempt: fn(Arc<PgConnectOptions>) -> Attempt,
    ) -> Result<PgConnection, StoreError> {
        let attempts = async {
            let mut under_way = FuturesUnordered::new();
            loop {
                under_way.push(attempt(self.options.clone()));
                if let Ok(Some(result)) = tokio::time::timeout(ATTEMPT_EVERY, under_way.next()).await {
                    return result.map_err(StoreError::Connect);
                }
            }
        };
        tokio::time::timeout(CONNECT_WITHIN, attempts)
            .await
            .unwrap_or(Err(StoreError::Timeout(CONNECT_WITHIN)))
    }

    pub(super) fn options(&self) -> &PgConnectOptions {
        &self.options
    }
}

type Attempt = Pin<Box<dyn Future<Output = Result<PgConnection, sqlx::Error>> + Send>>;

/// SET ROLE does not take up a role's settings, so each connection is given its own. Everything of ours is named with
/// its schema, and nothing is looked up where somebody else may have put something of the same name. Plans are kept for
/// the life of the connection, and those that were made for empty tables must do for full ones: no scans.
async fn as_service(options: Arc<PgConnectOptions>) -> Result<PgConnection, sqlx::Error> {
    let mut connection = PgConnection::connect_with(&options).await?;
    sqlx::query!(
        "select set_config('role', 'rollcall_app', false) as role, \
         set_config('search_path', 'pg_catalog', false) as path, \
         set_config('statement_timeout', '4s', false) as statement, \
         set_config('lock_timeout', '2s', false) as lock, \
         set_config('jit', 'off', false) as jit, \
         set_config('enable_seqscan', 'off', false) as seqscan, \
         set_config('tcp_keepalives_idle', '10', false) as keepalive_after, \
         set_config('tcp_keepalives_interval', '5', false) as keepalive_every, \
         set_config('tcp_keepalives_count', '3', false) as keepalives, \
         set_config('tcp_user_timeout', '10s', false) as unanswered, \
         set_config('idle_in_transaction_session_timeout', '5s', false) as idle, \
         set_config('default_transaction_isolation', 'read committed', false) as isolation"
    )
    .fetch_one(&mut connection)
    .await?;
    Ok(connection)
}

/// The search path is fixed: a user who is named like our schema would have that in front of it, and with it another
/// table of migrations.
async fn as_owner(options: Arc<PgConnectOptions>) -> Result<PgConnection, sqlx::Error> {
    let mut connection = PgConnection::connect_with(&options).await?;
    sqlx::query!("select set_config('search_path', 'public', false) as path")
        .fetch_one(&mut connection)
        .await?;
    Ok(connection)
}
