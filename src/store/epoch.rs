//! Begins a new epoch where the log has turned out to be another one than before.

use sqlx::PgConnection;
use uuid::Uuid;

use super::{
    error::StoreError,
    lane::{Patience, STATEMENT_WITHIN, bounded},
};
use crate::domain::Revision;

/// A place in the log: the end of a batch, and its hash.
pub type Mark = (Revision, Vec<u8>);

/// The newest marks after `after` and up to `to`, at most `most`.
pub async fn marks(
    connection: &mut PgConnection,
    after: Revision,
    to: Revision,
    most: i64,
    patience: Patience,
) -> Result<Vec<Mark>, StoreError> {
    let rows = bounded(
        patience.within(),
        sqlx::query!(
            "select rev_to, hash from rollcall.batches where rev_to > $1 and rev_to <= $2 order by rev_to desc limit $3",
            after,
            to,
            most,
        )
        .fetch_all(connection),
    )
    .await?;
    Ok(rows.into_iter().rev().map(|row| (row.rev_to, row.hash)).collect())
}

/// The newest of the marks that the log knows: up to there the reader's past is the log's. None where it knows none.
pub async fn ancestor(connection: &mut PgConnection, marks: &[Mark]) -> Result<Option<Revision>, StoreError> {
    let (revisions, hashes): (Vec<i64>, Vec<Vec<u8>>) = marks.iter().cloned().unzip();
    bounded(
        STATEMENT_WITHIN,
        sqlx::query_scalar!(
            r#"select max(b.rev_to) as "ancestor?"
               from unnest($1::bigint[], $2::bytea[]) m(revision, hash)
               join rollcall.batches b on b.rev_to = m.revision and b.hash = m.hash"#,
            &revisions,
            &hashes,
        )
        .fetch_one(connection),
    )
    .await
}

/// Makes sure that this is the server that the log was last written on: another one, or one that was promoted, may
/// lack the log's end, and the epoch is raised. `known` is the last revision that this replica has seen.
pub async fn meet_server(
    connection: &mut PgConnection,
    replica: Uuid,
    known: Revision,
) -> Result<bool, StoreError> {
    let same = bounded(
        STATEMENT_WITHIN,
        sqlx::query_scalar!("select rollcall.same_server()").fetch_one(&mut *connection),
    );
    if same.await? == Some(true) {
        return Ok(false);
    }
    let raised = bounded(
        STATEMENT_WITHIN,
        sqlx::query_scalar!("select rollcall.meet_server($1, $2)", replica, known).fetch_one(connection),
    )
    .await?;
    Ok(raised.unwrap_or(false))
}

/// Raises the epoch above `known`, unless it has been raised beyond `expected` and as high by somebody else.
pub async fn raise(
    connection: &mut PgConnection,
    expected: i32,
    known: Revision,
    ancestor: Option<Revision>,
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
