//! Keyed and unkeyed identities.

use std::collections::HashSet;

use futures_util::future::join_all;
use serde_json::json;

use crate::support::{TestApp, id_of, keyed, static_service};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_is_the_identity_whatever_host_and_port_become() {
    let app = TestApp::start().await;
    let first = app.registered(&keyed("shop", "pod-1", 8080)).await;
    assert_eq!(first["key"], "pod-1");
    let mut moved = keyed("shop", "pod-1", 9090);
    moved["host"] = json!("127.0.0.2");
    let second = app.registered(&moved).await;
    assert_eq!(second["id"], first["id"]);
    assert_eq!(second["registered_at"], first["registered_at"]);
    assert_eq!((&second["host"], &second["port"]), (&json!("127.0.0.2"), &json!(9090)));
    let other = app.registered(&keyed("shop", "pod-2", 9090)).await;
    assert_ne!(other["id"], first["id"], "another key is another instance, at one address too");
    let elsewhere = app.registered(&keyed("cart", "pod-1", 9090)).await;
    assert_ne!(elsewhere["id"], first["id"], "a key counts within its service");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_keyed_and_an_unkeyed_identity_never_match() {
    let app = TestApp::start().await;
    let unkeyed = app.registered(&static_service("shop", 8080)).await;
    let keyed_alike = app.registered(&keyed("shop", "127.0.0.1:8080", 8080)).await;
    assert_ne!(keyed_alike["id"], unkeyed["id"]);
    let unkeyed_again = app.registered(&static_service("shop", 8080)).await;
    let keyed_again = app.registered(&keyed("shop", "127.0.0.1:8080", 8080)).await;
    assert_eq!(unkeyed_again["id"], unkeyed["id"]);
    assert_eq!(keyed_again["id"], keyed_alike["id"]);
    assert_eq!(app.array("/api/v1/services").await.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_that_race_for_one_identity_get_one_id() {
    let (one, other) = TestApp::pair().await;
    let answers = join_all((0..40).map(async |n| {
        let app = if n % 2 == 0 { &one } else { &other };
        app.registered(&keyed("race", "k", 80)).await
    }))
    .await;
    let ids: HashSet<&str> = answers.iter().map(id_of).collect();
    assert_eq!(ids.len(), 1);
    let listed = one.array("/api/v1/services?consistency=strong").await;
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0]["version"], 1, "39 of them changed nothing");
    let events = one.body("/api/v1/events?service=race&consistency=strong").await;
    assert_eq!(events["events"].as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_race_of_different_metadata_loses_no_change() {
    let app = TestApp::start().await;
    let answers = join_all((0..20).map(async |n| {
        let mut body = keyed("race", "k", 80);
        body["metadata"] = json!({ "n": n });
        app.registered(&body).await
    }))
    .await;
    let versions: HashSet<u64> = answers.iter().map(|one| one["version"].as_u64().unwrap()).collect();
    assert_eq!(versions, (1..=20).collect(), "each of them is a change of its own");
    let last = answers.iter().max_by_key(|one| one["version"].as_u64()).unwrap();
    let read = app.body(&format!("/api/v1/services/{}", id_of(last))).await;
    assert_eq!(read["metadata"]["n"], last["metadata"]["n"]);
    assert_eq!(read["version"], 20);
}
