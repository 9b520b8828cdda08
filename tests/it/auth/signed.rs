//! Services that show a token which somebody has signed for them, or a certificate.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, crypto::sign};
use rollcall::settings::{Jwt, Limits, Secret};
use serde_json::{Value, json};

use super::{Bearer as _, ROOT, forbidden, unauthenticated};
use crate::{
    support::{Database, TestApp},
    tls::Files,
};

const SECRET: &str = "a-secret-of-the-tests-of-32-bytes-or-more";

async fn believing(jwt: Jwt) -> TestApp {
    TestApp::start_with(&Database::fresh().await, |settings| {
        settings.auth = Some(true);
        settings.root_token = Some(Secret::new(ROOT));
        settings.jwt = jwt;
    })
    .await
}

async fn app() -> TestApp {
    believing(Jwt { secret: Some(Secret::new(SECRET)), ..Jwt::default() }).await
}

fn signed_by(secret: &str, header: &Value, claims: &Value) -> String {
    let message = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string())).join(".");
    let key = EncodingKey::from_secret(secret.as_bytes());
    let signature = sign(message.as_bytes(), &key, Algorithm::HS256).unwrap();
    format!("{message}.{signature}")
}

fn in_seconds(seconds: i64) -> i64 {
    chrono::Utc::now().timestamp() + seconds
}

fn claims() -> Value {
    json!({"service_name": "orders", "exp": in_seconds(600)})
}

fn token(claims: &Value) -> String {
    signed_by(SECRET, &json!({"alg": "HS256", "typ": "JWT"}), claims)
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims
}

fn service(name: &str) -> Value {
    json!({"name": name, "type": "api", "host": "10.0.0.1", "port": 80, "checks": []})
}

/// What is for a service alone, tried by whoever shows this.
async fn acts_as_orders(
    app: &TestApp,
    call: impl Fn(crate::support::Call) -> crate::support::Call,
    actor: &str,
) {
    call(app.register(&service("orders"))).await.answered(201);
    call(app.put("/api/v1/config/orders")).json(&json!({"a": 1})).await.answered(201);
    for name in ["orders-2", "order", "billing"] {
        forbidden(&call(app.register(&service(name))).await);
        forbidden(&call(app.put(&format!("/api/v1/config/{name}"))).json(&json!({"a": 1})).await);
    }
    app.register(&service("billing")).bearer(ROOT).await.answered(201);
    for path in
        ["/api/v1/services", "/discover/billing", "/api/v1/config/orders", "/metrics", "/api/v1/events"]
    {
        call(app.get(path)).await.answered(200);
    }
    assert_eq!(call(app.get("/api/v1/services")).await.json().as_array().unwrap().len(), 2);
    let made = json!({"name": "n", "policies": {"rules": []}});
    forbidden(&call(app.post("/api/v1/tokens")).json(&made).await);
    let events = app.get("/api/v1/events?service=orders").bearer(ROOT).await.json();
    assert_eq!(events["events"][0]["actor"], actor);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_names_a_service_writes_it_and_reads_all() {
    let app = app().await;
    let token = token(&claims());
    acts_as_orders(&app, |call| call.bearer(&token), "jwt:orders").await;
    // every connection, and none that has seen it before
    for _ in 0..3 {
        app.get("/discover/orders").bearer(&token).await.answered(200);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forged_and_expired_tokens_are_refused() {
    let app = app().await;
    let good = token(&claims());
    app.get("/api/v1/services").bearer(&good).await.answered(200);
    let [header, payload, signature] = good.split('.').collect::<Vec<_>>()[..] else { panic!() };
    let other = URL_SAFE_NO_PAD.encode(with("service_name", json!("billing")).to_string());
    let first = if signature.starts_with('A') { 'B' } else { 'A' };
    let altered = format!("{first}{}", &signature[1..]);
    let none = |alg: &str| {
        let header = URL_SAFE_NO_PAD.encode(json!({"alg": alg, "typ": "JWT"}).to_string());
        format!("{header}.{payload}.")
    };
    let mut without_end = claims();
    without_end.as_object_mut().unwrap().remove("exp");
    let mut of_nobody = claims();
    of_nobody.as_object_mut().unwrap().remove("service_name");
    for (what, bad) in [
        ("alg none", none("none")),
        ("alg None", none("None")),
        ("alg NONE with a signature", format!("{}{signature}", none("NONE"))),
        ("another algorithm", signed_by(SECRET, &json!({"alg": "HS512"}), &claims())),
        ("key confusion", signed_by(SECRET, &json!({"alg": "RS256"}), &claims())),
        (
            "another key",
            signed_by("another-secret-of-32-bytes-or-more-0123", &json!({"alg": "HS256"}), &claims()),
        ),
        ("an altered payload", format!("{header}.{other}.{signature}")),
        ("an altered signature", format!("{header}.{payload}.{altered}")),
        ("no signature", format!("{header}.{payload}")),
        ("no end", token(&without_end)),
        ("expired", token(&with("exp", json!(in_seconds(-60))))),
        ("not yet", token(&with("nbf", json!(in_seconds(600))))),
        ("an end that is no number", token(&with("exp", json!("tomorrow")))),
        ("of nobody", token(&of_nobody)),
        ("of no service", token(&with("service_name", json!("a service")))),
        ("of nothing", token(&with("service_name", Value::Null))),
    ] {
        let reply = app.get("/api/v1/services").bearer(&bad).await;
        assert_eq!(reply.status, 401, "{what}");
        unauthenticated(&reply, "invalid_token");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_ends_with_its_time_on_a_connection_that_knows_it() {
    let app = app().await;
    // believed for five seconds longer than it says, for clocks that differ
    let soon = token(&with("exp", json!(in_seconds(-3))));
    app.register(&service("a")).bearer(ROOT).await.answered(201);
    app.get("/discover/a").bearer(&soon).await.answered(200);
    crate::support::wait_until(crate::support::PATIENCE, "its end", async || {
        (app.get("/discover/a").bearer(&soon).await.status == 401).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn audience_and_issuer_must_be_ours_where_they_are_set() {
    let app = believing(Jwt {
        secret: Some(Secret::new(SECRET)),
        audience: Some("rollcall".to_owned()),
        issuer: Some("us".to_owned()),
        ..Jwt::default()
    })
    .await;
    for (audience, issuer, status) in [
        (json!("rollcall"), json!("us"), 200),
        (json!(["other", "rollcall"]), json!("us"), 200),
        (json!("other"), json!("us"), 401),
        (json!("rollcall"), json!("them"), 401),
        (Value::Null, json!("us"), 401),
        (json!("rollcall"), Value::Null, 401),
    ] {
        let mut claims = with("aud", audience.clone());
        claims["iss"] = issuer.clone();
        let reply = app.get("/api/v1/services").bearer(&token(&claims)).await;
        assert_eq!(reply.status, status, "{audience} {issuer}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_names_the_service_that_shows_it() {
    let files = Files::new();
    let (tls, orders) = (files.with_clients(false), files.authority.client("orders"));
    let http = files.http(Some(&orders)).build().unwrap();
    let change = |settings: &mut rollcall::settings::Settings| {
        settings.auth = Some(true);
        settings.root_token = Some(Secret::new(ROOT));
        settings.tls = Some(tls);
        settings.limits = Limits::default();
    };
    let app = TestApp::start_over(change, |base| crate::support::Client::over(base, http)).await;
    acts_as_orders(&app, |call| call, "tls:orders").await;
    // what is said in the header comes first, and must be true
    app.register(&service("another")).bearer(ROOT).await.answered(201);
    unauthenticated(&app.get("/api/v1/services").bearer("wrong").await, "invalid_token");
    let nobody = files.http(None).build().unwrap();
    let url = format!("https://127.0.0.1:{}/api/v1/services", app.port());
    assert_eq!(nobody.get(url).send().await.unwrap().status().as_u16(), 401);
}
