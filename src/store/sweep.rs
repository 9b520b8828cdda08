//! The one row that all removals of ill instances go through.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::PgConnection;

use super::{
    error::StoreError,
    lane::{Patience, bounded},
};

/// The row, as a replica that looks for what is to be removed finds it.
#[derive(Clone, Debug)]
pub struct Sweep {
    /// Its version: the next pass is refused where another one came before it.
    pub pass: i64,
    pub removed_at: Option<DateTime<Utc>>,
    /// The times that nobody looked for long: when each was over, and how long it had lasted.
    pub gaps: Arc<[(DateTime<Utc>, TimeDelta)]>,
}

/// Says that somebody looks.
pub async fn look_around(connection: &mut PgConnection, patience: Patience) -> Result<Sweep, StoreError> {
    let row = bounded(
        patience.within(),
        sqlx::query!(
            r#"
            select version as "version!", removed_at, gaps_ended as "gaps_ended!", gaps_seconds as "gaps_seconds!"
            from rollcall.look_around()
            "#
        )
        .fetch_one(connection),
    )
    .await?;
    #[expect(clippy::cast_possible_truncation, reason = "what a number cannot hold is held as its largest")]
    let length =
        |seconds: f64| TimeDelta::try_milliseconds((seconds * 1000.0) as i64).unwrap_or(TimeDelta::MAX);
    let gaps = row.gaps_ended.into_iter().zip(row.gaps_seconds.into_iter().map(length)).collect();
    Ok(Sweep { pass: row.version, removed_at: row.removed_at, gaps })
}
