//! Calls `rollcall.append`: one batch, one transaction, one round trip.
//!
//! An append is never cancelled on the server. When its answer does not come, its outcome is unknown, and the way to
//! learn it is to send the same batch again: the database knows a batch that it has written by its id.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use serde_json::value::RawValue;
use sqlx::{PgConnection, error::DatabaseError};
use uuid::Uuid;

use super::{
    columns::{
        ConfigColumns, EventColumns, GuardColumns, InstanceColumns, KeyColumns, SilenceColumns, TokenColumns,
    },
    error::StoreError,
    lane::{STATEMENT_WITHIN, bounded},
    poll::Cursor,
};
use crate::domain::{
    Change, CheckId, ConfigEntry, Instance, InstanceId, Revision, RowKey, Token, TokenId, Version,
};

/// Who writes: a replica, and the generation that its connection was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Writer {
    pub replica: Uuid,
    pub generation: i64,
}

/// A batch of groups. Groups and events are numbered from 1, as arrays are in the database.
#[derive(Clone, Debug)]
pub struct Batch {
    pub id: Uuid,
    /// The state that the groups were decided on.
    pub cursor: Cursor,
    pub now: DateTime<Utc>,
    pub groups: i32,
    pub instances: Vec<InstanceChange>,
    pub configs: Vec<ConfigChange>,
    pub tokens: Vec<TokenChange>,
    pub guards: Vec<Guard>,
    pub silences: Vec<Silence>,
    pub sweep: Option<SweepPass>,
    pub events: Vec<NewEvent>,
    pub keys: Vec<KeptAnswer>,
}

/// What a request with an idempotency key comes to, to be kept with its group.
#[derive(Clone, Debug)]
pub struct KeptAnswer {
    pub group: i32,
    /// The event that its answer has the revision of; 0 for that of the state it was decided on.
    pub event: i32,
    /// Whether it made that event.
    pub changed: bool,
    pub key: Arc<str>,
    pub fingerprint: [u8; 32],
    /// JSON.
    pub answer: String,
}

#[derive(Clone, Debug)]
pub struct InstanceChange {
    pub group: i32,
    pub id: InstanceId,
    /// The version before the batch, 0 for a new row.
    pub before: Version,
    /// The last event of the batch about this row.
    pub event: i32,
    /// The row as it is to be, and its specification as JSON; None removes it.
    pub row: Option<(Arc<Instance>, Arc<RawValue>)>,
}

#[derive(Clone, Debug)]
pub struct ConfigChange {
    pub group: i32,
    pub before: Version,
    pub event: i32,
    pub row: Arc<ConfigEntry>,
}

/// A token comes or goes; nothing else becomes of it.
#[derive(Clone, Debug)]
pub struct TokenChange {
    pub group: i32,
    pub id: TokenId,
    pub before: Version,
    pub event: i32,
    /// None removes it.
    pub row: Option<Arc<Token>>,
}

/// A row that a group's decision rests on without changing it; version 0 demands that it is not there.
#[derive(Clone, Debug)]
pub struct Guard {
    pub group: i32,
    pub row: RowKey,
    pub version: Version,
}

/// That a check was not heard of after a time.
#[derive(Clone, Debug)]
pub struct Silence {
    pub group: i32,
    pub instance: InstanceId,
    pub check: CheckId,
    pub until: DateTime<Utc>,
}

/// The group that removes what is ill, and the pass that it is.
#[derive(Clone, Copy, Debug)]
pub struct SweepPass {
    pub group: i32,
    pub pass: i64,
}

#[derive(Clone, Debug)]
pub struct NewEvent {
    pub group: i32,
    pub change: Change,
    pub data: String,
    pub actor: Arc<str>,
    pub origin: Arc<str>,
    pub request_id: Option<Arc<str>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupOutcome {
    Written,
    /// A row that the group names has another version by now.
    Conflict,
    /// A row that the group changes is locked by somebody who does not write through the log.
    Busy,
    /// Somebody was heard of whose silence it rests on, or another pass has removed what was ill meanwhile.
    Overtaken,
}

#[derive(Debug)]
pub enum Appended {
    Done {
        outcomes: Vec<GroupOutcome>,
        /// The revisions given to the events of the written groups, in their order.
        written: Option<Span>,
    },
    /// The log is in another epoch, or does not know the cursor.
    Forked,
    /// A newer connection of this replica's writer has taken over.
    Superseded,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    pub epoch: i32,
    pub from: Revision,
    pub to: Revision,
    pub hash: Vec<u8>,
}

impl Span {
    /// Where a reader stands who has read it.
    pub fn end(&self) -> Cursor {
        Cursor { epoch: self.epoch, revision: self.to, hash: Some(self.hash.clone()) }
    }
}

/// Takes the writer's next generation on this connection. `known` is the last revision that this replica has seen:
/// should the server turn out to be another one than before, the next epoch begins above it.
pub async fn open_writer(
    connection: &mut PgConnection,
    replica: Uuid,
    known: Revision,
) -> Result<Writer, StoreError> {
    let generation = bounded(
        STATEMENT_WITHIN,
        sqlx::query_scalar!("select rollcall.open_writer($1, $2)", replica, known).fetch_one(connection),
    )
    .await?
    .ok_or_else(|| unexpected("open_writer", "no generation"))?;
    Ok(Writer { replica, generation })
}

/// How long the answer to an append is waited for before it is asked for again on another connection.
const APPEND_WITHIN: Duration = Duration::from_secs(2);

/// Whether a batch has been written. Conclusive on a connection whose generation was taken after the batch was sent:
/// what an older connection still had under way was over by then, or is refused.
pub async fn find(connection: &mut PgConnection, batch: Uuid) -> Result<Option<Appended>, StoreError> {
    let row = bounded(
        STATEMENT_WITHIN,
        sqlx::query!(
            "select epoch, rev_from, rev_to, hash, outcomes from rollcall.batches where batch = $1",
            batch
        )
        .fetch_optional(connection),
    )
    .await?;
    Ok(row.map(|row| Appended::Done {
        outcomes: row.outcomes.into_iter().map(outcome).collect(),
        written: Some(Span { epoch: row.epoch, from: row.rev_from, to: row.rev_to, hash: row.hash }),
    }))
}

/// Writes a batch. Unless it is to be careful, that a new row's identity is free is hoped for at first, which costs less
/// than looking it up. Where others write the same, it costs more: the batch is sent twice, and gets older.
pub async fn append(
    connection: &mut PgConnection,
    writer: Writer,
    batch: &Batch,
    careful: bool,
) -> Result<Appended, StoreError> {
    match send(connection, writer, batch, careful).await {
        Err(StoreError::Statement(error)) if !careful && is_taken(&error) => {
            send(connection, writer, batch, true).await
        }
        result => result,
    }
}

fn is_taken(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(DatabaseError::is_unique_violation)
}

#[expect(clippy::too_many_lines, reason = "one statement, with a parameter for each column")]
async fn send(
    connection: &mut PgConnection,
    writer: Writer,
    batch: &Batch,
    careful: bool,
) -> Result<Appended, StoreError> {
    let instances = InstanceColumns::of(&batch.instances);
    let configs = ConfigColumns::of(&batch.configs);
    let guards = GuardColumns::of(&batch.guards);
    let events = EventColumns::of(&batch.events);
    let keys = KeyColumns::of(&batch.keys);
    let tokens = TokenColumns::of(&batch.tokens);
    let silences = SilenceColumns::of(&batch.silences);
    let row = bounded(
        APPEND_WITHIN,
        sqlx::query!(
            r#"
            select state as "state!", epoch as "epoch!", rev_from, rev_to, hash, outcomes from rollcall.append(
              $1, $2, $3, $4, $5, $6, $7, $8,
              $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22,
              $23, $24, $25, $26, $27, $28, $29, $30, $31, $32, $33,
              $34, $35, $36, $37,
              $38, $39, $40, $41, $42, $43, $44, $45,
              $46, $47, $48, $49, $50, $51,
              $52, $53, $54, $55, $56, $57, $58, $59, $60, $61, $62,
              $63, $64, $65, $66, $67, $68)
            "#,
            batch.id,
            writer.replica,
            writer.generation,
            batch.cursor.epoch,
            batch.cursor.revision,
            batch.cursor.hash.as_deref(),
            batch.now,
            batch.groups,
            given(&instances.group),
            given(&instances.id),
            given(&instances.before),
            given(&instances.after),
            given(&instances.event),
            given(&instances.service) as Option<&[&str]>,
            given(&instances.key) as Option<&[&str]>,
            given(&instances.key_given),
            given(&instances.status) as Option<&[&str]>,
            given(&instances.failures),
            given(&instances.changes),
            given(&instances.spec) as Option<&[&str]>,
            given(&instances.registered),
            instances.state.as_deref() as Option<&[Option<String>]>,
            given(&configs.group),
            given(&configs.id),
            given(&configs.before),
            given(&configs.after),
            given(&configs.event),
            given(&configs.service) as Option<&[&str]>,
            given(&configs.environment) as Option<&[&str]>,
            given(&configs.content) as Option<&[Option<&str>]>,
            given(&configs.comment) as Option<&[Option<&str>]>,
            given(&configs.actor) as Option<&[&str]>,
            given(&configs.created),
            given(&guards.group),
            given(&guards.table) as Option<&[&str]>,
            given(&guards.id),
            given(&guards.version),
            given(&events.group),
            given(&events.kind) as Option<&[&str]>,
            given(&events.service) as Option<&[Option<&str>]>,
            given(&events.instance) as Option<&[Option<Uuid>]>,
            given(&events.actor) as Option<&[&str]>,
            given(&events.origin) as Option<&[&str]>,
            given(&events.request) as Option<&[Option<&str>]>,
            given(&events.data) as Option<&[&str]>,
            given(&keys.group),
            given(&keys.event),
            given(&keys.changed),
            given(&keys.key) as Option<&[&str]>,
            given(&keys.fingerprint) as Option<&[&[u8]]>,
            given(&keys.answer) as Option<&[&str]>,
            given(&tokens.group),
            given(&tokens.id),
            given(&tokens.before),
            given(&tokens.after),
            given(&tokens.event),
            given(&tokens.name) as Option<&[&str]>,
            given(&tokens.policies),
            given(&tokens.digest) as Option<&[&[u8]]>,
            given(&tokens.expires) as Option<&[Option<DateTime<Utc>>]>,
            given(&tokens.actor) as Option<&[&str]>,
            careful,
            given(&silences.group),
            given(&silences.instance),
            given(&silences.check) as Option<&[&str]>,
            given(&silences.until),
            batch.sweep.map(|sweep| sweep.group),
            batch.sweep.map(|sweep| sweep.pass),
        )
        .fetch_one(connection),
    )
    .await?;
    match row.state.as_str() {
        "done" | "known" => {
            let outcomes = row.outcomes.unwrap_or_default();
            if outcomes.len() != usize::try_from(batch.groups).unwrap_or_default() {
                return Err(unexpected("append", "not one outcome for each group"));
            }
            let written = match (row.rev_from, row.rev_to, row.hash) {
                (Some(from), Some(to), Some(hash)) => Some(Span { epoch: row.epoch, from, to, hash }),
                _ => None,
            };
            Ok(Appended::Done { outcomes: outcomes.into_iter().map(outcome).collect(), written })
        }
        "epoch" | "forked" => Ok(Appended::Forked),
        "superseded" => Ok(Appended::Superseded),
        other => Err(unexpected("append", other)),
    }
}

/// A column that has anything in it. One that is null costs the database less than one that is empty.
fn given<T>(column: &[T]) -> Option<&[T]> {
    (!column.is_empty()).then_some(column)
}

fn outcome(number: i16) -> GroupOutcome {
    match number {
        0 => GroupOutcome::Written,
        2 => GroupOutcome::Busy,
        3 => GroupOutcome::Overtaken,
        _ => GroupOutcome::Conflict,
    }
}

fn unexpected(function: &'static str, answer: &str) -> StoreError {
    StoreError::Unreadable { table: function, column: "its answer", reason: answer.to_owned() }
}
