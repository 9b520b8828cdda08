//! GET /services, GET and DELETE /services/{id}.

use serde_json::json;

use crate::support::{TestApp, id_of, service, static_service};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_list_is_a_bare_array_in_the_order_of_names() {
    let app = TestApp::start().await;
    assert_eq!(app.body("/api/v1/services").await, json!([]));
    for (name, port) in [("zeta", 1), ("alpha", 2), ("mid-2", 3), ("mid", 4), ("alpha", 5), ("Beta", 6)] {
        app.registered(&service(name, port)).await;
    }
    assert_eq!(app.names("/api/v1/services").await, ["alpha", "alpha", "beta", "mid", "mid-2", "zeta"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_list_can_be_filtered_by_type_status_and_tag() {
    let app = TestApp::start().await;
    for (name, kind, tags) in [
        ("a", "api", json!({ "team": "red", "tier": "1" })),
        ("b", "worker", json!({ "team": "red" })),
        ("c", "api", json!({ "team": "blue", "expr": "x=y" })),
        ("d", "api", json!({ "label": "" })),
    ] {
        let mut body = service(name, 80);
        body["type"] = json!(kind);
        body["metadata"] = json!({ "tags": tags });
        let path = app.path_of(&body).await;
        if name != "a" {
            app.report(&path, true).await.answered(200);
        }
    }
    for (query, expected) in [
        ("type=api", vec!["a", "c", "d"]),
        ("type=message_broker", vec![]),
        ("status=healthy", vec!["b", "c", "d"]),
        ("status=unknown", vec!["a"]),
        ("status=maintenance", vec![]),
        ("tag=team=red", vec!["a", "b"]),
        ("tag=team%3Dblue", vec!["c"]),
        ("tag=expr=x=y", vec!["c"]),
        ("tag=label=", vec!["d"]),
        ("tag=team=green", vec![]),
        ("tag=red=team", vec![]),
        ("type=api&status=healthy&tag=team=blue", vec!["c"]),
        ("type=api&status=unknown&tag=team=blue", vec![]),
    ] {
        assert_eq!(app.names(&format!("/api/v1/services?{query}")).await, expected, "{query}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_status_can_be_asked_for() {
    let app = TestApp::start().await;
    app.registered(&service("one", 80)).await;
    for status in ["starting", "healthy", "degraded", "unhealthy", "maintenance", "stopping", "stopped"] {
        assert_eq!(app.body(&format!("/api/v1/services?status={status}")).await, json!([]), "{status}");
    }
    assert_eq!(app.names("/api/v1/services?status=unknown").await, ["one"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_malformed_filter_is_400_and_named() {
    let app = TestApp::start().await;
    for (query, field) in [
        ("type=microservice", "type"),
        ("type=", "type"),
        ("status=fine", "status"),
        ("status=HEALTHY", "status"),
        ("tag=label", "tag"),
        ("tag=", "tag"),
        ("tag==value", "tag"),
    ] {
        app.get(&format!("/api/v1/services?{query}")).await.blames(field);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_can_be_read_by_its_id() {
    let app = TestApp::start().await;
    let registered = app.registered(&service("one", 80)).await;
    let read = app.body(&format!("/api/v1/services/{}", id_of(&registered))).await;
    for field in
        ["id", "name", "type", "host", "port", "status", "metadata", "registered_at", "health_check_endpoint"]
    {
        assert_eq!(read[field], registered[field], "{field}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_id_is_404_for_every_verb() {
    let app = TestApp::start().await;
    app.registered(&service("one", 80)).await;
    let path = format!("/api/v1/services/{}", uuid::Uuid::new_v4());
    app.get(&path).await.problem(404);
    app.delete(&path).await.problem(404);
    app.report(&path, true).await.problem(404);
    app.get(&format!("{path}/health")).await.problem(404);
    app.get("/api/v1/services/no-id-at-all").await.problem(404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_service_is_gone_and_a_second_delete_is_404() {
    let app = TestApp::start().await;
    let path = app.path_of(&static_service("gone", 80)).await;
    app.registered(&static_service("gone", 81)).await;
    app.delete(&path).await.answered(204).is_empty();
    app.delete(&path).await.problem(404);
    app.get(&path).await.problem(404);
    app.report(&path, true).await.problem(404);
    assert_eq!(app.array("/api/v1/services").await.len(), 1);
    assert_eq!(app.array("/api/v1/services/discover/gone").await.len(), 1);
    assert_eq!(app.array("/discover/gone").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_that_race_to_delete_one_gets_204_and_one_404() {
    let app = TestApp::start().await;
    for port in 1..=10 {
        let path = app.path_of(&service("contested", port)).await;
        let (first, second) = tokio::join!(app.delete(&path), app.delete(&path));
        let mut statuses = [first.status, second.status];
        statuses.sort_unstable();
        assert_eq!(statuses, [204, 404]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_deleted_can_be_registered_anew() {
    let app = TestApp::start().await;
    let path = app.path_of(&service("phoenix", 80)).await;
    app.report(&path, true).await.answered(200);
    app.delete(&path).await.answered(204);
    let anew = app.registered(&service("phoenix", 80)).await;
    assert_eq!(anew["status"], "unknown");
    assert_eq!(anew["health_check_failures"], 0);
    assert_eq!(app.array("/api/v1/services").await.len(), 1);
}
