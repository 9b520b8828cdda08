//! Checks of every kind, each against a real server of its kind.

mod alerts;
mod grpc;
mod history;
mod http;
mod listed;
mod overrides;
mod removals;
mod scripts;
mod sharing;
mod suspicion;
mod targets;
mod tcp;
mod ttl;

use serde_json::{Value, json};

use crate::support::{PATIENCE, TestApp, service, wait_until};

/// A registration with these checks.
fn checked(name: &str, port: u16, checks: &Value) -> Value {
    let mut service = service(name, port);
    service["checks"] = checks.clone();
    service
}

/// A check that runs often, and needs two results in a row for everything.
fn quick(kind: &str, own: Value) -> Value {
    let mut check = json!({
        "kind": kind, "interval": "100ms", "timeout": "1s",
        "degraded_after": 1, "unhealthy_after": 2, "healthy_after": 2,
    });
    let Value::Object(own) = own else { panic!("an object") };
    check.as_object_mut().unwrap().extend(own);
    check
}

/// Waits for a status, and gives the health as it is then.
async fn becomes(app: &TestApp, path: &str, status: &str) -> Value {
    wait_until(PATIENCE, &format!("{path} becomes {status}"), async || {
        let health = app.body(&format!("{path}/health")).await;
        (health["status"] == status).then_some(health)
    })
    .await
}
