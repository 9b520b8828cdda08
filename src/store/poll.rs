//! Reads the log from where the reader stands.
//!
//! A cursor is a revision and the hash of the batch that ends there. A log that does not know that hash has another
//! past than the reader's.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{error::StoreError, lane::bounded};
use crate::domain::{Change, Event, Revision};

/// How many batches one poll brings at most: what comes in one answer must fit into memory.
const BATCHES_A_POLL: i64 = 64;

/// Where a reader stands in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    pub epoch: i32,
    pub revision: Revision,
    /// None before the first batch.
    pub hash: Option<Vec<u8>>,
}

#[derive(Debug)]
pub enum Polled {
    /// What came after the cursor, up to the end of a batch.
    News {
        events: Vec<Event>,
        cursor: Cursor,
        /// The database's clock.
        now: DateTime<Utc>,
        /// Whether the cursor is at the end of the log now.
        complete: bool,
    },
    /// The log is in another epoch, which begins after `floor`.
    OtherEpoch { floor: Revision },
    /// The log has another past than the cursor's.
    Unknown,
    /// Fewer events are to be seen than the batches have. For a moment that is so where a partition was made just now:
    /// a session is told of it a little after the batches in it can be seen.
    Gap,
}

pub async fn poll(
    connection: &mut PgConnection,
    cursor: &Cursor,
    within: Duration,
) -> Result<Polled, StoreError> {
    let rows = bounded(
        within,
        sqlx::query!(
            r#"
            select h.epoch, h.floor, clock_timestamp() as "now!", top.rev_to as "top?", page.rev_to as "to?",
                   page.hash as "hash?", coalesce(page.events, 0) as "events!",
                   ($1 = 0 or exists (select from rollcall.batches b where b.rev_to = $1 and b.hash = $2)) as "known!",
                   e.revision as "revision?", e.time as "time?", e.kind as "kind?", e.service,
                   e.instance, e.actor as "actor?", e.data as "data?"
            from rollcall.log_head h
            left join lateral (select b.rev_to from rollcall.batches b order by b.rev_to desc limit 1) top on true
            left join lateral (
              select p.rev_to, p.hash, sum(p.rev_to - p.rev_from + 1) over ()::bigint as events from (
                select b.rev_from, b.rev_to, b.hash from rollcall.batches b
                where b.rev_to > $1 order by b.rev_to limit $3) p
              order by p.rev_to desc limit 1) page on true
            left join lateral (
              select * from rollcall.events e where e.revision > $1 and e.revision <= page.rev_to) e on true
            order by e.revision
            "#,
            cursor.revision,
            cursor.hash.as_deref(),
            BATCHES_A_POLL,
        )
        .fetch_all(connection),
    )
    .await?;
    let Some(first) = rows.first() else {
        return Err(StoreError::NotMigrated);
    };
    if first.epoch != cursor.epoch {
        return Ok(Polled::OtherEpoch { floor: first.floor });
    }
    if !first.known {
        return Ok(Polled::Unknown);
    }
    let (now, expected) = (first.now, first.events);
    let complete = first.top == first.to || first.to.is_none();
    let cursor = match first.to {
        Some(revision) => Cursor { epoch: first.epoch, revision, hash: first.hash.clone() },
        None => cursor.clone(),
    };
    let mut events = Vec::with_capacity(rows.len());
    for row in rows {
        let (Some(revision), Some(time), Some(kind), Some(actor), Some(data)) =
            (row.revision, row.time, row.kind, row.actor, row.data)
        else {
            continue;
        };
        events.push(read_event(revision, time, &kind, row.service.as_deref(), row.instance, &actor, &data)?);
    }
    if usize::try_from(expected) != Ok(events.len()) {
        return Ok(Polled::Gap);
    }
    Ok(Polled::News { events, cursor, now, complete })
}

pub(super) fn read_event(
    revision: Revision,
    time: DateTime<Utc>,
    kind: &str,
    service: Option<&str>,
    instance: Option<Uuid>,
    actor: &str,
    data: &str,
) -> Result<Event, StoreError> {
    let change = Change::read(kind, service, instance, data)?;
    Ok(Event { revision, time, actor: actor.into(), change })
}
