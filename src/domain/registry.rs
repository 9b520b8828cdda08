//! `decide` says what a command changes; `evolve` says what a row is after a change.
//!
//! Both are total and pure. `decide` reads the state through `State` alone, so that the writer can note which rows
//! a decision rests on and have the database guard exactly those.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{
    alert::{Alert, AlertLevel},
    check::CheckId,
    config_entry::{ConfigEntry, ConfigKey, Content},
    event::{AlertRaised, Change, Event, HealthChanged, Overridden},
    health::{Cause, Seen},
    ids::{InstanceId, Key, ServiceName, Version},
    instance::{Instance, Judged, Spec},
    overriding::Override,
    policy::Policies,
    removal::Expire,
    token::{Digest, Token, TokenId, TokenName},
};

/// What can be asked of the registry, by whichever door.
#[derive(Clone, Debug)]
pub enum Command {
    RegisterInstance(RegisterInstance),
    UpdateInstance(UpdateInstance),
    UnregisterInstance { id: InstanceId, precondition: Precondition },
    Expire(Expire),
    ReportHealth(ReportHealth),
    SetOverride { id: InstanceId, overriding: Override, precondition: Precondition },
    EndOverride { id: InstanceId, precondition: Precondition },
    RaiseAlert { id: InstanceId, load: f32, now: DateTime<Utc> },
    PutConfig { key: ConfigKey, content: Content, comment: Option<Arc<str>>, precondition: Precondition },
    DeleteConfig { key: ConfigKey, comment: Option<Arc<str>>, precondition: Precondition },
    CreateToken(CreateToken),
    RevokeToken { id: TokenId },
}

impl Command {
    /// The service and the specification that it is to have.
    pub fn specified(&mut self) -> Option<(&ServiceName, &mut Arc<Spec>)> {
        match self {
            Self::RegisterInstance(RegisterInstance { service, spec, .. })
            | Self::UpdateInstance(UpdateInstance { service, spec, .. }) => Some((service, spec)),
            _ => None,
        }
    }

    /// The check whose silence it rests on, and until when it must have lasted.
    pub fn silence(&self) -> Option<(InstanceId, &CheckId, DateTime<Utc>)> {
        match self {
            Self::ReportHealth(ReportHealth { id, about: About::Judged(judged), unless_heard, .. }) => {
                Some((*id, &judged.check.id, (*unless_heard)?))
            }
            Self::Expire(Expire { id, unless_heard: Some((check, until)), .. }) => Some((*id, check, *until)),
            _ => None,
        }
    }

    /// Whether this is the specification in it.
    pub fn specifies(&self, spec: Option<&Arc<Spec>>) -> bool {
        match (self, spec) {
            (
                Self::RegisterInstance(RegisterInstance { spec: own, .. })
                | Self::UpdateInstance(UpdateInstance { spec: own, .. }),
                Some(spec),
            ) => Arc::ptr_eq(own, spec),
            _ => false,
        }
    }
}

#[derive(Clone, Debug)]
pub struct RegisterInstance {
    /// The id it gets when it is new.
    pub new_id: InstanceId,
    pub service: ServiceName,
    /// The client's own key; none given, its address is its identity.
    pub key: Option<Key>,
    pub spec: Arc<Spec>,
    pub precondition: Precondition,
}

#[derive(Clone, Debug)]
pub struct UpdateInstance {
    pub id: InstanceId,
    pub service: ServiceName,
    pub key: Option<Key>,
    pub spec: Arc<Spec>,
    pub precondition: Precondition,
}

#[derive(Clone, Debug)]
pub struct ReportHealth {
    pub id: InstanceId,
    pub about: About,
    pub seen: Seen,
    pub cause: Cause,
    pub output: Option<Arc<str>>,
    /// It does not hold if the check was heard of after this.
    pub unless_heard: Option<DateTime<Utc>>,
}

/// Which check of an instance a result is of.
#[derive(Clone, Debug)]
pub enum About {
    /// Nothing was said: the first.
    First,
    Check(CheckId),
    /// A verdict of the checker.
    Judged(Judged),
}

impl About {
    /// Its place among the checks of a specification. None for a verdict that is about nothing any more.
    pub fn place(&self, spec: &Spec) -> Result<Option<usize>, Refusal> {
        match self {
            Self::First => Ok(Some(0)),
            Self::Check(id) => spec.place_of(id).map(Some).ok_or(Refusal::NoSuchCheck),
            Self::Judged(judged) => Ok(spec.place_of_judged(judged)),
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct CreateToken {
    pub id: TokenId,
    pub name: TokenName,
    pub policies: Policies,
    pub digest: Digest,
    pub expires_at: Option<DateTime<Utc>>,
}

/// What the caller knows, or demands, of the row it changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Precondition {
    #[default]
    None,
    Exists,
    Absent,
    Version(Vec<Version>),
}

impl Precondition {
    fn check(&self, current: Option<Version>) -> Result<(), Refusal> {
        let met = match self {
            Self::None => true,
            Self::Exists => current.is_some(),
            Self::Absent => current.is_none(),
            Self::Version(wanted) => current.is_some_and(|version| wanted.contains(&version)),
        };
        if met { Ok(()) } else { Err(Refusal::PreconditionFailed { current }) }
    }
}

/// Why a command changes nothing, though it could be understood.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    #[error("there is no such service instance")]
    NoSuchInstance,
    #[error("the instance has no such check")]
    NoSuchCheck,
    #[error("there is no such configuration")]
    NoSuchConfig,
    #[error("there is no such token")]
    NoSuchToken,
    #[error("what it rests on has been overtaken")]
    Overtaken,
    #[error("the precondition does not hold")]
    PreconditionFailed { current: Option<Version> },
    #[error("'{field}' is part of the instance's identity and cannot be changed")]
    IdentityChanged { field: &'static str },
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RowKey {
    Instance(InstanceId),
    Config(ConfigKey),
    Token(TokenId),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Row {
    Instance(Arc<Instance>),
    Config(Arc<ConfigEntry>),
    Token(Arc<Token>),
}

impl Row {
    pub fn version(&self) -> Version {
        match self {
            Self::Instance(instance) => instance.version,
            Self::Config(entry) => entry.version,
            Self::Token(token) => token.version,
        }
    }
}

/// The state that a decision rests on.
pub trait State {
    fn instance(&self, id: InstanceId) -> Option<Arc<Instance>>;
    fn instance_at(&self, service: &ServiceName, key: &Key) -> Option<Arc<Instance>>;
    /// The row of a configuration, a deleted one's too.
    fn config(&self, key: &ConfigKey) -> Option<Arc<ConfigEntry>>;
    fn token(&self, id: TokenId) -> Option<Arc<Token>>;
}

/// The changes a command makes: none where all is already as it asks.
pub fn decide(state: &impl State, command: &Command) -> Result<Option<Change>, Refusal> {
    match command {
        Command::RegisterInstance(command) => register(state, command),
        Command::UpdateInstance(command) => update(state, command),
        Command::UnregisterInstance { id, precondition } => unregister(state, *id, precondition),
        Command::Expire(Expire { id, version, .. }) => {
            unregister(state, *id, &Precondition::Version(vec![*version]))
        }
        Command::ReportHealth(command) => report_health(state, command),
        Command::SetOverride { id, overriding, precondition } => {
            change_override(state, *id, Some(overriding), precondition)
        }
        Command::EndOverride { id, precondition } => change_override(state, *id, None, precondition),
        Command::RaiseAlert { id, load, now } => raise_alert(state, *id, *load, *now),
        Command::PutConfig { key, content, comment, precondition } => {
            put_config(state, key, content, comment.as_ref(), precondition)
        }
        Command::DeleteConfig { key, comment, precondition } => {
            delete_config(state, key, comment.as_ref(), precondition)
        }
        Command::CreateToken(command) => Ok(Some(Change::TokenCreated(command.clone()))),
        Command::RevokeToken { id } => revoke_token(state, *id),
    }
}

fn register(state: &impl State, command: &RegisterInstance) -> Result<Option<Change>, Refusal> {
    let RegisterInstance { new_id, service, key, spec, precondition } = command;
    let key = key.clone().unwrap_or_else(|| Key::address(&spec.host, spec.port));
    let current = state.instance_at(service, &key);
    precondition.check(current.as_ref().map(|instance| instance.version))?;
    Ok(match current {
        Some(instance) => replace_spec(&instance, spec),
        None => Some(Change::Registered {
            id: *new_id,
            service: service.clone(),
            key,
            spec: spec.clone(),
            health: spec.checks.first_health(),
        }),
    })
}

fn update(state: &impl State, command: &UpdateInstance) -> Result<Option<Change>, Refusal> {
    let UpdateInstance { id, service, key, spec, precondition } = command;
    let instance = state.instance(*id).ok_or(Refusal::NoSuchInstance)?;
    precondition.check(Some(instance.version))?;
    let identity_changed = |field| Err(Refusal::IdentityChanged { field });
    if *service != instance.service {
        return identity_changed("name");
    }
    if key.as_ref().is_some_and(|key| key.as_str() != instance.key.as_str()) {
        return identity_changed("key");
    }
    if !instance.key.is_given() && spec.host != instance.spec.host {
        return identity_changed("host");
    }
    if !instance.key.is_given() && spec.port != instance.spec.port {
        return identity_changed("port");
    }
    Ok(replace_spec(&instance, spec))
}

/// Health outlives a new specification as far as its checks do, and what an operator set is left alone.
fn replace_spec(instance: &Instance, spec: &Arc<Spec>) -> Option<Change> {
    if *instance.spec == **spec {
        return None;
    }
    Some(Change::Updated {
        id: instance.id,
        service: instance.service.clone(),
        version: instance.version + 1,
        spec: spec.clone(),
        health: spec.health_after(&instance.spec, &instance.health),
    })
}

fn unregister(
    state: &impl State,
    id: InstanceId,
    precondition: &Precondition,
) -> Result<Option<Change>, Refusal> {
    let instance = state.instance(id).ok_or(Refusal::NoSuchInstance)?;
    precondition.check(Some(instance.version))?;
    Ok(Some(Change::Unregistered {
        id,
        service: instance.service.clone(),
        key: instance.key.clone(),
        version: instance.version + 1,
    }))
}

fn report_health(state: &impl State, command: &ReportHealth) -> Result<Option<Change>, Refusal> {
    let instance = state.instance(command.id).ok_or(Refusal::NoSuchInstance)?;
    let Some(place) = command.about.place(&instance.spec)? else { return Ok(None) };
    let thresholds = instance.spec.checks.thresholds(place);
    let next = instance.health.state(place).and_then(|check| check.after(command.seen, thresholds));
    Ok(next.map(|next| {
        Change::HealthChanged(HealthChanged {
            id: instance.id,
            service: instance.service.clone(),
            version: instance.version + 1,
            old: instance.health.status(),
            new: instance.health.with(place, next),
            check: instance.spec.id_at(place),
            cause: command.cause,
            output: command.output.clone(),
        })
    }))
}

fn change_override(
    state: &impl State,
    id: InstanceId,
    overriding: Option<&Override>,
    precondition: &Precondition,
) -> Result<Option<Change>, Refusal> {
    let instance = state.instance(id).ok_or(Refusal::NoSuchInstance)?;
    precondition.check(Some(instance.version))?;
    if instance.overridden.as_deref() == overriding {
        return Ok(None);
    }
    Ok(Some(Change::Overridden(Overridden {
        id,
        service: instance.service.clone(),
        version: instance.version + 1,
        old: instance.status(),
        new: overriding.map_or_else(|| instance.health.status(), |above| above.status.status()),
        overriding: overriding.cloned().map(Arc::new),
    })))
}

fn raise_alert(
    state: &impl State,
    id: InstanceId,
    load: f32,
    now: DateTime<Utc>,
) -> Result<Option<Change>, Refusal> {
    let instance = state.instance(id).ok_or(Refusal::NoSuchInstance)?;
    let is_quiet = instance.alert.as_ref().is_some_and(|alert| alert.is_recent(now));
    let level = AlertLevel::of(load).filter(|_| !is_quiet);
    let (service, version) = (instance.service.clone(), instance.version + 1);
    Ok(level.map(|level| Change::AlertRaised(AlertRaised { id, service, version, level, load })))
}

fn put_config(
    state: &impl State,
    key: &ConfigKey,
    content: &Content,
    comment: Option<&Arc<str>>,
    precondition: &Precondition,
) -> Result<Option<Change>, Refusal> {
    let row = state.config(key);
    let live = row.as_ref().filter(|entry| entry.content.is_some());
    precondition.check(live.map(|entry| entry.version))?;
    if live.is_some_and(|entry| entry.content.as_ref() == Some(content)) {
        return Ok(None);
    }
    Ok(Some(Change::ConfigPut {
        key: key.clone(),
        version: row.as_ref().map_or(1, |entry| entry.version + 1),
        content: content.clone(),
        comment: comment.cloned(),
    }))
}

fn delete_config(
    state: &impl State,
    key: &ConfigKey,
    comment: Option<&Arc<str>>,
    precondition: &Precondition,
) -> Result<Option<Change>, Refusal> {
    let entry = state.config(key).filter(|entry| entry.content.is_some()).ok_or(Refusal::NoSuchConfig)?;
    precondition.check(Some(entry.version))?;
    Ok(Some(Change::ConfigDeleted {
        key: key.clone(),
        version: entry.version + 1,
        comment: comment.cloned(),
    }))
}

fn revoke_token(state: &impl State, id: TokenId) -> Result<Option<Change>, Refusal> {
    let token = state.token(id).ok_or(Refusal::NoSuchToken)?;
    Ok(Some(Change::TokenRevoked { id, name: token.name.clone(), version: token.version + 1 }))
}

/// The row after an event. A change of a row that is not there leaves it absent.
pub fn evolve(row: Option<&Row>, event: &Event) -> Option<Row> {
    match &event.change {
        Change::Registered { id, service, key, spec, health } => Some(Row::Instance(Arc::new(Instance {
            id: *id,
            service: service.clone(),
            key: key.clone(),
            spec: spec.clone(),
            health: health.clone(),
            overridden: None,
            alert: None,
            registered_at: event.time,
            updated_at: event.time,
            version: 1,
            revision: event.revision,
        }))),
        Change::Updated { version, spec, health, .. } => changed_instance(row, event, *version, |instance| {
            instance.spec = spec.clone();
            instance.health = health.clone();
        }),
        Change::HealthChanged(change) => {
            changed_instance(row, event, change.version, |instance| instance.health = change.new.clone())
        }
        Change::Overridden(change) => changed_instance(row, event, change.version, |instance| {
            instance.overridden.clone_from(&change.overriding);
        }),
        Change::AlertRaised(AlertRaised { version, level, load, .. }) => {
            let alert = Alert { level: *level, load: *load, at: event.time };
            changed_instance(row, event, *version, |instance| instance.alert = Some(Arc::new(alert)))
        }
        Change::Unregistered { .. } | Change::TokenRevoked { .. } => None,
        Change::TokenCreated(CreateToken { id, name, policies, digest, expires_at }) => {
            Some(Row::Token(Arc::new(Token {
                id: *id,
                name: name.clone(),
                policies: policies.clone(),
                digest: *digest,
                created_at: event.time,
                expires_at: *expires_at,
                actor: event.actor.clone(),
                version: 1,
                revision: event.revision,
            })))
        }
        Change::ConfigPut { key, version, content, comment } => {
            let created_at = match row {
                Some(Row::Config(entry)) if entry.content.is_some() => entry.created_at,
                _ => event.time,
            };
            Some(Row::Config(Arc::new(ConfigEntry {
                key: key.clone(),
                content: Some(content.clone()),
                comment: comment.clone(),
                actor: event.actor.clone(),
                created_at,
                updated_at: event.time,
                version: *version,
                revision: event.revision,
            })))
        }
        Change::ConfigDeleted { version, comment, .. } => match row {
            Some(Row::Config(entry)) => Some(Row::Config(Arc::new(ConfigEntry {
                content: None,
                comment: comment.clone(),
                actor: event.actor.clone(),
                updated_at: event.time,
                version: *version,
                revision: event.revision,
                ..(**entry).clone()
            }))),
            _ => None,
        },
    }
}

fn changed_instance(
    row: Option<&Row>,
    event: &Event,
    version: Version,
    change: impl FnOnce(&mut Instance),
) -> Option<Row> {
    let Some(Row::Instance(instance)) = row else { return None };
    let mut instance = (**instance).clone();
    change(&mut instance);
    instance.version = version;
    instance.updated_at = event.time;
    instance.revision = event.revision;
    Some(Row::Instance(Arc::new(instance)))
}

#[cfg(test)]
#[path = "registry_tests.rs"]
mod tests;
