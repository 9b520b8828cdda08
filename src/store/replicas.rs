//! Who is there.

use sqlx::PgConnection;
use uuid::Uuid;

use super::{
    error::StoreError,
    lane::{STATEMENT_WITHIN, bounded},
};

/// The replicas, as one of them is told of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Presence {
    /// Those that ask instances for their health, in order: those that can rely on what they see, or all if none can.
    pub checking: Vec<Uuid>,
    /// How many others there are, or were a moment ago.
    pub others: i64,
    /// How many of them have not been heard of for longer than they should be.
    pub silent: i64,
}

/// Says that a replica is there, and tells of all. `suspicious` is whether it doubts what it sees.
pub async fn stay(
    connection: &mut PgConnection,
    replica: Uuid,
    checks: bool,
    suspicious: bool,
) -> Result<Presence, StoreError> {
    bounded(
        STATEMENT_WITHIN,
        sqlx::query_as!(
            Presence,
            r#"select checking as "checking!", others as "others!", silent as "silent!" from rollcall.stay($1, $2, $3)"#,
            replica,
            checks,
            suspicious
        )
        .fetch_one(connection),
    )
    .await
}

/// Says that it is gone.
pub async fn leave(connection: &mut PgConnection, replica: Uuid) -> Result<(), StoreError> {
    bounded(
        STATEMENT_WITHIN,
        sqlx::query_scalar!("select rollcall.leave($1)", replica).fetch_one(connection),
    )
    .await?;
    Ok(())
}
