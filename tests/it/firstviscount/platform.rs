//! The routes about the server itself, and how paths are written.

use reqwest::Method;
use serde_json::json;

use crate::support::{TestApp, is_time, service, static_service};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_tells_who_answers_and_when() {
    let app = TestApp::start().await;
    let health = app.body("/health").await;
    assert_eq!(health["status"], "healthy");
    assert!(is_time(&health["timestamp"]), "{health}");
    assert!(health["service"].as_str().is_some_and(|name| !name.is_empty()), "{health}");
    assert_eq!(health["version"], env!("CARGO_PKG_VERSION"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn live_and_ready_are_200() {
    let app = TestApp::start().await;
    app.get("/health/live").await.answered(200);
    let ready = app.body("/health/ready").await.to_string();
    for part in ["view", "store"] {
        assert!(ready.contains(part), "no {part} in {ready}");
    }
    app.get("/health/ready?store=required").await.answered(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_root_tells_where_the_docs_are() {
    let app = TestApp::start().await;
    let root = app.body("/").await;
    assert_eq!(root["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(root["service"], app.body("/health").await["service"]);
    assert!(root.to_string().contains("/docs"), "{root}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trailing_slash_makes_no_difference() {
    let app = TestApp::start().await;
    let answer =
        app.post("/api/v1/services/register/").json(&static_service("slashed", 80)).await.answered(201);
    let path = format!("/api/v1/services/{}", answer.json()["id"].as_str().unwrap());
    app.put("/api/v1/config/slashed/").json(&json!({ "a": 1 })).await.answered(201);

    for plain in [
        "/api/v1/services",
        "/api/v1/services/discover/slashed",
        "/discover/slashed",
        "/api/v1/services/names",
        "/api/v1/config/slashed",
        "/api/v1/events",
        "/health/live",
        path.as_str(),
        &format!("{path}/health"),
    ] {
        assert_eq!(app.body(&format!("{plain}/")).await, app.body(plain).await, "{plain}");
    }
    for plain in ["/health", "/health/ready", "/metrics", "/openapi.json", "/docs"] {
        app.get(&format!("{plain}/")).await.answered(200);
    }
    assert_eq!(app.body("/api/v1/services/?type=api").await, app.body("/api/v1/services?type=api").await);

    app.post(&format!("{path}/health/?healthy=false")).await.answered(200);
    app.post(&format!("{path}/heartbeat/")).await.answered(204);
    app.patch(&format!("{path}/"), &json!({ "weight": 2 })).await.answered(200);
    app.put(&format!("{path}/")).json(&static_service("slashed", 80)).await.answered(200);
    app.delete(&format!("{path}/")).await.answered(204);
    app.get(&path).await.problem(404);
    app.post("/api/v1/services/register/batch/").json(&json!([service("x", 1)])).await.answered(200);
    app.delete("/api/v1/config/slashed/").await.answered(204);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_configuration_of_one_service_can_be_read() {
    let app = TestApp::start().await;
    app.get("/api/v1/config/shop").await.problem(404);
    app.put("/api/v1/config/shop").json(&json!({ "currency": "EUR", "limits": [1, 2] })).await.answered(201);
    let config = app.body("/api/v1/config/shop").await;
    assert_eq!(config["service"], "shop");
    assert_eq!(config["content"], json!({ "currency": "EUR", "limits": [1, 2] }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_is_answered_as_a_get_without_its_body() {
    let app = TestApp::start().await;
    for path in ["/health", "/api/v1/services"] {
        app.request(Method::HEAD, path).await.answered(200).is_empty();
    }
}
