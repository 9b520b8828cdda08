//! What has been ill for too long is removed, and never more at once than a pass may.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

use super::checked;
use crate::support::{Answer, HealthTarget, PATIENCE, TestApp, wait_until};

const REMOVALS: &str = "rollcall_guard_active{guard=\"removals\"}";
/// As long as a pass and what comes before it may take, several times.
const PASSES: Duration = Duration::from_mins(1);

fn silent() -> Value {
    json!([{"kind": "ttl", "ttl": "1s", "deregister_after": "1s"}])
}

fn asked() -> Value {
    json!([{"kind": "http", "interval": "1s", "timeout": "1s", "unhealthy_after": 1, "deregister_after": "1s"}])
}

async fn register_all(app: &TestApp, services: Vec<Value>) {
    app.post("/api/v1/services/register/batch").json(&json!(services)).await.answered(200);
}

async fn removed(app: &TestApp) -> Vec<Value> {
    let page = app.body("/api/v1/events?kind=service_unregistered&limit=1000").await;
    page["events"].as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_silent_for_too_long_is_removed_and_never_comes_back() {
    let app = TestApp::start_checking().await;
    let service = checked("silent", 80, &silent());
    let first = app.registered(&service).await;
    let path = format!("/api/v1/services/{}", first["id"].as_str().unwrap());
    wait_until(PASSES, "it is gone", async || (app.get(&path).await.status == 404).then_some(())).await;
    let events = app.events("silent").await;
    let kinds: Vec<_> = events.iter().map(|event| event["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["service_registered", "status_change", "service_unregistered"]);
    assert_eq!(events[2]["actor"], "sweeper");
    let time = |event: &Value| event["time"].as_str().unwrap().parse::<DateTime<Utc>>().unwrap();
    assert!(time(&events[2]) - time(&events[1]) >= TimeDelta::seconds(1));
    // what was true of it is not true of the next one
    app.post(&format!("{path}/heartbeat")).await.problem(404);
    let second = app.registered(&service).await;
    assert_ne!(second["id"], first["id"]);
    assert_eq!((&second["version"], &second["status"]), (&json!(1), &json!("unknown")));
    app.get(&path).await.problem(404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_well_again_or_in_an_operators_hands_stays() {
    let app = TestApp::start_checking().await;
    let mut target = HealthTarget::start(Answer::Status(500)).await;
    let held = app.path_of(&checked("held", target.port(), &asked())).await;
    let reason = json!({"status": "maintenance", "reason": "being worked on"});
    app.put(&format!("{held}/override")).json(&reason).await.answered(200);
    let well = json!([{"kind": "http", "interval": "1s", "timeout": "1s", "deregister_after": "1s"}]);
    let target_of_well = HealthTarget::start(Answer::Status(200)).await;
    let well = app.path_of(&checked("well", target_of_well.port(), &well)).await;
    let ill = app.path_of(&checked("ill", target.port(), &asked())).await;
    wait_until(PASSES, "the ill one is gone", async || (app.get(&ill).await.status == 404).then_some(()))
        .await;
    assert_eq!(app.body(&well).await["status"], "healthy");
    assert_eq!(app.body(&held).await["status"], "maintenance");
    assert_eq!(removed(&app).await.len(), 1);
    app.delete(&format!("{held}/override")).await.answered(200);
    wait_until(PASSES, "the other is gone too", async || (app.get(&held).await.status == 404).then_some(()))
        .await;
    target.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_replicas_together_remove_no_more_than_a_pass_may() {
    const ILL: u16 = 7;
    let first = TestApp::start_checking().await;
    let second = TestApp::start_with(first.database(), |settings| settings.checker = true).await;
    let third = TestApp::start_with(first.database(), |settings| settings.checker = true).await;
    let target = HealthTarget::start(Answer::Status(200)).await;
    let well = (0..13).map(|number| checked(&format!("well-{number}"), target.port(), &asked()));
    let ill = (0..ILL).map(|number| checked(&format!("ill-{number}"), 80, &silent()));
    register_all(&first, well.chain(ill).collect()).await;
    wait_until(PASSES, "all that are ill are gone", async || {
        (removed(&first).await.len() == usize::from(ILL)).then_some(())
    })
    .await;
    let times: Vec<DateTime<Utc>> =
        removed(&first).await.iter().map(|event| event["time"].as_str().unwrap().parse().unwrap()).collect();
    // 15 % of 20 are 3; what stands between two passes is 5 s, as far as clocks tell
    for (index, begin) in times.iter().enumerate() {
        let within =
            times[index..].iter().filter(|time| **time - *begin < TimeDelta::milliseconds(4500)).count();
        assert!(within <= 3, "{within} at once: {times:?}");
    }
    for app in [&second, &third] {
        let left = wait_until(PATIENCE, "the others know", async || {
            let left = app.array("/api/v1/services").await;
            (left.len() == 13).then_some(left)
        })
        .await;
        assert!(left.iter().all(|instance| instance["name"].as_str().unwrap().starts_with("well-")));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn none_is_removed_while_most_are_due_at_once() {
    let app = TestApp::start_checking().await;
    register_all(&app, (0..25).map(|number| checked(&format!("ill-{number}"), 80, &silent())).collect())
        .await;
    wait_until(PASSES, "somebody doubts it", async || (app.metric(REMOVALS).await == 1).then_some(())).await;
    let words = app.body("/health/ready").await["guards"].clone();
    assert!(words[0].as_str().unwrap().starts_with("removals: more than 55 %"), "{words}");
    assert!(app.metric("rollcall_guard_held_back_total{guard=\"removals\"}").await >= 14);
    wait_until(PATIENCE, "all are ill", async || {
        let ill = app.array("/api/v1/services?status=unhealthy").await;
        (ill.len() == 25).then_some(())
    })
    .await;
    assert_eq!(removed(&app).await, [json!(null); 0]);
    // among more that are well they are fewer than most
    let target = HealthTarget::start(Answer::Status(200)).await;
    let well = (0..25).map(|number| checked(&format!("well-{number}"), target.port(), &asked()));
    register_all(&app, well.collect()).await;
    wait_until(PASSES, "a pass has removed some", async || (!removed(&app).await.is_empty()).then_some(()))
        .await;
    let words = app.body("/health/ready").await["guards"].clone();
    assert!(words[0].as_str().unwrap().starts_with("removals: more instances are due"), "{words}");
    assert!(removed(&app).await.len() <= 7, "15 % of 50");
}
