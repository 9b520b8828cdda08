use std::sync::Arc;

use uuid::Uuid;

use super::*;
use crate::domain::{
    Checks, Health, Host, Key, Override, Overriding, ServiceName, Spec, health::CheckState,
    instance::tests::spec,
};

fn at(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(10_000 + second, 0).unwrap()
}

fn check(id: &str, ask: Ask, after: Option<u64>) -> Check {
    Check { deregister_after: after.map(Duration::from_secs), ..Check::new(CheckId::parse(id).unwrap(), ask) }
}

/// With a ttl of 5 s that allows a minute, a check by TCP that allows two, and one that allows anything.
fn instance(statuses: [Status; 3], changes: u32, updated: i64) -> Instance {
    let checks = vec![
        check("ttl", Ask::Ttl { ttl: Duration::from_secs(5) }, Some(60)),
        check("tcp", Ask::Tcp { url: None }, Some(120)),
        check("other", Ask::Tcp { url: None }, None),
    ];
    Instance {
        id: InstanceId(Uuid::from_u128(1)),
        service: ServiceName::parse("orders").unwrap(),
        key: Key::address(&Host::parse("a").unwrap(), 80),
        spec: Arc::new(Spec { checks: Checks::listed(checks), ..spec("a", 80) }),
        health: Health::of(statuses.map(|status| CheckState { changes, ..CheckState::new(status) })),
        overridden: None,
        alert: None,
        registered_at: at(0),
        updated_at: at(updated),
        version: 7,
        revision: 7,
    }
}

use Status::{Degraded, Healthy, Unhealthy};

const ILL_BY_TTL: [Status; 3] = [Unhealthy, Healthy, Healthy];

/// Somebody has always been listening.
fn always() -> Hearing<'static> {
    Hearing { here_since: at(-9000), gaps: &[] }
}

fn due(at_stake: &AtStake, hearing: &Hearing<'_>) -> Option<i64> {
    at_stake.overdue(hearing, |_| None, at(9000)).map(|overdue| (overdue.since - at(0)).num_seconds())
}

#[test]
fn so_many_may_go_at_once() {
    for (due, ill, at_stake, expected) in [
        (0, 0, 0, Some(0)),
        (0, 55, 100, Some(0)),
        (0, 56, 100, None),
        (1, 1, 1, Some(1)),
        (5, 5, 5, Some(1)),
        (6, 6, 6, Some(1)),
        (19, 19, 19, Some(2)),
        (11, 11, 20, Some(3)),
        (1, 12, 20, None),
        (20, 20, 20, None),
        (2, 2, 20, Some(2)),
        (55, 55, 100, Some(15)),
        (56, 56, 100, None),
        (50_000, 55_000, 100_000, Some(500)),
        (1, 55_001, 100_000, None),
    ] {
        assert_eq!(allowance(due, ill, at_stake), expected, "{due} of {ill} of {at_stake}");
    }
}

#[test]
fn it_is_due_when_a_check_has_been_ill_for_as_long_as_it_allows() {
    for (statuses, expected) in [
        ([Healthy; 3], None),
        ([Degraded; 3], None),
        ([Healthy, Healthy, Unhealthy], None),
        (ILL_BY_TTL, Some(60)),
        ([Healthy, Unhealthy, Healthy], Some(120)),
        ([Unhealthy; 3], Some(60)),
    ] {
        let at_stake = AtStake::of(&instance(statuses, 1, 0), None).unwrap();
        assert_eq!(due(&at_stake, &always()), expected, "{statuses:?}");
    }
    let at_stake = AtStake::of(&instance(ILL_BY_TTL, 1, 0), None).unwrap();
    assert_eq!(at_stake.overdue(&always(), |_| None, at(59)), None);
    let ttl = CheckId::parse("ttl").unwrap();
    let overdue = Overdue { since: at(60), unless_heard: Some((ttl, at(57))) };
    assert_eq!(at_stake.overdue(&always(), |_| None, at(62)), Some(overdue.clone()));
    // it still says something, if nothing good
    assert_eq!(at_stake.overdue(&always(), |_| Some(at(58)), at(62)), None);
    assert_eq!(at_stake.overdue(&always(), |_| Some(at(57)), at(62)), Some(overdue));
    // what is asked for says nothing by itself
    let asked = AtStake::of(&instance([Healthy, Unhealthy, Healthy], 1, 0), None).unwrap();
    let overdue = asked.overdue(&always(), |_| Some(at(120)), at(120)).unwrap();
    assert_eq!((overdue.since, overdue.unless_heard), (at(120), None));
}

#[test]
fn who_allows_anything_is_not_at_stake() {
    let mut anything = instance([Unhealthy; 3], 1, 0);
    for checks in
        [Checks::Poll, Checks::Nobody, Checks::listed(vec![check("a", Ask::Tcp { url: None }, None)])]
    {
        anything.spec = Arc::new(Spec { checks, ..spec("a", 80) });
        assert!(AtStake::of(&anything, None).is_none());
    }
}

#[test]
fn an_illness_goes_on_through_other_changes_and_begins_anew_after_a_good_word() {
    let first = AtStake::of(&instance(ILL_BY_TTL, 1, 0), None).unwrap();
    let metadata = AtStake::of(&instance(ILL_BY_TTL, 1, 50), Some(&first)).unwrap();
    assert_eq!(due(&metadata, &always()), Some(60));
    let well = AtStake::of(&instance([Healthy; 3], 2, 55), Some(&metadata)).unwrap();
    assert_eq!(due(&well, &always()), None);
    let again = AtStake::of(&instance(ILL_BY_TTL, 3, 58), Some(&well)).unwrap();
    assert_eq!(due(&again, &always()), Some(118));
    // the good word between was not seen here
    let again = AtStake::of(&instance(ILL_BY_TTL, 3, 58), Some(&metadata)).unwrap();
    assert_eq!(due(&again, &always()), Some(118));
}

#[test]
fn who_is_on_his_way_to_be_well_is_waited_for() {
    let mut better = instance(ILL_BY_TTL, 2, 30);
    let state = CheckState { changes: 2, successes: 1, ..CheckState::new(Unhealthy) };
    better.health = better.health.with(0, state);
    let ill = AtStake::of(&instance(ILL_BY_TTL, 1, 0), None).unwrap();
    let better = AtStake::of(&better, Some(&ill)).unwrap();
    assert_eq!((due(&better, &always()), better.is_ill()), (None, false));
}

#[test]
fn what_an_operator_has_set_stays_his() {
    let mut instance = instance(ILL_BY_TTL, 1, 0);
    let (status, by) = (Overriding::Maintenance, "somebody".into());
    instance.overridden = Some(Arc::new(Override { status, reason: None, by, until: None }));
    assert_eq!(due(&AtStake::of(&instance, None).unwrap(), &always()), None);
}

#[test]
fn nobody_goes_because_nobody_could_hear() {
    let ill = AtStake::of(&instance(ILL_BY_TTL, 1, 0), None).unwrap();
    // this replica began to hear a moment ago: one ttl from then on
    assert_eq!(due(&ill, &Hearing { here_since: at(58), ..always() }), Some(63));
    assert_eq!(due(&ill, &Hearing { here_since: at(20), ..always() }), Some(60));
    // all were away for half an hour: so long, and a ttl
    let gaps = [(at(1830), TimeDelta::seconds(1800)), (at(1900), TimeDelta::seconds(13))];
    let away = Hearing { gaps: &gaps[..1], ..always() };
    assert_eq!(due(&ill, &away), Some(60 + 1800 + 5));
    // and once more for a moment: what was before is not forgotten
    assert_eq!(due(&ill, &Hearing { gaps: &gaps, ..always() }), Some(60 + 1800 + 5 + 13 + 5));
    // it fell ill when they were back
    let later = AtStake::of(&instance(ILL_BY_TTL, 1, 1830), None).unwrap();
    assert_eq!(due(&later, &away), Some(1890));
    // a check that is asked for needs its interval and its time-out
    let asked = AtStake::of(&instance([Healthy, Unhealthy, Healthy], 1, 0), None).unwrap();
    assert_eq!(due(&asked, &Hearing { here_since: at(100), ..always() }), Some(140));
    // times that no calendar has are never over
    assert_eq!(due(&ill, &Hearing { gaps: &[(at(1830), TimeDelta::MAX)], ..always() }), None);
}
