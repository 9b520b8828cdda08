//! Tokens: made once, told once, revoked everywhere.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{Bearer as _, ROOT, ask_token, forbidden, guarded, guarded_on, rule, token, unauthenticated};
use crate::support::{Database, PATIENCE, id_of, is_time, wait_until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_told_once_and_lets_its_bearer_in() {
    let app = guarded().await;
    let body =
        json!({"name": "orders", "policies": {"rules": [rule("service", "Orders", "write")]}, "ttl": "1h"});
    let made = app.post("/api/v1/tokens").bearer(ROOT).json(&body).await.answered(201);
    assert_eq!(made.header("cache-control"), "no-store");
    let made = made.json();
    let secret = made["secret"].as_str().unwrap();
    assert!(secret.len() >= 64 && is_time(&made["expires_at"]) && is_time(&made["created_at"]), "{made}");
    assert_eq!((&made["name"], &made["created_by"]), (&json!("orders"), &json!("root")));
    assert_eq!(made["policies"], json!({"rules": [rule("service", "orders", "write")]}));

    let listed = app.get("/api/v1/tokens").bearer(ROOT).await.answered(200);
    assert!(!listed.text().contains(secret), "a secret is told once");
    assert_eq!(
        (listed.json()[0]["id"].clone(), listed.json().as_array().unwrap().len()),
        (made["id"].clone(), 1)
    );

    let service = json!({"name": "orders", "type": "api", "host": "10.0.0.1", "port": 80});
    let registered = app.register(&service).bearer(secret).await.answered(201).json();
    let found = app.get("/discover/orders?status=unknown").bearer(secret).await.answered(200).json();
    assert_eq!(found[0]["id"], id_of(&registered));

    // what the log says of it names its maker and its bearer, and nothing that leads to the secret
    let events = app.get("/api/v1/events").bearer(ROOT).await.answered(200);
    assert!(!events.text().contains("digest"), "{}", events.text());
    let events = events.json();
    let told: Vec<_> =
        events["events"].as_array().unwrap().iter().map(|e| (&e["kind"], &e["actor"])).collect();
    assert_eq!(
        told,
        [(&json!("token_created"), &json!("root")), (&json!("service_registered"), &json!("token:orders"))]
    );
    assert_eq!(app.get("/api/v1/events/verify").bearer(ROOT).await.answered(200).json()["ok"], true);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_token_is_refused_on_every_replica_within_a_second() {
    let database = Database::fresh().await;
    let (one, other) = (guarded_on(&database).await, guarded_on(&database).await);
    let (id, secret) = token(&one, "soon gone", &[rule("service", "", "write")]).await;
    let lists =
        async |app: &crate::support::TestApp| app.get("/api/v1/services").bearer(&secret).await.status;
    wait_until(PATIENCE, "the other replica knows it", async || (lists(&other).await == 200).then_some(()))
        .await;
    // the connections remember who spoke last: that must not outlive the token
    let service = json!({"name": "a", "type": "api", "host": "10.0.0.1", "port": 80, "checks": []});
    let id_of_service = one.register(&service).bearer(&secret).await.answered(201).json()["id"].clone();
    let heartbeat = format!("/api/v1/services/{}/heartbeat", id_of_service.as_str().unwrap());
    for app in [&one, &other] {
        wait_until(PATIENCE, "discovery", async || {
            (app.get("/discover/a").bearer(&secret).await.status == 200).then_some(())
        })
        .await;
        app.post(&heartbeat).bearer(&secret).await.answered(204);
    }
    let revoked_at = Instant::now();
    one.delete(&format!("/api/v1/tokens/{id}")).bearer(ROOT).await.answered(204).is_empty();
    unauthenticated(&one.get("/discover/a").bearer(&secret).await, "invalid_token");
    wait_until(Duration::from_secs(1), "the other replica refuses it", async || {
        (other.get("/discover/a").bearer(&secret).await.status == 401).then_some(())
    })
    .await;
    assert!(revoked_at.elapsed() < Duration::from_secs(1));
    for app in [&one, &other] {
        unauthenticated(&app.post(&heartbeat).bearer(&secret).await, "invalid_token");
        unauthenticated(&app.register(&service).bearer(&secret).await, "invalid_token");
        let gone = app.delete(&format!("/api/v1/tokens/{id}")).bearer(ROOT).await;
        assert_eq!(gone.problem(404)["code"], "no_such_token");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_outlive_a_restart_and_end_with_their_time() {
    let database = Database::fresh().await;
    let app = guarded_on(&database).await;
    let (_, lasting) = token(&app, "lasting", &[rule("service", "", "read")]).await;
    let body = json!({"name": "short", "policies": {"rules": [rule("service", "", "read")]}, "ttl": "1s"});
    let made = app.post("/api/v1/tokens").bearer(ROOT).json(&body).await.answered(201).json();
    let short = made["secret"].as_str().unwrap();
    app.get("/api/v1/services").bearer(short).await.answered(200);
    app.stop().await;
    let app = guarded_on(&database).await;
    app.get("/api/v1/services").bearer(&lasting).await.answered(200);
    wait_until(PATIENCE, "its time is over", async || {
        (app.get("/api/v1/services").bearer(short).await.status == 401).then_some(())
    })
    .await;
    app.get("/api/v1/services").bearer(&lasting).await.answered(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_makes_a_token_that_may_do_more_than_he() {
    let app = guarded().await;
    let rules = [
        rule("token", "ci-", "write"),
        rule("service", "orders", "write"),
        rule("service", "orders-x", "deny"),
    ];
    let (_, maker) = token(&app, "maker", &rules).await;
    for (name, rules, good) in [
        ("ci-1", vec![rule("service", "orders-7", "write")], true),
        ("ci-2", vec![rule("service", "orders", "write"), rule("service", "orders-x", "deny")], false),
        ("ci-3", vec![rule("service", "", "read")], false),
        ("ci-4", vec![rule("config", "orders", "read")], false),
        ("ci-5", vec![rule("token", "ci-", "write")], true),
        ("ci-6", vec![], true),
        ("other", vec![], false),
    ] {
        let reply = ask_token(&app, &maker, name, &rules).await;
        if good {
            reply.answered(201);
        } else {
            forbidden(&reply);
        }
    }
    // it sees and revokes those that it may
    let (id, _) = token(&app, "of root", &[]).await;
    forbidden(&app.delete(&format!("/api/v1/tokens/{id}")).bearer(&maker).await);
    let listed = app.get("/api/v1/tokens").bearer(&maker).await.answered(200).json();
    let names: Vec<_> =
        listed.as_array().unwrap().iter().map(|token| token["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["ci-1", "ci-5", "ci-6"]);
    for token in listed.as_array().unwrap() {
        app.delete(&format!("/api/v1/tokens/{}", id_of(token))).bearer(&maker).await.answered(204);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeated_request_for_a_token_makes_one() {
    let app = guarded().await;
    let ask = || ask_token(&app, ROOT, "once", &[]).header("idempotency-key", "k-1");
    let first = ask().await.answered(201).json();
    let second = ask().await.answered(201).json();
    assert_eq!(first["id"], second["id"]);
    assert!(first["secret"].is_string() && second["secret"].is_null(), "{second}");
    assert_eq!(app.get("/api/v1/tokens").bearer(ROOT).await.json().as_array().unwrap().len(), 1);
    let revoke = || {
        let path = format!("/api/v1/tokens/{}", id_of(&first));
        app.delete(&path).bearer(ROOT).header("idempotency-key", "k-2")
    };
    revoke().await.answered(204);
    revoke().await.answered(204);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_tokens_are_refused_with_their_fields() {
    let app = guarded().await;
    let post = |body| app.post("/api/v1/tokens").bearer(ROOT).json(&body);
    for (body, field) in [
        (json!({}), "name"),
        (json!({"name": "n"}), "policies"),
        (json!({"name": "n", "policies": {"rules": [{"resource": "x"}]}}), "policies.rules[0].resource"),
        (json!({"name": "n", "policies": {"rules": []}, "ttl": "soon"}), "ttl"),
    ] {
        post(body).await.blames(field);
    }
    assert_eq!(
        app.delete("/api/v1/tokens/nonsense").bearer(ROOT).await.problem(404)["code"],
        "no_such_token"
    );
}
