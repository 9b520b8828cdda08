//! Every change writes an event in the same transaction; events never change and outlive their service.

use serde_json::{Value, json};
use sqlx::Executor;

use crate::support::{TestApp, id_of, is_time, service, static_service};

fn kinds(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["kind"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_life_is_told_in_order() {
    let app = TestApp::start().await;
    let registered = app.registered(&service("told", 80)).await;
    let id = id_of(&registered);
    let path = format!("/api/v1/services/{id}");
    app.report(&path, false).await.answered(200);
    app.report(&path, true).await.answered(200);
    app.delete(&path).await.answered(204);

    let events = app.events("told").await;
    assert_eq!(
        kinds(&events),
        ["service_registered", "status_change", "status_change", "service_unregistered"]
    );
    assert_eq!(events[0]["data"]["service_name"], "told");
    for (event, old, new) in [(&events[1], "unknown", "degraded"), (&events[2], "degraded", "healthy")] {
        assert_eq!(event["data"]["old_status"], old, "{event}");
        assert_eq!(event["data"]["new_status"], new, "{event}");
    }
    for event in &events {
        assert_eq!(event["service"], "told");
        assert_eq!(event["instance"], id);
        assert!(is_time(&event["time"]), "{event}");
    }
    let times: Vec<&str> = events.iter().map(|event| event["time"].as_str().unwrap()).collect();
    assert!(times.is_sorted(), "{times:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_changes_nothing_is_no_event() {
    let app = TestApp::start().await;
    let path = app.path_of(&static_service("still", 80)).await;
    let before = app.events("still").await;
    app.registered(&static_service("still", 80)).await;
    app.report(&path, true).await.answered(200);
    app.post(&format!("{path}/heartbeat")).await.answered(204);
    app.patch(&path, &json!({})).await.answered(200);
    assert_eq!(app.events("still").await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failures_beyond_the_threshold_are_no_events() {
    let app = TestApp::start().await;
    let path = app.path_of(&service("broken", 80)).await;
    for _ in 0..3 {
        app.report(&path, false).await.answered(200);
    }
    let events = app.events("broken").await;
    let changes: Vec<&Value> = events.iter().filter(|event| event["kind"] == "status_change").collect();
    assert_eq!(changes.len(), 2, "unknown to degraded, degraded to unhealthy");
    app.report(&path, false).await.answered(200);
    assert_eq!(app.events("broken").await, events);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_metadata_is_an_event() {
    let app = TestApp::start().await;
    let mut body = service("changed", 80);
    app.registered(&body).await;
    body["metadata"] = json!({ "version": "2" });
    app.registered(&body).await;
    let events = app.events("changed").await;
    assert_eq!(events.len(), 2, "{events:?}");
    assert_eq!(events[0]["kind"], "service_registered");
    assert_ne!(events[1]["kind"], "status_change");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_stay_as_they_were_when_their_service_is_gone() {
    let app = TestApp::start().await;
    let path = app.path_of(&service("mortal", 80)).await;
    app.report(&path, true).await.answered(200);
    let before = app.events("mortal").await;
    app.delete(&path).await.answered(204);
    app.registered(&service("mortal", 80)).await;
    let after = app.events("mortal").await;
    assert_eq!(after[..before.len()], before);
    assert_eq!(kinds(&after[before.len()..]), ["service_unregistered", "service_registered"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_database_refuses_to_change_an_event() {
    let app = TestApp::start().await;
    app.registered(&service("fixed", 80)).await;
    let before = app.events("fixed").await;
    let mut connection = app.database().connect().await;
    for statement in ["UPDATE events SET kind = 'forged'", "DELETE FROM events", "TRUNCATE events"] {
        let refused = connection.execute(statement).await;
        assert!(refused.is_err(), "{statement} went through");
    }
    assert_eq!(app.events("fixed").await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registration_that_is_refused_leaves_no_event() {
    let app = TestApp::start().await;
    let mut bad = service("refused", 80);
    bad["port"] = json!(0);
    app.register(&bad).await.blames("port");
    assert_eq!(app.events("refused").await, [Value::Null; 0]);
    assert_eq!(app.body("/api/v1/events").await["events"], json!([]));
}
