//! A log that lost its end, or is a copy, is noticed by all, and no revision is given out twice.

use std::sync::Arc;

use futures_util::future::join_all;
use rollcall::domain::{
    Cause, Checks, Command, Host, InstanceId, Precondition, Seen, ServiceName, ServiceType, Spec, State as _,
    registry::{About, RegisterInstance, ReportHealth},
    target::Endpoint,
};
use rollcall::log::{Anchors, Follower};
use rollcall::store::{self, Patience};
use rollcall::telemetry::Metrics;
use rollcall::view::View;
use serde_json::Value;
use sqlx::Executor;
use uuid::Uuid;

use super::replica::Replica;
use crate::support::{Database, PATIENCE, wait_until};

const SECOND_EPOCH: i64 = 1_000_000_000;

fn id(n: u128) -> InstanceId {
    InstanceId(Uuid::from_u128(n))
}

fn register(n: u16) -> Command {
    let spec = Spec {
        kind: ServiceType::Api,
        host: Host::parse("host").unwrap(),
        port: n,
        metadata: std::sync::Arc::default(),
        health_check_endpoint: Endpoint::default(),
        weight: 1,
        zone: None,
        region: None,
        datacenter: None,
        endpoints: std::collections::BTreeMap::new(),
        url: None,
        topics: Box::default(),
        dependencies: Box::default(),
        checks: Checks::Poll,
    };
    Command::RegisterInstance(RegisterInstance {
        new_id: id(n.into()),
        service: ServiceName::parse("orders").unwrap(),
        key: None,
        spec: std::sync::Arc::new(spec),
        precondition: Precondition::None,
    })
}

fn report(n: u128) -> Command {
    Command::ReportHealth(ReportHealth {
        id: id(n),
        about: About::First,
        seen: Seen::Passing,
        cause: Cause::Report,
        output: None,
        unless_heard: None,
    })
}

/// What a standby that was promoted without the newest transactions looks like.
async fn lose_the_end(database: &Database, after: i64) {
    let mut stranger = database.connect().await;
    for statement in [
        "set session_replication_role = replica".to_owned(),
        format!("delete from rollcall.events where revision > {after}"),
        format!("delete from rollcall.batches where rev_to > {after}"),
        format!("delete from rollcall.instances where revision > {after}"),
    ] {
        stranger.execute(sqlx::AssertSqlSafe(statement)).await.unwrap();
    }
}

async fn epoch_events(database: &Database) -> Vec<(i64, i32, Value)> {
    let mut connection = database.connect().await;
    let rows: Vec<(i64, i32, String)> = sqlx::query_as(
        "select revision, epoch, data from rollcall.events where kind = 'epoch_started' order by revision",
    )
    .fetch_all(&mut connection)
    .await
    .unwrap();
    rows.into_iter()
        .map(|(revision, epoch, data)| (revision, epoch, serde_json::from_str(&data).unwrap()))
        .collect()
}

async fn reach_epoch(replica: &Replica, epoch: i32) {
    wait_until(PATIENCE, "the replica is in the new epoch", async || {
        (replica.view.snapshot().epoch() == epoch).then_some(())
    })
    .await;
}

/// An event that cannot be seen is not passed over: what it changed is in the tables.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_the_log_lacks_is_not_passed_over() {
    let database = Database::fresh().await;
    let (one, other) = (Replica::start(&database), Replica::start(&database));
    one.write(register(1)).await.unwrap();
    let mut stranger = database.connect().await;
    stranger
        .execute(
            "create function lose() returns trigger language plpgsql as 'begin return null; end'; \
             create trigger lose before insert on rollcall.events \
             for each row when (new.revision = 2) execute function lose()",
        )
        .await
        .unwrap();
    for n in 2..=3 {
        one.write(register(n)).await.unwrap();
    }
    for replica in [&one, &other] {
        wait_until(PATIENCE, "the end is reached", async || {
            (replica.view.snapshot().revision() == 3).then_some(())
        })
        .await;
        for n in 1..=3 {
            assert!(replica.view.snapshot().instance(id(n)).is_some(), "{n}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_end_is_noticed_by_all_and_nothing_is_given_out_twice() {
    let database = Database::fresh().await;
    let (one, other) = (Replica::start(&database), Replica::start(&database));
    for n in 1..=5 {
        one.write(register(n)).await.unwrap();
    }
    wait_until(PATIENCE, "the other has followed", async || {
        (other.view.snapshot().revision() == 5).then_some(())
    })
    .await;

    lose_the_end(&database, 3).await;
    reach_epoch(&one, 2).await;
    reach_epoch(&other, 2).await;

    let events = epoch_events(&database).await;
    assert_eq!(events.len(), 1, "raised once: {events:?}");
    let (revision, epoch, told) = &events[0];
    assert_eq!((*revision, *epoch), (SECOND_EPOCH, 2));
    assert_eq!((&told["lost_from"], &told["lost_to"], &told["parent"]), (&4.into(), &5.into(), &3.into()));

    let written = other.write(register(4)).await.unwrap();
    assert_eq!(written.revision, SECOND_EPOCH + 1);
    let gone = one.write(report(5)).await.unwrap_err();
    assert!(gone.to_string().contains("no such"), "{gone}");
    wait_until(PATIENCE, "both see the same", async || {
        (one.view.snapshot().revision() == SECOND_EPOCH + 1).then_some(())
    })
    .await;
    assert_eq!(one.view.snapshot().instances().len(), 4);
    assert_eq!(one.tables().await.instances(), one.view.snapshot().instances());
    one.stop().await;
    other.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_end_is_noticed_after_a_cold_start() {
    let database = Database::fresh().await;
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let replica = Replica::start_anchored(&database, Anchors::within(folder.path()));
    let third = Replica::start_anchored(&database, Anchors::within(other.path()));
    for n in 1..=4 {
        replica.write(register(n)).await.unwrap();
    }
    wait_until(PATIENCE, "the third has followed", async || {
        (third.view.snapshot().revision() == 4).then_some(())
    })
    .await;
    third.stop().await;
    replica.stop().await;
    lose_the_end(&database, 2).await;

    let replica = Replica::start_anchored(&database, Anchors::within(folder.path()));
    reach_epoch(&replica, 2).await;
    assert_eq!(replica.view.snapshot().revision(), SECOND_EPOCH);
    let events = epoch_events(&database).await;
    assert_eq!(events[0].2["lost_to"], 4);
    replica.stop().await;

    // A third that was away all the time notices too, and does not raise again what was raised above it.
    let late = Replica::start_anchored(&database, Anchors::within(other.path()));
    reach_epoch(&late, 2).await;
    assert_eq!(late.write(register(9)).await.unwrap().revision, SECOND_EPOCH + 1);
    assert_eq!(epoch_events(&database).await.len(), 1);
    late.stop().await;
}

/// Writer, follower and upkeep all begin with a load. Whichever is first, none shows the log as it was without its end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_known_before_a_cold_start_is_compared_by_whoever_loads_first() {
    const LOADERS: usize = 6;
    const KNOWN: i64 = 4;
    for _ in 0..15 {
        let database = Database::fresh().await;
        let folder = tempfile::tempdir().unwrap();
        let replica = Replica::start_anchored(&database, Anchors::within(folder.path()));
        for n in 1..=4 {
            replica.write(register(n)).await.unwrap();
        }
        replica.stop().await;
        lose_the_end(&database, 2).await;

        let view = Arc::new(View::default());
        let anchors = Anchors::within(folder.path());
        let (liveness, metrics) = (Arc::default(), Metrics::new());
        let follower = Follower::new(view.clone(), liveness, metrics.clone(), Uuid::now_v7(), anchors);
        let service = store::Database::from_url(&database.url(), metrics).unwrap();
        let mut connections = Vec::new();
        for _ in 0..LOADERS {
            connections.push(service.connect().await.unwrap());
        }
        let mut shown = view.watch();
        let first_shown = tokio::spawn(async move {
            shown.wait_for(Option::is_some).await.ok().and_then(|revision| *revision).unwrap()
        });
        join_all(connections.iter_mut().map(async |connection| {
            follower.catch_up(connection, &mut Patience::FRESH.clone()).await.unwrap();
        }))
        .await;
        let first_shown = first_shown.await.unwrap();
        assert!(first_shown > KNOWN, "{first_shown} was shown, and {KNOWN} had been before");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_anchor_that_the_log_knows_changes_nothing() {
    let database = Database::fresh().await;
    let folder = tempfile::tempdir().unwrap();
    let replica = Replica::start_anchored(&database, Anchors::within(folder.path()));
    replica.write(register(1)).await.unwrap();
    replica.write(register(2)).await.unwrap();
    replica.stop().await;
    let replica = Replica::start_anchored(&database, Anchors::within(folder.path()));
    assert_eq!(replica.write(register(3)).await.unwrap().revision, 3);
    assert_eq!(replica.view.snapshot().epoch(), 1);
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_promoted_server_begins_a_new_epoch_at_the_first_writer() {
    let database = Database::fresh().await;
    let replica = Replica::start(&database);
    replica.write(register(1)).await.unwrap();
    // what was noted is another server than the one that answers
    let mut stranger = database.connect().await;
    stranger.execute("update rollcall.log_head set timeline = timeline + 1").await.unwrap();

    let newcomer = Replica::start(&database);
    reach_epoch(&newcomer, 2).await;
    reach_epoch(&replica, 2).await;
    assert_eq!(newcomer.write(register(2)).await.unwrap().revision, SECOND_EPOCH + 1);
    assert_eq!(replica.write(register(3)).await.unwrap().revision, SECOND_EPOCH + 2);
    let events = epoch_events(&database).await;
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].2["lost_from"], Value::Null);
    replica.stop().await;
    newcomer.stop().await;
}
