//! Who is there.

use sqlx::PgConnection;
use uuid::Uuid;

use super::{
    error::StoreError,
    lane::{STATEMENT_WITHIN, bounded},
};

/// Says that a replica is there, and gives those that are and ask instances for their health.
pub async fn stay(
    connection: &mut PgConnection,
    replica: Uuid,
    checks: bool,
) -> Result<Vec<Uuid>, StoreError> {
    let peers = bounded(
        STATEMENT_WITHIN,
        sqlx::query_scalar!("select rollcall.stay($1, $2)", replica, checks).fetch_one(connection),
    )
    .await?;
    Ok(peers.unwrap_or_default())
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
