//! Metrics, the description of the API, and its page.

use std::collections::HashSet;

use serde_json::Value;

use crate::support::{TestApp, id_of, service, static_service};

const ROUTES: [(&str, &[&str]); 21] = [
    ("/", &["get"]),
    ("/health", &["get"]),
    ("/health/live", &["get"]),
    ("/health/ready", &["get"]),
    ("/metrics", &["get"]),
    ("/discover/{}", &["get"]),
    ("/api/v1/services", &["get"]),
    ("/api/v1/services/register", &["post"]),
    ("/api/v1/services/register/batch", &["post"]),
    ("/api/v1/services/names", &["get"]),
    ("/api/v1/services/discover/{}", &["get"]),
    ("/api/v1/tokens", &["get", "post"]),
    ("/api/v1/tokens/{}", &["delete"]),
    ("/api/v1/services/{}", &["get", "put", "patch", "delete"]),
    ("/api/v1/services/{}/health", &["get", "post"]),
    ("/api/v1/services/{}/heartbeat", &["post"]),
    ("/api/v1/config", &["get"]),
    ("/api/v1/config/{}", &["get", "put", "delete"]),
    ("/api/v1/events", &["get"]),
    ("/openapi.json", &["get"]),
    ("/docs", &["get"]),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_families_of_metrics_exist_from_the_start() {
    let app = TestApp::start().await;
    let answer = app.get("/metrics").await.answered(200);
    let text = answer.text();
    for family in [
        "service_registrations",
        "service_discoveries",
        "health_check_duration_seconds",
        "active_service_instances",
        "http_request_duration_seconds",
    ] {
        let known = text.lines().any(|line| {
            line.strip_prefix("# TYPE ")
                .and_then(|rest| rest.split(' ').next())
                .is_some_and(|name| name == family || name.strip_suffix("_total") == Some(family))
        });
        assert!(known, "{family} is not in:\n{text}");
    }
}

/// The value of a sample whose labels contain all of these.
fn sample(text: &str, name: &str, labels: &[&str]) -> Option<f64> {
    let line = text.lines().find(|line| {
        line.strip_prefix(name).is_some_and(|rest| rest.starts_with('{'))
            && labels.iter().all(|label| line.contains(label))
    })?;
    line.rsplit(' ').next()?.parse().ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_happens_is_counted() {
    let app = TestApp::start().await;
    let counted = app.registered(&static_service("counted", 1)).await;
    app.registered(&static_service("counted", 2)).await;
    app.get("/discover/counted").await.answered(200);
    app.get("/api/v1/services/discover/counted").await.answered(200);
    app.get(&format!("/api/v1/services/{}", id_of(&counted))).await.answered(200);
    let text = app.get("/metrics").await.answered(200).text();
    let name = "service_name=\"counted\"";
    assert_eq!(sample(&text, "service_registrations_total", &[name]), Some(2.0), "{text}");
    assert_eq!(sample(&text, "service_discoveries_total", &[name, "strategy="]), Some(2.0), "{text}");
    assert_eq!(sample(&text, "active_service_instances", &[name]), Some(2.0), "{text}");
    let register = ["route=\"/api/v1/services/register\"", "method=\"POST\"", "status=\"201\""];
    assert_eq!(sample(&text, "http_request_duration_seconds_count", &register), Some(2.0), "{text}");
    assert!(!text.contains(id_of(&counted)), "a route is a pattern, never a path: {text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_that_leaves_is_active_no_more() {
    let app = TestApp::start().await;
    let path = app.path_of(&static_service("leaving", 1)).await;
    app.registered(&static_service("leaving", 2)).await;
    app.delete(&path).await.answered(204);
    let text = app.get("/metrics").await.answered(200).text();
    assert_eq!(sample(&text, "active_service_instances", &["service_name=\"leaving\""]), Some(1.0), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_most_a_thousand_names_become_labels() {
    let app = TestApp::start().await;
    for start in [0, 600] {
        let items: Vec<Value> = (start..start + 600).map(|n| service(&format!("n-{n}"), 80)).collect();
        app.post("/api/v1/services/register/batch").json(&Value::Array(items)).await.answered(200);
    }
    let text = app.get("/metrics").await.answered(200).text();
    for family in ["service_registrations_total", "active_service_instances"] {
        let names: HashSet<&str> = text
            .lines()
            .filter(|line| line.starts_with(family))
            .filter_map(|line| line.split("service_name=\"").nth(1)?.split('"').next())
            .collect();
        assert!(names.len() <= 1001 && names.contains("other"), "{family}: {} names", names.len());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_description_of_the_api_lists_each_route() {
    let app = TestApp::start().await;
    let document = app.body("/openapi.json").await;
    assert!(
        document["openapi"].as_str().is_some_and(|version| version.starts_with("3.1")),
        "{}",
        document["openapi"]
    );
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    let paths = document["paths"].as_object().unwrap();
    let pattern = |path: &str| -> String {
        let parts: Vec<&str> =
            path.split('/').map(|part| if part.starts_with('{') { "{}" } else { part }).collect();
        parts.join("/")
    };
    for (route, methods) in ROUTES {
        let operations = paths
            .iter()
            .find(|(path, _)| pattern(path) == route)
            .unwrap_or_else(|| panic!("{route} is missing"))
            .1;
        for method in methods {
            assert!(operations[method].is_object(), "{method} {route} is missing");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_description_of_the_api_is_complete_in_itself() {
    fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
        match value {
            Value::Object(fields) => {
                found.extend(fields.get("$ref").and_then(Value::as_str));
                fields.values().for_each(|inner| references(inner, found));
            }
            Value::Array(items) => items.iter().for_each(|inner| references(inner, found)),
            _ => {}
        }
    }
    let app = TestApp::start().await;
    let document = app.body("/openapi.json").await;
    let mut found = Vec::new();
    references(&document, &mut found);
    for reference in found {
        let pointer = reference.strip_prefix('#').expect("a reference within the document");
        assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
    }
    let mut ids = HashSet::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let Some(responses) = operation["responses"].as_object() else { continue };
            for (status, response) in responses {
                let described = response["description"].is_string() || response["$ref"].is_string();
                assert!(described, "{method} {path} {status} has no description");
                assert_ne!(status, "422", "{method} {path}");
            }
            if let Some(id) = operation["operationId"].as_str() {
                assert!(ids.insert(id), "{id} stands twice");
            }
            let mut parameters: Vec<&Value> =
                operation["parameters"].as_array().into_iter().flatten().collect();
            parameters.extend(operations["parameters"].as_array().into_iter().flatten());
            for name in path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')) {
                let told = parameters.iter().any(|one| one["name"] == name && one["in"] == "path");
                assert!(told, "{method} {path}: {name} is not described");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_of_the_api_works_without_the_internet() {
    let app = TestApp::start().await;
    let answer = app.get("/docs").await.answered(200);
    assert!(answer.header("content-type").starts_with("text/html"), "{:?}", answer.headers);
    let html = answer.text();
    let mut assets = 0;
    for attribute in ["src=\"", "href=\""] {
        for rest in html.split(attribute).skip(1) {
            let target = rest.split('"').next().unwrap();
            assert!(!target.starts_with("http") && !target.starts_with("//"), "from elsewhere: {target}");
            if target.starts_with('#') || target.starts_with("data:") {
                continue;
            }
            let path = target.strip_prefix("./").unwrap_or(target);
            let path = if path.starts_with('/') { path.to_owned() } else { format!("/docs/{path}") };
            app.get(&path).await.answered(200);
            assets += 1;
        }
    }
    assert!(assets > 0, "the page shows something: {html}");
}
