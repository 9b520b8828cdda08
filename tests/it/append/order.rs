//! The order of the log: gap-free, in the order of the commits, the same for everybody, and under a chain of hashes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::join_all;
use rollcall::domain::{
    ConfigKey, Event, InstanceId, Revision, Row, RowKey, ServiceName, State as _, evolve,
};
use rollcall::store::GroupOutcome::{Conflict, Written};
use rollcall::store::append::Span;
use rollcall::store::history::{Verification, verify};
use rollcall::store::{GroupOutcome, Lanes};
use rollcall::view::Snapshot;
use sqlx::{AssertSqlSafe, Executor as _};
use tokio::sync::watch;

use super::replica::store;
use super::{Draft, Replica, config_key};
use crate::support::Database;

const WRITERS: u64 = 4;
const BATCHES: usize = 80;
const SERVICES: [&str; 3] = ["red", "green", "blue"];
const CONFIGS: [&str; 4] = ["red", "green", "blue", "none"];

/// The same throws each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(sides).unwrap()).unwrap()
    }

    fn pick<'a, T>(&mut self, things: &'a [T]) -> Option<&'a T> {
        if things.is_empty() { None } else { Some(&things[self.below(things.len())]) }
    }
}

/// Draws a batch of 1 to 20 groups. No row and no identity is in two groups, as the planner sees to.
struct Draw<'a> {
    dice: &'a mut Dice,
    snapshot: &'a Snapshot,
    rows: Vec<InstanceId>,
    configs: Vec<ConfigKey>,
    identities: BTreeSet<(&'static str, String)>,
}

impl<'a> Draw<'a> {
    fn batch(replica: &'a Replica, dice: &'a mut Dice) -> Draft {
        let mut draft = replica.draft();
        let mut draw = Draw {
            rows: replica.snapshot.instances().keys().copied().collect(),
            configs: CONFIGS.map(config_key).to_vec(),
            snapshot: &replica.snapshot,
            identities: BTreeSet::new(),
            dice,
        };
        for _ in 0..=draw.dice.below(20) {
            draft.group();
            draw.group(&mut draft);
        }
        draft
    }

    fn group(&mut self, draft: &mut Draft) {
        match self.dice.below(10) {
            0..=2 => self.register(draft),
            3..=5 => {
                let Some(id) = self.instance() else { return self.register(draft) };
                for _ in 0..=self.dice.below(3) {
                    draft.report(id);
                }
            }
            6 => {
                let Some(id) = self.instance() else { return self.register(draft) };
                self.remove(draft, id);
            }
            7 => {
                let (Some(one), Some(other)) = (self.instance(), self.instance()) else { return };
                draft.report(one).update(other, u16::try_from(self.dice.below(1000)).unwrap() + 2);
                self.remove(draft, one);
                self.register(draft);
            }
            8 => {
                let Some(key) = self.config() else { return self.register(draft) };
                let content = format!("{{\"n\": {}}}", self.dice.below(1000));
                draft.put(&key, &content);
                if self.dice.below(3) == 0 {
                    draft.delete(&key);
                }
            }
            _ => {
                let read = self.dice.pick(&self.rows).copied();
                let Some(id) = self.instance() else { return self.register(draft) };
                if let Some(read) = read.filter(|read| *read != id) {
                    let version = self.snapshot.instance(read).map_or(0, |instance| instance.version);
                    draft.guard(RowKey::Instance(read), version);
                }
                draft.report(id);
            }
        }
    }

    fn register(&mut self, draft: &mut Draft) {
        let service = SERVICES[self.dice.below(SERVICES.len())];
        let key = self.dice.below(40).to_string();
        if self.identities.insert((service, key.clone())) {
            draft.register(service, &key);
        }
    }

    /// Its identity is free for the same group, and for no other of the batch.
    fn remove(&mut self, draft: &mut Draft, id: InstanceId) {
        let instance = self.snapshot.instance(id).unwrap();
        let service = SERVICES.into_iter().find(|name| *name == instance.service.as_str()).unwrap();
        self.identities.insert((service, instance.key.as_str().to_owned()));
        draft.remove(id);
    }

    fn instance(&mut self) -> Option<InstanceId> {
        let index = self.dice.below(self.rows.len().max(1));
        (index < self.rows.len()).then(|| self.rows.swap_remove(index))
    }

    fn config(&mut self) -> Option<ConfigKey> {
        let index = self.dice.below(self.configs.len().max(1));
        (index < self.configs.len()).then(|| self.configs.swap_remove(index))
    }
}

/// Writes random batches, mostly on the newest state; gives what was written and how it went.
async fn writer(database: &Database, seed: u64) -> (Vec<Span>, Vec<GroupOutcome>) {
    let mut replica = Replica::open(database).await;
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15 ^ (seed << 32));
    let (mut spans, mut all) = (Vec::new(), Vec::new());
    for _ in 0..BATCHES {
        if dice.below(4) > 0 {
            replica.catch_up().await;
        }
        let batch = Draw::batch(&replica, &mut dice).done();
        let (outcomes, span) = replica.append(&batch).await;
        let fits = |group: i32| outcomes[usize::try_from(group).unwrap() - 1] == Written;
        let events = batch.events.iter().filter(|event| fits(event.group)).count();
        let numbered = span.as_ref().map_or(0, |span| span.to - span.from + 1);
        assert_eq!(numbered, i64::try_from(events).unwrap());
        spans.extend(span);
        all.extend(outcomes);
    }
    (spans, all)
}

/// Polls as fast as it can, until it has seen the end and there is no more to come.
async fn tail(mut replica: Replica, mut end: watch::Receiver<Option<Revision>>) -> (Vec<Event>, Snapshot) {
    let mut seen = Vec::new();
    loop {
        seen.extend(replica.catch_up().await);
        if end.borrow_and_update().is_some_and(|end| end == replica.revision()) {
            return (seen, replica.snapshot);
        }
        tokio::task::yield_now().await;
    }
}

async fn verify_all(lanes: &Lanes, batches: i64) -> Verification {
    let mut after = 0;
    loop {
        let page = verify(lanes, after, batches).await.unwrap();
        if page.broken_at.is_some() || page.to == page.head {
            return page;
        }
        assert!(page.to > after, "{page:?}");
        after = page.to;
    }
}

fn fold(events: &[Event]) -> BTreeMap<RowKey, Row> {
    let mut rows = BTreeMap::new();
    for event in events {
        let key = event.change.row();
        match evolve(rows.get(&key), event) {
            Some(row) => rows.insert(key, row),
            None => rows.remove(&key),
        };
    }
    rows
}

fn rows(snapshot: &Snapshot) -> BTreeMap<RowKey, Row> {
    let instances =
        snapshot.instances().into_values().map(|row| (RowKey::Instance(row.id), Row::Instance(row)));
    let configs =
        snapshot.configs().values().map(|row| (RowKey::Config(row.key.clone()), Row::Config(row.clone())));
    let tokens = snapshot.tokens().iter().map(|row| (RowKey::Token(row.id), Row::Token(row.clone())));
    instances.chain(configs).chain(tokens).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_four_writers_the_log_is_one_and_everybody_reads_the_same() {
    let database = Database::fresh().await;
    let (end, until) = watch::channel(None);
    let tailers = [Replica::open(&database).await, Replica::open(&database).await];
    let [first, second] = tailers.map(|replica| tail(replica, until.clone()));
    let writing = async {
        let written = join_all((0..WRITERS).map(|seed| writer(&database, seed))).await;
        let last = written.iter().flat_map(|(spans, _)| spans).map(|span| span.to).max().unwrap();
        end.send_replace(Some(last));
        written
    };
    let (written, first, second) = tokio::join!(writing, first, second);

    // revisions: each once, without gaps, from 1 on
    let mut spans: Vec<Span> = written.iter().flat_map(|(spans, _)| spans.clone()).collect();
    spans.sort_by_key(|span| span.from);
    let last = spans.iter().fold(0, |last, span| {
        assert_eq!(span.from, last + 1);
        span.to
    });
    let (events, followed) = first;
    let seen: Vec<Revision> = events.iter().map(|event| event.revision).collect();
    assert_eq!(seen, (1..=last).collect::<Vec<_>>());
    assert_eq!(second.0, events);
    // the mix was one: some fitted, some did not, and nobody was busy
    let count = |outcome| written.iter().flat_map(|(_, all)| all).filter(|one| **one == outcome).count();
    assert!(count(Written) > 1000 && count(Conflict) > 100, "{} {}", count(Written), count(Conflict));
    assert_eq!(count(GroupOutcome::Busy), 0);

    // fold(log) = snapshot followed live = tables
    let loaded = Replica::open(&database).await.snapshot;
    assert_eq!(rows(&followed), fold(&events));
    assert_eq!(rows(&loaded), fold(&events));
    assert_eq!(rows(&second.1), fold(&events));
    let members = |snapshot: &Snapshot| -> Vec<(ServiceName, Vec<InstanceId>)> {
        let services = snapshot.services().filter(|service| !service.instances.is_empty());
        services
            .map(|service| (service.name.clone(), service.instances.values().map(|i| i.id).collect()))
            .collect()
    };
    assert_eq!(members(&loaded), members(&followed));

    // whatever the size of its pages
    let lanes = Lanes::new(store(&database.url()), 2);
    for batches in [2, 7, 100_000] {
        let whole = verify_all(&lanes, batches).await;
        assert_eq!((whole.broken_at, whole.to, whole.head), (None, last, last), "{batches}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_order_of_revisions_is_the_order_of_commits() {
    let database = Database::fresh().await;
    let observed = join_all((0..3).map(async |_| {
        let mut replica = Replica::open(&database).await;
        let mut mine = Vec::new();
        for key in 0..60 {
            // What was acknowledged before this batch was sent has a smaller revision, whoever wrote it.
            let before = replica.catch_up().await.len();
            let seen = replica.revision();
            let mut draft = replica.draft();
            draft.group().register("order", &format!("{}-{key}", replica.writer.replica));
            let span = replica.append(&draft.done()).await.1.unwrap();
            assert!(span.from > seen, "{before}");
            mine.push(span.from);
        }
        assert!(mine.is_sorted());
        mine
    }))
    .await;
    let mut all = observed.concat();
    all.sort_unstable();
    assert_eq!(all, (1..=180).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_superuser_edits_behind_the_triggers_is_found() {
    let database = Database::fresh().await;
    let mut replica = Replica::open(&database).await;
    let ids = replica.register("edited", 3).await;
    for round in 0..4 {
        let mut draft = replica.draft();
        draft.group().report(ids[0]).group().report(ids[1]).report(ids[1]);
        draft.group().put(&config_key("edited"), &format!("{{\"n\":\n{round}}}"));
        replica.write(&mut draft).await;
    }
    let lanes = Lanes::new(store(&database.url()), 1);
    let broken = async || verify_all(&lanes, 3).await.broken_at;
    assert_eq!(broken().await, None);
    let mut superuser = database.connect().await;
    superuser.execute("set session_replication_role = replica").await.unwrap();
    // batches: 1 to 3, 4 to 7, 8 to 11, 12 to 15, 16 to 19
    for (edit, batch) in [
        ("update rollcall.events set revision = 99 where revision = 19", 16),
        ("update rollcall.events set epoch = 2 where revision = 9", 8),
        ("update rollcall.events set time = time + interval '1 microsecond' where revision = 1", 1),
        ("update rollcall.events set kind = 'failure_counted' where revision = 5", 4),
        ("update rollcall.events set service = 'other' where revision = 5", 4),
        ("update rollcall.events set instance = null where revision = 12", 12),
        ("update rollcall.events set instance = gen_random_uuid() where revision = 13", 12),
        ("update rollcall.events set actor = 'nobody' where revision = 7", 4),
        ("update rollcall.events set origin = '' where revision = 7", 4),
        ("update rollcall.events set request_id = null where revision = 7", 4),
        ("update rollcall.events set request_id = 'null' where revision = 7", 4),
        ("update rollcall.events set data = data || ' ' where revision = 19", 16),
        ("update rollcall.events set data = replace(data, 'line 1', 'line\n1') where revision = 9", 8),
        ("update rollcall.events set data = replace(data, E'\n', ' ') where revision = 11", 8),
        ("delete from rollcall.events where revision = 3", 1),
        ("delete from rollcall.events where revision between 8 and 11", 8),
        (
            "insert into rollcall.events select 98, epoch, time, kind, service, instance, actor, origin, \
          request_id, data from rollcall.events where revision = 1; \
          update rollcall.batches set rev_to = 98 where rev_to = 19",
            16,
        ),
        ("update rollcall.batches set hash = hash || '\\x00' where rev_to = 3", 1),
        ("update rollcall.batches set rev_from = 9 where rev_to = 11", 9),
        ("update rollcall.batches set epoch = 2 where rev_to = 11", 8),
        ("delete from rollcall.batches where rev_to = 7", 8),
        ("delete from rollcall.batches where rev_to = 3", 4),
    ] {
        superuser
            .execute(
                "create table kept_events as table rollcall.events; \
                 create table kept_batches as table rollcall.batches",
            )
            .await
            .unwrap();
        let changed = superuser.execute(AssertSqlSafe(edit)).await.unwrap().rows_affected();
        assert!(changed > 0, "{edit}");
        assert_eq!(broken().await, Some(batch), "{edit}");
        superuser
            .execute(
                "delete from rollcall.events; insert into rollcall.events table kept_events; \
                 delete from rollcall.batches; insert into rollcall.batches table kept_batches; \
                 drop table kept_events, kept_batches",
            )
            .await
            .unwrap();
        assert_eq!(broken().await, None, "{edit}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_chain_can_be_verified_from_any_revision_on() {
    let database = Database::fresh().await;
    let mut replica = Replica::open(&database).await;
    for size in [3, 1, 4, 2] {
        let service = format!("s{size}");
        replica.register(&service, size).await;
    }
    let lanes = Lanes::new(store(&database.url()), 1);
    for after in 0..=10 {
        for batches in 1..=5 {
            let page = verify(&lanes, after, batches).await.unwrap();
            assert_eq!((page.broken_at, page.head), (None, 10), "after {after}, {batches}");
            assert!(page.to > after || after == 10, "no way on after {after}, {batches}: {page:?}");
        }
    }
    tokio::time::timeout(Duration::from_secs(10), verify_all(&lanes, 1)).await.unwrap();
}
