//! What can go wrong between rollcall and its database.

use std::time::Duration;

use thiserror::Error;

#[derive(Debug, Error)]
pub enum StoreError {
    #[error("no connection to the database")]
    Connect(#[source] sqlx::Error),
    #[error("the database did not answer within {0:?}")]
    Timeout(Duration),
    #[error("the database refused a statement")]
    Statement(#[source] sqlx::Error),
    #[error("the database has no room, or no time, for a statement")]
    Exhausted(#[source] sqlx::Error),
    #[error("the connection to the database broke")]
    Broken(#[source] sqlx::Error),
    #[error("all connections were busy for {0:?}")]
    Busy(Duration),
    #[error("column {column} of {table} cannot be read: {reason}")]
    Unreadable { table: &'static str, column: &'static str, reason: String },
    #[error("an event of the log cannot be read")]
    Event(#[from] crate::domain::event::Unreadable),
    #[error("the database could not be migrated")]
    Migrate(#[source] sqlx::migrate::MigrateError),
    #[error("the database has not been migrated: run `rollcall migrate`, or let `serve` do it")]
    NotMigrated,
    #[error("{0}")]
    Url(String),
}

impl StoreError {
    /// Whether the statement itself was answered with an error: then it changed nothing. After all else it may
    /// have been carried out.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Statement(_) | Self::Exhausted(_))
    }

    /// Whether the same statement may well succeed later.
    pub fn will_pass(&self) -> bool {
        !matches!(
            self,
            Self::Statement(_) | Self::Unreadable { .. } | Self::Event(_) | Self::Migrate(_) | Self::Url(_)
        )
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        let code = match &error {
            sqlx::Error::Database(answer) => answer.code().unwrap_or_default().into_owned(),
            _ => String::new(),
        };
        match &error {
            // a deadlock; a full disk, no memory; a disk that fails; a lock that was not to be had, a statement that
            // took too long; a partition that was made a moment ago and is not known to every session yet (a row's
            // lock is let go before the others are told of a new table)
            sqlx::Error::Database(_)
                if matches!(code.get(..2), Some("40" | "53" | "58"))
                    || code == "55P03"
                    || code == "23514"
                    || code == "57014" =>
            {
                Self::Exhausted(error)
            }
            // the server ends this session or itself, or has become a standby
            sqlx::Error::Database(_) if code.starts_with("57") || code == "25006" => Self::Broken(error),
            // answered with an error, or never sent
            sqlx::Error::Database(_) | sqlx::Error::Encode(_) | sqlx::Error::TypeNotFound { .. } => {
                Self::Statement(error)
            }
            _ => Self::Broken(error),
        }
    }
}
