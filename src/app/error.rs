//! What a use case can end with, in words of no protocol. A door maps it to its own.

use thiserror::Error;

use crate::{
    domain::{Action, Refusal, Resource},
    log::WriteError,
    store::StoreError,
};

#[derive(Debug, Error)]
pub enum AppError {
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Without the name: whoever has only an id learns nothing more of it.
    #[error("to {} this {} is not allowed", .action.as_str(), .resource.as_str())]
    Forbidden { resource: Resource, action: Action },
    #[error("a token cannot allow more than whoever makes it may do himself")]
    MoreThanOwn,
    /// The place of the check among those of the instance.
    #[error("script checks are off here (ROLLCALL_CHECK_SCRIPTS)")]
    ScriptsOff { check: usize },
    #[error("the database cannot be reached")]
    Unavailable,
    #[error("the database has not answered in time; whether the change was made is not known")]
    OutcomeUnknown,
    #[error("too many changes are waiting; nothing was changed")]
    Overloaded,
    #[error("others changed the same again and again; nothing was changed")]
    TooManyConflicts,
    #[error("the row is locked in the database; nothing was changed")]
    RowBusy,
    #[error("the registry has not been loaded yet")]
    NotReady,
    #[error("this replica has not reached that revision in time")]
    RevisionNotReached,
    #[error("the idempotency key was used for another request")]
    KeyReused,
    #[error("an internal error")]
    Internal(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl From<WriteError> for AppError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Refused(refusal) => Self::Refused(refusal),
            WriteError::Unavailable => Self::Unavailable,
            WriteError::OutcomeUnknown => Self::OutcomeUnknown,
            WriteError::Overloaded => Self::Overloaded,
            WriteError::TooManyConflicts => Self::TooManyConflicts,
            WriteError::RowBusy => Self::RowBusy,
            WriteError::KeyReused => Self::KeyReused,
            WriteError::Rejected => Self::Internal(Box::new(error)),
        }
    }
}

impl From<StoreError> for AppError {
    fn from(error: StoreError) -> Self {
        match error {
            error if error.will_pass() => {
                tracing::warn!(
                    error = crate::telemetry::chain(&error),
                    "a read needs the database, which is away"
                );
                Self::Unavailable
            }
            other => Self::Internal(Box::new(other)),
        }
    }
}
