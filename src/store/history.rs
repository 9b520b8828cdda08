//! Reads the log as history: for the audit, not for the state.

use std::time::Duration;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{
    error::StoreError,
    lane::{Lanes, STATEMENT_WITHIN, bounded},
};
use crate::domain::Revision;

const SECOND_LOOK: Duration = Duration::from_millis(100);

/// Which events, from where on.
#[derive(Clone, Debug, Default)]
pub struct EventQuery {
    pub after: Revision,
    pub service: Option<String>,
    pub instance: Option<Uuid>,
    /// Of any of these kinds.
    pub kinds: Option<Vec<String>>,
    pub actor: Option<String>,
    pub limit: i64,
}

#[derive(Debug)]
pub struct EventRecord {
    pub revision: Revision,
    pub epoch: i32,
    pub time: DateTime<Utc>,
    pub kind: String,
    /// None for what concerns the log as a whole.
    pub service: Option<String>,
    pub instance: Option<Uuid>,
    pub actor: String,
    pub origin: String,
    pub request_id: Option<String>,
    /// JSON.
    pub data: String,
}

/// How far the hash chain holds.
#[derive(Debug)]
pub struct Verification {
    pub from: Revision,
    pub to: Revision,
    pub head: Revision,
    /// The first batch whose events are not what its hash says, by its first revision.
    pub broken_at: Option<Revision>,
}

/// The events that match, ascending, and the revision to go on after.
pub async fn events(lanes: &Lanes, query: &EventQuery) -> Result<(Vec<EventRecord>, Revision), StoreError> {
    let mut lane = lanes.take(Duration::from_secs(2)).await?;
    // The head is read first: what comes to the log meanwhile is found by the next call. It is that of the events,
    // not of the batches: events in a partition of this moment are to be seen a little later.
    let head = bounded(
        STATEMENT_WITHIN,
        sqlx::query_scalar!(r#"select coalesce(max(revision), 0) as "head!" from rollcall.events"#)
            .fetch_one(&mut lane.connection),
    )
    .await?;
    let events = bounded(
        STATEMENT_WITHIN,
        sqlx::query_as!(
            EventRecord,
            "select revision, epoch, time, kind, service, instance, actor, origin, request_id, data \
             from rollcall.events \
             where revision > $1 and ($2::text is null or service = $2) \
               and ($3::text[] is null or kind = any($3)) and ($4::text is null or actor = $4) \
               and ($6::uuid is null or instance = $6) \
             order by revision limit $5",
            query.after,
            query.service,
            query.kinds.as_deref(),
            query.actor,
            query.limit,
            query.instance,
        )
        .fetch_all(&mut lane.connection),
    )
    .await?;
    lane.give_back();
    let full = i64::try_from(events.len()).is_ok_and(|count| count >= query.limit);
    let last = events.last().map(|event| event.revision);
    let next = match last {
        Some(last) if full => last,
        // nothing more matched up to the head
        _ => head.max(query.after).max(last.unwrap_or(0)),
    };
    Ok((events, next))
}

/// Walks the chain of hashes from the first batch after `after`, at most `batches` of them.
pub async fn verify(lanes: &Lanes, after: Revision, batches: i64) -> Result<Verification, StoreError> {
    let found = walk(lanes, after, batches).await?;
    if found.broken_at.is_none() {
        return Ok(found);
    }
    // Events in a partition of this moment can be seen a little later than their batch: no false alarm.
    tokio::time::sleep(SECOND_LOOK).await;
    walk(lanes, after, batches).await
}

async fn walk(lanes: &Lanes, after: Revision, batches: i64) -> Result<Verification, StoreError> {
    let mut lane = lanes.take(Duration::from_secs(2)).await?;
    let row = bounded(
        STATEMENT_WITHIN,
        sqlx::query!(
            r#"
            with page as (
              select b.batch, (b.batch).rev_from, (b.batch).rev_to, (b.batch).hash, (b.batch).epoch,
                     lag((b.batch).hash) over w as before,
                     coalesce(lag((b.batch).rev_to) over w, 0) as previous, coalesce(lag((b.batch).epoch) over w, 1) as era
              from (
                -- a page begins with the batch before it, for its hash
                (select r from rollcall.batches r where r.rev_to <= $1 order by r.rev_to desc limit 1)
                union all
                (select r from rollcall.batches r where r.rev_to > $1 order by r.rev_to limit $2)) b(batch)
              window w as (order by (b.batch).rev_to)
            ), checked as (
              select p.rev_from, p.rev_to,
                p.hash = rollcall.batch_hash_again(p.batch, p.before, p.previous)
                  and (p.rev_from = p.previous + 1 or p.epoch > p.era) as whole
              from page p where p.rev_to > $1
            )
            select coalesce(min(rev_from), $1) as "from!", coalesce(max(rev_to), $1) as "to!",
                   min(rev_from) filter (where whole is distinct from true) as broken_at,
                   (select coalesce(max(rev_to), 0) from rollcall.batches) as "head!"
            from checked
            "#,
            after,
            batches,
        )
        .fetch_one(&mut lane.connection),
    )
    .await?;
    lane.give_back();
    Ok(Verification { from: row.from, to: row.to, head: row.head, broken_at: row.broken_at })
}
