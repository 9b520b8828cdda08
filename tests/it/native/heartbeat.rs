//! POST /services/{id}/heartbeat.

use std::time::Duration;

use serde_json::json;

use crate::support::{PATIENCE, TestApp, id_of, service, static_service, wait_until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_heartbeat_is_204_and_moves_last_seen_forward() {
    let app = TestApp::start().await;
    let registered = app.registered(&static_service("beating", 80)).await;
    let path = format!("/api/v1/services/{}", id_of(&registered));
    let mut seen = registered["last_seen_at"].clone();
    for _ in 0..3 {
        app.post(&format!("{path}/heartbeat")).await.answered(204).is_empty();
        let now = app.body(&path).await["last_seen_at"].clone();
        assert!(now.as_str() > seen.as_str(), "{now} after {seen}");
        seen = now;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_heartbeat_of_nobody_is_404_so_that_the_client_registers_again() {
    let app = TestApp::start().await;
    app.post(&format!("/api/v1/services/{}/heartbeat", uuid::Uuid::new_v4())).await.problem(404);
    let path = app.path_of(&static_service("gone", 80)).await;
    app.delete(&path).await.answered(204);
    app.post(&format!("{path}/heartbeat")).json(&json!({ "load": 0.5 })).await.problem(404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_heartbeat_may_carry_the_load() {
    let app = TestApp::start().await;
    let path = app.path_of(&static_service("loaded", 80)).await;
    for load in [0.5, 0.0, 1.0, 0.125] {
        app.post(&format!("{path}/heartbeat")).json(&json!({ "load": load })).await.answered(204);
        assert_eq!(app.body(&path).await["load"].as_f64(), Some(load));
    }
    app.post(&format!("{path}/heartbeat")).await.answered(204);
    assert_eq!(app.body(&path).await["load"].as_f64(), Some(0.125), "no load told leaves the last one");
    for nothing in [json!({}), json!({ "load": null }), json!(null)] {
        app.post(&format!("{path}/heartbeat")).json(&nothing).await.answered(204);
    }
    assert_eq!(app.body(&path).await["load"].as_f64(), Some(0.125));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_beyond_its_bounds_is_400() {
    let app = TestApp::start().await;
    let path = app.path_of(&static_service("loaded", 80)).await;
    for load in [json!(1.5), json!(-0.1), json!("0.5"), json!([])] {
        app.post(&format!("{path}/heartbeat")).json(&json!({ "load": load })).await.blames("load");
    }
    app.post(&format!("{path}/heartbeat")).body("application/json", "{").await.problem(400);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_heartbeat_changes_no_version_no_revision_and_no_etag() {
    let app = TestApp::start().await;
    let path = app.path_of(&service("quiet", 80)).await;
    app.report(&path, true).await.answered(200);
    let before = app.get("/discover/quiet").await.answered(200);
    for _ in 0..5 {
        app.post(&format!("{path}/heartbeat")).json(&json!({ "load": 0.55 })).await.answered(204);
    }
    let after = app.get("/discover/quiet").await.answered(200);
    assert_eq!(after.header("etag"), before.header("etag"));
    assert_eq!(after.revision(), before.revision());
    let service = app.body(&path).await;
    assert_eq!(service["version"], 2);
    assert_eq!(service["status"], "healthy");
    assert_eq!(app.events("quiet").await.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_heartbeat_is_seen_in_lists_and_on_other_replicas_within_seconds() {
    let (one, other) = TestApp::pair().await;
    let path = one.path_of(&static_service("shared", 80)).await;
    one.post(&format!("{path}/heartbeat")).json(&json!({ "load": 0.75 })).await.answered(204);
    for (app, place) in [
        (&one, "/api/v1/services"),
        (&one, "/discover/shared"),
        (&other, "/api/v1/services"),
        (&other, "/discover/shared"),
    ] {
        wait_until(PATIENCE, &format!("{place} shows the load"), async || {
            let listed = app.array(place).await;
            (listed.first()?["load"].as_f64() == Some(0.75)).then_some(())
        })
        .await;
    }
    wait_until(PATIENCE, "the other replica shows the load", async || {
        (other.get(&path).await.json()["load"].as_f64() == Some(0.75)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_seen_survives_a_restart() {
    let app = TestApp::start().await;
    let path = app.path_of(&static_service("lasting", 80)).await;
    app.post(&format!("{path}/heartbeat")).json(&json!({ "load": 0.25 })).await.answered(204);
    let before = app.body(&path).await;
    let database = app.database().clone();
    app.stop().await;
    let app = TestApp::start_on(&database).await;
    let after = wait_until(Duration::from_secs(10), "the load is back", async || {
        let service = app.body(&path).await;
        (service["load"].as_f64() == Some(0.25)).then_some(service)
    })
    .await;
    assert!(after["last_seen_at"].as_str() >= before["last_seen_at"].as_str(), "{before} {after}");
}
