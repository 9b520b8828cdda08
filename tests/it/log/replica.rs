//! A writer and a follower on a database, without the web around them.

use std::sync::Arc;

use rollcall::{
    domain::{Command, Event},
    liveness::Liveness,
    log::{Anchors, Caller, Follower, Log, Outcome, WriteError, Writer},
    store::{self, Cursor, Polled, load, poll},
    telemetry::Metrics,
    view::{Snapshot, View},
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::support::{Database, PATIENCE, wait_until};

pub struct Replica {
    pub log: Log,
    pub view: Arc<View>,
    database: store::Database,
    stop: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
}

impl Replica {
    pub fn start(database: &Database) -> Self {
        Self::start_anchored(database, Anchors::nowhere())
    }

    /// One that remembers where it stood at its last run.
    pub fn start_anchored(database: &Database, anchors: Anchors) -> Self {
        let (mut replica, follower) = Self::start_writing(database, anchors);
        let (database, stop) = (replica.database.clone(), replica.stop.clone());
        replica.tasks.push(tokio::spawn(async move { follower.run(database, stop).await }));
        replica
    }

    /// One that knows of the others only what its writer asks for.
    pub fn start_without_follower(database: &Database) -> Self {
        Self::start_writing(database, Anchors::nowhere()).0
    }

    fn start_writing(database: &Database, anchors: Anchors) -> (Self, Arc<Follower>) {
        let metrics = Metrics::new();
        let database = store::Database::from_url(&database.url(), metrics.clone()).unwrap();
        let view = Arc::new(View::default());
        let follower = Arc::new(Follower::new(
            view.clone(),
            Arc::new(Liveness::default()),
            metrics,
            uuid::Uuid::now_v7(),
            anchors,
        ));
        let (log, queue) = Log::new(follower.clone());
        let stop = CancellationToken::new();
        let writer =
            Writer::new(queue, follower.clone(), database.clone(), uuid::Uuid::now_v7(), stop.clone());
        let tasks = vec![tokio::spawn(writer.run())];
        (Self { log, view, database, stop, tasks }, follower)
    }

    pub async fn write(&self, command: Command) -> Result<Outcome, WriteError> {
        let caller = Caller { actor: "tester".into(), origin: "test".into(), ..Caller::checker() };
        self.log.write(caller, command).await
    }

    /// How often it has asked for what is new.
    pub fn polls(&self) -> u64 {
        let told = self.log.follower().metrics().render();
        let counts = told.lines().filter(|line| line.starts_with("rollcall_follower_polls_total"));
        counts.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
    }

    /// What the tables say.
    pub async fn tables(&self) -> Snapshot {
        let mut connection = self.database.connect().await.unwrap();
        let loaded = load::load(&mut connection).await.unwrap();
        Snapshot::loaded(loaded.cursor.epoch, loaded.cursor.revision, loaded.instances, loaded.configs)
            .with_tokens(loaded.tokens)
    }

    /// What the log comes to when it is followed from its beginning.
    pub async fn folded(&self) -> (Snapshot, Vec<Event>) {
        let mut connection = self.database.connect().await.unwrap();
        let mut cursor = Cursor { epoch: 1, revision: 0, hash: None };
        let mut snapshot = Snapshot::loaded(1, 0, Vec::new(), Vec::new());
        let mut all = Vec::new();
        loop {
            let Polled::News { events, cursor: next, complete, .. } =
                poll::poll(&mut connection, &cursor, PATIENCE).await.unwrap()
            else {
                panic!("the log does not know its own beginning");
            };
            snapshot = snapshot.after(&events, next.revision);
            all.extend(events);
            cursor = next;
            if complete {
                return (snapshot, all);
            }
        }
    }

    /// The snapshot, the fold of the log and the tables are one.
    pub async fn assert_one_truth(&self) {
        let view = self.view.snapshot();
        let (folded, events) = self.folded().await;
        let tables = self.tables().await;
        assert_same(&view, &folded, "the view and the fold of the log");
        assert_same(&tables, &folded, "the tables and the fold of the log");
        let revisions: Vec<i64> = events.iter().map(|event| event.revision).collect();
        let expected: Vec<i64> = (1..=i64::try_from(events.len()).unwrap()).collect();
        assert_eq!(revisions, expected, "the log has no gap");
    }

    /// All have followed the log to its end, and each has one truth.
    pub async fn assert_agreement<const N: usize>(replicas: [&Self; N]) {
        let head = replicas[0].folded().await.0.revision();
        for replica in replicas {
            wait_until(PATIENCE, "it has followed the log", async || {
                (replica.view.snapshot().revision() == head).then_some(())
            })
            .await;
            replica.assert_one_truth().await;
        }
    }

    pub async fn stop(self) {
        self.stop.cancel();
        for task in self.tasks {
            task.await.unwrap();
        }
    }
}

fn assert_same(one: &Snapshot, other: &Snapshot, what: &str) {
    assert_eq!(one.revision(), other.revision(), "{what}: revisions");
    assert_eq!(one.instances(), other.instances(), "{what}: instances");
    assert_eq!(one.configs(), other.configs(), "{what}: configurations");
    let by_service = |snapshot: &Snapshot| -> Vec<_> {
        let filled = snapshot.services().filter(|view| !view.instances.is_empty());
        filled.map(|view| (view.name.clone(), view.instances.clone())).collect()
    };
    assert_eq!(by_service(one), by_service(other), "{what}: services");
}
