//! GET /services/discover/{name} and GET /discover/{name}.

use serde_json::json;

use crate::support::{Client, TestApp, service};

const DOORS: [&str; 2] = ["/api/v1/services/discover", "/discover"];

async fn ports(app: &Client, path: &str) -> Vec<u64> {
    let mut ports: Vec<u64> = app.array(path).await.iter().map(|one| one["port"].as_u64().unwrap()).collect();
    ports.sort_unstable();
    ports
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn discovery_gives_the_healthy_ones_or_those_of_another_status() {
    let app = TestApp::start().await;
    for (port, reports) in
        [(1, vec![]), (2, vec![true]), (3, vec![false]), (4, vec![false; 3]), (5, vec![false, true])]
    {
        let path = app.path_of(&service("mixed", port)).await;
        for healthy in reports {
            app.report(&path, healthy).await.answered(200);
        }
    }
    let other = app.path_of(&service("other", 6)).await;
    app.report(&other, true).await.answered(200);
    for door in DOORS {
        assert_eq!(ports(&app, &format!("{door}/mixed")).await, [2, 5]);
        for (status, expected) in [
            ("healthy", vec![2, 5]),
            ("unknown", vec![1]),
            ("degraded", vec![3]),
            ("unhealthy", vec![4]),
            ("stopped", vec![]),
        ] {
            assert_eq!(ports(&app, &format!("{door}/mixed?status={status}")).await, expected, "{status}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_to_discover_is_an_empty_array() {
    let app = TestApp::start().await;
    let path = app.path_of(&service("young", 80)).await;
    for door in DOORS {
        assert_eq!(app.body(&format!("{door}/nobody")).await, json!([]));
        assert_eq!(app.body(&format!("{door}/nobody?status=unknown")).await, json!([]));
        assert_eq!(app.body(&format!("{door}/young")).await, json!([]), "unknown is not healthy");
    }
    app.report(&path, true).await.answered(200);
    app.delete(&path).await.answered(204);
    for door in DOORS {
        assert_eq!(app.body(&format!("{door}/young")).await, json!([]), "the last one is gone");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_is_found_in_the_case_it_was_registered_in() {
    let app = TestApp::start().await;
    let path = app.path_of(&service("PaymentAPI", 80)).await;
    app.report(&path, true).await.answered(200);
    for door in DOORS {
        assert_eq!(ports(&app, &format!("{door}/PaymentAPI")).await, [80]);
        assert_eq!(ports(&app, &format!("{door}/paymentapi")).await, [80]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn discovery_gives_whole_services() {
    let app = TestApp::start().await;
    let mut body = service("whole", 80);
    body["metadata"] = json!({ "version": "3", "tags": { "a": "b" }, "own": 1 });
    let path = app.path_of(&body).await;
    app.report(&path, true).await.answered(200);
    let read = app.body(&path).await;
    for door in DOORS {
        let found = app.array(&format!("{door}/whole")).await;
        assert_eq!(found.len(), 1);
        for field in ["id", "name", "type", "host", "port", "status", "metadata", "health_check_endpoint"] {
            assert_eq!(found[0][field], read[field], "{field}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_malformed_status_is_400() {
    let app = TestApp::start().await;
    for door in DOORS {
        app.get(&format!("{door}/any?status=fine")).await.blames("status");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_just_reported_is_discovered_at_once() {
    let app = TestApp::start().await;
    let path = app.path_of(&service("prompt", 80)).await;
    for round in 0..30 {
        let healthy = round % 2 == 0;
        app.report(&path, healthy).await.answered(200);
        let found = app.array("/discover/prompt").await;
        assert_eq!(found.len(), usize::from(healthy), "round {round}");
    }
}
