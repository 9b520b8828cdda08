//! The first connection to a server: the only proof that it is up, and the way to know whose it is.

use std::{io, path::PathBuf, time::Duration};

use sqlx::{
    Connection, PgConnection,
    postgres::{PgConnectOptions, PgSslMode},
};
use tokio::time::timeout;

use super::NAME;

const GREETING_LIMIT: Duration = Duration::from_secs(5);
const CREATION_LIMIT: Duration = Duration::from_mins(2);
/// The database that initdb makes and every `PostgreSQL` has.
const MAINTENANCE_DATABASE: &str = "postgres";

/// Where a server listens.
#[derive(Debug, Clone)]
pub(super) struct Address {
    pub(super) socket_folder: PathBuf,
    pub(super) port: u16,
}

impl Address {
    pub(super) const PORT: u16 = 5432;

    pub(super) fn new(socket_folder: PathBuf) -> Self {
        Self { socket_folder, port: Self::PORT }
    }

    /// Says all that can be said, since sqlx takes the rest from PG* variables that are meant for other servers.
    pub(super) fn options(&self, database: &str) -> PgConnectOptions {
        PgConnectOptions::new_without_pgpass()
            .socket(&self.socket_folder)
            .port(self.port)
            .username(NAME)
            .database(database)
            .ssl_mode(PgSslMode::Disable)
            .application_name(NAME)
    }
}

/// What a server says of itself.
#[derive(Debug, sqlx::FromRow)]
pub(super) struct Greeting {
    pub(super) version: String,
    pub(super) data_directory: String,
    pub(super) fsync: String,
    pub(super) listen_addresses: String,
}

/// Why there was no greeting, and whether waiting may help.
#[derive(Debug)]
pub(super) enum Unanswered {
    Yet(Option<sqlx::Error>),
    ForEver(sqlx::Error),
}

pub(super) async fn greet(address: &Address) -> Result<Greeting, Unanswered> {
    let asked = timeout(GREETING_LIMIT, async {
        let mut connection = PgConnection::connect_with(&address.options(MAINTENANCE_DATABASE)).await?;
        let greeting = sqlx::query_as(
            "select split_part(current_setting('server_version'), ' ', 1) as version, \
                    current_setting('data_directory') as data_directory, \
                    current_setting('fsync') as fsync, \
                    current_setting('listen_addresses') as listen_addresses",
        )
        .fetch_one(&mut connection)
        .await?;
        connection.close().await?;
        Ok(greeting)
    });
    match asked.await {
        Ok(Ok(greeting)) => Ok(greeting),
        Ok(Err(error)) if is_lasting(&error) => Err(Unanswered::ForEver(error)),
        Ok(Err(error)) => Err(Unanswered::Yet(Some(error))),
        Err(_) => Err(Unanswered::Yet(None)),
    }
}

/// Makes rollcall's database, unless it is there.
pub(super) async fn ensure_database(address: &Address) -> Result<(), sqlx::Error> {
    let ensured = timeout(CREATION_LIMIT, async {
        let mut connection = PgConnection::connect_with(&address.options(MAINTENANCE_DATABASE)).await?;
        let exists: bool = sqlx::query_scalar("select exists (select from pg_database where datname = $1)")
            .bind(NAME)
            .fetch_one(&mut connection)
            .await?;
        if !exists {
            sqlx::query("create database rollcall").execute(&mut connection).await?;
        }
        connection.close().await
    });
    ensured.await.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into()))
}

/// Whether the server has made up its mind: it does not know the role or the database, or does not let the
/// role in. All else (starting, recovering, stopping, full) passes.
fn is_lasting(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    code.is_some_and(|code| ["28", "3D", "42"].iter().any(|class| code.starts_with(class)))
}
