//! A budget of requests under way that is full: who is refused, and who is not.

use rollcall::settings::Limits;
use serde_json::json;
use sqlx::{Connection as _, Executor as _};
use tokio::task::JoinSet;
use uuid::Uuid;

use super::refused;
use crate::support::{Call, PATIENCE, Raw, TestApp, static_service, wait_until};

/// So many requests at a time.
const PLACES: usize = 8;

async fn start() -> TestApp {
    TestApp::start_within(Limits { requests: PLACES, ..Limits::default() }).await
}

async fn become_under_way(app: &TestApp, places: u64) {
    wait_until(PATIENCE, "the places are taken", async || {
        (app.metric("rollcall_http_requests_under_way").await == places).then_some(())
    })
    .await;
}

/// Refused at once, with all that belongs to it.
async fn is_refused(app: &TestApp, class: &str, call: Call) {
    let before = refused(app, class, "overloaded").await;
    let reply = call.await;
    assert_eq!(reply.problem(503)["code"], "overloaded", "{class}");
    assert_eq!(reply.header("retry-after"), "1");
    assert_eq!(refused(app, class, "overloaded").await, before + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn when_places_run_short_lists_are_refused_first_and_heartbeats_last() {
    let app = start().await;
    let path = app.path_of(&static_service("kept", 1)).await;
    app.get("/discover/kept").await.answered(200);
    // Whoever needs the database waits now; the server gives up in no less than two seconds.
    let mut stranger = app.database().connect().await;
    let mut hold = stranger.begin().await.unwrap();
    hold.execute("lock table rollcall.log_head in access exclusive mode").await.unwrap();
    let unknown = format!("/api/v1/services/{}/heartbeat", Uuid::nil());
    let mut held = JoinSet::new();
    let mut hold_one = |call: Call| drop(held.spawn(async { call.tried().await.is_some() }));

    for _ in 0..4 {
        hold_one(app.get("/api/v1/services?consistency=strong"));
    }
    become_under_way(&app, 4).await;
    is_refused(&app, "list", app.get("/api/v1/services")).await;

    hold_one(app.register(&static_service("another", 2)));
    become_under_way(&app, 5).await;
    is_refused(&app, "register", app.register(&static_service("another", 3))).await;

    hold_one(app.get("/discover/kept?consistency=strong"));
    become_under_way(&app, 6).await;
    is_refused(&app, "discover", app.get("/discover/kept?zone=a")).await;

    hold_one(app.delete(&path));
    become_under_way(&app, 7).await;
    is_refused(&app, "deregister", app.delete(&path)).await;
    let heartbeat = || app.post(&format!("{path}/heartbeat"));
    heartbeat().json(&json!({"load": 0.1})).await.answered(204);

    hold_one(app.post(&unknown));
    become_under_way(&app, 8).await;
    is_refused(&app, "heartbeat", heartbeat().json(&json!({"load": 0.1}))).await;

    // what is ready, what is only noted, and what tells whether the server is well, needs no place
    app.get("/discover/kept").await.answered(200);
    heartbeat().await.answered(204);
    for probe in ["/", "/health", "/health/live", "/health/ready", "/metrics"] {
        app.get(probe).await.answered(200);
    }
    hold.rollback().await.unwrap();
    assert!(held.join_all().await.into_iter().all(|answered| answered));
    become_under_way(&app, 0).await;
    app.post(&unknown).await.answered(404);
    app.register(&static_service("another", 3)).await.answered(201);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_send_slowly_take_nobodys_place() {
    let app = start().await;
    let body = static_service("slow", 1).to_string();
    let mut slow = Vec::new();
    for _ in 0..3 * PLACES {
        let mut raw = Raw::connect(app.port()).await;
        let head = format!(
            "POST /api/v1/services/register HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{}",
            body.len(),
            &body[..body.len() - 1]
        );
        assert!(raw.send(head).await);
        slow.push(raw);
        become_under_way(&app, 0).await;
    }
    app.registered(&static_service("quick", 2)).await;
    for mut raw in slow {
        assert!(raw.send("}").await);
        assert_eq!(raw.answer().await.status, 201);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_refused_is_let_in_again_over_the_same_connection() {
    let app = TestApp::start_within(Limits { requests: 1, ..Limits::default() }).await;
    let mut stranger = app.database().connect().await;
    let mut hold = stranger.begin().await.unwrap();
    hold.execute("lock table rollcall.log_head in access exclusive mode").await.unwrap();
    let call = app.get("/api/v1/services?consistency=strong");
    let held = tokio::spawn(async { call.tried().await.is_some() });
    become_under_way(&app, 1).await;
    let list = "GET /api/v1/services HTTP/1.1\r\nhost: x\r\n\r\n";
    let mut raw = Raw::connect(app.port()).await;
    assert!(raw.send(list).await);
    assert_eq!(raw.answer().await.status, 503);
    hold.rollback().await.unwrap();
    assert!(held.await.unwrap());
    assert!(raw.send(list).await);
    assert_eq!(raw.answer().await.status, 200);
}
