//! Bad registrations: every rule is a 400 that names its field.

use serde_json::{Value, json};

use crate::support::{TestApp, service};

/// Registers with one field as given; nothing of it may be kept.
async fn refused(field: &str, bad: &[Value]) {
    let app = TestApp::start().await;
    for value in bad {
        let mut body = service("strict", 80);
        body[field] = value.clone();
        let problem = app.register(&body).await.blames(field);
        let errors = problem["errors"].as_array().unwrap();
        assert_eq!(errors.len(), 1, "only {field} is wrong in {body}: {problem}");
    }
    assert!(app.array("/api/v1/services").await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_name_is_refused() {
    let long = "n".repeat(101);
    let bad = ["", " ", "two words", "naïve", "dot.ted", "co:lon", "sla/sh", "new\nline", "nul\0", &long];
    let mut bad: Vec<Value> = bad.iter().map(|name| json!(name)).collect();
    bad.extend([json!(7), json!(null), json!(["x"])]);
    refused("name", &bad).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_is_a_word_of_the_paths_is_refused() {
    let reserved = ["register", "discover", "names", "batch", "watch", "Discover"];
    refused("name", &reserved.map(Value::from)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_type_is_refused() {
    refused("type", &[json!("microservice"), json!(""), json!("API"), json!(1), json!(null)]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_host_is_refused() {
    let long = "h".repeat(256);
    let bad = ["", " ", "two words", "http://host", "host/path", "user@host", "nul\0", "host\n", &long];
    let mut bad: Vec<Value> = bad.iter().map(|host| json!(host)).collect();
    bad.extend([json!(127), json!(null)]);
    refused("host", &bad).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_port_is_refused() {
    let bad = [json!(0), json!(65536), json!(-1), json!(80.5), json!("80"), json!(null), json!(1e300)];
    refused("port", &bad).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_health_check_endpoint_is_refused() {
    let bad = ["", "health", "ftp://host/health", "file:///etc/passwd", "http://", "/nul\0", "/two words\n"];
    let mut bad: Vec<Value> = bad.iter().map(|endpoint| json!(endpoint)).collect();
    bad.extend([json!(1), json!({})]);
    refused("health_check_endpoint", &bad).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_metadata_is_refused_with_the_place() {
    let app = TestApp::start().await;
    let cases = [
        ("metadata", json!("text")),
        ("metadata", json!([])),
        ("metadata.version", json!({ "version": 1 })),
        ("metadata.version", json!({ "version": "1\0" })),
        ("metadata.environment", json!({ "environment": ["dev"] })),
        ("metadata.region", json!({ "region": 7 })),
        ("metadata.tags", json!({ "tags": ["a"] })),
        ("metadata.tags", json!({ "tags": { "team": 1 } })),
        ("metadata.tags", json!({ "tags": { "team": null } })),
        ("metadata.tags", json!({ "tags": { "team": "nul\0" } })),
        ("metadata.capabilities", json!({ "capabilities": "refund" })),
        ("metadata.capabilities", json!({ "capabilities": [1] })),
    ];
    for (field, metadata) in cases {
        let mut body = service("strict", 80);
        body["metadata"] = metadata;
        app.register(&body).await.blames(field);
    }
    // PostgreSQL cannot hold it, wherever it stands.
    for metadata in [json!({ "note": { "deep": ["nul\0"] } }), json!({ "nul\0": 1 })] {
        let mut body = service("strict", 80);
        body["metadata"] = metadata;
        app.register(&body).await.blames("metadata");
    }
    assert!(app.array("/api/v1/services").await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_field_that_has_no_default_must_be_there() {
    let app = TestApp::start().await;
    for field in ["name", "type", "host", "port"] {
        let mut body = service("partial", 80);
        body.as_object_mut().unwrap().remove(field);
        app.register(&body).await.blames(field);
    }
    assert!(app.array("/api/v1/services").await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_is_no_registration_is_400() {
    let app = TestApp::start().await;
    for body in [json!([]), json!("text"), json!(null), json!(1)] {
        app.register(&body).await.problem(400);
    }
    app.post("/api/v1/services/register").body("application/json", "").await.problem(400);
    app.register(&json!({})).await.problem(400);
}
