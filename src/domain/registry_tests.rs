//! Each command against each state that matters to it.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::*;
use crate::domain::{
    Access, CheckState, Checks, Environment, Health, Overriding, Resource, Rule, Status,
    instance::tests::{all_kinds, spec},
};

#[derive(Default)]
struct Rows(BTreeMap<RowKey, Row>);

impl State for Rows {
    fn instance(&self, id: InstanceId) -> Option<Arc<Instance>> {
        match self.0.get(&RowKey::Instance(id)) {
            Some(Row::Instance(instance)) => Some(instance.clone()),
            _ => None,
        }
    }

    fn instance_at(&self, service: &ServiceName, key: &Key) -> Option<Arc<Instance>> {
        self.0.values().find_map(|row| match row {
            Row::Instance(instance) if instance.service == *service && instance.key == *key => {
                Some(instance.clone())
            }
            _ => None,
        })
    }

    fn config(&self, key: &ConfigKey) -> Option<Arc<ConfigEntry>> {
        match self.0.get(&RowKey::Config(key.clone())) {
            Some(Row::Config(entry)) => Some(entry.clone()),
            _ => None,
        }
    }

    fn token(&self, id: TokenId) -> Option<Arc<Token>> {
        match self.0.get(&RowKey::Token(id)) {
            Some(Row::Token(token)) => Some(token.clone()),
            _ => None,
        }
    }
}

/// A registry whose every change goes through the log's text and back.
#[derive(Default)]
struct Registry {
    rows: Rows,
    revision: i64,
}

impl Registry {
    fn run(&mut self, command: &Command) -> Result<Option<Change>, Refusal> {
        let Some(change) = decide(&self.rows, command)? else { return Ok(None) };
        let read = Change::read(
            change.kind(),
            change.service().map(ServiceName::as_str),
            change.instance().map(|id| id.0),
            &change.data(None).unwrap(),
        );
        assert_eq!(read.unwrap(), change);
        self.revision += 1;
        let event = Event { revision: self.revision, time: at(self.revision), actor: "me".into(), change };
        let key = event.change.row();
        match evolve(self.rows.0.get(&key), &event) {
            Some(row) => self.rows.0.insert(key, row),
            None => self.rows.0.remove(&key),
        };
        Ok(Some(event.change))
    }
}

fn at(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(second, 0).unwrap()
}

fn id(n: u128) -> InstanceId {
    InstanceId(Uuid::from_u128(n))
}

fn name(text: &str) -> ServiceName {
    ServiceName::parse(text).unwrap()
}

fn registration(new_id: u128, spec: Spec) -> RegisterInstance {
    RegisterInstance {
        new_id: id(new_id),
        service: name("orders"),
        key: None,
        spec: Arc::new(spec),
        precondition: Precondition::None,
    }
}

fn register_command(new_id: u128, spec: Spec) -> Command {
    Command::RegisterInstance(registration(new_id, spec))
}

fn unknown() -> Health {
    Health::of([CheckState::new(Status::Unknown)])
}

fn report(of: u128, healthy: bool) -> Command {
    Command::ReportHealth(ReportHealth {
        id: id(of),
        about: About::First,
        seen: if healthy { Seen::Passing } else { Seen::Failing },
        cause: Cause::Report,
        output: Some("because".into()),
        unless_heard: None,
    })
}

#[test]
fn a_load_raises_one_alert_in_a_while() {
    let mut registry = Registry::default();
    let raise = |load, second| Command::RaiseAlert { id: id(1), load, now: at(second) };
    assert_eq!(registry.run(&raise(0.9, 1)), Err(Refusal::NoSuchInstance));
    registry.run(&register_command(1, spec("a", 1))).unwrap();
    assert_eq!(registry.run(&raise(0.5, 1)), Ok(None));
    let Some(Change::AlertRaised(raised)) = registry.run(&raise(0.9, 2)).unwrap() else { panic!("no alert") };
    assert_eq!((raised.level, raised.version), (AlertLevel::Critical, 2));
    let instance = registry.rows.instance(id(1)).unwrap();
    assert_eq!(
        instance.alert.as_deref().map(|alert| (alert.level, alert.at)),
        Some((AlertLevel::Critical, at(2)))
    );
    assert_eq!(registry.run(&raise(0.99, 301)), Ok(None));
    assert!(matches!(registry.run(&raise(0.99, 302)), Ok(Some(Change::AlertRaised(_)))));
}

#[test]
fn registering_again_keeps_the_identity_and_takes_what_is_new() {
    let mut registry = Registry::default();
    registry.run(&register_command(1, spec("a", 80))).unwrap();
    assert_eq!(registry.run(&register_command(2, spec("a", 80))), Ok(None));
    registry.run(&report(1, true)).unwrap();
    registry.run(&register_command(3, Spec { weight: 9, ..spec("a", 80) })).unwrap();
    let instance = registry.rows.instance(id(1)).unwrap();
    assert_eq!((instance.version, instance.revision, instance.spec.weight), (3, 3, 9));
    assert_eq!((instance.registered_at, instance.updated_at), (at(1), at(3)));
    assert_eq!(instance.status(), Status::Healthy);
    assert_eq!(registry.rows.0.len(), 1);
}

#[test]
fn a_given_key_and_an_address_are_two_identities() {
    let mut registry = Registry::default();
    registry.run(&register_command(1, spec("a", 80))).unwrap();
    let keyed = RegisterInstance { key: Some(Key::given("a:80").unwrap()), ..registration(2, spec("a", 80)) };
    registry.run(&Command::RegisterInstance(keyed.clone())).unwrap();
    assert_eq!(registry.rows.0.len(), 2);
    let moved = RegisterInstance { spec: Arc::new(spec("b", 81)), ..keyed };
    registry.run(&Command::RegisterInstance(moved)).unwrap();
    assert_eq!(registry.rows.instance(id(2)).unwrap().spec.host.as_str(), "b");
}

#[test]
fn other_checks_begin_with_another_health() {
    let mut registry = Registry::default();
    registry.run(&register_command(1, spec("a", 80))).unwrap();
    assert_eq!(registry.rows.instance(id(1)).unwrap().health, unknown());
    registry.run(&register_command(1, Spec { checks: Checks::Nobody, ..spec("a", 80) })).unwrap();
    let health = registry.rows.instance(id(1)).unwrap().health.clone();
    assert_eq!((health.status(), health.changes()), (Status::Healthy, 1));
    registry.run(&report(1, false)).unwrap();
    assert_eq!(registry.rows.instance(id(1)).unwrap().status(), Status::Unhealthy);
}

#[test]
fn an_update_leaves_the_identity_alone() {
    let mut registry = Registry::default();
    registry.run(&register_command(1, spec("a", 80))).unwrap();
    let update = |service: &str, key: Option<Key>, spec: Spec| {
        Command::UpdateInstance(UpdateInstance {
            id: id(1),
            service: name(service),
            key,
            spec: Arc::new(spec),
            precondition: Precondition::None,
        })
    };
    for (command, field) in [
        (update("other", None, spec("a", 80)), "name"),
        (update("orders", Some(Key::given("k").unwrap()), spec("a", 80)), "key"),
        (update("orders", None, spec("b", 80)), "host"),
        (update("orders", None, spec("a", 81)), "port"),
    ] {
        assert_eq!(registry.run(&command), Err(Refusal::IdentityChanged { field }));
    }
    let shown = Some(Key::given("a:80").unwrap());
    assert_eq!(registry.run(&update("orders", shown, spec("a", 80))), Ok(None));
    assert!(registry.run(&update("orders", None, Spec { weight: 2, ..spec("a", 80) })).unwrap().is_some());
}

#[test]
fn preconditions_hold_or_refuse_with_the_current_version() {
    let mut registry = Registry::default();
    let with = |precondition| {
        Command::RegisterInstance(RegisterInstance {
            precondition,
            ..registration(1, Spec { weight: 5, ..spec("a", 80) })
        })
    };
    let refused = |current| Err(Refusal::PreconditionFailed { current });
    assert_eq!(registry.run(&with(Precondition::Version(vec![1]))), refused(None));
    assert_eq!(registry.run(&with(Precondition::Exists)), refused(None));
    registry.run(&with(Precondition::Absent)).unwrap();
    assert_eq!(registry.run(&with(Precondition::Absent)), refused(Some(1)));
    assert_eq!(registry.run(&with(Precondition::Version(vec![2, 3]))), refused(Some(1)));
    assert_eq!(registry.run(&with(Precondition::Version(vec![7, 1]))), Ok(None));
    let unregister =
        |versions| Command::UnregisterInstance { id: id(1), precondition: Precondition::Version(versions) };
    assert_eq!(registry.run(&unregister(vec![2])), refused(Some(1)));
    assert!(registry.run(&unregister(vec![1])).unwrap().is_some());
    assert_eq!(registry.run(&unregister(vec![1])), Err(Refusal::NoSuchInstance));
}

#[test]
fn reports_move_the_version_until_the_instance_is_unhealthy() {
    let mut registry = Registry::default();
    registry.run(&register_command(1, spec("a", 80))).unwrap();
    let mut kinds = Vec::new();
    for healthy in [false, false, false, false, true, true] {
        kinds.push(registry.run(&report(1, healthy)).unwrap().map(|change| change.kind()));
    }
    let expected = [
        Some("status_change"),
        Some("failure_counted"),
        Some("status_change"),
        None,
        Some("status_change"),
        None,
    ];
    assert_eq!(kinds, expected);
    assert_eq!(registry.rows.instance(id(1)).unwrap().version, 5);
    assert_eq!(registry.run(&report(9, true)), Err(Refusal::NoSuchInstance));
}

#[test]
fn each_check_has_a_state_of_its_own() {
    use Status::{Degraded, Healthy, Unhealthy};
    let mut registry = Registry::default();
    registry.run(&register_command(1, Spec { checks: all_kinds(), ..spec("a", 80) })).unwrap();
    let about = |name: &str, seen| {
        let about = About::Check(CheckId::parse(name).unwrap());
        Command::ReportHealth(ReportHealth {
            id: id(1),
            about,
            seen,
            cause: Cause::Report,
            output: None,
            unless_heard: None,
        })
    };
    let mut kind = |command| registry.run(&command).map(|change| change.map(|change| change.kind()));
    assert_eq!(kind(about("none", Seen::Passing)), Err(Refusal::NoSuchCheck));
    assert_eq!(kind(about("web", Seen::Passing)), Ok(None));
    for check in ["own", "tcp", "grpc", "ttl"] {
        assert_eq!(kind(about(check, Seen::Passing)), Ok(Some("check_changed")));
    }
    assert_eq!(kind(about("script", Seen::Passing)), Ok(Some("status_change")));
    assert_eq!(kind(about("ttl", Seen::Lapsed)), Ok(Some("status_change")));
    assert_eq!(kind(about("tcp", Seen::Failing)), Ok(Some("check_changed")));
    let instance = registry.rows.instance(id(1)).unwrap();
    let statuses: Vec<_> = instance.health.states().iter().map(|state| state.status).collect();
    assert_eq!(statuses, [Healthy, Healthy, Degraded, Healthy, Unhealthy, Healthy]);
}

#[test]
fn an_override_outlives_registrations_and_verdicts() {
    let mut registry = Registry::default();
    registry.run(&register_command(1, spec("a", 80))).unwrap();
    let overriding =
        Override { status: Overriding::Maintenance, reason: None, by: "ops".into(), until: Some(at(99)) };
    let set = |precondition| Command::SetOverride { id: id(1), overriding: overriding.clone(), precondition };
    let refused = Err(Refusal::PreconditionFailed { current: Some(1) });
    assert_eq!(registry.run(&set(Precondition::Version(vec![7]))), refused);
    assert_eq!(registry.run(&set(Precondition::None)).unwrap().unwrap().kind(), "override_set");
    assert_eq!(registry.run(&set(Precondition::None)), Ok(None));
    registry.run(&register_command(2, Spec { weight: 3, ..spec("a", 80) })).unwrap();
    registry.run(&report(1, true)).unwrap();
    assert_eq!(registry.rows.instance(id(1)).unwrap().status(), Status::Maintenance);
    let end = Command::EndOverride { id: id(1), precondition: Precondition::None };
    let Some(Change::Overridden(ended)) = registry.run(&end).unwrap() else { panic!("not ended") };
    assert_eq!((ended.old, ended.new), (Status::Maintenance, Status::Healthy));
    assert_eq!(registry.run(&end), Ok(None));
    let end = Command::EndOverride { id: id(9), precondition: Precondition::None };
    assert_eq!(registry.run(&end), Err(Refusal::NoSuchInstance));
}

#[test]
fn a_verdict_on_a_target_that_has_moved_is_dropped() {
    let mut registry = Registry::default();
    registry.run(&register_command(1, spec("a", 80))).unwrap();
    let verdict = |of: &Spec| {
        let check = of.checks().first().unwrap().clone();
        let about = About::Judged(Judged { check, host: of.host.clone(), port: of.port });
        let (seen, cause, output) = (Seen::Failing, Cause::Check, None);
        Command::ReportHealth(ReportHealth { id: id(1), about, seen, cause, output, unless_heard: None })
    };
    assert_eq!(registry.run(&verdict(&spec("old", 80))), Ok(None));
    assert!(registry.run(&verdict(&spec("a", 80))).unwrap().is_some());
}

#[test]
fn versions_of_a_configuration_go_on_after_its_deletion() {
    let mut registry = Registry::default();
    let key = ConfigKey { service: name("orders"), environment: Environment::default() };
    let put = |text: &str, precondition| Command::PutConfig {
        key: key.clone(),
        content: Content::parse(text).unwrap(),
        comment: Some("why".into()),
        precondition,
    };
    let delete = |precondition| Command::DeleteConfig { key: key.clone(), comment: None, precondition };
    assert_eq!(registry.run(&delete(Precondition::None)), Err(Refusal::NoSuchConfig));
    registry.run(&put("{\"a\":1}", Precondition::Absent)).unwrap();
    assert_eq!(registry.run(&put("{ \"a\": 1 }", Precondition::None)), Ok(None));
    registry.run(&put("{\"a\":2}", Precondition::Version(vec![1]))).unwrap();
    let refused = Err(Refusal::PreconditionFailed { current: Some(2) });
    assert_eq!(registry.run(&put("{}", Precondition::Version(vec![1]))), refused);
    assert_eq!(registry.run(&delete(Precondition::Version(vec![1]))), refused);
    registry.run(&delete(Precondition::Exists)).unwrap();
    assert_eq!(registry.run(&delete(Precondition::None)), Err(Refusal::NoSuchConfig));
    registry.run(&put("{}", Precondition::Absent)).unwrap();
    let entry = registry.rows.config(&key).unwrap();
    assert_eq!((entry.version, entry.revision, entry.created_at), (4, 4, at(4)));
}

#[test]
fn events_about_rows_that_are_not_there_leave_them_absent() {
    let event = |change| Event { revision: 1, time: at(1), actor: "me".into(), change };
    let key = ConfigKey { service: name("orders"), environment: Environment::default() };
    let spec = Arc::new(spec("a", 80));
    let service = name("orders");
    let updated = Change::Updated { id: id(1), service, version: 2, spec, health: unknown() };
    assert_eq!(evolve(None, &event(updated)), None);
    assert_eq!(evolve(None, &event(Change::ConfigDeleted { key, version: 2, comment: None })), None);
}

#[test]
fn data_that_cannot_be_read_is_named() {
    let some = Some(Uuid::nil());
    for (kind, service, instance, data, part) in [
        ("odd", "a", some, "{}", "odd"),
        ("service_registered", "a", some, "{}", "service_registered"),
        (
            "service_unregistered",
            "a",
            None,
            r#"{"service_name":"a","version":1,"key":{"address":"a:1"}}"#,
            "no instance",
        ),
        ("status_change", "a b", some, "{}", "status_change"),
        ("status_change", "", some, "{}", "no service"),
        ("token_created", "", None, "{}", "token_created"),
        ("token_revoked", "", None, "[]", "token_revoked"),
    ] {
        let error = Change::read(kind, Some(service).filter(|s| !s.is_empty()), instance, data).unwrap_err();
        assert!(error.to_string().contains(part), "{error}");
    }
}

#[test]
fn a_token_is_made_and_revoked_once() {
    let mut registry = Registry::default();
    let id = TokenId(Uuid::from_u128(7));
    let rule = Rule { resource: Resource::Service, prefix: "orders".into(), access: Access::Write };
    let new = CreateToken {
        id,
        name: TokenName::parse("build").unwrap(),
        policies: Policies { rules: [rule].into() },
        digest: Digest([9; 32]),
        expires_at: Some(at(100)),
    };
    registry.run(&Command::CreateToken(new.clone())).unwrap();
    let token = registry.rows.token(id).unwrap();
    assert_eq!((&token.name, &token.policies, token.digest), (&new.name, &new.policies, new.digest));
    assert_eq!((token.created_at, token.expires_at, token.version), (at(1), Some(at(100)), 1));
    assert_eq!(&*token.actor, "me");
    let revoke = Command::RevokeToken { id };
    assert!(matches!(registry.run(&revoke), Ok(Some(Change::TokenRevoked { version: 2, .. }))));
    assert_eq!(registry.rows.0.len(), 0);
    assert_eq!(registry.run(&revoke), Err(Refusal::NoSuchToken));
}

#[test]
fn who_was_ill_for_too_long_is_removed_as_found() {
    let mut registry = Registry::default();
    let expire = |of, version| Command::Expire(Expire { id: id(of), version, pass: 1, unless_heard: None });
    assert_eq!(registry.run(&expire(1, 1)), Err(Refusal::NoSuchInstance));
    registry.run(&register_command(1, spec("a", 1))).unwrap();
    registry.run(&report(1, false)).unwrap();
    assert_eq!(registry.run(&expire(1, 1)), Err(Refusal::PreconditionFailed { current: Some(2) }));
    assert!(matches!(registry.run(&expire(1, 2)), Ok(Some(Change::Unregistered { version: 3, .. }))));
    assert_eq!(registry.run(&expire(1, 2)), Err(Refusal::NoSuchInstance));
}

/// Whatever is said of it, by whomever, and however often its like registers again.
#[test]
fn who_was_removed_never_comes_back() {
    use proptest::prelude::*;
    let step = (0_u8..9, 1_u128..5, 1_i64..6);
    let steps = proptest::collection::vec(step, 200);
    let config = ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() };
    let removals = std::cell::Cell::new(0_u64);
    proptest!(config, |(steps in steps)| {
        let mut registry = Registry::default();
        let (mut fresh, mut gone) = (100_u128, BTreeSet::new());
        // who is at each of four addresses, or was there last
        let mut at_address = BTreeMap::new();
        for (what, address, version) in steps {
            let port = u16::try_from(address).unwrap();
            let of = at_address.get(&port).copied().unwrap_or(1);
            let command = match what {
                0 | 1 => {
                    fresh += 1;
                    register_command(fresh, spec("a", port))
                }
                2 => Command::UnregisterInstance { id: id(of), precondition: Precondition::None },
                3 => Command::Expire(Expire { id: id(of), version, pass: 1, unless_heard: None }),
                4 => Command::EndOverride { id: id(of), precondition: Precondition::None },
                5 => Command::RaiseAlert { id: id(of), load: 0.9, now: at(1_000_000) },
                6 => report(of, false),
                _ => report(of, true),
            };
            match registry.run(&command) {
                Ok(Some(Change::Registered { id, .. })) => {
                    prop_assert!(!gone.contains(&id));
                    at_address.insert(port, id.0.as_u128());
                }
                Ok(Some(Change::Unregistered { id, .. })) => {
                    removals.set(removals.get() + 1);
                    gone.insert(id);
                }
                Ok(Some(change)) => prop_assert!(!gone.contains(&change.instance().unwrap())),
                Ok(None) | Err(_) => {}
            }
            for id in &gone {
                prop_assert!(registry.rows.instance(*id).is_none());
            }
        }
    });
    assert!(removals.get() > 1000, "{removals:?}");
}
