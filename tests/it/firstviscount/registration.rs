//! POST /services/register.

use std::collections::HashSet;

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::support::{TestApp, id_of, is_time, service, static_service};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_service_is_given_back_with_all_that_it_said() {
    let app = TestApp::start().await;
    let metadata = json!({
        "version": "1.2.3",
        "environment": "production",
        "region": "eu-west",
        "tags": { "team": "payments", "tier": "1" },
        "capabilities": ["refund", "charge"],
    });
    let answer = app
        .register(&json!({
            "name": "payments",
            "type": "worker",
            "host": "payments.internal",
            "port": 9001,
            "metadata": metadata,
            "health_check_endpoint": "/healthz",
        }))
        .await
        .answered(201);
    assert_eq!(answer.header("content-type"), "application/json");
    let service = answer.json();
    assert!(uuid::Uuid::parse_str(id_of(&service)).is_ok(), "{service}");
    assert_eq!(service["name"], "payments");
    assert_eq!(service["type"], "worker");
    assert_eq!(service["host"], "payments.internal");
    assert_eq!(service["port"], 9001);
    assert_eq!(service["metadata"], metadata);
    assert_eq!(service["health_check_endpoint"], "/healthz");
    assert_eq!(service["status"], "unknown");
    assert_eq!(service["health_check_failures"], 0);
    assert!(is_time(&service["registered_at"]), "{service}");
    assert!(is_time(&service["last_seen_at"]), "{service}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_registration_leaves_out_gets_its_default() {
    let app = TestApp::start().await;
    let bare = app.registered(&service("bare", 80)).await;
    let defaults = json!({ "version": "unknown", "environment": "development", "region": null, "tags": {}, "capabilities": [] });
    assert_eq!(bare["metadata"], defaults);
    assert_eq!(bare["health_check_endpoint"], "/health");

    let mut empty = service("empty", 81);
    empty["metadata"] = json!({});
    assert_eq!(app.registered(&empty).await["metadata"], defaults);

    let mut some = service("some", 82);
    some["metadata"] = json!({ "environment": "staging", "region": null });
    let some = app.registered(&some).await;
    assert_eq!(some["metadata"]["environment"], "staging");
    assert_eq!(some["metadata"]["version"], "unknown");
    assert_eq!(some["metadata"]["region"], Value::Null);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unknown_keys_of_the_metadata_are_kept_and_given_back() {
    let app = TestApp::start().await;
    let mut body = service("curious", 80);
    let extra = json!({ "deep": { "list": [1, "two", null, { "three": 3.5 }] }, "flag": true });
    body["metadata"] = json!({ "owner": "ann", "extra": extra, "größe": "ü" });
    let path = app.path_of(&body).await;
    for metadata in [&app.body(&path).await["metadata"], &app.array("/api/v1/services").await[0]["metadata"]]
    {
        assert_eq!(metadata["owner"], "ann");
        assert_eq!(metadata["extra"], extra);
        assert_eq!(metadata["größe"], "ü");
        assert_eq!(metadata["environment"], "development");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_type_of_service_is_taken() {
    let app = TestApp::start().await;
    let types = [
        "api",
        "worker",
        "scheduler",
        "gateway",
        "cache",
        "database",
        "message_broker",
        "monitoring",
        "other",
    ];
    for (port, kind) in (1000..).zip(types) {
        let mut body = service("kinds", port);
        body["type"] = json!(kind);
        assert_eq!(app.registered(&body).await["type"], kind);
    }
    assert_eq!(app.array("/api/v1/services").await.len(), types.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_may_be_a_name_or_an_address_of_either_version() {
    let app = TestApp::start().await;
    let long = format!("{0}.{0}.{0}.{1}", "a".repeat(63), "b".repeat(63));
    assert_eq!(long.len(), 255);
    for host in ["localhost", "db-1.internal.example", "10.0.0.7", "::1", "2001:db8::7", &long] {
        let mut body = service("hosts", 80);
        body["host"] = json!(host);
        assert_eq!(app.registered(&body).await["host"], host);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_health_check_may_be_a_path_or_a_whole_url() {
    let app = TestApp::start().await;
    let endpoints = ["/", "/health?full=1", "http://10.0.0.1:9000/alive", "https://status.example/health"];
    for (port, endpoint) in (1000..).zip(endpoints) {
        let mut body = service("endpoints", port);
        body["health_check_endpoint"] = json!(endpoint);
        assert_eq!(app.registered(&body).await["health_check_endpoint"], endpoint);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_is_stored_in_lower_case_and_may_have_100_characters() {
    let app = TestApp::start().await;
    let mixed = app.registered(&service("Payment_API-2", 80)).await;
    assert_eq!(mixed["name"], "payment_api-2");
    let again = app.registered(&service("PAYMENT_api-2", 80)).await;
    assert_eq!(again["id"], mixed["id"], "the case of a name makes no other identity");
    let long = "n".repeat(100);
    assert_eq!(app.registered(&service(&long, 80)).await["name"], long);
    assert_eq!(app.registered(&service("x", 1)).await["name"], "x");
    assert_eq!(app.registered(&service("x", 65535)).await["port"], 65535);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn registering_again_keeps_the_identity_and_takes_the_new_metadata() {
    let app = TestApp::start().await;
    let mut body = service("again", 80);
    body["metadata"] = json!({ "version": "1.0", "tags": { "old": "yes" }, "note": "first" });
    let first = app.registered(&body).await;
    body["metadata"] = json!({ "version": "2.0", "tags": { "new": "yes" } });
    let second = app.registered(&body).await;
    assert_eq!(second["id"], first["id"]);
    assert_eq!(second["registered_at"], first["registered_at"]);
    assert_eq!(second["metadata"]["version"], "2.0");
    assert_eq!(second["metadata"]["tags"], json!({ "new": "yes" }));
    assert_eq!(second["metadata"].get("note"), None, "the new metadata takes the place of the old");
    assert!(second["last_seen_at"].as_str() > first["last_seen_at"].as_str(), "{first} {second}");

    let third = app.registered(&body).await;
    assert_eq!(third["id"], first["id"]);
    assert!(
        third["last_seen_at"].as_str() > second["last_seen_at"].as_str(),
        "a sign of life, though no change"
    );
    assert_eq!(app.array("/api/v1/services").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_name_host_or_port_is_another_service() {
    let app = TestApp::start().await;
    let mut elsewhere = service("one", 80);
    elsewhere["host"] = json!("127.0.0.2");
    let bodies = [service("one", 80), service("two", 80), service("one", 81), elsewhere];
    let mut ids = HashSet::new();
    for body in &bodies {
        ids.insert(id_of(&app.registered(body).await).to_owned());
    }
    assert_eq!(ids.len(), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn registering_again_does_not_reset_the_health() {
    let app = TestApp::start().await;
    let path = app.path_of(&service("steady", 80)).await;
    app.report(&path, true).await.answered(200);
    assert_eq!(app.registered(&service("steady", 80)).await["status"], "healthy");
    app.report(&path, false).await.answered(200);
    let again = app.registered(&service("steady", 80)).await;
    assert_eq!(again["status"], "degraded");
    assert_eq!(again["health_check_failures"], 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forty_that_race_for_one_identity_all_get_201_and_one_id() {
    let app = TestApp::start().await;
    let answers = join_all((0..40).map(async |_| app.registered(&service("race", 80)).await)).await;
    let ids: HashSet<&str> = answers.iter().map(id_of).collect();
    assert_eq!(ids.len(), 1);
    let registered: HashSet<&str> =
        answers.iter().map(|one| one["registered_at"].as_str().unwrap()).collect();
    assert_eq!(registered.len(), 1);
    assert_eq!(app.array("/api/v1/services").await.len(), 1);
    let events = app.events("race").await;
    assert_eq!(events.iter().filter(|event| event["kind"] == "service_registered").count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_and_twenty_different_ones_at_once_do_not_disturb_each_other() {
    let app = TestApp::start().await;
    let answers =
        join_all((1..=120).map(async |port| app.registered(&static_service("crowd", port)).await)).await;
    let ids: HashSet<&str> = answers.iter().map(id_of).collect();
    assert_eq!(ids.len(), 120);
    assert_eq!(app.array("/api/v1/services/discover/crowd").await.len(), 120);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_has_exactly_the_fields_that_first_viscount_reads() {
    let app = TestApp::start().await;
    let service = app.registered(&service("shape", 80)).await;
    let is_string =
        ["id", "name", "type", "host", "status", "health_check_endpoint", "registered_at", "last_seen_at"];
    for field in is_string {
        assert!(service[field].is_string(), "{field} in {service}");
    }
    for field in ["port", "health_check_failures"] {
        assert!(service[field].is_u64(), "{field} in {service}");
    }
    let metadata = &service["metadata"];
    assert!(metadata["tags"].is_object() && metadata["capabilities"].is_array(), "{metadata}");
    let listed = app.array("/api/v1/services").await;
    assert_eq!(listed[0]["metadata"], service["metadata"]);
    assert_eq!(listed[0]["id"], service["id"]);
}
