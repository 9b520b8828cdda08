//! The fields that the native API adds to a service, their defaults and rules.

use serde_json::{Value, json};

use crate::support::{TestApp, id_of, is_time, service, static_service};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_given_is_given_back() {
    let app = TestApp::start().await;
    let extra = json!({
        "weight": 7,
        "load": 0.25,
        "zone": "b",
        "datacenter": "dc-1",
        "endpoints": { "grpc": 9000, "admin": 9001 },
        "url": "https://shop.example/base",
        "topics": ["orders.created", "orders.paid"],
        "dependencies": ["billing", "stock"],
    });
    let mut body = service("rich", 80);
    body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    let registered = app.registered(&body).await;
    let path = format!("/api/v1/services/{}", id_of(&registered));
    let read = app.body(&path).await;
    let listed = app.array("/api/v1/services").await.remove(0);
    for (field, value) in extra.as_object().unwrap() {
        for shown in [&registered, &read, &listed] {
            assert_eq!(shown[field], *value, "{field} in {shown}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_left_out_has_its_default() {
    let app = TestApp::start().await;
    let answer = app.register(&service("plain", 8080)).await.answered(201);
    let plain = answer.json();
    assert_eq!(plain["key"], "127.0.0.1:8080");
    assert_eq!(plain["weight"], 1);
    assert_eq!(plain["version"], 1);
    assert_eq!(answer.header("etag"), "\"1\"");
    assert!(is_time(&plain["updated_at"]), "{plain}");
    assert_eq!(plain["region"], Value::Null);
    let revision = plain["revision"].as_u64().expect("a revision");
    assert!(revision >= 1 && answer.revision() >= revision, "{plain}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_region_and_that_of_the_metadata_fill_each_other() {
    let app = TestApp::start().await;
    let mut above = service("above", 80);
    above["region"] = json!("eu-1");
    let mut within = service("within", 80);
    within["metadata"] = json!({ "region": "eu-2" });
    for (body, region) in [(above, "eu-1"), (within, "eu-2")] {
        let path = app.path_of(&body).await;
        let read = app.body(&path).await;
        assert_eq!(read["region"], region);
        assert_eq!(read["metadata"]["region"], region);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_value_is_refused_with_its_field() {
    let app = TestApp::start().await;
    let long = "k".repeat(100_000);
    for (field, value) in [
        ("key", json!("")),
        ("key", json!(7)),
        ("key", json!("nul\0")),
        ("key", json!(long)),
        ("weight", json!(-1)),
        ("weight", json!("1")),
        ("load", json!(1.01)),
        ("load", json!(-0.01)),
        ("load", json!("0.5")),
        ("zone", json!(1)),
        ("zone", json!("nul\0")),
        ("region", json!(1)),
        ("datacenter", json!([])),
        ("endpoints", json!([9000])),
        ("endpoints", json!({ "grpc": 0 })),
        ("endpoints", json!({ "grpc": 65536 })),
        ("endpoints", json!({ "grpc": "9000" })),
        ("url", json!(1)),
        ("topics", json!("orders")),
        ("topics", json!([1])),
        ("dependencies", json!("billing")),
        ("dependencies", json!([1])),
    ] {
        let mut body = service("strict", 80);
        body[field] = value;
        app.register(&body).await.blames(field);
    }
    assert!(app.array("/api/v1/services").await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_that_is_wrong_is_told_at_once() {
    let app = TestApp::start().await;
    let mut body = service("bad name", 80);
    body["port"] = json!(0);
    body["weight"] = json!(-1);
    let answer = app.register(&body).await;
    for field in ["name", "port", "weight"] {
        answer.blames(field);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_static_instance_is_healthy_until_somebody_reports_otherwise() {
    let app = TestApp::start().await;
    let registered = app.registered(&static_service("static", 80)).await;
    assert_eq!(registered["status"], "healthy");
    assert_eq!(registered["checks"], json!([]));
    assert_eq!(app.array("/discover/static").await.len(), 1);
    let path = format!("/api/v1/services/{}", id_of(&registered));
    let reported = app.report(&path, false).await.answered(200).json();
    assert_ne!(reported["status"], "healthy");
    assert_eq!(reported["health_check_failures"], 1);
    assert_eq!(app.array("/discover/static").await.len(), 0);
    let again = app.registered(&static_service("static", 80)).await;
    assert_eq!(again["status"], reported["status"], "registering again changes nothing, so it heals nothing");
    assert_eq!(app.report(&path, true).await.answered(200).json()["status"], "healthy");
    assert_eq!(app.array("/discover/static").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_whole_number_is_one_however_it_is_written() {
    let app = TestApp::start().await;
    let written = r#"{"name": "whole", "type": "api", "host": "127.0.0.1", "port": 8080.0, "weight": 7e0,
        "endpoints": {"grpc": 9e3}}"#;
    let answer = app.post("/api/v1/services/register").body("application/json", written).await.answered(201);
    let read = answer.json();
    assert_eq!((&read["port"], &read["weight"]), (&json!(8080), &json!(7)));
    assert_eq!(read["endpoints"], json!({ "grpc": 9000 }));
    for port in ["8080.5", "65535.5", "65536", "0.9", "-1", "1e300", "\"8080\""] {
        let body = written.replace("8080.0", port);
        app.post("/api/v1/services/register").body("application/json", body).await.problem(400);
    }
}
