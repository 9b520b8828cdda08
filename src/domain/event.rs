//! What has happened: one change of one row, in the past tense, as it stands in the log.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::value::RawValue;
use thiserror::Error;
use uuid::Uuid;

use super::{
    alert::AlertLevel,
    check::CheckId,
    config_entry::{ConfigKey, Content},
    health::{Cause, CheckState, Health, HealthText, Status, is_zero},
    ids::{Environment, InstanceId, Key, Revision, ServiceName, Version},
    instance::Spec,
    overriding::Override,
    policy::Policies,
    registry::{CreateToken, RowKey},
    token::{Digest, TokenId, TokenName},
};

#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    pub revision: Revision,
    pub time: DateTime<Utc>,
    pub actor: Arc<str>,
    pub change: Change,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    Registered { id: InstanceId, service: ServiceName, key: Key, spec: Arc<Spec>, health: Health },
    Updated { id: InstanceId, service: ServiceName, version: Version, spec: Arc<Spec>, health: Health },
    Unregistered { id: InstanceId, service: ServiceName, key: Key, version: Version },
    HealthChanged(HealthChanged),
    Overridden(Overridden),
    AlertRaised(AlertRaised),
    ConfigPut { key: ConfigKey, version: Version, content: Content, comment: Option<Arc<str>> },
    ConfigDeleted { key: ConfigKey, version: Version, comment: Option<Arc<str>> },
    TokenCreated(CreateToken),
    TokenRevoked { id: TokenId, name: TokenName, version: Version },
}

#[derive(Clone, Debug, PartialEq)]
pub struct HealthChanged {
    pub id: InstanceId,
    pub service: ServiceName,
    pub version: Version,
    pub old: Status,
    pub new: Health,
    /// The check that changed, where it has a name.
    pub check: Option<CheckId>,
    pub cause: Cause,
    pub output: Option<Arc<str>>,
}

/// An operator has set something above the checks, or taken it away.
#[derive(Clone, Debug, PartialEq)]
pub struct Overridden {
    pub id: InstanceId,
    pub service: ServiceName,
    pub version: Version,
    /// What the instance was shown as, and what it is shown as from now on.
    pub old: Status,
    pub new: Status,
    pub overriding: Option<Arc<Override>>,
}

/// The load of an instance is worth an alert.
#[derive(Clone, Debug, PartialEq)]
pub struct AlertRaised {
    pub id: InstanceId,
    pub service: ServiceName,
    pub version: Version,
    pub level: AlertLevel,
    pub load: f32,
}

/// An event's data could not be read back.
#[derive(Debug, Error)]
pub enum Unreadable {
    #[error("events of kind '{0}' are not known to this version")]
    Kind(String),
    #[error("an event of kind '{0}' names no instance")]
    NoInstance(String),
    #[error("an event of kind '{0}' names no service")]
    NoService(String),
    #[error("the data of an event of kind '{kind}' cannot be read")]
    Data { kind: String, source: serde_json::Error },
}

impl Change {
    pub fn row(&self) -> RowKey {
        match self {
            Self::Registered { id, .. } | Self::Updated { id, .. } | Self::Unregistered { id, .. } => {
                RowKey::Instance(*id)
            }
            Self::HealthChanged(change) => RowKey::Instance(change.id),
            Self::Overridden(change) => RowKey::Instance(change.id),
            Self::AlertRaised(alert) => RowKey::Instance(alert.id),
            Self::ConfigPut { key, .. } | Self::ConfigDeleted { key, .. } => RowKey::Config(key.clone()),
            Self::TokenCreated(token) => RowKey::Token(token.id),
            Self::TokenRevoked { id, .. } => RowKey::Token(*id),
        }
    }

    pub fn kind(&self) -> &'static str {
        match self {
            Self::Registered { .. } => "service_registered",
            Self::Updated { .. } => "service_updated",
            Self::Unregistered { .. } => "service_unregistered",
            Self::HealthChanged(change) if change.old != change.new.status() => "status_change",
            Self::HealthChanged(change) if change.new.states().len() > 1 => "check_changed",
            Self::HealthChanged(_) => "failure_counted",
            Self::Overridden(change) if change.overriding.is_some() => "override_set",
            Self::Overridden(_) => "override_ended",
            Self::AlertRaised(_) => "load_alert",
            Self::ConfigPut { .. } => "config_updated",
            Self::ConfigDeleted { .. } => "config_deleted",
            Self::TokenCreated(_) => "token_created",
            Self::TokenRevoked { .. } => "token_revoked",
        }
    }

    /// The service that it is about, if it is about one.
    pub fn service(&self) -> Option<&ServiceName> {
        match self {
            Self::Registered { service, .. }
            | Self::Updated { service, .. }
            | Self::Unregistered { service, .. } => Some(service),
            Self::HealthChanged(change) => Some(&change.service),
            Self::Overridden(change) => Some(&change.service),
            Self::AlertRaised(alert) => Some(&alert.service),
            Self::ConfigPut { key, .. } | Self::ConfigDeleted { key, .. } => Some(&key.service),
            Self::TokenCreated(_) | Self::TokenRevoked { .. } => None,
        }
    }

    pub fn instance(&self) -> Option<InstanceId> {
        match self.row() {
            RowKey::Instance(id) => Some(id),
            RowKey::Config(_) | RowKey::Token(_) => None,
        }
    }

    /// What it says of an instance, if it is about that.
    pub fn spec(&self) -> Option<&Arc<Spec>> {
        match self {
            Self::Registered { spec, .. } | Self::Updated { spec, .. } => Some(spec),
            _ => None,
        }
    }

    /// The data as the log keeps it. `spec_text` is the specification as JSON, where it is at hand already.
    pub fn data(&self, spec_text: Option<&RawValue>) -> Result<String, serde_json::Error> {
        let service_name = self.service().map_or("", ServiceName::as_str);
        match self {
            Self::Registered { key, spec, health, .. } => serde_json::to_string(&RegisteredData {
                service_name,
                version: 1,
                key: key.clone(),
                health: health.clone(),
                instance: SpecJson::of(spec, spec_text),
            }),
            Self::Updated { version, spec, health, .. } => serde_json::to_string(&UpdatedData {
                service_name,
                version: *version,
                health: health.clone(),
                instance: SpecJson::of(spec, spec_text),
            }),
            Self::Unregistered { key, version, .. } => {
                serde_json::to_string(&UnregisteredData { service_name, version: *version, key: key.clone() })
            }
            Self::HealthChanged(change) => {
                let HealthText { status, failures, successes, changes, checks } = change.new.clone().into();
                serde_json::to_string(&HealthData {
                    service_name,
                    version: change.version,
                    check: change.check.clone(),
                    old_status: change.old,
                    new_status: status,
                    failures,
                    successes,
                    changes,
                    checks,
                    cause: change.cause,
                    output: change.output.clone(),
                })
            }
            Self::Overridden(change) => serde_json::to_string(&OverrideData {
                service_name,
                version: change.version,
                old_status: change.old,
                new_status: change.new,
                overriding: change.overriding.clone(),
            }),
            Self::AlertRaised(AlertRaised { version, level, load, .. }) => {
                serde_json::to_string(&AlertData {
                    service_name,
                    version: *version,
                    level: *level,
                    load: *load,
                })
            }
            Self::ConfigPut { key, version, content, comment } => serde_json::to_string(&ConfigData {
                service_name,
                environment: key.environment.clone(),
                version: *version,
                content: Some(content.clone()),
                comment: comment.clone(),
            }),
            Self::ConfigDeleted { key, version, comment } => serde_json::to_string(&ConfigData {
                service_name,
                environment: key.environment.clone(),
                version: *version,
                content: None,
                comment: comment.clone(),
            }),
            Self::TokenCreated(CreateToken { id, name, policies, digest, expires_at }) => {
                serde_json::to_string(&TokenCreatedData {
                    id: *id,
                    name: name.clone(),
                    version: 1,
                    policies: policies.clone(),
                    expires_at: *expires_at,
                    digest: *digest,
                })
            }
            Self::TokenRevoked { id, name, version } => {
                serde_json::to_string(&TokenRevokedData { id: *id, name: name.clone(), version: *version })
            }
        }
    }

    /// The inverse of `kind`, `service`, `instance` and `data`.
    pub fn read(
        kind: &str,
        service: Option<&str>,
        instance: Option<Uuid>,
        data: &str,
    ) -> Result<Self, Unreadable> {
        let fault = |source: serde_json::Error| Unreadable::Data { kind: kind.to_owned(), source };
        match kind {
            "token_created" => {
                let data: TokenCreatedData = parse(data).map_err(fault)?;
                let TokenCreatedData { id, name, policies, digest, expires_at, .. } = data;
                return Ok(Self::TokenCreated(CreateToken { id, name, policies, digest, expires_at }));
            }
            "token_revoked" => {
                let TokenRevokedData { id, name, version } = parse(data).map_err(fault)?;
                return Ok(Self::TokenRevoked { id, name, version });
            }
            _ => {}
        }
        let service = service.ok_or_else(|| Unreadable::NoService(kind.to_owned()))?;
        let service =
            ServiceName::parse(service).map_err(|fault_| fault(serde::de::Error::custom(fault_)))?;
        let id = || instance.map(InstanceId).ok_or_else(|| Unreadable::NoInstance(kind.to_owned()));
        Ok(match kind {
            "service_registered" => {
                let data: RegisteredData<&str, Arc<Spec>> = parse(data).map_err(fault)?;
                Self::Registered {
                    id: id()?,
                    service,
                    key: data.key,
                    spec: data.instance,
                    health: data.health,
                }
            }
            "service_updated" => {
                let data: UpdatedData<&str, Arc<Spec>> = parse(data).map_err(fault)?;
                let UpdatedData { version, health, instance: spec, .. } = data;
                Self::Updated { id: id()?, service, version, spec, health }
            }
            "service_unregistered" => {
                let data: UnregisteredData<&str> = parse(data).map_err(fault)?;
                Self::Unregistered { id: id()?, service, key: data.key, version: data.version }
            }
            "status_change" | "failure_counted" | "check_changed" => {
                let data: HealthData<&str> = parse(data).map_err(fault)?;
                let HealthData { version, check, old_status: old, cause, output, .. } = data;
                let HealthData { new_status: status, failures, successes, changes, checks, .. } = data;
                let new = HealthText { status, failures, successes, changes, checks }.into();
                let id = id()?;
                Self::HealthChanged(HealthChanged { id, service, version, old, new, check, cause, output })
            }
            "override_set" | "override_ended" => {
                let data: OverrideData<&str> = parse(data).map_err(fault)?;
                let OverrideData { version, old_status: old, new_status: new, overriding, .. } = data;
                Self::Overridden(Overridden { id: id()?, service, version, old, new, overriding })
            }
            "load_alert" => {
                let AlertData::<&str> { version, level, load, .. } = parse(data).map_err(fault)?;
                Self::AlertRaised(AlertRaised { id: id()?, service, version, level, load })
            }
            "config_updated" | "config_deleted" => {
                let data: ConfigData<&str> = parse(data).map_err(fault)?;
                let ConfigData { environment, version, content, comment, .. } = data;
                let key = ConfigKey { service, environment };
                match content {
                    Some(content) => Self::ConfigPut { key, version, content, comment },
                    None => Self::ConfigDeleted { key, version, comment },
                }
            }
            other => return Err(Unreadable::Kind(other.to_owned())),
        })
    }
}

fn parse<'a, T: Deserialize<'a>>(data: &'a str) -> Result<T, serde_json::Error> {
    serde_json::from_str(data)
}

/// A specification as it stands in the log and in its row.
pub fn read_spec<T: DeserializeOwned>(text: &str) -> Result<T, serde_json::Error> {
    serde_json::from_str(text)
}

#[derive(Serialize)]
#[serde(untagged)]
enum SpecJson<'a> {
    Text(&'a RawValue),
    Spec(&'a Spec),
}

impl<'a> SpecJson<'a> {
    fn of(spec: &'a Spec, text: Option<&'a RawValue>) -> Self {
        text.map_or(Self::Spec(spec), Self::Text)
    }
}

#[derive(Serialize, Deserialize)]
struct RegisteredData<Name, Instance> {
    service_name: Name,
    version: Version,
    key: Key,
    #[serde(flatten)]
    health: Health,
    instance: Instance,
}

#[derive(Serialize, Deserialize)]
struct UpdatedData<Name, Instance> {
    service_name: Name,
    version: Version,
    #[serde(flatten)]
    health: Health,
    instance: Instance,
}

#[derive(Serialize, Deserialize)]
struct UnregisteredData<Name> {
    service_name: Name,
    version: Version,
    key: Key,
}

#[derive(Serialize, Deserialize)]
struct HealthData<Name> {
    service_name: Name,
    version: Version,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    check: Option<CheckId>,
    old_status: Status,
    new_status: Status,
    failures: u16,
    #[serde(default, skip_serializing_if = "is_zero")]
    successes: u16,
    changes: u32,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    checks: Vec<CheckState>,
    cause: Cause,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    output: Option<Arc<str>>,
}

#[derive(Serialize, Deserialize)]
struct OverrideData<Name> {
    service_name: Name,
    version: Version,
    old_status: Status,
    new_status: Status,
    #[serde(rename = "override")]
    overriding: Option<Arc<Override>>,
}

#[derive(Serialize, Deserialize)]
struct AlertData<Name> {
    service_name: Name,
    version: Version,
    level: AlertLevel,
    load: f32,
}

#[derive(Serialize, Deserialize)]
struct TokenCreatedData {
    id: TokenId,
    name: TokenName,
    version: Version,
    policies: Policies,
    expires_at: Option<DateTime<Utc>>,
    /// For the replicas. The audit does not show it.
    digest: Digest,
}

#[derive(Serialize, Deserialize)]
struct TokenRevokedData {
    id: TokenId,
    name: TokenName,
    version: Version,
}

#[derive(Serialize, Deserialize)]
struct ConfigData<Name> {
    service_name: Name,
    environment: Environment,
    version: Version,
    content: Option<Content>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    comment: Option<Arc<str>>,
}
