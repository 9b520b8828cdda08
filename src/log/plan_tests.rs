//! What becomes of commands that meet in one batch.

use uuid::Uuid;

use super::*;
use crate::domain::{
    Cause, Check, Checks, ConfigKey, Content, Environment, Host, InstanceId, Judged, Precondition, Seen,
    ServiceName, ServiceType, Version,
    check::Ask,
    registry::{About, RegisterInstance, ReportHealth},
};
use crate::{
    log::settlement::{Settlement, outcome_of},
    store::{GroupOutcome, append::Span},
};

fn id(n: u128) -> InstanceId {
    InstanceId(Uuid::from_u128(n))
}

fn register(new_id: u128, port: u16, weight: u16) -> Command {
    let spec = Spec {
        kind: ServiceType::Api,
        host: Host::parse("a").unwrap(),
        port,
        metadata: std::sync::Arc::default(),
        health_check_endpoint: crate::domain::target::Endpoint::default(),
        weight,
        zone: None,
        region: None,
        datacenter: None,
        endpoints: std::collections::BTreeMap::new(),
        url: None,
        topics: Box::default(),
        dependencies: Box::default(),
        checks: Checks::Poll,
    };
    Command::RegisterInstance(RegisterInstance {
        new_id: id(new_id),
        service: ServiceName::parse("orders").unwrap(),
        key: None,
        spec: Arc::new(spec),
        precondition: Precondition::None,
    })
}

fn unregister(n: u128) -> Command {
    Command::UnregisterInstance { id: id(n), precondition: Precondition::None }
}

fn report(n: u128, healthy: bool) -> Command {
    Command::ReportHealth(ReportHealth {
        id: id(n),
        about: About::First,
        seen: if healthy { Seen::Passing } else { Seen::Failing },
        cause: Cause::Report,
        output: None,
        unless_heard: None,
    })
}

fn put_config(content: &str) -> Command {
    let key =
        ConfigKey { service: ServiceName::parse("orders").unwrap(), environment: Environment::default() };
    Command::PutConfig {
        key,
        content: Content::parse(content).unwrap(),
        comment: None,
        precondition: Precondition::None,
    }
}

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_000, 0).unwrap()
}

fn cursor(revision: Revision) -> Cursor {
    Cursor { epoch: 1, revision, hash: None }
}

fn plan_all(snapshot: &Snapshot, commands: &[Command]) -> Plan {
    let caller = Caller { actor: "me".into(), origin: "test".into(), ..Caller::checker() };
    let orders = commands.iter().map(|command| Order { command, caller: &caller, spec_text: None });
    plan(snapshot, &cursor(snapshot.revision()), now(), orders)
}

/// The answers when every group is written, and the state afterwards.
fn run(snapshot: &Snapshot, commands: &[Command]) -> (Vec<Option<Result<Outcome, Refusal>>>, Snapshot) {
    let Plan { batch, verdicts } = plan_all(snapshot, commands);
    let from = snapshot.revision() + 1;
    let Some(batch) = batch else {
        let settled = |verdict| match verdict {
            Verdict::Settled(result) => Some(result),
            other => panic!("nothing is written, yet {other:?}"),
        };
        return (verdicts.into_iter().map(settled).collect(), snapshot.clone());
    };
    let to = snapshot.revision() + i64::try_from(batch.events.len()).unwrap();
    let span = Span { epoch: 1, from, to, hash: Vec::new() };
    let outcomes = vec![GroupOutcome::Written; usize::try_from(batch.groups).unwrap()];
    let settlement = Settlement::of(&batch, &outcomes, Some(&span));
    let answers = verdicts
        .into_iter()
        .map(|verdict| match verdict {
            Verdict::Settled(result) => Some(result),
            Verdict::With { answer, .. } => Some(settlement.answer(answer, &batch)),
            Verdict::Later => None,
        })
        .collect();
    (answers, snapshot.after(&settlement.events, to))
}

fn version(answer: Option<&Result<Outcome, Refusal>>) -> Option<Version> {
    answer?.as_ref().ok()?.row.as_ref().map(Row::version)
}

fn groups(plan: &Plan) -> Vec<Option<i32>> {
    let group = |verdict: &Verdict| match verdict {
        Verdict::With { group, .. } => Some(*group),
        Verdict::Settled(_) | Verdict::Later => None,
    };
    plan.verdicts.iter().map(group).collect()
}

#[test]
fn commands_on_one_row_make_one_group() {
    let (_, base) = run(&Snapshot::default(), &[register(1, 80, 1)]);
    let commands = [report(1, false), report(1, false), report(1, false), report(1, false)];
    let plan = plan_all(&base, &commands);
    assert_eq!(groups(&plan), [Some(1), Some(1), Some(1), Some(1)]);
    let batch = plan.batch.unwrap();
    assert_eq!((batch.events.len(), batch.instances.len()), (3, 1));
    let change = &batch.instances[0];
    assert_eq!((change.before, change.event, change.row.as_ref().unwrap().0.version), (1, 3, 4));

    let (answers, after) = run(&base, &commands);
    let versions: Vec<_> = answers.iter().map(|answer| version(answer.as_ref())).collect();
    assert_eq!(versions, [Some(2), Some(3), Some(4), Some(4)]);
    let revisions: Vec<_> = answers.iter().flatten().flatten().map(|outcome| outcome.revision).collect();
    assert_eq!(revisions, [2, 3, 4, 4]);
    assert_eq!(State::instance(&after, id(1)).unwrap().revision, 4);
}

#[test]
fn different_rows_are_different_groups() {
    let plan = plan_all(&Snapshot::default(), &[register(1, 80, 1), register(2, 81, 1), put_config("{}")]);
    assert_eq!(groups(&plan), [Some(1), Some(2), Some(3)]);
    assert!(plan.batch.unwrap().guards.is_empty());
}

#[test]
fn two_that_meet_at_one_identity_get_one_id() {
    let (answers, after) =
        run(&Snapshot::default(), &[register(1, 80, 1), register(2, 80, 1), register(3, 80, 7)]);
    assert_eq!(answers.iter().flatten().flatten().filter(|outcome| outcome.event.is_some()).count(), 2);
    for answer in answers {
        let Some(Row::Instance(instance)) = answer.unwrap().unwrap().row else { panic!("no instance") };
        assert_eq!(instance.id, id(1));
    }
    assert_eq!(after.instances().len(), 1);
}

#[test]
fn what_is_gone_within_the_batch_is_gone_for_those_after() {
    let (_, base) = run(&Snapshot::default(), &[register(1, 80, 1)]);
    let (answers, after) = run(&base, &[unregister(1), unregister(1), report(1, true), register(2, 80, 1)]);
    assert!(answers[0].as_ref().unwrap().is_ok());
    assert_eq!(answers[1].as_ref().unwrap().as_ref().unwrap_err(), &Refusal::NoSuchInstance);
    assert_eq!(answers[2].as_ref().unwrap().as_ref().unwrap_err(), &Refusal::NoSuchInstance);
    assert_eq!(version(answers[3].as_ref()), Some(1));
    assert!(State::instance(&after, id(2)).is_some() && State::instance(&after, id(1)).is_none());
}

#[test]
fn a_new_row_is_not_removed_before_it_was_written_and_nobody_overtakes() {
    let commands = [register(1, 80, 1), unregister(1), report(1, true), report(9, true)];
    let plan = plan_all(&Snapshot::default(), &commands);
    assert!(matches!(
        plan.verdicts[..],
        [
            Verdict::With { group: 1, .. },
            Verdict::Later,
            Verdict::Later,
            Verdict::Settled(Err(Refusal::NoSuchInstance))
        ]
    ));
}

#[test]
fn refusals_and_the_unchanged_are_settled_without_a_batch() {
    let (_, base) = run(&Snapshot::default(), &[register(1, 80, 1), put_config("{\"a\":1}")]);
    let plan = plan_all(&base, &[register(2, 80, 1), unregister(5), put_config("{\"a\":1}")]);
    assert!(plan.batch.is_none());
    assert!(
        matches!(&plan.verdicts[0], Verdict::Settled(Ok(outcome)) if outcome.event.is_none() && outcome.revision == 2)
    );
    assert!(matches!(&plan.verdicts[1], Verdict::Settled(Err(Refusal::NoSuchInstance))));
    assert!(matches!(&plan.verdicts[2], Verdict::Settled(Ok(outcome)) if outcome.event.is_none()));
}

#[test]
fn revisions_skip_the_groups_that_failed() {
    let commands = [register(1, 80, 1), register(2, 81, 1), register(3, 82, 1)];
    let Plan { batch, verdicts } = plan_all(&Snapshot::default(), &commands);
    let batch = batch.unwrap();
    let outcomes = [GroupOutcome::Written, GroupOutcome::Conflict, GroupOutcome::Written];
    let span = Span { epoch: 1, from: 41, to: 42, hash: Vec::new() };
    let settlement = Settlement::of(&batch, &outcomes, Some(&span));
    let revisions: Vec<_> = settlement.events.iter().map(|event| event.revision).collect();
    assert_eq!(revisions, [41, 42]);
    let last = verdicts.into_iter().nth(2).unwrap();
    let Verdict::With { group: 3, answer } = last else { panic!("{last:?}") };
    let outcome = settlement.answer(answer, &batch).unwrap();
    let Some(Row::Instance(instance)) = outcome.row else { panic!("no instance") };
    assert_eq!((outcome.revision, instance.revision, instance.id), (42, 42, id(3)));
    assert_eq!(outcome_of(&outcomes, 2), GroupOutcome::Conflict);
}

#[test]
fn a_configuration_remembers_when_it_was_made() {
    let (answers, after) = run(&Snapshot::default(), &[put_config("{\"a\":1}"), put_config("{\"a\":2}")]);
    assert_eq!(version(answers[1].as_ref()), Some(2));
    let entry = after.configs().values().next().unwrap();
    assert_eq!((entry.version, entry.revision, &*entry.actor), (2, 2, "me"));
}

fn expire(n: u128, version: Version, pass: i64) -> Command {
    Command::Expire(Expire { id: id(n), version, pass, unless_heard: None })
}

#[test]
fn removals_of_one_pass_make_one_group_and_another_pass_waits() {
    let (_, base) = run(&Snapshot::default(), &[register(1, 80, 1), register(2, 81, 1), register(3, 82, 1)]);
    let commands = [expire(1, 1, 5), report(2, false), expire(2, 1, 5), expire(3, 1, 5), expire(3, 1, 6)];
    let plan = plan_all(&base, &commands);
    // the second was changed by another group of the batch
    assert_eq!(groups(&plan), [Some(1), Some(2), None, None, None]);
    let batch = plan.batch.unwrap();
    assert_eq!(batch.sweep.map(|sweep| (sweep.group, sweep.pass)), Some((1, 5)));

    let plan = plan_all(&base, &[expire(1, 1, 5), expire(2, 9, 5), expire(3, 1, 5), expire(3, 1, 6)]);
    assert_eq!(groups(&plan), [Some(1), Some(1), Some(1), None]);
    let batch = plan.batch.as_ref().unwrap();
    assert_eq!((batch.events.len(), batch.instances.len()), (2, 2));
    assert!(batch.instances.iter().all(|change| change.group == 1 && change.row.is_none()));
    let (answers, after) = run(&base, &[expire(1, 1, 5), expire(2, 9, 5), expire(3, 1, 5)]);
    let refusal = answers[1].as_ref().unwrap().as_ref().unwrap_err();
    assert_eq!(refusal, &Refusal::PreconditionFailed { current: Some(1) });
    assert_eq!(after.instances().len(), 1);
}

#[test]
fn a_lapse_takes_along_since_when_nothing_must_have_been_heard() {
    let ttl = |id: &str| {
        let ask = Ask::Ttl { ttl: std::time::Duration::from_secs(1) };
        Check::new(CheckId::parse(id).unwrap(), ask)
    };
    let Command::RegisterInstance(mut registration) = register(1, 80, 1) else { panic!("a registration") };
    let spec = Spec { checks: Checks::listed(vec![ttl("one")]), ..(*registration.spec).clone() };
    registration.spec = Arc::new(spec);
    let (_, base) = run(&Snapshot::default(), &[Command::RegisterInstance(registration)]);
    let lapse = |check, unless_heard| {
        Command::ReportHealth(ReportHealth {
            id: id(1),
            about: About::Judged(Judged {
                check: Arc::new(ttl(check)),
                host: Host::parse("a").unwrap(),
                port: 80,
            }),
            seen: Seen::Lapsed,
            cause: Cause::Check,
            output: None,
            unless_heard,
        })
    };
    let silences = |command: Command| {
        let batch = plan_all(&base, &[command]).batch;
        batch.map(|batch| batch.silences.iter().map(|silence| (silence.group, silence.until)).collect())
    };
    assert_eq!(silences(lapse("one", Some(now()))), Some(vec![(1, now())]));
    assert_eq!(silences(lapse("one", None)), Some(vec![]));
    assert_eq!(silences(lapse("gone", Some(now()))), None);
}
