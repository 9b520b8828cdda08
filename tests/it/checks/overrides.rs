use chrono::{TimeDelta, Utc};
use serde_json::json;

use crate::support::{PATIENCE, TestApp, static_service, wait_until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_override_stands_above_checks_and_registrations() {
    let (app, other) = TestApp::pair().await;
    let path = app.path_of(&static_service("kept", 80)).await;
    let put = app.put(&format!("{path}/override"));
    let answer = put.json(&json!({"status": "maintenance", "reason": "disk"})).await.answered(200);
    let instance = answer.json();
    assert_eq!(instance["status"], "maintenance");
    let expected = json!({"status": "maintenance", "reason": "disk", "by": "anonymous", "until": null});
    assert_eq!(instance["override"], expected);
    assert_eq!(answer.header("etag"), "\"2\"");
    let revision = answer.revision();
    // registering again and reports change what is below it
    app.register(&static_service("kept", 80)).await.answered(201);
    app.post(&format!("{path}/health?healthy=false")).await.answered(200);
    let seen = other.body(&format!("{path}?min_revision={revision}")).await;
    assert_eq!((&seen["status"], &seen["override"]), (&json!("maintenance"), &expected));
    assert_eq!(app.names("/discover/kept").await, [""; 0]);
    assert_eq!(app.array("/api/v1/services?status=maintenance").await.len(), 1);
    let ended = app.delete(&format!("{path}/override")).await.answered(200).json();
    assert_eq!((&ended["status"], &ended["override"]), (&json!("unhealthy"), &json!(null)));
    // once more changes nothing
    let again = app.delete(&format!("{path}/override")).await.answered(200).json();
    assert_eq!(again["version"], ended["version"]);
    let events = app.events("kept").await;
    let kinds: Vec<_> = events.iter().map(|event| &event["kind"]).collect();
    assert_eq!(kinds, ["service_registered", "override_set", "status_change", "override_ended"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_override_ends_by_itself_and_outlives_a_restart() {
    let app = TestApp::start().await;
    let path = app.path_of(&static_service("drained", 80)).await;
    let until = (Utc::now() + TimeDelta::seconds(3)).format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string();
    let set = app.put(&format!("{path}/override")).json(&json!({"status": "drain", "until": until}));
    let instance = set.await.answered(200).json();
    assert_eq!((&instance["status"], &instance["override"]["until"]), (&json!("stopping"), &json!(until)));
    let database = app.database().clone();
    drop(app);
    let app = TestApp::start_on(&database).await;
    assert_eq!(app.body(&path).await["override"], instance["override"]);
    let ended = wait_until(PATIENCE, "the override is over", async || {
        let instance = app.body(&path).await;
        instance["override"].is_null().then_some(instance)
    })
    .await;
    assert_eq!(ended["status"], "healthy");
    let events = app.body("/api/v1/events?kind=override_ended").await;
    assert_eq!(events["events"][0]["actor"], "upkeep");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_overrides_are_refused_by_their_field() {
    let app = TestApp::start().await;
    let path = app.path_of(&static_service("refused", 80)).await;
    for (body, field) in [
        (json!({}), "status"),
        (json!({"status": "healthy"}), "status"),
        (json!({"status": "drain", "until": "2020-01-01T00:00:00Z"}), "until"),
        (json!({"status": "drain", "reason": 7}), "reason"),
    ] {
        app.put(&format!("{path}/override")).json(&body).await.blames(field);
    }
    let put = app.put(&format!("{path}/override")).header("if-match", "\"9\"");
    put.json(&json!({"status": "drain"})).await.problem(412);
    let nobody = "/api/v1/services/01a1fe4d-8e87-70a7-a779-2d8c1d769028/override";
    app.put(nobody).json(&json!({"status": "drain"})).await.problem(404);
    app.delete(nobody).await.problem(404);
    assert_eq!(app.body(&path).await["version"], 1);
}
