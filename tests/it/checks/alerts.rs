//! Load that somebody should know of.

use serde_json::{Value, json};

use super::{becomes, checked, quick};
use crate::support::{Answer, HealthTarget, PATIENCE, TestApp, static_service, wait_until};

async fn alerts(app: &TestApp) -> Vec<Value> {
    let events = app.body("/api/v1/events?kind=load_alert").await;
    events["events"].as_array().unwrap().clone()
}

async fn first_alert(app: &TestApp) -> Value {
    wait_until(PATIENCE, "there is an alert", async || alerts(app).await.pop()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_is_worth_one_alert_in_five_minutes() {
    let app = TestApp::start().await;
    let path = app.path_of(&static_service("loaded", 80)).await;
    let beat = async |app: &TestApp, load: f32| {
        app.post(&format!("{path}/heartbeat")).json(&json!({"load": load})).await.answered(204);
    };
    beat(&app, 0.59).await;
    beat(&app, 0.85).await;
    let alert = first_alert(&app).await;
    assert_eq!((&alert["service"], &alert["actor"]), (&json!("loaded"), &json!("checker")));
    assert_eq!((&alert["data"]["level"], &alert["data"]["version"]), (&json!("critical"), &json!(2)));
    assert!((alert["data"]["load"].as_f64().unwrap() - 0.85).abs() < 0.001, "{alert}");
    // it is counted when whoever wrote it is told so
    wait_until(PATIENCE, "it is counted", async || {
        (app.metric("rollcall_load_alerts_total{level=\"critical\"}").await == 1).then_some(())
    })
    .await;
    // more of it is known, also after a restart
    beat(&app, 0.99).await;
    let database = app.database().clone();
    drop(app);
    let app = TestApp::start_on(&database).await;
    beat(&app, 0.99).await;
    // what was noted down before this one is written before it
    let other = app.path_of(&static_service("other", 80)).await;
    app.post(&format!("{other}/heartbeat")).json(&json!({"load": 0.6})).await.answered(204);
    wait_until(PATIENCE, "the other has its own", async || (alerts(&app).await.len() > 1).then_some(()))
        .await;
    let whose: Vec<_> = alerts(&app).await.iter().map(|alert| alert["service"].clone()).collect();
    assert_eq!(whose, ["loaded", "other"]);
    assert_eq!(app.body(&path).await["version"], 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_that_a_check_finds_is_one_too() {
    let app = TestApp::start_checking().await;
    let target =
        HealthTarget::start(Answer::Body(200, r#"{"status":"healthy","load_percentage":0.96}"#)).await;
    let expect = json!({"json": {"status": "healthy"}, "load": "load_percentage"});
    let path = app
        .path_of(&checked("asked", target.port(), &json!([quick("http", json!({"expect": expect}))])))
        .await;
    becomes(&app, &path, "healthy").await;
    assert_eq!(first_alert(&app).await["data"]["level"], "emergency");
}
