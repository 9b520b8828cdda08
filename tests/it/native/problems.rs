//! Errors as RFC 9457 has them, and the ids that a request is followed by.

use std::collections::HashSet;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{TestApp, keyed, service, static_service};

const REGISTER: &str = "/api/v1/services/register";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_route_is_404_as_a_problem() {
    let app = TestApp::start().await;
    for path in
        ["/nowhere", "/api", "/api/v1", "/api/v1/nowhere", "/api/v2/services", "/api/v1/services/a/b/c"]
    {
        for method in [Method::GET, Method::POST, Method::DELETE] {
            app.request(method, path).await.problem(404);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_path_that_is_no_utf_8_is_a_problem_too() {
    let app = TestApp::start().await;
    for path in ["/api/v1/services/%ff", "/discover/%ff", "/api/v1/config/%c3%28"] {
        let answer = app.get(path).await;
        assert!([400, 404].contains(&answer.status), "{path}: {}", answer.status);
        answer.problem(answer.status);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_verb_that_a_route_does_not_know_is_405_with_those_it_does() {
    let app = TestApp::start().await;
    let path = app.path_of(&service("one", 80)).await;
    for (method, path, allowed) in [
        (Method::DELETE, "/api/v1/services", vec!["GET"]),
        (Method::POST, &path, vec!["GET", "PUT", "PATCH", "DELETE"]),
        (Method::PUT, REGISTER, vec!["POST"]),
        (Method::GET, &format!("{path}/heartbeat"), vec!["POST"]),
        (Method::POST, "/api/v1/events", vec!["GET"]),
        (Method::POST, "/api/v1/config/one", vec!["GET", "PUT", "DELETE"]),
        (Method::POST, "/health", vec!["GET"]),
        (Method::PUT, "/discover/one", vec!["GET"]),
    ] {
        let answer = app.request(method.clone(), path).await;
        answer.problem(405);
        let allow: HashSet<&str> = answer.header("allow").split(',').map(str::trim).collect();
        for verb in allowed {
            assert!(allow.contains(verb), "{method} {path}: {verb} is not in {allow:?}");
        }
        assert!(!allow.contains(method.as_str()), "{method} {path}: {allow:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_of_another_type_is_415() {
    let app = TestApp::start().await;
    let path = app.path_of(&service("one", 80)).await;
    let text = service("one", 80).to_string();
    for media_type in ["text/plain", "application/xml", "application/x-www-form-urlencoded"] {
        app.post(REGISTER).body(media_type, text.clone()).await.problem(415);
        app.put(&path).body(media_type, text.clone()).await.problem(415);
        app.request(Method::PATCH, &path).body(media_type, "{}").await.problem(415);
    }
    app.post(REGISTER).body("application/json; charset=utf-8", text.clone()).await.answered(201);
    app.post(REGISTER).body("Application/JSON", text).await.answered(201);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_json_is_400_with_the_place() {
    let app = TestApp::start().await;
    let body = "{\n  \"name\": \"one\",\n  \"type\" \"api\"\n}";
    let problem = app.post(REGISTER).body("application/json", body).await.problem(400);
    let told = problem.to_string();
    assert!(told.contains("line 3") && told.contains("column"), "{told}");
    let broken: [&[u8]; 6] =
        [b"{", b"{\"name\":}", b"\xff\xfe", b"{\"name\":\"\xc3\x28\"}", b"{}{}", b"{\"a\":\"\\ud800\"}"];
    for body in broken {
        app.post(REGISTER).body("application/json", body.to_vec()).await.problem(400);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deeply_nested_body_is_400_and_harms_nobody() {
    let app = TestApp::start().await;
    let deep = "[".repeat(100_000);
    app.post(REGISTER).body("application/json", deep.clone()).await.problem(400);
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    app.put("/api/v1/config/deep").body("application/json", deep).await.problem(400);
    app.get("/health/live").await.answered(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_above_a_mebibyte_is_413() {
    let app = TestApp::start().await;
    let mut body = service("big", 80);
    body["metadata"] = json!({ "note": "x".repeat(1024 * 1024) });
    app.register(&body).await.problem(413);
    let padded = service("big", 80).to_string() + &" ".repeat(1024 * 1024);
    app.post(REGISTER).body("application/json", padded).await.problem(413);
    assert!(app.array("/api/v1/services").await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_error_has_a_code_of_its_own() {
    let app = TestApp::start().await;
    let path = app.path_of(&keyed("one", "k", 80)).await;
    let gone = format!("/api/v1/services/{}", uuid::Uuid::new_v4());
    let mut codes = HashSet::new();
    for problem in [
        app.register(&json!({})).await.problem(400),
        app.get(&gone).await.problem(404),
        app.delete("/api/v1/services").await.problem(405),
        app.patch(&path, &json!({ "key": "other" })).await.problem(409),
        app.delete(&path).if_match(&json!(9)).await.problem(412),
        app.register(&json!({ "name": "x".repeat(2 * 1024 * 1024) })).await.problem(413),
        app.post(REGISTER).body("text/plain", "{}").await.problem(415),
    ] {
        let code = problem["code"].as_str().unwrap().to_owned();
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        assert!(code.chars().all(plain), "for machines: {code}");
        assert!(codes.insert(code), "two kinds of error share a code: {problem}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_problem_tells_where_it_happened() {
    let app = TestApp::start().await;
    let path = format!("/api/v1/services/{}", uuid::Uuid::new_v4());
    let problem = app.get(&path).await.problem(404);
    assert!(problem["instance"].as_str().unwrap().contains(&path), "{problem}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_id_is_given_back_or_made() {
    let app = TestApp::start().await;
    for path in ["/health", "/discover/x", "/nowhere", "/api/v1/services", "/metrics"] {
        let answer = app.get(path).header("x-request-id", "my-id_1.2").await;
        assert_eq!(answer.header("x-request-id"), "my-id_1.2", "{path}");
        let one = app.get(path).await.header("x-request-id").to_owned();
        let other = app.get(path).await.header("x-request-id").to_owned();
        assert!(!one.is_empty() && one != other, "{path}: {one} {other}");
    }
    let problem = app.get("/nowhere").header("x-request-id", "trace-me").await.problem(404);
    assert_eq!(problem["request_id"], "trace-me");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trace_is_carried_on() {
    let app = TestApp::start().await;
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let parent = format!("00-{trace}-00f067aa0ba902b7-01");
    for path in ["/health", "/api/v1/services", "/discover/x", "/nowhere"] {
        let answer = app.get(path).header("traceparent", &parent).await;
        let given = answer.header("traceparent");
        assert_eq!(given.split('-').nth(1), Some(trace), "{path}: {given}");
        assert_eq!(given.len(), parent.len(), "{given}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_bad_input_is_422_or_a_fault_of_the_server() {
    let app = TestApp::start().await;
    let path = app.path_of(&static_service("target", 80)).await;
    let values = [
        json!(null),
        json!(true),
        json!(-1),
        json!(1e308),
        json!(""),
        json!("\0"),
        json!([]),
        json!({}),
        json!([[[]]]),
    ];
    let fields = [
        "name",
        "type",
        "host",
        "port",
        "metadata",
        "key",
        "weight",
        "load",
        "endpoints",
        "checks",
        "region",
    ];
    for value in &values {
        for field in fields {
            let mut body = static_service("fuzz", 81);
            body[field] = value.clone();
            for answer in [app.register(&body).await, app.put(&path).json(&body).await] {
                assert!([200, 201, 400, 409].contains(&answer.status), "{}: {body}", answer.status);
            }
            let mut change = json!({});
            change[field] = value.clone();
            let answer = app.patch(&path, &change).await;
            assert!([200, 400, 409].contains(&answer.status), "{}: {change}", answer.status);
        }
        let answer = app.put("/api/v1/config/fuzz").json(value).await;
        let expected: &[u16] = if value.is_object() { &[200, 201] } else { &[400] };
        assert!(expected.contains(&answer.status), "{}: {value}", answer.status);
        let answer = app.post(&format!("{path}/heartbeat")).json(value).await;
        assert!([204, 400].contains(&answer.status), "{}: {value}", answer.status);
    }
    for query in [
        "limit=99999999999999999999",
        "limit=%00",
        "cursor=%00",
        "tag=%ff=x",
        "status=%F0%9F%A6%80",
        "name=%00",
    ] {
        let answer = app.get(&format!("/api/v1/services?{query}")).await;
        assert!([200, 400].contains(&answer.status), "{}: {query}", answer.status);
    }
    let last: Value = app.body("/health").await;
    assert_eq!(last["status"], "healthy");
}
