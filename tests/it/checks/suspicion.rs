//! A replica that is cut off from its targets doubts itself, and not them.

use std::{collections::HashSet, time::Duration};

use rollcall::settings::Networks;
use serde_json::{Value, json};

use super::checked;
use crate::support::{Answer, HealthTarget, PATIENCE, TestApp, wait_until};

const SUSPICION: &str = "rollcall_guard_active{guard=\"suspicion\"}";

/// So many instances, all of them at one target, each asked for a path of its own once a second.
async fn instances(app: &TestApp, target: &HealthTarget, count: usize) {
    let one = |number| {
        let path = format!("/{number}");
        let check = json!({"kind": "http", "path": path, "interval": "1s", "timeout": "1s"});
        checked(&format!("seen-{number}"), target.port(), &json!([check]))
    };
    let all: Vec<_> = (0..count).map(one).collect();
    app.post("/api/v1/services/register/batch").json(&json!(all)).await.answered(200);
}

async fn all_become(app: &TestApp, status: &str, count: usize) {
    wait_until(PATIENCE, &format!("all are {status}"), async || {
        let found = app.array(&format!("/api/v1/services?status={status}")).await;
        (found.len() == count).then_some(())
    })
    .await;
}

/// What became of them in the log, but for that they became healthy.
async fn turned_ill(app: &TestApp) -> Vec<Value> {
    let events = app.body("/api/v1/events?kind=status_change&limit=1000").await;
    let events = events["events"].as_array().unwrap();
    events.iter().filter(|event| event["data"]["new_status"] != "healthy").cloned().collect()
}

fn networks(text: &str) -> Networks {
    Networks::parse(text).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_three_that_is_cut_off_says_nothing_and_the_others_do_its_work() {
    const INSTANCES: usize = 90;
    let first = TestApp::start_checking().await;
    let second = TestApp::start_with(first.database(), |settings| settings.checker = true).await;
    let target = HealthTarget::start(Answer::Status(200)).await;
    instances(&first, &target, INSTANCES).await;
    all_become(&first, "healthy", INSTANCES).await;
    let cut_off = TestApp::start_with(first.database(), |settings| {
        settings.checker = true;
        settings.checks.denied = networks("127.0.0.0/8");
    })
    .await;
    wait_until(PATIENCE, "it doubts itself", async || (cut_off.metric(SUSPICION).await == 1).then_some(()))
        .await;
    let words = cut_off.body("/health/ready").await["guards"].clone();
    assert!(words[0].as_str().unwrap().starts_with("suspicion: "), "{words}");
    // what was its share is asked by the others
    let before = target.times_asked();
    wait_until(PATIENCE, "each is asked again, twice", async || {
        let asked = target.asked_for().split_off(before);
        let twice = (0..INSTANCES).all(|number| {
            let path = format!("/{number}");
            asked.iter().filter(|asked| **asked == path).count() >= 2
        });
        twice.then_some(())
    })
    .await;
    for app in [&first, &second] {
        assert_eq!(app.metric(SUSPICION).await, 0);
    }
    assert_eq!(cut_off.metric(SUSPICION).await, 1, "nothing has changed for it");
    assert_eq!(turned_ill(&first).await, [json!(null); 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_all_targets_are_gone_that_is_told_a_little_later() {
    const INSTANCES: usize = 25;
    let app = TestApp::start_checking().await;
    let mut target = HealthTarget::start(Answer::Status(200)).await;
    instances(&app, &target, INSTANCES).await;
    all_become(&app, "healthy", INSTANCES).await;
    target.close().await;
    wait_until(PATIENCE, "it doubts itself", async || (app.metric(SUSPICION).await == 1).then_some(())).await;
    assert_eq!(turned_ill(&app).await, [json!(null); 0]);
    all_become(&app, "unhealthy", INSTANCES).await;
    wait_until(PATIENCE, "there is no doubt any more", async || {
        (app.metric(SUSPICION).await == 0).then_some(())
    })
    .await;
    assert_eq!(app.body("/health/ready").await["guards"], json!([]));
    assert!(app.metric("rollcall_guard_held_back_total{guard=\"suspicion\"}").await >= 25);
    // and back again
    let target = HealthTarget::start_at(&format!("127.0.0.1:{}", target.port()), Answer::Status(200)).await;
    all_become(&app, "healthy", INSTANCES).await;
    drop(target);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_is_gone_among_many_is_told_within_its_intervals() {
    const INSTANCES: usize = 30;
    let app = TestApp::start_checking().await;
    let target = HealthTarget::start(Answer::Status(200)).await;
    instances(&app, &target, INSTANCES).await;
    let mut gone = HealthTarget::start(Answer::Status(200)).await;
    let check = json!({"kind": "http", "interval": "1s", "timeout": "1s"});
    let path = app.path_of(&checked("gone", gone.port(), &json!([check]))).await;
    all_become(&app, "healthy", INSTANCES + 1).await;
    gone.close().await;
    wait_until(Duration::from_secs(8), "it is unhealthy", async || {
        (app.body(&path).await["status"] == "unhealthy").then_some(())
    })
    .await;
    assert_eq!(app.metric(SUSPICION).await, 0);
    let ill = turned_ill(&app).await;
    let whose: HashSet<_> = ill.iter().map(|event| event["service"].as_str().unwrap().to_owned()).collect();
    assert_eq!(whose, HashSet::from(["gone".to_owned()]));
}
