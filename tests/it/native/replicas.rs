//! Several replicas on one database: what one writes the others show.

use std::collections::HashSet;

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::support::{Database, PATIENCE, TestApp, id_of, service, static_service, wait_until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_at_one_is_seen_at_the_other() {
    let (one, other) = TestApp::pair().await;
    let path = one.path_of(&static_service("shared", 80)).await;
    wait_until(PATIENCE, "the other shows it", async || {
        (other.array("/discover/shared").await.len() == 1).then_some(())
    })
    .await;
    other.delete(&path).await.answered(204);
    wait_until(PATIENCE, "it is gone at the first", async || {
        one.array("/discover/shared").await.is_empty().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_strong_read_on_the_other_replica_sees_a_write_at_once() {
    let (one, other) = TestApp::pair().await;
    for port in 1..=20 {
        let path = one.path_of(&static_service("strong", port)).await;
        let read = other.body(&format!("{path}?consistency=strong")).await;
        assert_eq!(read["port"], port);
        let found = other.array("/api/v1/services/discover/strong?consistency=strong").await;
        assert_eq!(found.len(), usize::from(port));
        other.put("/api/v1/config/strong").json(&json!({ "n": port })).await;
        let config = one.body("/api/v1/config/strong?consistency=strong").await;
        assert_eq!(config["content"]["n"], port);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_that_names_a_revision_sees_it_on_any_replica() {
    let (one, other) = TestApp::pair().await;
    for port in 1..=20 {
        let revision = one.register(&static_service("own", port)).await.answered(201).revision();
        let answer = other.get(&format!("/discover/own?min_revision={revision}")).await.answered(200);
        assert!(answer.revision() >= revision);
        assert_eq!(answer.json().as_array().unwrap().len(), usize::from(port));
        let listed = other.array(&format!("/api/v1/services?min_revision={revision}")).await;
        assert_eq!(listed.len(), usize::from(port));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_is_never_older_than_its_request() {
    let (one, other) = TestApp::pair().await;
    for round in 0..20_u64 {
        let mut body = static_service("fresh", 80);
        let first = one.registered(&body).await;
        let path = format!("/api/v1/services/{}", id_of(&first));
        // What the one has just written, the other knows before it decides.
        assert_eq!(other.registered(&body).await["id"], first["id"], "round {round}");
        body["metadata"] = json!({ "round": round });
        let put = other.put(&path).json(&body).if_match(&first["version"]).await.answered(200).json();
        one.put(&path).json(&body).if_match(&first["version"]).await.refused_for(&put["version"]);
        assert_eq!(one.put(&path).json(&body).await.answered(200).json()["version"], put["version"]);
        one.delete(&path).await.answered(204);
        other.delete(&path).await.problem(404);
        other.patch(&path, &json!({ "weight": 2 })).await.problem(404);
        other.report(&path, true).await.problem(404);
        other.post(&format!("{path}/heartbeat")).await.problem(404);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reports_spread_over_replicas_are_all_counted() {
    let (one, other) = TestApp::pair().await;
    let path = one.path_of(&service("stormy", 80)).await;
    let answers = join_all((0..40).map(async |n| {
        let app = if n % 2 == 0 { &one } else { &other };
        app.report(&path, false).await
    }))
    .await;
    for answer in answers {
        answer.answered(200);
    }
    for app in [&one, &other] {
        wait_until(PATIENCE, "all 40 are counted on each replica", async || {
            let service = app.body(&format!("{path}?consistency=strong")).await;
            assert_eq!(service["status"], "unhealthy");
            assert_eq!(service["version"], 4);
            (service["health_check_failures"] == 40).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_replicas_tell_the_same_log_without_a_gap() {
    let (one, other) = TestApp::pair().await;
    let third = TestApp::start_on(one.database()).await;
    let apps = [&one, &other, &third];
    let answers = join_all((1..=60_u16).map(async |port| {
        apps[usize::from(port % 3)].registered(&static_service(&format!("s-{}", port % 5), port)).await
    }))
    .await;
    let written: HashSet<u64> = answers.iter().map(|one| one["revision"].as_u64().unwrap()).collect();
    assert_eq!(written.len(), 60, "every change has a revision of its own");
    let mut logs = Vec::new();
    for app in apps {
        let page = app.body("/api/v1/events?limit=1000&consistency=strong").await;
        logs.push(page["events"].as_array().unwrap().clone());
    }
    let revisions: Vec<u64> = logs[0].iter().map(|event| event["revision"].as_u64().unwrap()).collect();
    assert_eq!(revisions.len(), 60);
    assert!(revisions.windows(2).all(|pair| pair[1] == pair[0] + 1), "{revisions:?}");
    assert_eq!(revisions.iter().copied().collect::<HashSet<_>>(), written);
    assert_eq!(logs[0], logs[1]);
    assert_eq!(logs[0], logs[2]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_replica_shows_what_an_old_one_shows() {
    let database = Database::fresh().await;
    let old = TestApp::start_on(&database).await;
    for port in 1..=15 {
        let path = old.path_of(&service(&format!("s-{}", port % 4), port)).await;
        for _ in 0..port % 4 {
            old.report(&path, false).await.answered(200);
        }
        if port % 5 == 0 {
            old.delete(&path).await.answered(204);
        }
    }
    let new = TestApp::start_on(&database).await;
    let rows = async |app: &TestApp| -> Vec<Value> {
        let mut rows = app.array("/api/v1/services?consistency=strong").await;
        for row in &mut rows {
            // What changes all the time follows later.
            row.as_object_mut().unwrap().remove("last_seen_at");
        }
        rows
    };
    assert_eq!(rows(&new).await, rows(&old).await);
    assert_eq!(rows(&new).await.len(), 12);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_heartbeat_finds_what_was_registered_elsewhere_a_moment_ago() {
    let (here, there) = TestApp::pair().await;
    for port in 1..=10 {
        let path = here.path_of(&service("orders", port)).await;
        there.post(&format!("{path}/heartbeat")).await.answered(204);
    }
}
