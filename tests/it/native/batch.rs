//! POST /services/register/batch.

use serde_json::{Value, json};

use crate::support::{Reply, TestApp, keyed, static_service};

const BATCH: &str = "/api/v1/services/register/batch";

async fn send(app: &TestApp, items: Vec<Value>) -> Reply {
    app.post(BATCH).json(&Value::Array(items)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn good_and_bad_ones_are_answered_in_their_order() {
    let app = TestApp::start().await;
    let old = app.registered(&static_service("old", 1)).await;
    let mut bad_port = static_service("bad", 1);
    bad_port["port"] = json!(0);
    let items = vec![
        static_service("first", 1),
        bad_port,
        static_service("old", 1),
        json!("no object"),
        static_service("bad name", 1),
        static_service("last", 1),
    ];
    let answer = send(&app, items).await.answered(200);
    assert_eq!(answer.header("content-type"), "application/json");
    let results = answer.json();
    let statuses: Vec<&Value> = results.as_array().unwrap().iter().map(|one| &one["status"]).collect();
    assert_eq!(statuses, [201, 400, 201, 400, 400, 201]);
    for (at, name) in [(0, "first"), (2, "old"), (5, "last")] {
        assert_eq!(results[at]["service"]["name"], name);
        assert_eq!(results[at]["service"]["status"], "healthy");
        assert_eq!(results[at].get("problem"), None);
    }
    assert_eq!(results[2]["service"]["id"], old["id"]);
    for (at, field) in [(1, "port"), (4, "name")] {
        let problem = &results[at]["problem"];
        assert_eq!(problem["status"], 400);
        assert!(problem["code"].is_string(), "{problem}");
        assert_eq!(problem["errors"][0]["field"], field, "{problem}");
        assert_eq!(results[at].get("service"), None);
    }
    assert_eq!(app.names("/api/v1/services").await, ["first", "last", "old"]);
    let read = app.body(&format!("/api/v1/services/{}", results[0]["service"]["id"].as_str().unwrap())).await;
    assert_eq!(read["metadata"], results[0]["service"]["metadata"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_identity_twice_in_a_batch_is_one_instance() {
    let app = TestApp::start().await;
    let mut second = keyed("twice", "k", 80);
    second["metadata"] = json!({ "version": "2" });
    let results = send(&app, vec![keyed("twice", "k", 80), second]).await.answered(200).json();
    assert_eq!(results[0]["status"], 201);
    assert_eq!(results[1]["status"], 201);
    assert_eq!(results[0]["service"]["id"], results[1]["service"]["id"]);
    let listed = app.array("/api/v1/services").await;
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0]["metadata"]["version"], "2", "the later one counts");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_are_taken_and_one_more_is_not() {
    let app = TestApp::start().await;
    let items: Vec<Value> = (1..=1001).map(|port| static_service("many", port)).collect();
    send(&app, items.clone()).await.problem(400);
    assert!(app.array("/api/v1/services").await.is_empty(), "all or nothing, when the batch itself is wrong");
    let results = send(&app, items[..1000].to_vec()).await.answered(200).json();
    let results = results.as_array().unwrap();
    assert_eq!(results.len(), 1000);
    for (port, result) in (1..).zip(results) {
        assert_eq!(result["status"], 201);
        assert_eq!(result["service"]["port"], json!(port));
    }
    assert_eq!(app.array("/discover/many").await.len(), 1000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_batch_is_an_empty_answer() {
    let app = TestApp::start().await;
    assert_eq!(send(&app, vec![]).await.answered(200).json(), json!([]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_array_is_400() {
    let app = TestApp::start().await;
    for body in [json!({}), json!({ "services": [] }), json!("x"), json!(null)] {
        app.post(BATCH).json(&body).await.problem(400);
    }
    app.post(BATCH).body("application/json", "[{").await.problem(400);
    app.post(BATCH).body("text/plain", "[]").await.problem(415);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_may_have_16_mib_and_no_more() {
    let app = TestApp::start().await;
    let mut big = static_service("big", 80);
    big["metadata"] = json!({ "note": "n" });
    let spaces = |size: usize| {
        let body = json!([big]).to_string();
        let padding = " ".repeat(size - body.len());
        body + &padding
    };
    let limit = 16 * 1024 * 1024;
    let fits = app.post(BATCH).body("application/json", spaces(limit)).await.answered(200).json();
    assert_eq!(fits[0]["status"], 201);
    app.post(BATCH).body("application/json", spaces(limit + 1)).await.problem(413);
}
