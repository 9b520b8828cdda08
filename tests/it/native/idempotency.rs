//! A request with an Idempotency-Key is carried out once, however often and wherever it comes.

use futures_util::future::join_all;
use serde_json::json;

use crate::support::{TestApp, id_of, service, static_service};

const REGISTER: &str = "/api/v1/services/register";
const KEY: &str = "idempotency-key";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repetition_gets_the_first_answer() {
    let (here, there) = TestApp::pair().await;
    let body = service("orders", 80);
    let first = here.post(REGISTER).header(KEY, "one").json(&body).await.answered(201);
    let id = id_of(&first.json()).to_owned();
    here.delete(&format!("/api/v1/services/{id}")).await.answered(204);
    let again = there.post(REGISTER).header(KEY, "one").json(&body).await.answered(201);
    assert_eq!(again.json()["id"], first.json()["id"]);
    assert_eq!(again.json()["version"], 1);
    assert_eq!(again.revision(), first.revision());
    assert!(there.array("/api/v1/services").await.is_empty(), "it was not registered again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn repetitions_at_once_are_carried_out_once() {
    let (here, there) = TestApp::pair().await;
    let path = here.path_of(&service("orders", 80)).await;
    let reports = (0..20).map(|n| {
        let app = if n % 2 == 0 { &here } else { &there };
        async {
            app.post(&format!("{path}/health?healthy=false")).header(KEY, "once").await.answered(200).json()
        }
    });
    for answer in join_all(reports).await {
        assert_eq!((&answer["health_check_failures"], &answer["status"]), (&json!(1), &json!("degraded")));
    }
    assert_eq!(here.body(&format!("{path}?consistency=strong")).await["version"], 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_key_for_something_else_is_409() {
    let app = TestApp::start().await;
    app.post(REGISTER).header(KEY, "k").json(&service("orders", 80)).await.answered(201);
    let other = app.post(REGISTER).header(KEY, "k").json(&service("orders", 81)).await.problem(409);
    assert_eq!(other["code"], "idempotency_key_reused");
    let other = app.put("/api/v1/config/orders").header(KEY, "k").json(&json!({})).await.problem(409);
    assert_eq!(other["code"], "idempotency_key_reused");
    for bad in ["", "a\tb", &"k".repeat(256)] {
        app.post(REGISTER).header(KEY, bad).json(&service("orders", 82)).await.blames("Idempotency-Key");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_write_takes_a_key() {
    let app = TestApp::start().await;
    let path = app.path_of(&service("orders", 80)).await;
    let config = "/api/v1/config/orders";
    for round in 0..2 {
        let put =
            app.put(config).header(KEY, "put").header("if-none-match", "*").json(&json!({ "a": 1 })).await;
        assert_eq!(put.answered(201).json()["version"], 1, "round {round}");
        let patch = app.patch(&path, &json!({ "weight": 7 })).header(KEY, "patch").if_match(&json!(1)).await;
        assert_eq!(patch.answered(200).json()["version"], 2, "round {round}");
        let batch = json!([service("many", 1), service("many", 2)]);
        let batch =
            app.post(&format!("{REGISTER}/batch")).header(KEY, "batch").json(&batch).await.answered(200);
        assert_eq!(batch.json()[1]["service"]["version"], 1, "round {round}");
    }
    for round in 0..2 {
        let gone = app.delete(config).header(KEY, "delete-config").await;
        assert_eq!(gone.status, 204, "round {round}");
        let gone = app.delete(&path).header(KEY, "delete").await;
        assert_eq!(gone.status, 204, "round {round}");
    }
    app.delete(&path).header(KEY, "another").await.problem(404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_was_refused_may_be_put_right_under_its_key() {
    let app = TestApp::start().await;
    let mut body = static_service("late", 80);
    body["port"] = json!(0);
    app.register(&body).header(KEY, "k-1").await.blames("port");
    body["port"] = json!(80);
    app.register(&body).header(KEY, "k-1").await.answered(201);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_is_remembered_over_a_restart() {
    let app = TestApp::start().await;
    let first = app.register(&static_service("kept", 80)).header(KEY, "k-1").await.answered(201).json();
    app.delete(&format!("/api/v1/services/{}", id_of(&first))).await.answered(204);
    let database = app.database().clone();
    app.stop().await;
    let app = TestApp::start_on(&database).await;
    let again = app.register(&static_service("kept", 80)).header(KEY, "k-1").await.answered(201).json();
    assert_eq!(again["id"], first["id"]);
    assert!(app.array("/api/v1/services").await.is_empty(), "it was carried out once, and undone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_changed_nothing_is_remembered_too() {
    let app = TestApp::start().await;
    let path = app.path_of(&service("orders", 80)).await;
    let first =
        app.post(REGISTER).header(KEY, "same").json(&service("orders", 80)).await.answered(201).json();
    assert_eq!(first["version"], 1);
    app.patch(&path, &json!({ "weight": 9 })).await.answered(200);
    let again =
        app.post(REGISTER).header(KEY, "same").json(&service("orders", 80)).await.answered(201).json();
    assert_eq!((&again["version"], &again["weight"]), (&json!(1), &json!(1)));
    assert_eq!(app.body(&path).await["weight"], 9, "the repetition changed nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeated_failure_beyond_the_threshold_is_counted_once_too() {
    let app = TestApp::start().await;
    let path = app.path_of(&service("broken", 80)).await;
    for _ in 0..3 {
        app.report(&path, false).await.answered(200);
    }
    for _ in 0..3 {
        app.report(&path, false).header(KEY, "k-1").await.answered(200);
    }
    assert_eq!(app.body(&path).await["health_check_failures"], 4);
}
