use serde_json::{Value, json};

use super::checked;
use crate::support::{Answer, HealthTarget, TestApp};

/// All kinds, as short as they may be.
fn all_kinds() -> Value {
    json!([
        {"kind": "http"},
        {"kind": "tcp"},
        {"kind": "grpc", "id": "rpc", "service": "orders", "tls": {"verify": false}},
        {"kind": "ttl", "ttl": "15s", "initial_status": "healthy"},
        {"kind": "http", "id": "deep", "url": "http://other:81/x", "method": "post", "headers": {"X-A": "b"},
         "expect": {"status": [200.0, "3xx"]}, "interval": "1m30s", "deregister_after": "1h"},
    ])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn checks_are_kept_whole() {
    let app = TestApp::start().await;
    let mut body = checked("listed", 80, &all_kinds());
    body["health_check_endpoint"] = json!("/ok");
    let registered = app.registered(&body).await;
    let checks = registered["checks"].as_array().unwrap();
    let ids: Vec<_> = checks.iter().map(|check| check["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["http", "tcp", "rpc", "ttl", "deep"]);
    assert_eq!(
        checks[0],
        json!({"id": "http", "kind": "http", "path": "/ok", "method": "GET", "interval": "30s", "timeout": "10s",
            "degraded_after": 1, "unhealthy_after": 3, "healthy_after": 1, "retries": 0, "retry_delay": "0s",
            "deregister_after": null, "initial_status": "unknown"})
    );
    assert_eq!(checks[4]["expect"], json!({"status": ["200", "300-399"]}));
    assert_eq!((&checks[4]["method"], &checks[4]["interval"]), (&json!("POST"), &json!("1m30s")));
    // what was answered can be sent back, and changes nothing
    let path = format!("/api/v1/services/{}", registered["id"].as_str().unwrap());
    assert_eq!(app.put(&path).json(&registered).await.answered(200).json()["version"], 1);
    assert_eq!(app.patch(&path, &json!({"weight": 1})).await.answered(200).json()["version"], 1);
    // a replica that starts later, and one that follows, know the same
    let other = TestApp::start_on(app.database()).await;
    assert_eq!(other.body(&path).await["checks"], registered["checks"]);
    let health = other.body(&format!("{path}/health")).await;
    let statuses: Vec<_> =
        health["checks"].as_array().unwrap().iter().map(|check| &check["status"]).collect();
    assert_eq!(statuses, ["unknown", "unknown", "unknown", "healthy", "unknown"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn states_are_kept_beside_each_other() {
    let (app, other) = TestApp::pair().await;
    let path = app.path_of(&checked("states", 80, &all_kinds())).await;
    for (check, report) in [("http", "pass"), ("tcp", "fail"), ("rpc", "warn"), ("deep", "pass")] {
        let report = format!("{path}/health?status={report}&check={check}&output=of-{check}");
        app.post(&report).await.answered(200);
    }
    // the first, where nothing is said
    let answer = app.post(&format!("{path}/health?healthy=false")).await.answered(200);
    assert_eq!(answer.json()["status"], "degraded");
    let revision = answer.revision();
    let read = async |app: &TestApp| {
        let health = app.body(&format!("{path}/health?min_revision={revision}")).await;
        let checks = health["checks"].as_array().unwrap().iter();
        checks.map(|check| (check["status"].clone(), check["failures"].clone())).collect::<Vec<_>>()
    };
    let expected = [("degraded", 1), ("degraded", 1), ("degraded", 0), ("healthy", 0), ("healthy", 0)];
    let expected = expected.map(|(status, failures)| (json!(status), json!(failures)));
    assert_eq!(read(&app).await, expected);
    assert_eq!(read(&other).await, expected);
    let later = TestApp::start_on(app.database()).await;
    assert_eq!(read(&later).await, expected);
    // those of the same kind keep their state when others go, whatever else is said of them now
    let fewer = json!([{"kind": "tcp"}, {"kind": "ttl", "ttl": "16s"}, {"kind": "tcp", "id": "deep"}]);
    let mut fewer = checked("states", 80, &fewer);
    fewer["weight"] = json!(7);
    app.register(&fewer).await.answered(201);
    let health = app.body(&format!("{path}/health")).await;
    let statuses: Vec<_> =
        health["checks"].as_array().unwrap().iter().map(|check| &check["status"]).collect();
    assert_eq!(statuses, ["degraded", "healthy", "unknown"]);
    assert_eq!(health["checks"][0]["output"], "of-tcp");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn checks_are_run_at_somebodys_word() {
    // nobody asks here unless he is told to
    let app = TestApp::start().await;
    let target = HealthTarget::start(Answer::Status(200)).await;
    let checks = json!([{"kind": "http"}, {"kind": "tcp"}, {"kind": "ttl", "ttl": "1h"}]);
    let path = app.path_of(&checked("now", target.port(), &checks)).await;
    let health = app.post(&format!("{path}/check")).await.answered(200).json();
    let statuses = |health: &Value| -> Vec<_> {
        health["checks"].as_array().unwrap().iter().map(|check| check["status"].clone()).collect()
    };
    assert_eq!(statuses(&health), ["healthy", "healthy", "unknown"]);
    target.answer(Answer::Status(503));
    let health = app.post(&format!("{path}/check")).await.answered(200).json();
    assert_eq!(statuses(&health), ["degraded", "healthy", "unknown"]);
    assert_eq!((&health["error"], target.times_asked()), (&json!("answered 503 Service Unavailable"), 2));
    app.post("/api/v1/services/01a1fe4d-8e87-70a7-a779-2d8c1d769028/check").await.problem(404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_with_a_check_is_told_by_its_field() {
    let app = TestApp::start().await;
    for (check, field) in [
        (json!({}), "checks[0].kind"),
        (json!({"kind": "ping"}), "checks[0].kind"),
        (json!({"kind": "ttl"}), "checks[0].ttl"),
        (json!({"kind": "ttl", "ttl": "999ms"}), "checks[0].ttl"),
        (json!({"kind": "ttl", "ttl": 15}), "checks[0].ttl"),
        (json!({"kind": "http", "interval": "99ms"}), "checks[0].interval"),
        (json!({"kind": "http", "timeout": "49ms"}), "checks[0].timeout"),
        (json!({"kind": "http", "deregister_after": "999ms"}), "checks[0].deregister_after"),
        (json!({"kind": "http", "unhealthy_after": 0}), "checks[0].unhealthy_after"),
        (json!({"kind": "http", "retries": 11}), "checks[0].retries"),
        (json!({"kind": "http", "initial_status": "maintenance"}), "checks[0].initial_status"),
        (json!({"kind": "http", "path": "up"}), "checks[0].path"),
        (json!({"kind": "http", "path": "/up", "url": "http://a/"}), "checks[0].path"),
        (json!({"kind": "http", "url": "/up"}), "checks[0].url"),
        (json!({"kind": "http", "method": "BREW"}), "checks[0].method"),
        (json!({"kind": "http", "headers": {"Content-Length": "7"}}), "checks[0].headers.Content-Length"),
        (json!({"kind": "http", "headers": {"a b": "7"}}), "checks[0].headers.a b"),
        (json!({"kind": "http", "headers": {"a": "\n"}}), "checks[0].headers.a"),
        (json!({"kind": "http", "expect": {"status": "2x"}}), "checks[0].expect.status"),
        (json!({"kind": "http", "expect": {"status": [200, 700]}}), "checks[0].expect.status[1]"),
        (json!({"kind": "http", "tls": {"ca": "none"}}), "checks[0].tls.ca"),
        (json!({"kind": "http", "tls": "yes"}), "checks[0].tls"),
        (json!({"kind": "tcp", "url": "db"}), "checks[0].url"),
        (json!({"kind": "tcp", "id": ""}), "checks[0].id"),
        (json!({"kind": "script", "script": "../sh"}), "checks[0].script"),
    ] {
        app.register(&checked("bad", 80, &json!([check]))).await.blames(field);
    }
    let twice = json!([{"kind": "tcp"}, {"kind": "http"}, {"kind": "tcp"}]);
    app.register(&checked("bad", 80, &twice)).await.blames("checks[2].id");
    let many: Vec<_> = (0..33).map(|number| json!({"kind": "tcp", "id": number.to_string()})).collect();
    app.register(&checked("bad", 80, &json!(many))).await.blames("checks");
    assert!(app.array("/api/v1/services").await.is_empty());
}
