//! PUT and PATCH of a service.

use serde_json::{Value, json};

use crate::support::{TestApp, keyed, service, static_service};

fn full() -> Value {
    let mut body = static_service("updated", 80);
    body["weight"] = json!(5);
    body["zone"] = json!("a");
    body["datacenter"] = json!("dc");
    body["endpoints"] = json!({ "grpc": 9000 });
    body["topics"] = json!(["orders"]);
    body["metadata"] = json!({
        "version": "1",
        "region": "eu",
        "tags": { "team": "red", "tier": "1" },
        "capabilities": ["a", "b"],
        "own": { "x": 1, "y": 2 },
    });
    body
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_put_replaces_all_and_what_it_leaves_out_is_the_default_again() {
    let app = TestApp::start().await;
    let path = app.path_of(&full()).await;
    let before = app.body(&path).await;
    let mut body = static_service("updated", 80);
    body["type"] = json!("worker");
    body["metadata"] = json!({ "version": "2" });
    let put = app.put(&path).json(&body).await.answered(200).json();
    for service in [put, app.body(&path).await] {
        assert_eq!(service["id"], before["id"]);
        assert_eq!(service["registered_at"], before["registered_at"]);
        assert_eq!(service["type"], "worker");
        assert_eq!(service["weight"], 1);
        assert_eq!(service["zone"], Value::Null);
        assert_eq!(service["datacenter"], Value::Null);
        assert_eq!(service["region"], Value::Null);
        assert_eq!(service["metadata"]["version"], "2");
        assert_eq!(service["metadata"]["tags"], json!({}));
        assert_eq!(service["metadata"].get("own"), None);
        assert_eq!(service["version"], 2);
        assert!(service["updated_at"].as_str() > before["updated_at"].as_str());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_put_or_a_patch_that_changes_nothing_keeps_the_version() {
    let app = TestApp::start().await;
    let path = app.path_of(&full()).await;
    let events = app.events("updated").await;
    assert_eq!(app.put(&path).json(&full()).await.answered(200).json()["version"], 1);
    assert_eq!(app.patch(&path, &json!({})).await.answered(200).json()["version"], 1);
    assert_eq!(app.patch(&path, &json!({ "weight": 5 })).await.answered(200).json()["version"], 1);
    assert_eq!(app.events("updated").await, events);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_put_or_a_patch_of_nobody_is_404() {
    let app = TestApp::start().await;
    let path = format!("/api/v1/services/{}", uuid::Uuid::new_v4());
    app.put(&path).json(&full()).await.problem(404);
    app.patch(&path, &json!({ "weight": 2 })).await.problem(404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_patch_merges_objects_replaces_lists_and_removes_what_is_null() {
    let app = TestApp::start().await;
    let path = app.path_of(&full()).await;
    let patched = app
        .patch(
            &path,
            &json!({
                "weight": null,
                "zone": "b",
                "datacenter": null,
                "endpoints": { "grpc": null, "admin": 9001 },
                "metadata": {
                    "version": null,
                    "tags": { "tier": null, "team": "blue", "new": "yes" },
                    "capabilities": ["c"],
                    "own": { "x": null, "z": { "deep": true } },
                },
            }),
        )
        .await
        .answered(200)
        .json();
    for service in [patched, app.body(&path).await] {
        assert_eq!(service["weight"], 1, "null is the default again");
        assert_eq!(service["zone"], "b");
        assert_eq!(service["datacenter"], Value::Null);
        assert_eq!(service["endpoints"], json!({ "admin": 9001 }));
        assert_eq!(service["topics"], json!(["orders"]), "what a patch does not name stays");
        let metadata = &service["metadata"];
        assert_eq!(metadata["version"], "unknown");
        assert_eq!(metadata["region"], "eu");
        assert_eq!(metadata["tags"], json!({ "team": "blue", "new": "yes" }));
        assert_eq!(metadata["capabilities"], json!(["c"]));
        assert_eq!(metadata["own"], json!({ "y": 2, "z": { "deep": true } }));
        assert_eq!(service["version"], 2);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_identity_cannot_be_changed() {
    let app = TestApp::start().await;
    let unkeyed = app.path_of(&full()).await;
    let keyed_path = app.path_of(&keyed("updated", "k-1", 90)).await;
    for (field, value) in
        [("name", json!("other")), ("host", json!("127.0.0.9")), ("port", json!(81)), ("key", json!("k-9"))]
    {
        let mut body = full();
        body[field] = value.clone();
        app.put(&unkeyed).json(&body).await.problem(409);
        let mut change = json!({});
        change[field] = value;
        app.patch(&unkeyed, &change).await.problem(409);
    }
    for (field, value) in [("name", json!("other")), ("key", json!("k-2"))] {
        let mut body = keyed("updated", "k-1", 90);
        body[field] = value.clone();
        app.put(&keyed_path).json(&body).await.problem(409);
        let mut change = json!({});
        change[field] = value;
        app.patch(&keyed_path, &change).await.problem(409);
    }
    for path in [&unkeyed, &keyed_path] {
        assert_eq!(app.body(path).await["version"], 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_identity_may_be_said_again() {
    let app = TestApp::start().await;
    let path = app.path_of(&full()).await;
    let same = json!({ "name": "Updated", "host": "127.0.0.1", "port": 80, "weight": 9 });
    assert_eq!(app.patch(&path, &same).await.answered(200).json()["weight"], 9);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_keyed_instance_may_move() {
    let app = TestApp::start().await;
    let path = app.path_of(&keyed("updated", "k-1", 90)).await;
    let mut body = keyed("updated", "k-1", 91);
    body["host"] = json!("127.0.0.2");
    let moved = app.put(&path).json(&body).await.answered(200).json();
    assert_eq!((&moved["host"], &moved["port"]), (&json!("127.0.0.2"), &json!(91)));
    let moved = app.patch(&path, &json!({ "port": 92 })).await.answered(200).json();
    assert_eq!((&moved["port"], &moved["version"]), (&json!(92), &json!(3)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_update_is_refused_with_its_field_and_changes_nothing() {
    let app = TestApp::start().await;
    let path = app.path_of(&full()).await;
    for (field, value) in [
        ("type", json!("none")),
        ("weight", json!(-1)),
        ("load", json!(2)),
        ("metadata", json!([])),
        ("endpoints", json!({ "grpc": 0 })),
        ("checks", json!("none")),
    ] {
        let mut body = full();
        body[field] = value.clone();
        app.put(&path).json(&body).await.blames(field);
        let mut change = json!({});
        change[field] = value;
        app.patch(&path, &change).await.blames(field);
    }
    app.patch(&path, &json!({ "metadata": { "tags": { "team": 1 } } })).await.blames("metadata.tags");
    app.patch(&path, &json!({ "type": null })).await.blames("type");
    for body in [json!([]), json!("x"), json!(null)] {
        app.patch(&path, &body).await.problem(400);
        app.put(&path).json(&body).await.problem(400);
    }
    let mut partial = full();
    partial.as_object_mut().unwrap().remove("port");
    app.put(&path).json(&partial).await.blames("port");
    assert_eq!(app.body(&path).await["version"], 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_update_does_not_touch_the_health() {
    let app = TestApp::start().await;
    let path = app.path_of(&service("steady", 80)).await;
    app.report(&path, false).await.answered(200);
    let patched = app.patch(&path, &json!({ "weight": 2 })).await.answered(200).json();
    assert_eq!(patched["status"], "degraded");
    assert_eq!(patched["health_check_failures"], 1);
    let mut body = service("steady", 80);
    body["metadata"] = json!({ "version": "2" });
    assert_eq!(app.put(&path).json(&body).await.answered(200).json()["status"], "degraded");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_update_is_seen_in_discovery_at_once() {
    let app = TestApp::start().await;
    let path = app.path_of(&full()).await;
    for weight in 10..30 {
        app.patch(&path, &json!({ "weight": weight })).await.answered(200);
        assert_eq!(app.array("/discover/updated").await[0]["weight"], weight);
    }
}
