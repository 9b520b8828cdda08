//! Sessions that hold rows without writing through the log: they delay those who need these rows, and nobody else.

use std::time::{Duration, Instant};

use rollcall::domain::{InstanceId, RowKey};
use rollcall::store::GroupOutcome::{self, Busy, Conflict, Written};
use sqlx::{AssertSqlSafe, Executor as _, PgConnection};

use super::{Draft, Replica, config_key};
use crate::support::Database;

/// Less than any lock is waited for: the writer's `lock_timeout` is 2 s.
const AT_ONCE: Duration = Duration::from_millis(1500);

/// The open transaction of a superuser that has done `statement` to a row.
async fn stranger(database: &Database, statement: &str, row: impl std::fmt::Display) -> PgConnection {
    let mut connection = database.connect().await;
    run(&mut connection, "begin").await;
    run(&mut connection, &statement.replace("$1", &format!("'{row}'"))).await;
    connection
}

async fn run(connection: &mut PgConnection, statement: &str) {
    connection.execute(AssertSqlSafe(statement)).await.unwrap();
}

impl Replica {
    async fn write_at_once(&mut self, draft: &mut Draft) -> Vec<GroupOutcome> {
        let batch = draft.done();
        let began = Instant::now();
        let (outcomes, _) = self.append(&batch).await;
        assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
        self.catch_up().await;
        outcomes
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_held_by_a_stranger_delays_its_own_group_only() {
    let database = Database::fresh().await;
    let mut replica = Replica::open(&database).await;
    let ids = replica.register("held", 3).await;
    let [held, other, together] = ids[..] else { panic!() };
    for how in [
        "select from rollcall.instances where id = $1 for update",
        "select from rollcall.instances where id = $1 for no key update",
        "select from rollcall.instances where id = $1 for share",
        "update rollcall.instances set version = 77, spec = '?' where id = $1",
        "update rollcall.instances set id = gen_random_uuid() where id = $1",
        "delete from rollcall.instances where id = $1",
    ] {
        let mut stranger = stranger(&database, how, held).await;
        let before = [held, other, together].map(|id| replica.version(id));
        let mut draft = replica.draft();
        draft.group().report(other).report(other);
        draft.group().report(together).report(held);
        let new = draft.group().register("held", how);
        draft.group().put(&config_key("held"), "{}");
        assert_eq!(replica.write_at_once(&mut draft).await, [Written, Busy, Written, Written], "{how}");
        let after = [held, other, together, new].map(|id| replica.version(id));
        assert_eq!(after, [before[0], before[1] + 2, before[2], 1], "{how}");
        assert_eq!(replica.write_at_once(replica.draft().group().remove(held)).await, [Busy], "{how}");
        run(&mut stranger, "rollback").await;
        assert_eq!(replica.write_at_once(replica.draft().group().report(held)).await, [Written], "{how}");
    }
    assert_eq!(replica.write_at_once(replica.draft().group().remove(held)).await, [Written]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_configuration_held_by_a_stranger_delays_its_own_group_only() {
    let database = Database::fresh().await;
    let mut replica = Replica::open(&database).await;
    let keys = [config_key("held"), config_key("other")];
    let mut draft = replica.draft();
    draft.group().put(&keys[0], "{}").group().put(&keys[1], "{}");
    assert_eq!(replica.write(&mut draft).await, [Written, Written]);
    for (n, how) in [
        "select from rollcall.config_entries where id = $1 for update",
        "update rollcall.config_entries set content = null where id = $1",
        "delete from rollcall.config_entries where id = $1",
    ]
    .into_iter()
    .enumerate()
    {
        let mut stranger = stranger(&database, how, keys[0].id()).await;
        let content = format!(r#"{{"n":{n}}}"#);
        let mut draft = replica.draft();
        draft.group().put(&keys[0], &content).put(&keys[0], "{}");
        draft.group().put(&keys[1], &content);
        draft.group().register("held", how);
        assert_eq!(replica.write_at_once(&mut draft).await, [Busy, Written, Written], "{how}");
        assert_eq!(replica.write_at_once(replica.draft().group().delete(&keys[0])).await, [Busy], "{how}");
        run(&mut stranger, "rollback").await;
        let mut draft = replica.draft();
        draft.group().put(&keys[0], &content);
        assert_eq!(replica.write_at_once(&mut draft).await, [Written], "{how}");
    }
}

/// As a foreign key would: it forbids the row's end, and not its change.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_who_needs_the_row_to_stay_delays_its_removal_only() {
    let database = Database::fresh().await;
    let mut replica = Replica::open(&database).await;
    let ids = replica.register("kept", 2).await;
    let how = "select from rollcall.instances where id = $1 for key share";
    let mut stranger = stranger(&database, how, ids[0]).await;
    assert_eq!(replica.write_at_once(replica.draft().group().report(ids[0])).await, [Written]);
    let mut draft = replica.draft();
    draft.group().remove(ids[0]).group().remove(ids[1]);
    assert_eq!(replica.write_at_once(&mut draft).await, [Busy, Written]);
    run(&mut stranger, "rollback").await;
    assert_eq!(replica.write_at_once(replica.draft().group().remove(ids[0])).await, [Written]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_at_the_liveness_of_an_instance_delays_its_removal_only() {
    let database = Database::fresh().await;
    let mut replica = Replica::open(&database).await;
    let ids = replica.register("seen", 2).await;
    let mut stranger = database.connect().await;
    for id in &ids {
        let insert = "insert into rollcall.liveness (instance, failures, changes) values ($1, 0, 0)";
        sqlx::query(insert).bind(id.0).execute(&mut stranger).await.unwrap();
    }
    run(
        &mut stranger,
        &format!("begin; update rollcall.liveness set load = 1 where instance = '{}'", ids[0]),
    )
    .await;
    assert_eq!(replica.write_at_once(replica.draft().group().report(ids[0])).await, [Written]);
    let mut draft = replica.draft();
    draft.group().remove(ids[0]).group().remove(ids[1]);
    assert_eq!(replica.write_at_once(&mut draft).await, [Busy, Written]);
    run(&mut stranger, "commit").await;
    assert_eq!(replica.write_at_once(replica.draft().group().remove(ids[0])).await, [Written]);
    let left: i64 =
        sqlx::query_scalar("select count(*) from rollcall.liveness").fetch_one(&mut stranger).await.unwrap();
    assert_eq!(left, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_is_only_read_may_be_held_by_a_stranger() {
    let database = Database::fresh().await;
    let mut replica = Replica::open(&database).await;
    let ids = replica.register("read", 2).await;
    let how = "update rollcall.instances set version = 9 where id = $1";
    let mut stranger = stranger(&database, how, ids[0]).await;
    let mut draft = replica.draft();
    draft.group().guard(RowKey::Instance(ids[0]), 1).report(ids[1]);
    assert_eq!(replica.write_at_once(&mut draft).await, [Written]);
    run(&mut stranger, "commit").await;
    let mut draft = replica.draft();
    draft.group().guard(RowKey::Instance(ids[0]), 1).report(ids[1]);
    assert_eq!(replica.write_at_once(&mut draft).await, [Conflict]);
}

/// A group that is decided on an old state need not wait for anybody to learn it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conflict_counts_for_more_than_a_held_row() {
    let database = Database::fresh().await;
    let mut replica = Replica::open(&database).await;
    let ids = replica.register("both", 2).await;
    let mut late = Replica::open(&database).await;
    assert_eq!(replica.write(replica.draft().group().report(ids[0]).report(ids[0])).await, [Written]);
    let how = "select from rollcall.instances where id = $1 for update";
    let _held = stranger(&database, how, ids[0]).await;
    let _held_too = stranger(&database, how, ids[1]).await;
    let mut draft = late.draft();
    draft.group().report(ids[0]).report(ids[1]);
    assert_eq!(late.write_at_once(&mut draft).await, [Conflict]);
    let mut draft = late.draft();
    draft.group().report(ids[0]).report(ids[1]);
    assert_eq!(late.write_at_once(&mut draft).await, [Busy]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_stranger_changed_is_found_when_he_is_done() {
    let database = Database::fresh().await;
    let mut replica = Replica::open(&database).await;
    let ids = replica.register("changed", 2).await;
    let how = "update rollcall.instances set version = version + 1 where id = $1";
    let mut changing = stranger(&database, how, ids[0]).await;
    let mut removing = stranger(&database, "delete from rollcall.instances where id = $1", ids[1]).await;
    let mut draft = replica.draft();
    draft.group().report(ids[0]).group().report(ids[1]);
    assert_eq!(replica.write_at_once(&mut draft).await, [Busy, Busy]);
    run(&mut changing, "commit").await;
    run(&mut removing, "commit").await;
    let mut draft = replica.draft();
    draft.group().report(ids[0]).group().report(ids[1]);
    assert_eq!(replica.write_at_once(&mut draft).await, [Conflict, Conflict]);
}

/// A dump, or a psql that somebody left open after a SELECT.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_who_stays_delays_nobody() {
    let database = Database::fresh().await;
    let mut replica = Replica::open(&database).await;
    let ids = replica.register("dumped", 3).await;
    let mut reader = database.connect().await;
    run(&mut reader, "begin isolation level repeatable read").await;
    for table in
        ["events", "batches", "instances", "config_entries", "config_versions", "liveness", "log_head"]
    {
        run(&mut reader, &format!("select * from rollcall.{table}")).await;
    }
    let mut draft = replica.draft();
    draft.group().report(ids[0]).group().remove(ids[1]).group().register("dumped", "new");
    draft.group().put(&config_key("dumped"), "{}");
    assert_eq!(replica.write_at_once(&mut draft).await, [Written; 4]);
    // nor when the next partition of the log is due
    let mut owner = database.connect().await;
    run(&mut owner, "update rollcall.log_head set floor = 4999000").await;
    assert_eq!(replica.write_at_once(replica.draft().group().report(ids[2])).await, [Written]);
    assert_eq!(replica.revision(), 4_999_001);
    let mut other = Replica::open(&database).await;
    assert_eq!(other.write_at_once(other.draft().group().report(ids[2])).await, [Written]);
}

/// Nobody's change is to blame for that, so none is refused: the batch may be sent again, under its id.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_at_the_head_of_the_log_makes_no_change_guilty() {
    let database = Database::fresh().await;
    let mut replica = Replica::open(&database).await;
    let id = replica.register("head", 1).await[0];
    let mut stranger = database.connect().await;
    run(&mut stranger, "begin; select from rollcall.log_head for update").await;
    let batch = replica.draft().group().report(id).done();
    let error = replica.try_append(&batch).await.unwrap_err();
    assert!(error.will_pass(), "{error:?}");
    run(&mut stranger, "commit").await;
    assert_eq!(replica.append(&batch).await.0, [Written]);
}

/// Nobody can see his row, and yet nobody may take its place: the batch fails before long, and may be sent again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_with_the_same_identity_is_not_waited_for_long() {
    let database = Database::fresh().await;
    let mut replica = Replica::open(&database).await;
    replica.register("same", 1).await;
    let how = "insert into rollcall.instances select gen_random_uuid(), service, '1', key_given, version, revision, \
               status, failures, health_changes, spec, registered_at, updated_at \
               from rollcall.instances where key = $1";
    let mut inserting = stranger(&database, how, "0").await;
    let mut draft = replica.draft();
    draft.group().register("same", "1");
    let batch = draft.done();
    let began = Instant::now();
    let error = replica.try_append(&batch).await.unwrap_err();
    assert!(error.will_pass() && began.elapsed() < AT_ONCE, "{error:?}");
    run(&mut inserting, "rollback").await;
    assert_eq!(replica.append(&batch).await.0, [Written]);
}

/// Nothing that writes through the log ever holds a row across a round trip, so no writer finds one held.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_are_never_busy_for_each_other() {
    let database = Database::fresh().await;
    let ids: Vec<InstanceId> = Replica::open(&database).await.register("hot", 5).await;
    futures_util::future::join_all((0..4).map(async |_| {
        let mut replica = Replica::open(&database).await;
        for _ in 0..60 {
            let mut draft = replica.draft();
            for id in &ids {
                draft.group().report(*id);
            }
            let outcomes = replica.write(&mut draft).await;
            assert!(!outcomes.contains(&Busy), "{outcomes:?}");
        }
    }))
    .await;
}
