//! Registrations to start from.

use serde_json::{Value, json};

/// The least that a registration may be; its health is polled.
pub fn service(name: &str, port: u16) -> Value {
    json!({ "name": name, "type": "api", "host": "127.0.0.1", "port": port })
}

/// One that nobody checks: healthy until somebody reports otherwise.
pub fn static_service(name: &str, port: u16) -> Value {
    json!({ "name": name, "type": "api", "host": "127.0.0.1", "port": port, "checks": [] })
}

/// One whose identity is the client's own.
pub fn keyed(name: &str, key: &str, port: u16) -> Value {
    json!({ "name": name, "key": key, "type": "api", "host": "127.0.0.1", "port": port, "checks": [] })
}
