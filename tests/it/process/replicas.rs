//! A replica that freezes or dies in the middle of its writes stops nobody.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use rustix::process::Signal;
use serde_json::json;
use sqlx::{Connection, Executor};

use crate::support::{Client, Database, Folder, PATIENCE, Process, TestApp, static_service, wait_until};

/// Writes from several clients at once until told to stop, and gives the ports that were acknowledged.
async fn hammer(client: &Client, first: u16, going_on: &AtomicBool) -> HashSet<u64> {
    let writers = join_all((0..4).map(async |number: u16| {
        let mut acknowledged = HashSet::new();
        for port in (first + number..).step_by(4).take(2000) {
            if !going_on.load(Ordering::Relaxed) {
                break;
            }
            let answer = client.register(&static_service("hammered", port)).tried().await;
            if answer.is_some_and(|answer| answer.status == 201) {
                acknowledged.insert(u64::from(port));
            }
        }
        acknowledged
    }))
    .await;
    writers.into_iter().flatten().collect()
}

/// The other one writes as if nothing had happened.
async fn writes_go_on(other: &Client, name: &str) {
    for port in 1..=10 {
        let start = Instant::now();
        other.registered(&static_service(name, port)).await;
        assert!(start.elapsed() < Duration::from_secs(4), "{name} {port} took {:?}", start.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_replica_stops_nobody_and_catches_up() {
    let database = Database::fresh().await;
    let url = database.url();
    let folders = [Arc::new(Folder::new()), Arc::new(Folder::new())];
    let frozen = Process::serve(&folders[0], &[("DATABASE_URL", &url)]).ready().await;
    let other = Process::serve(&folders[1], &[("DATABASE_URL", &url)]).ready().await;
    let going_on = AtomicBool::new(true);
    let freezing = async {
        for round in 0..4 {
            let before = other.array("/discover/hammered").await.len();
            wait_until(PATIENCE, "the replica is in the middle of its writes", async || {
                (other.array("/discover/hammered").await.len() > before + 10).then_some(())
            })
            .await;
            frozen.signal(Signal::STOP);
            writes_go_on(&other, &format!("round-{round}")).await;
            frozen.signal(Signal::CONT);
        }
        going_on.store(false, Ordering::Relaxed);
    };
    let (acknowledged, ()) = tokio::join!(hammer(&frozen, 1, &going_on), freezing);
    for server in [&frozen, &other] {
        let kept = server.array("/discover/hammered?consistency=strong").await;
        let ports: HashSet<u64> = kept.iter().map(|one| one["port"].as_u64().unwrap()).collect();
        assert!(acknowledged.is_subset(&ports), "acknowledged, and lost");
        assert_eq!(ports.len(), kept.len());
        for round in 0..4 {
            assert_eq!(server.array(&format!("/discover/round-{round}")).await.len(), 10);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_replica_stops_nobody_and_loses_nothing() {
    let database = Database::fresh().await;
    let url = database.url();
    let other = TestApp::start_on(&database).await;
    let mut acknowledged = HashSet::new();
    for round in 0..3_u16 {
        let folder = Arc::new(Folder::new());
        let killed = Process::serve(&folder, &[("DATABASE_URL", &url)]).ready().await;
        let client: Client = (*killed).clone();
        let going_on = AtomicBool::new(true);
        let killing = async {
            let before = other.array("/discover/hammered").await.len();
            wait_until(PATIENCE, "the replica is in the middle of its writes", async || {
                (other.array("/discover/hammered").await.len() > before + 20).then_some(())
            })
            .await;
            killed.kill();
            going_on.store(false, Ordering::Relaxed);
            writes_go_on(&other, &format!("round-{round}")).await;
        };
        let (more, ()) = tokio::join!(hammer(&client, 1 + 10_000 * round, &going_on), killing);
        acknowledged.extend(more);
    }
    let kept = other.array("/discover/hammered?consistency=strong").await;
    let ports: HashSet<u64> = kept.iter().map(|one| one["port"].as_u64().unwrap()).collect();
    let lost: Vec<&u64> = acknowledged.difference(&ports).collect();
    assert!(lost.is_empty(), "acknowledged, and lost: {lost:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_a_stranger_holds_delays_only_those_who_want_it() {
    let app = TestApp::start().await;
    let held = app.path_of(&static_service("held", 80)).await;
    let mut stranger = app.database().connect().await;
    let mut transaction = stranger.begin().await.unwrap();
    transaction.execute("SELECT * FROM rollcall.instances FOR UPDATE").await.unwrap();
    let waiting = async { app.patch(&held, &serde_json::json!({ "weight": 7 })).await };
    let others = async {
        writes_go_on(&app, "free").await;
        transaction.rollback().await.unwrap();
    };
    let (patched, ()) = tokio::join!(waiting, others);
    // It waited for the stranger, or was told to come again.
    assert!([200, 503].contains(&patched.status), "{}", patched.text());
    wait_until(PATIENCE, "the row is free again", async || {
        (app.patch(&held, &serde_json::json!({ "weight": 8 })).await.status == 200).then_some(())
    })
    .await;
    assert_eq!(app.body(&held).await["weight"], 8);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_the_database_ends_are_made_anew() {
    let app = TestApp::start().await;
    let mut connection = app.database().connect().await;
    for round in 0..5 {
        connection
            .execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                 WHERE datname = current_database() AND pid <> pg_backend_pid()",
            )
            .await
            .unwrap();
        let name = format!("round-{round}");
        wait_until(PATIENCE, "writes are taken again", async || {
            (app.register(&static_service(&name, 80)).await.status == 201).then_some(())
        })
        .await;
        wait_until(PATIENCE, "strong reads are answered again", async || {
            let answer = app.get(&format!("/discover/{name}?consistency=strong")).await;
            (answer.status == 200 && answer.json().as_array().unwrap().len() == 1).then_some(())
        })
        .await;
    }
    assert_eq!(app.body("/api/v1/events").await["events"].as_array().unwrap().len(), 5);
}

/// What a replica heard in its last second it told nobody: the others must not take that for silence.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heartbeats_that_died_with_their_replica_cost_nobody_his_lease() {
    const TTL: Duration = Duration::from_secs(6);
    let database = Database::fresh().await;
    let folder = Arc::new(Folder::new());
    let killed = Process::serve(&folder, &[("DATABASE_URL", &database.url())]).ready().await;
    let other = TestApp::start_with(&database, |settings| settings.checker = true).await;
    let mut paths = Vec::new();
    for port in 1..=20 {
        let mut service = static_service("renewed", port);
        service["checks"] = json!([{"kind": "ttl", "ttl": "6s", "initial_status": "healthy"}]);
        paths.push(other.path_of(&service).await);
    }
    let renewed_by = async |client: &Client| {
        let renew = async |path: &String| client.post(&format!("{path}/heartbeat")).await;
        for answer in join_all(paths.iter().map(renew)).await {
            answer.answered(204);
        }
        tokio::time::Instant::now()
    };
    let told = renewed_by(&other).await;
    tokio::time::sleep_until(told + TTL - Duration::from_secs(1)).await;
    let untold = renewed_by(&killed).await;
    killed.kill();
    // in time for who heard the last one, and late for who knows only of the one before
    tokio::time::sleep_until(untold + TTL - Duration::from_millis(300)).await;
    renewed_by(&other).await;
    wait_until(PATIENCE, "it is noticed that one is gone for good", async || {
        renewed_by(&other).await;
        (untold.elapsed() > Duration::from_secs(18)).then_some(())
    })
    .await;
    let lapsed = other.body("/api/v1/events?kind=status_change").await;
    assert_eq!(lapsed["events"], json!([]));
    // and who is silent then is found
    wait_until(PATIENCE, "they lapse in the end", async || {
        let ill = other.array("/api/v1/services?status=unhealthy").await;
        (ill.len() == paths.len()).then_some(())
    })
    .await;
}
