//! A replica's writer as `append` knows it: a connection, a generation, and the state that it decides on.

use std::time::{Duration, Instant};

use rollcall::domain::{Event, Instance, InstanceId, Revision, State as _};
use rollcall::store::append::{Batch, Span, Writer, append, open_writer};
use rollcall::store::load::load;
use rollcall::store::poll::{Cursor, Polled, poll};
use rollcall::store::{Appended, Connection, Database as Store, GroupOutcome, StoreError};
use rollcall::telemetry::Metrics;
use rollcall::view::Snapshot;
use uuid::Uuid;

use super::Draft;
use crate::support::{Database, PATIENCE};

pub struct Replica {
    pub connection: Connection,
    pub writer: Writer,
    pub snapshot: Snapshot,
    pub cursor: Cursor,
}

impl Replica {
    pub async fn open(database: &Database) -> Self {
        Self::open_at(&database.url()).await
    }

    pub async fn open_at(url: &str) -> Self {
        Self::open_as(url, Uuid::new_v4()).await
    }

    /// One more connection of a replica: the next generation.
    pub async fn open_as(url: &str, replica: Uuid) -> Self {
        let mut connection = store(url).connect().await.unwrap();
        let writer = open_writer(&mut connection, replica, 0).await.unwrap();
        let loaded = load(&mut connection).await.unwrap();
        let cursor = loaded.cursor;
        let snapshot = Snapshot::loaded(cursor.epoch, cursor.revision, loaded.instances, loaded.configs);
        Self { connection, writer, snapshot, cursor }
    }

    pub fn draft(&self) -> Draft {
        Draft::new(&self.snapshot, &self.cursor)
    }

    /// Brings the state to the end of the log, and gives the events on the way.
    pub async fn catch_up(&mut self) -> Vec<Event> {
        let mut all = Vec::new();
        loop {
            match poll(&mut self.connection, &self.cursor, PATIENCE).await.unwrap() {
                Polled::News { events, cursor, complete, .. } => {
                    self.snapshot = self.snapshot.after(&events, cursor.revision);
                    self.cursor = cursor;
                    all.extend(events);
                    if complete {
                        return all;
                    }
                }
                Polled::Gap => tokio::task::yield_now().await,
                other => panic!("the log is another one: {other:?}"),
            }
        }
    }

    /// Sends a batch, and stays where it is.
    pub async fn try_append(&mut self, batch: &Batch) -> Result<Appended, StoreError> {
        append(&mut self.connection, self.writer, batch, false).await
    }

    pub async fn append(&mut self, batch: &Batch) -> (Vec<GroupOutcome>, Option<Span>) {
        // what will pass is tried again after a moment, as the writer does
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.try_append(batch).await {
                Ok(Appended::Done { outcomes, written }) => return (outcomes, written),
                Err(error) if error.will_pass() && Instant::now() < deadline => {}
                other => panic!("{other:?}"),
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Sends a batch and catches up.
    pub async fn write(&mut self, draft: &mut Draft) -> Vec<GroupOutcome> {
        let (outcomes, _) = self.append(&draft.done()).await;
        self.catch_up().await;
        outcomes
    }

    /// Registers instances of a service, one a group, and catches up.
    pub async fn register(&mut self, service: &str, count: usize) -> Vec<InstanceId> {
        let mut draft = self.draft();
        let ids = (0..count).map(|n| draft.group().register(service, &n.to_string())).collect();
        let outcomes = self.write(&mut draft).await;
        assert!(outcomes.iter().all(|outcome| *outcome == GroupOutcome::Written), "{outcomes:?}");
        ids
    }

    pub fn instance(&self, id: InstanceId) -> Option<Instance> {
        self.snapshot.instance(id).map(|instance| (*instance).clone())
    }

    pub fn version(&self, id: InstanceId) -> i64 {
        self.instance(id).map_or(0, |instance| instance.version)
    }

    pub fn revision(&self) -> Revision {
        self.cursor.revision
    }
}

pub fn store(url: &str) -> Store {
    Store::from_url(url, Metrics::new()).unwrap()
}
