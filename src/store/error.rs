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
        matches!(self, Self::Statement(_))
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            // class 57: the server ends this session or itself; 25006: it has become a standby
            sqlx::Error::Database(answer)
                if answer.code().is_some_and(|code| code.starts_with("57") || code == "25006") =>
            {
                Self::Broken(error)
            }
            sqlx::Error::Database(_)
            | sqlx::Error::ColumnDecode { .. }
            | sqlx::Error::ColumnNotFound(_)
            | sqlx::Error::Decode(_)
            | sqlx::Error::Encode(_)
            | sqlx::Error::RowNotFound
            | sqlx::Error::TypeNotFound { .. } => Self::Statement(error),
            _ => Self::Broken(error),
        }
    }
}
