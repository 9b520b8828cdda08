//! What somebody may do holds for every item of a list and of a batch, and for names however they are written.

use serde_json::{Value, json};

use super::{Bearer as _, ROOT, forbidden, guarded, rule, token, unauthenticated};
use crate::support::{TestApp, id_of};

fn service(name: &str) -> Value {
    json!({"name": name, "type": "api", "host": "10.0.0.1", "port": 80, "checks": []})
}

async fn with_two_services() -> (TestApp, Value, Value) {
    let app = guarded().await;
    let mine = app.register(&service("mine")).bearer(ROOT).await.answered(201).json();
    let theirs = app.register(&service("theirs")).bearer(ROOT).await.answered(201).json();
    for name in ["mine", "theirs"] {
        app.put(&format!("/api/v1/config/{name}"))
            .bearer(ROOT)
            .json(&json!({"of": name}))
            .await
            .answered(201);
    }
    (app, mine, theirs)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_show_what_one_may_see() {
    let (app, ..) = with_two_services().await;
    let rules =
        [rule("service", "mine", "read"), rule("config", "mine", "read"), rule("audit", "mine", "read")];
    let (_, secret) = token(&app, "reader", &rules).await;
    let get = async |path: &str| app.get(path).bearer(&secret).await.answered(200).json();
    for path in ["/api/v1/services", "/api/v1/services/names", "/api/v1/services?sort=status&limit=10"] {
        let names: Vec<_> =
            get(path).await.as_array().unwrap().iter().map(|item| item["name"].clone()).collect();
        assert_eq!(names, ["mine"], "{path}");
    }
    assert_eq!(get("/api/v1/services?name=theirs").await, json!([]));
    let configs = get("/api/v1/config").await;
    assert_eq!((configs.as_array().unwrap().len(), &configs[0]["service"]), (1, &json!("mine")));
    let events = get("/api/v1/events?limit=1000").await;
    let events = events["events"].as_array().unwrap();
    assert!(!events.is_empty() && events.iter().all(|event| event["service"] == "mine"), "{events:?}");
    assert_eq!(get("/api/v1/discover?names=mine").await["services"]["mine"][0]["name"], "mine");
    for path in
        ["/api/v1/discover?names=mine,theirs", "/discover/theirs", "/discover/Theirs", "/discover/%74heirs"]
    {
        forbidden(&app.get(path).bearer(&secret).await);
    }
    // nothing more, with or without a slash
    for path in ["/metrics", "/api/v1/events/verify", "/api/v1/config/theirs", "/api/v1/config/theirs/"] {
        forbidden(&app.get(path).bearer(&secret).await);
    }
    assert_eq!(get("/api/v1/tokens").await, json!([]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_item_of_a_batch_is_asked_for() {
    let app = guarded().await;
    let (_, secret) = token(&app, "writer", &[rule("service", "mine", "write")]).await;
    let batch = json!([service("mine"), service("theirs"), service("mine-too"), {"name": "theirs"}]);
    let replies =
        app.post("/api/v1/services/register/batch").bearer(&secret).json(&batch).await.answered(200).json();
    let statuses: Vec<_> = replies.as_array().unwrap().iter().map(|item| item["status"].clone()).collect();
    assert_eq!(statuses, [201, 403, 201, 400]);
    assert_eq!(replies[1]["problem"]["code"], "forbidden");
    forbidden(&app.register(&service("theirs")).bearer(&secret).await);
    let all = app.get("/api/v1/services").bearer(ROOT).await.json();
    assert_eq!(all.as_array().unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_belongs_to_its_service() {
    let (app, mine, theirs) = with_two_services().await;
    let (_, secret) = token(&app, "writer", &[rule("service", "mine", "write")]).await;
    let path = |service: &Value, rest: &str| format!("/api/v1/services/{}{rest}", id_of(service));
    app.get(&path(&mine, "")).bearer(&secret).await.answered(200);
    let (_, reader) = token(&app, "reader", &[rule("service", "mine", "read")]).await;
    // on a connection that remembers them it is no other
    for _ in 0..3 {
        app.post(&path(&mine, "/heartbeat")).bearer(&secret).await.answered(204);
        forbidden(&app.post(&path(&theirs, "/heartbeat")).bearer(&secret).await);
        app.get("/discover/mine").bearer(&reader).await.answered(200);
        forbidden(&app.post(&path(&mine, "/heartbeat")).bearer(&reader).await);
    }
    for reply in [
        app.get(&path(&theirs, "")).bearer(&secret).await,
        app.get(&path(&theirs, "/health")).bearer(&secret).await,
        app.post(&path(&theirs, "/heartbeat")).bearer(&secret).await,
        app.post(&path(&theirs, "/health?healthy=false")).bearer(&secret).await,
        app.put(&path(&theirs, "")).bearer(&secret).json(&service("theirs")).await,
        app.patch(&path(&theirs, ""), &json!({"weight": 7})).bearer(&secret).await,
        app.delete(&path(&theirs, "")).bearer(&secret).await,
    ] {
        forbidden(&reply);
    }
    let unknown = format!("/api/v1/services/{}", uuid::Uuid::now_v7());
    assert_eq!(app.get(&unknown).bearer(&secret).await.problem(404)["code"], "no_such_instance");
    app.delete(&path(&mine, "")).bearer(&secret).await.answered(204);
    app.get(&path(&theirs, "")).bearer(ROOT).await.answered(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_nobody_learns_nothing() {
    let (app, mine, _) = with_two_services().await;
    for path in [
        "/nowhere",
        "/api/v1/services/",
        "/api/v1/services/nonsense",
        "/api/v1/services?limit=x",
        "/discover/mine",
        "/discover/a%FF",
        "/api/v1/config/mine?environment=%FF",
    ] {
        unauthenticated(&app.get(path).await, "unauthenticated");
    }
    unauthenticated(&app.post("/api/v1/services/register").body("text/plain", "{").await, "unauthenticated");
    unauthenticated(&app.post("/api/v1/services").await, "unauthenticated");
    unauthenticated(&app.delete(&format!("/api/v1/services/{}", id_of(&mine))).await, "unauthenticated");
    for shown in ["Bearer", "Bearer ", "Basic cm9vdA==", ROOT, "Bearer a b", "Bearer \u{fc}"] {
        let reply = app.get("/discover/mine").header("authorization", shown).await;
        unauthenticated(&reply, "invalid_token");
    }
    unauthenticated(&app.get("/discover/mine").bearer(&ROOT[1..]).await, "invalid_token");
    unauthenticated(&app.get("/discover/mine").bearer(&format!("{ROOT}x")).await, "invalid_token");
    for open in ["/", "/health", "/health/live", "/health/ready", "/openapi.json", "/docs"] {
        app.get(open).await.answered(200);
        app.get(open).bearer("wrong").await.answered(200);
    }
    app.get("/discover/mine").header("authorization", &format!("bearer {ROOT}")).await.answered(200);
    app.get("/nowhere").bearer(ROOT).await.problem(404);
    app.post("/api/v1/services").bearer(ROOT).await.problem(405);
    app.get("/discover/a%FF").bearer(ROOT).await.blames("path");
    let metrics = app.get("/metrics").bearer(ROOT).await.answered(200).text();
    assert!(metrics.contains("rollcall_http_unauthenticated_total{reason=\"malformed\"} "), "{metrics}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_asked_where_authentication_is_off() {
    let app = TestApp::start().await;
    app.register(&service("mine")).bearer("whatever").await.answered(201);
    app.get("/discover/mine").header("authorization", "nonsense").await.answered(200);
    app.get("/metrics").await.answered(200);
}
