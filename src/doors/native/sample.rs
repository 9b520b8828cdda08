//! Instances for the tests of this door.

use chrono::DateTime;
use serde_json::Value;
use uuid::Uuid;

use super::registration::{Names, Registration};
use crate::domain::{CheckState, Health, Instance, InstanceId, Key, Status};

/// An instance as a registration makes it.
pub fn instance(number: u128, registration: &Value) -> Instance {
    let Registration { service, key, spec, .. } = Registration::read(registration, Names::Own).unwrap();
    Instance {
        id: InstanceId(Uuid::from_u128(number)),
        key: key.unwrap_or_else(|| Key::address(&spec.host, spec.port)),
        service,
        spec,
        health: Health::of([CheckState::new(Status::Unknown)]),
        overridden: None,
        alert: None,
        registered_at: DateTime::UNIX_EPOCH,
        updated_at: DateTime::UNIX_EPOCH,
        version: 1,
        revision: 1,
    }
}
