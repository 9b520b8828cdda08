//! Who may do what: every route against everybody who could ask.

mod matrix;
mod rights;
mod secrets;
mod signed;
mod tokens;

use serde_json::{Value, json};

use crate::support::{Call, Client, Database, Reply, TestApp};
use std::sync::Arc;

pub const ROOT: &str = "root-token-of-the-tests-0123456789abcdef";

/// A server that asks for tokens, on a fresh database.
pub async fn guarded() -> TestApp {
    guarded_on(&Database::fresh().await).await
}

pub async fn guarded_on(database: &Arc<Database>) -> TestApp {
    TestApp::start_with(database, |settings| {
        settings.auth = Some(true);
        settings.root_token = Some(rollcall::settings::Secret::new(ROOT));
    })
    .await
}

pub trait Bearer {
    fn bearer(self, token: &str) -> Self;
}

impl Bearer for Call {
    fn bearer(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }
}

pub fn rule(resource: &str, prefix: &str, access: &str) -> Value {
    json!({"resource": resource, "prefix": prefix, "access": access})
}

/// Asks for a token as whoever shows `by`.
pub fn ask_token(client: &Client, by: &str, name: &str, rules: &[Value]) -> Call {
    let body = json!({"name": name, "policies": {"rules": rules}});
    client.post("/api/v1/tokens").bearer(by).json(&body)
}

/// A token that root has made: its id and its secret.
pub async fn token(client: &Client, name: &str, rules: &[Value]) -> (String, String) {
    let made = ask_token(client, ROOT, name, rules).await.answered(201).json();
    let text = |field: &str| made[field].as_str().expect("a text").to_owned();
    (text("id"), text("secret"))
}

#[track_caller]
pub fn unauthenticated(reply: &Reply, code: &str) {
    let problem = reply.problem(401);
    assert_eq!(problem["code"], code);
    assert!(reply.header("www-authenticate").starts_with("Bearer"));
}

#[track_caller]
pub fn forbidden(reply: &Reply) {
    assert_eq!(reply.problem(403)["code"], "forbidden");
}
