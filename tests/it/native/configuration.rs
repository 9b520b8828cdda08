//! GET, PUT and DELETE of the configuration of a service, per environment.

use serde_json::{Value, json};

use crate::support::{TestApp, is_time};

const SHOP: &str = "/api/v1/config/shop";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_configuration_is_201_and_told_whole() {
    let app = TestApp::start().await;
    let content = json!({ "currency": "EUR", "limits": { "cart": 20 }, "tags": ["a", null, 1.5, true] });
    let answer = app.put(&format!("{SHOP}?comment=the%20first%20one")).json(&content).await.answered(201);
    assert_eq!(answer.header("etag"), "\"1\"");
    answer.revision();
    let written = answer.json();
    let read = app.get(SHOP).await.answered(200);
    assert_eq!(read.header("etag"), "\"1\"");
    for config in [written, read.json()] {
        assert_eq!(config["service"], "shop");
        assert_eq!(config["environment"], "_default");
        assert_eq!(config["version"], 1);
        assert_eq!(config["content"], content);
        assert_eq!(config["comment"], "the first one");
        assert!(config["actor"].is_string(), "{config}");
        assert!(is_time(&config["created_at"]), "{config}");
        assert!(is_time(&config["updated_at"]), "{config}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_configuration_is_200_with_the_next_version() {
    let app = TestApp::start().await;
    let first = app.put(SHOP).json(&json!({ "a": 1, "b": 2 })).await.answered(201).json();
    for version in 2..=4 {
        let content = json!({ "a": version });
        let answer = app.put(SHOP).json(&content).await.answered(200);
        assert_eq!(answer.header("etag"), format!("\"{version}\""));
        for config in [answer.json(), app.body(SHOP).await] {
            assert_eq!(config["version"], version);
            assert_eq!(config["content"], content, "a PUT replaces the whole");
            assert_eq!(config["created_at"], first["created_at"]);
            assert!(config["updated_at"].as_str() > first["updated_at"].as_str());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_there_is_404() {
    let app = TestApp::start().await;
    app.get(SHOP).await.problem(404);
    app.delete(SHOP).await.problem(404);
    app.put(SHOP).json(&json!({})).await.answered(201);
    app.get("/api/v1/config/other").await.problem(404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_delete_the_versions_go_on() {
    let app = TestApp::start().await;
    app.put(SHOP).json(&json!({ "a": 1 })).await.answered(201);
    app.put(SHOP).json(&json!({ "a": 2 })).await.answered(200);
    app.delete(SHOP).await.answered(204).is_empty();
    app.get(SHOP).await.problem(404);
    app.delete(SHOP).await.problem(404);
    let anew = app.put(SHOP).json(&json!({ "a": 2 })).await.answered(201).json();
    let version = anew["version"].as_u64().unwrap();
    assert!(version > 2, "{anew}");
    app.delete(SHOP).await.answered(204);
    let again = app.put(SHOP).json(&json!({ "a": 2 })).await.answered(201).json();
    assert!(again["version"].as_u64().unwrap() > version, "{again}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_environment_has_its_own() {
    let app = TestApp::start().await;
    for environment in ["prod", "test"] {
        let path = format!("{SHOP}?environment={environment}");
        app.put(&path).json(&json!({ "for": environment })).await.answered(201);
    }
    app.put(SHOP).json(&json!({ "for": "all" })).await.answered(201);
    app.put(&format!("{SHOP}?environment=prod")).json(&json!({ "for": "prod", "n": 2 })).await.answered(200);
    for (query, environment, version) in
        [("", "_default", 1), ("?environment=prod", "prod", 2), ("?environment=test", "test", 1)]
    {
        let config = app.body(&format!("{SHOP}{query}")).await;
        assert_eq!(config["environment"], environment);
        assert_eq!(config["version"], version);
        assert_eq!(config["content"]["for"], if query.is_empty() { "all" } else { environment });
    }
    app.delete(&format!("{SHOP}?environment=test")).await.answered(204);
    app.delete(&format!("{SHOP}?environment=test")).await.problem(404);
    assert_eq!(app.body(SHOP).await["content"], json!({ "for": "all" }));
    assert_eq!(app.body(&format!("{SHOP}?environment=prod")).await["version"], 2);
    assert_eq!(app.body(&format!("{SHOP}?environment=_default")).await, app.body(SHOP).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_content_again_changes_nothing() {
    let app = TestApp::start().await;
    let first = app.put(SHOP).json(&json!({ "a": 1, "b": { "c": 2, "d": 3 } })).await.answered(201).json();
    let events = app.events("shop").await;
    let body = r#"{ "b": {"d":3,"c":2},  "a":1 }"#;
    for _ in 0..2 {
        let again = app.put(SHOP).body("application/json", body).await.answered(200);
        assert_eq!(again.header("etag"), "\"1\"");
        assert_eq!(again.json()["version"], 1);
        assert_eq!(again.json()["updated_at"], first["updated_at"]);
    }
    assert_eq!(app.events("shop").await, events);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_change_is_an_event_of_its_own() {
    let app = TestApp::start().await;
    app.put(SHOP).json(&json!({ "a": 1 })).await.answered(201);
    app.put(SHOP).json(&json!({ "a": 2 })).await.answered(200);
    app.put(&format!("{SHOP}?environment=prod")).json(&json!({ "a": 3 })).await.answered(201);
    app.delete(SHOP).await.answered(204);
    let events = app.events("shop").await;
    assert_eq!(events.len(), 4, "{events:?}");
    assert!(events.iter().all(|event| event["instance"].is_null()), "{events:?}");
    let kinds: Vec<&Value> = events.iter().map(|event| &event["kind"]).collect();
    assert_ne!(kinds[0], kinds[3], "a removal is told apart");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_content_that_is_no_object_is_400() {
    let app = TestApp::start().await;
    for body in ["[]", "\"text\"", "1", "null", "true", "", "{", "{\"a\":1}x", "{'a':1}"] {
        app.put(SHOP).body("application/json", body).await.problem(400);
    }
    app.put(SHOP).body("text/plain", "{}").await.problem(415);
    app.get(SHOP).await.problem(404);
    app.put(SHOP).json(&json!({})).await.answered(201);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_database_cannot_hold_is_400() {
    let app = TestApp::start().await;
    for body in [json!({ "a": "nul\0" }), json!({ "nul\0": 1 }), json!({ "deep": [{ "x": ["nul\0"] }] })] {
        app.put(SHOP).json(&body).await.problem(400);
    }
    app.put(&format!("{SHOP}?comment=nul%00")).json(&json!({})).await.blames("comment");
    app.put(&format!("{SHOP}?environment=nul%00")).json(&json!({})).await.blames("environment");
    app.get(SHOP).await.problem(404);
    let fine = json!({ "a": "back\\u0000slash \u{1F980} \u{FFFF} \"quoted\" 'single' $1 \u{1}" });
    assert_eq!(app.put(SHOP).json(&fine).await.answered(201).json()["content"], fine);
    assert_eq!(app.body(SHOP).await["content"], fine);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn numbers_stay_as_they_were_sent() {
    let app = TestApp::start().await;
    let numbers = r#"{"big":123456789012345678901234567890,"exact":0.1234567890123456789,"money":1.10}"#;
    app.put(SHOP).body("application/json", numbers).await.answered(201);
    let text = app.get(SHOP).await.answered(200).text();
    for number in ["123456789012345678901234567890", "0.1234567890123456789", "1.10"] {
        assert!(text.contains(number), "{number} is not in {text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_service_or_environment_is_400() {
    let app = TestApp::start().await;
    for path in [
        "/api/v1/config/two%20words",
        "/api/v1/config/shop?environment=",
        "/api/v1/config/shop?environment=a%20b",
    ] {
        app.put(path).json(&json!({})).await.problem(400);
        app.delete(path).await.problem(400);
    }
    let long = "n".repeat(101);
    app.put(&format!("/api/v1/config/{long}")).json(&json!({})).await.problem(400);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_content_above_a_mebibyte_is_413() {
    let app = TestApp::start().await;
    let fits = json!({ "text": "x".repeat(1024 * 1024 - 64) });
    app.put(SHOP).json(&fits).await.answered(201);
    assert_eq!(app.body(SHOP).await["content"], fits);
    app.put(SHOP).json(&json!({ "text": "x".repeat(1024 * 1024) })).await.problem(413);
    assert_eq!(app.body(SHOP).await["version"], 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_configurations_can_be_listed() {
    let app = TestApp::start().await;
    app.put(SHOP).json(&json!({ "a": "of the shop" })).await.answered(201);
    app.put("/api/v1/config/cart").json(&json!({ "a": "of the cart" })).await.answered(201);
    app.put("/api/v1/config/gone").json(&json!({ "a": "of the past" })).await.answered(201);
    app.delete("/api/v1/config/gone").await.answered(204);
    app.put(&format!("{SHOP}?environment=prod"))
        .json(&json!({ "a": "of the shop's prod" }))
        .await
        .answered(201);
    let list = app.array("/api/v1/config").await;
    let contents: Vec<&Value> = list.iter().map(|entry| &entry["content"]["a"]).collect();
    assert_eq!(contents, ["of the cart", "of the shop", "of the shop's prod"]);
    for entry in &list {
        let path = format!(
            "/api/v1/config/{}?environment={}",
            entry["service"].as_str().unwrap(),
            entry["environment"].as_str().unwrap()
        );
        assert_eq!(app.body(&path).await, *entry);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_that_put_at_once_one_has_created_it() {
    let app = TestApp::start().await;
    let puts = (0..12).map(|n| {
        let app = &app;
        async move { app.put("/api/v1/config/orders").json(&json!({ "n": n })).await.status }
    });
    let statuses = futures_util::future::join_all(puts).await;
    assert_eq!(statuses.iter().filter(|status| **status == 201).count(), 1, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 11, "{statuses:?}");
}
