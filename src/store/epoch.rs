//! Begins a new epoch where the log has turned out to be another one than before.

use sqlx::PgConnection;
use uuid::Uuid;

use super::{
    error::StoreError,
    lane::{STATEMENT_WITHIN, bounded},
};
use crate::domain::Revision;

/// A place in the log: the end of a batch, and its hash.
pub type Mark = (Revision, Vec<u8>);

/// The newest of the marks that the log knows, 0 where it knows none: up to there the reader's past is the log's.
pub async fn ancestor(connection: &mut PgConnection, marks: &[Mark]) -> Result<Revision, StoreError> {
    let (revisions, hashes): (Vec<i64>, Vec<Vec<u8>>) = marks.iter().cloned().unzip();
    bounded(
        STATEMENT_WITHIN,
        sqlx::query_scalar!(
            r#"select coalesce(max(b.rev_to), 0) as "ancestor!"
               from unnest($1::bigint[], $2::bytea[]) m(revision, hash)
               join rollcall.batches b on b.rev_to = m.revision and b.hash = m.hash"#,
            &revisions,
            &hashes,
        )
        .fetch_one(connection),
    )
    .await
}

/// Raises the epoch above `known`, unless it has been raised beyond `expected` and as high by somebody else.
pub async fn raise(
    connection: &mut PgConnection,
    expected: i32,
    known: Revision,
    ancestor: Revision,
    replica: Uuid,
) -> Result<bool, StoreError> {
    let raised = bounded(
        STATEMENT_WITHIN,
        sqlx::query_scalar!(
            "select rollcall.raise_epoch($1, $2, $3, $4)",
            expected,
            known,
            ancestor,
            replica
        )
        .fetch_one(connection),
    )
    .await?;
    Ok(raised.unwrap_or(false))
}
