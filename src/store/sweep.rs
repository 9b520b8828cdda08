//! The one row that all removals of ill instances go through.

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::PgConnection;

use super::{
    error::StoreError,
    lane::{Patience, bounded},
};

/// The row, as a replica that looks for what is to be removed finds it.
#[derive(Clone, Copy, Debug)]
pub struct Sweep {
    /// Its version: the next pass is refused where another one came before it.
    pub pass: i64,
    pub removed_at: Option<DateTime<Utc>>,
    /// When the last time was over that nobody looked for long, and how long it had lasted.
    pub resumed_at: DateTime<Utc>,
    pub away: TimeDelta,
}

/// Says that somebody looks.
pub async fn look_around(connection: &mut PgConnection, patience: Patience) -> Result<Sweep, StoreError> {
    let row = bounded(
        patience.within(),
        sqlx::query!(
            r#"
            select version as "version!", removed_at, resumed_at as "resumed_at!", away_seconds as "away_seconds!"
            from rollcall.look_around()
            "#
        )
        .fetch_one(connection),
    )
    .await?;
    let milliseconds = row.away_seconds * 1000.0;
    #[expect(clippy::cast_possible_truncation, reason = "what a number cannot hold is held as its largest")]
    let away = TimeDelta::try_milliseconds(milliseconds as i64).unwrap_or(TimeDelta::MAX);
    Ok(Sweep { pass: row.version, removed_at: row.removed_at, resumed_at: row.resumed_at, away })
}
