//! A registry as one would write it on an afternoon: two maps and the words of the contract.

use std::{collections::BTreeMap, sync::Arc};

use proptest::prelude::*;
use rollcall::{
    domain::{
        Cause, Checks, Command, ConfigKey, Content, Environment, Host, InstanceId, Key, Precondition,
        Refusal, Row, Seen, ServiceName, ServiceType, Spec,
        registry::{About, RegisterInstance, ReportHealth, UpdateInstance},
        target::Endpoint,
    },
    log::{Outcome, WriteError},
};
use uuid::Uuid;

/// What a test asks for; small numbers, so that they meet.
#[derive(Clone, Debug)]
pub enum Op {
    Register { service: u8, port: u8, keyed: bool, weight: u8, fixed: bool, version: Option<u8> },
    Update { nth: u8, weight: u8, version: Option<u8> },
    Unregister { nth: u8, version: Option<u8> },
    Report { nth: u8, healthy: bool },
    Put { service: u8, content: u8, version: Option<u8> },
    Delete { service: u8 },
}

pub fn ops() -> impl Strategy<Value = Vec<Op>> {
    let version = || prop_oneof![4 => Just(None), 1 => (1u8..5).prop_map(Some)];
    let op = prop_oneof![
        4 => (0u8..3, 0u8..3, any::<bool>(), 0u8..2, prop::bool::weighted(0.2), version()).prop_map(
            |(service, port, keyed, weight, fixed, version)| Op::Register { service, port, keyed, weight, fixed, version }
        ),
        2 => (0u8..20, 0u8..3, version()).prop_map(|(nth, weight, version)| Op::Update { nth, weight, version }),
        2 => (0u8..20, version()).prop_map(|(nth, version)| Op::Unregister { nth, version }),
        5 => (0u8..20, prop::bool::weighted(0.3)).prop_map(|(nth, healthy)| Op::Report { nth, healthy }),
        2 => (0u8..3, 0u8..3, version()).prop_map(|(service, content, version)| Op::Put { service, content, version }),
        1 => (0u8..3).prop_map(|service| Op::Delete { service }),
    ];
    prop::collection::vec(op, 1..60)
}

#[derive(Clone, Debug)]
struct Entry {
    id: u128,
    service: u8,
    port: u8,
    keyed: bool,
    weight: u8,
    fixed: bool,
    version: i64,
    status: &'static str,
    failures: u32,
}

#[derive(Default)]
pub struct Model {
    instances: Vec<Entry>,
    configs: BTreeMap<u8, (i64, Option<u8>)>,
    ids: u128,
}

/// What an answer has to say: a refusal by its name, or the version, and health, of the row.
#[derive(Debug, PartialEq)]
pub enum Answer {
    Refused(&'static str),
    Row { version: i64, health: Option<(&'static str, u32)>, changed: bool },
    Gone,
}

impl Model {
    /// One whose ids begin after `first`: no two registries give the same.
    pub fn with_ids_after(first: u128) -> Self {
        Self { ids: first, ..Self::default() }
    }

    /// The command for an op, as the state stands, and what must be answered to it.
    pub fn apply(&mut self, op: &Op) -> (Command, Answer) {
        match *op {
            Op::Register { service, port, keyed, weight, fixed, version } => {
                self.ids += 1;
                let command = RegisterInstance {
                    new_id: id(self.ids),
                    service: name(service),
                    key: keyed.then(|| Key::given(&address(port)).unwrap()),
                    spec: spec(port, weight, fixed),
                    precondition: precondition(version),
                };
                (
                    Command::RegisterInstance(command),
                    self.register(service, port, keyed, weight, fixed, version),
                )
            }
            Op::Update { nth, weight, version } => {
                let entry = self.nth(nth).cloned();
                let (of, service, port, fixed) =
                    entry.as_ref().map_or((999, 0, 0, false), |e| (e.id, e.service, e.port, e.fixed));
                let command = UpdateInstance {
                    id: id(of),
                    service: name(service),
                    key: None,
                    spec: spec(port, weight, fixed),
                    precondition: precondition(version),
                };
                (Command::UpdateInstance(command), self.update(of, weight, version))
            }
            Op::Unregister { nth, version } => {
                let of = self.nth(nth).map_or(999, |entry| entry.id);
                let command = Command::UnregisterInstance { id: id(of), precondition: precondition(version) };
                let answer = match self.instances.iter().position(|entry| entry.id == of) {
                    None => Answer::Refused("no such instance"),
                    Some(at) if wrong(version, self.instances[at].version) => Answer::Refused("precondition"),
                    Some(at) => {
                        self.instances.remove(at);
                        Answer::Gone
                    }
                };
                (command, answer)
            }
            Op::Report { nth, healthy } => {
                let of = self.nth(nth).map_or(999, |entry| entry.id);
                let seen = if healthy { Seen::Passing } else { Seen::Failing };
                let report = ReportHealth {
                    id: id(of),
                    about: About::First,
                    seen,
                    cause: Cause::Report,
                    output: None,
                    unless_heard: None,
                };
                (Command::ReportHealth(report), self.report(of, healthy))
            }
            Op::Put { service, content, version } => {
                let command = Command::PutConfig {
                    key: config_key(service),
                    content: Content::parse(&format!("{{\"n\":{content}}}")).unwrap(),
                    comment: None,
                    precondition: precondition(version),
                };
                (command, self.put(service, content, version))
            }
            Op::Delete { service } => {
                let command = Command::DeleteConfig {
                    key: config_key(service),
                    comment: None,
                    precondition: Precondition::None,
                };
                let answer = match self.configs.get_mut(&service) {
                    Some((version, content @ Some(_))) => {
                        *content = None;
                        *version += 1;
                        Answer::Row { version: *version, health: None, changed: true }
                    }
                    _ => Answer::Refused("no such config"),
                };
                (command, answer)
            }
        }
    }

    fn register(
        &mut self,
        service: u8,
        port: u8,
        keyed: bool,
        weight: u8,
        fixed: bool,
        version: Option<u8>,
    ) -> Answer {
        let found = self
            .instances
            .iter_mut()
            .find(|entry| (entry.service, entry.port, entry.keyed) == (service, port, keyed));
        let Some(entry) = found else {
            if version.is_some() {
                return Answer::Refused("precondition");
            }
            let status = if fixed { "healthy" } else { "unknown" };
            let entry =
                Entry { id: self.ids, service, port, keyed, weight, fixed, version: 1, status, failures: 0 };
            let answer = row(&entry, true);
            self.instances.push(entry);
            return answer;
        };
        if wrong(version, entry.version) {
            return Answer::Refused("precondition");
        }
        let changed = (entry.weight, entry.fixed) != (weight, fixed);
        if entry.fixed != fixed {
            (entry.status, entry.failures) = (if fixed { "healthy" } else { "unknown" }, 0);
        }
        (entry.weight, entry.fixed) = (weight, fixed);
        entry.version += i64::from(changed);
        row(entry, changed)
    }

    fn update(&mut self, of: u128, weight: u8, version: Option<u8>) -> Answer {
        let Some(entry) = self.instances.iter_mut().find(|entry| entry.id == of) else {
            return Answer::Refused("no such instance");
        };
        if wrong(version, entry.version) {
            return Answer::Refused("precondition");
        }
        let changed = entry.weight != weight;
        entry.weight = weight;
        entry.version += i64::from(changed);
        row(entry, changed)
    }

    fn report(&mut self, of: u128, healthy: bool) -> Answer {
        let Some(entry) = self.instances.iter_mut().find(|entry| entry.id == of) else {
            return Answer::Refused("no such instance");
        };
        let before = (entry.status, entry.failures);
        if healthy {
            (entry.status, entry.failures) = ("healthy", 0);
        } else if entry.fixed {
            (entry.status, entry.failures) = ("unhealthy", 1);
        } else {
            entry.failures = (entry.failures + 1).min(3);
            entry.status = if entry.failures < 3 { "degraded" } else { "unhealthy" };
        }
        let changed = before != (entry.status, entry.failures);
        entry.version += i64::from(changed);
        row(entry, changed)
    }

    fn put(&mut self, service: u8, content: u8, version: Option<u8>) -> Answer {
        let (current, held) = self.configs.get(&service).copied().unwrap_or((0, None));
        if version.is_some() && (held.is_none() || wrong(version, current)) {
            return Answer::Refused("precondition");
        }
        if held == Some(content) {
            return Answer::Row { version: current, health: None, changed: false };
        }
        self.configs.insert(service, (current + 1, Some(content)));
        Answer::Row { version: current + 1, health: None, changed: true }
    }

    fn nth(&self, nth: u8) -> Option<&Entry> {
        self.instances.get(usize::from(nth) % self.instances.len().max(1))
    }
}

pub fn answer(result: Result<Outcome, WriteError>) -> Answer {
    match result {
        Ok(outcome) => match outcome.row {
            None => Answer::Gone,
            Some(Row::Token(_)) => panic!("no token was asked for"),
            Some(Row::Config(entry)) => {
                Answer::Row { version: entry.version, health: None, changed: outcome.event.is_some() }
            }
            Some(Row::Instance(instance)) => Answer::Row {
                version: instance.version,
                health: Some((instance.status().as_str(), instance.health.failures().into())),
                changed: outcome.event.is_some(),
            },
        },
        Err(WriteError::Refused(Refusal::NoSuchInstance)) => Answer::Refused("no such instance"),
        Err(WriteError::Refused(Refusal::NoSuchConfig)) => Answer::Refused("no such config"),
        Err(WriteError::Refused(Refusal::PreconditionFailed { .. })) => Answer::Refused("precondition"),
        Err(other) => panic!("{other}"),
    }
}

fn row(entry: &Entry, changed: bool) -> Answer {
    Answer::Row { version: entry.version, health: Some((entry.status, entry.failures)), changed }
}

fn wrong(wanted: Option<u8>, current: i64) -> bool {
    wanted.is_some_and(|wanted| i64::from(wanted) != current)
}

fn precondition(version: Option<u8>) -> Precondition {
    version.map_or(Precondition::None, |version| Precondition::Version(vec![version.into()]))
}

fn id(n: u128) -> InstanceId {
    InstanceId(Uuid::from_u128(n))
}

fn name(service: u8) -> ServiceName {
    ServiceName::parse(&format!("service-{service}")).unwrap()
}

fn address(port: u8) -> String {
    format!("host:{}", 1000 + u16::from(port))
}

fn config_key(service: u8) -> ConfigKey {
    ConfigKey { service: name(service), environment: Environment::default() }
}

fn spec(port: u8, weight: u8, fixed: bool) -> Arc<Spec> {
    Arc::new(Spec {
        kind: ServiceType::Worker,
        host: Host::parse("host").unwrap(),
        port: 1000 + u16::from(port),
        metadata: std::sync::Arc::default(),
        health_check_endpoint: Endpoint::default(),
        weight: weight.into(),
        zone: None,
        region: None,
        datacenter: None,
        endpoints: BTreeMap::new(),
        url: None,
        topics: Box::default(),
        dependencies: Box::default(),
        checks: if fixed { Checks::Nobody } else { Checks::Poll },
    })
}
