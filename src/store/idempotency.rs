//! What requests with an idempotency key came to.

use std::{collections::HashMap, time::Duration};

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{
    error::StoreError,
    lane::{Patience, STATEMENT_WITHIN, bounded},
    poll::read_event,
};
use crate::domain::{Event, Revision};

/// A kept answer: the event that the request made, if it changed anything, and the row as it left it, as JSON.
#[derive(Debug)]
pub struct Kept {
    pub fingerprint: Vec<u8>,
    pub revision: Revision,
    pub event: Option<Event>,
    pub answer: String,
}

const MOST_LOOKS: u32 = 3;
const LOOK_PAUSE: Duration = Duration::from_millis(10);

/// The answers that are kept under `keys`, each by itself: one that this version cannot read concerns nobody else.
pub async fn find(
    connection: &mut PgConnection,
    keys: &[&str],
    patience: Patience,
) -> Result<HashMap<String, Result<Kept, StoreError>>, StoreError> {
    let mut rows = read(connection, keys, patience).await?;
    for _ in 0..MOST_LOOKS {
        if !rows.iter().any(KeptRow::lacks_its_event) {
            break;
        }
        // its partition was made a moment ago and is not known to this session yet
        tokio::time::sleep(LOOK_PAUSE).await;
        rows = read(connection, keys, patience).await?;
    }
    Ok(rows.into_iter().map(|row| (row.key.clone(), row.into_kept())).collect())
}

async fn read(
    connection: &mut PgConnection,
    keys: &[&str],
    patience: Patience,
) -> Result<Vec<KeptRow>, StoreError> {
    bounded(
        patience.within(),
        sqlx::query_as!(
            KeptRow,
            r#"select k.key as "key!", k.fingerprint as "fingerprint!", k.revision as "revision!",
                      k.answer as "answer!", k.changed as "changed!", e.time as "time?", e.kind as "kind?",
                      e.service as "service?", e.instance, e.actor as "actor?", e.data as "data?"
               from rollcall.idempotency_keys k
               left join rollcall.events e on k.changed and e.revision = k.revision
               where k.key = any($1) and k.at > clock_timestamp() - interval '24 hours'"#,
            keys as &[&str],
        )
        .fetch_all(connection),
    )
    .await
}

/// Keys are kept for a day. Forgets some of those that are older, and says how many.
pub async fn forget_old(connection: &mut PgConnection) -> Result<i64, StoreError> {
    let forgotten = bounded(
        STATEMENT_WITHIN,
        sqlx::query_scalar!("select rollcall.forget_idempotency_keys()").fetch_one(connection),
    );
    Ok(forgotten.await?.unwrap_or(0))
}

struct KeptRow {
    key: String,
    fingerprint: Vec<u8>,
    answer: String,
    revision: i64,
    changed: bool,
    time: Option<DateTime<Utc>>,
    kind: Option<String>,
    service: Option<String>,
    instance: Option<Uuid>,
    actor: Option<String>,
    data: Option<String>,
}

impl KeptRow {
    fn lacks_its_event(&self) -> bool {
        self.changed && self.kind.is_none()
    }

    fn into_kept(self) -> Result<Kept, StoreError> {
        if self.lacks_its_event() {
            let reason = format!("the log lacks event {}", self.revision);
            return Err(StoreError::Unreadable { table: "events", column: "revision", reason });
        }
        let Self { fingerprint, answer, revision, time, kind, service, instance, actor, data, .. } = self;
        let event = match (time, kind, actor, data) {
            (Some(time), Some(kind), Some(actor), Some(data)) => {
                Some(read_event(revision, time, &kind, service.as_deref(), instance, &actor, &data)?)
            }
            _ => None,
        };
        Ok(Kept { fingerprint, revision, event, answer })
    }
}
