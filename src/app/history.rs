//! The log as history, for the audit.

use super::{App, AppError};
use crate::{
    domain::{Change, Event, History, InstanceId, Period, Revision},
    store::{StoreError, history},
};

pub use crate::store::history::{EventQuery, EventRecord};

/// How much of the chain one call of the database checks.
const BATCHES_A_PAGE: i64 = 500;

/// How many events are read at a time where all are.
const EVENTS_A_PAGE: i64 = 1000;
/// The events that can change what an instance is shown as.
const TURNS: [&str; 6] = [
    "service_registered",
    "service_updated",
    "service_unregistered",
    "status_change",
    "override_set",
    "override_ended",
];

/// Whether the chain of hashes holds, and from where to where it was checked.
#[derive(Clone, Debug)]
pub struct Verification {
    pub ok: bool,
    pub from: Revision,
    pub to: Revision,
    pub head: Revision,
    pub broken_at: Option<Revision>,
}

/// What is kept of a token's secret is for the replicas alone.
fn hide_digest(record: &mut EventRecord) {
    if record.kind == "token_created"
        && let Ok(serde_json::Value::Object(mut data)) = serde_json::from_str(&record.data)
    {
        data.remove("digest");
        record.data = serde_json::Value::Object(data).to_string();
    }
}

impl App {
    pub async fn events(&self, query: EventQuery) -> Result<(Vec<EventRecord>, Revision), AppError> {
        let (mut records, next) = match history::events(&self.0.lanes, &query).await {
            // it had ended while nobody used it
            Err(StoreError::Broken(_)) => {
                self.0.lanes.forget_idle();
                history::events(&self.0.lanes, &query).await?
            }
            result => result?,
        };
        records.iter_mut().for_each(hide_digest);
        Ok((records, next))
    }

    /// How an instance fared: the newest of the times that it spent in one state, in their order.
    pub async fn fared(&self, id: InstanceId, most: usize) -> Result<Vec<Period>, AppError> {
        let mut fared = History::of_newest(most);
        let mut query = EventQuery {
            instance: Some(id.0),
            kinds: Some(TURNS.map(str::to_owned).to_vec()),
            limit: EVENTS_A_PAGE,
            ..EventQuery::default()
        };
        loop {
            let (records, next) = self.events(query.clone()).await?;
            let is_last = i64::try_from(records.len()).is_ok_and(|count| count < EVENTS_A_PAGE);
            for EventRecord { revision, time, kind, service, instance, actor, data, .. } in records {
                let change =
                    Change::read(&kind, service.as_deref(), instance, &data).map_err(StoreError::from)?;
                fared.take(Event { revision, time, actor: actor.into(), change });
            }
            if is_last {
                return Ok(fared.into_periods().collect());
            }
            query.after = next;
        }
    }

    /// Checks the whole chain, page by page, up to the head.
    pub async fn verify(&self) -> Result<Verification, AppError> {
        let mut whole = Verification { ok: true, from: 0, to: 0, head: 0, broken_at: None };
        loop {
            let page = history::verify(&self.0.lanes, whole.to, BATCHES_A_PAGE).await?;
            if whole.from == 0 {
                whole.from = page.from;
            }
            whole.head = page.head;
            if page.broken_at.is_some() {
                return Ok(Verification { ok: false, to: page.to, broken_at: page.broken_at, ..whole });
            }
            if page.to <= whole.to {
                return Ok(whole);
            }
            whole.to = page.to;
        }
    }
}
