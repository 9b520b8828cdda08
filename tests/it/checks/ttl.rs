use std::time::{Duration, Instant};

use serde_json::json;
use sqlx::Executor as _;

use super::{becomes, checked, quick};
use crate::support::{Answer, HealthTarget, PATIENCE, TestApp, wait_until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ttl_check_goes_through_all_its_states() {
    let app = TestApp::start_checking().await;
    let check = json!({"kind": "ttl", "ttl": "1s", "unhealthy_after": 2});
    let path = app.path_of(&checked("told", 80, &json!([check]))).await;
    assert_eq!(app.body(&path).await["status"], "unknown");
    app.post(&format!("{path}/heartbeat")).await.answered(204);
    let health = app.body(&format!("{path}/health")).await;
    assert_eq!((&health["status"], &health["checks"][0]["target"]), (&json!("healthy"), &json!(null)));
    for (report, status) in
        [("warn", "degraded"), ("fail", "degraded"), ("fail", "unhealthy"), ("pass", "healthy")]
    {
        let answer =
            app.post(&format!("{path}/health?status={report}&check=ttl&output=said")).await.answered(200);
        assert_eq!(answer.json()["status"], status, "{report}");
    }
    let silent_since = Instant::now();
    let lapsed = becomes(&app, &path, "unhealthy").await;
    assert!(silent_since.elapsed() >= Duration::from_secs(1), "{:?}", silent_since.elapsed());
    assert_eq!(lapsed["error"], "nothing was heard of it in time");
    app.post(&format!("{path}/heartbeat")).json(&json!({"load": 0.5})).await.answered(204);
    assert_eq!(app.body(&path).await["status"], "healthy");
    app.post(&format!("{path}/health?status=pass&check=none")).await.problem(404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_heartbeat_at_one_replica_counts_for_the_other() {
    let first = TestApp::start_checking().await;
    let second = TestApp::start_with(first.database(), |settings| settings.checker = true).await;
    let path = first.path_of(&checked("renewed", 80, &json!([{"kind": "ttl", "ttl": "2s"}]))).await;
    first.post(&format!("{path}/heartbeat")).await.answered(204);
    let begun = Instant::now();
    let version = first.body(&path).await["version"].clone();
    wait_until(PATIENCE, "two ttls are over", async || {
        second.post(&format!("{path}/heartbeat?min_revision=0")).await.answered(204);
        (begun.elapsed() > Duration::from_secs(5)).then_some(())
    })
    .await;
    let instance = first.body(&path).await;
    assert_eq!((&instance["status"], &instance["version"]), (&json!("healthy"), &version));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_lapses_while_nobody_could_hear() {
    let app = TestApp::start_checking().await;
    let database = app.database().clone();
    let path = app.path_of(&checked("waits", 80, &json!([{"kind": "ttl", "ttl": "3s"}]))).await;
    app.post(&format!("{path}/heartbeat")).await.answered(204);
    wait_until(PATIENCE, "the sign of life is kept", async || {
        let kept =
            sqlx::query("select 1 from rollcall.liveness where check_id = 'ttl' and last_check is not null");
        kept.fetch_optional(&mut database.connect().await).await.unwrap().map(drop)
    })
    .await;
    drop(app);
    // it was long ago when somebody can hear again
    let mut superuser = database.connect().await;
    superuser
        .execute("update rollcall.liveness set last_check = last_check - interval '1 hour'")
        .await
        .unwrap();
    let long_ago = "update rollcall.instances set registered_at = registered_at - interval '1 hour'";
    superuser.execute(long_ago).await.unwrap();
    let back = Instant::now();
    let app = TestApp::start_with(&database, |settings| settings.checker = true).await;
    becomes(&app, &path, "unhealthy").await;
    assert!(back.elapsed() >= Duration::from_secs(3), "lapsed {:?} after the start", back.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_check_has_its_own_lease() {
    let app = TestApp::start_checking().await;
    let target = HealthTarget::start(Answer::Status(200)).await;
    let checks = json!([quick("http", json!({})), {"kind": "ttl", "id": "short", "ttl": "1s"}, {"kind": "ttl", "id": "long", "ttl": "1h"},
        quick("ttl", json!({"id": "initial", "ttl": "1h", "initial_status": "healthy"}))]);
    let path = app.path_of(&checked("two", target.port(), &checks)).await;
    app.post(&format!("{path}/heartbeat")).await.answered(204);
    let health = becomes(&app, &path, "unhealthy").await;
    let statuses: Vec<_> =
        health["checks"].as_array().unwrap().iter().map(|check| &check["status"]).collect();
    assert_eq!(statuses, ["healthy", "unhealthy", "healthy", "healthy"]);
    // what is said of another check does not renew it
    app.post(&format!("{path}/health?status=pass&check=long")).await.answered(200);
    assert_eq!(app.body(&path).await["status"], "unhealthy");
    // to register again does, for the next time
    app.post(&format!("{path}/heartbeat")).await.answered(204);
    assert_eq!(app.body(&path).await["status"], "healthy");
}
