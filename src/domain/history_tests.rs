use super::*;
use crate::domain::{
    CheckState, Health, InstanceId, Key, Overriding, ServiceName, event::Overridden, instance::tests::spec,
};

fn id() -> InstanceId {
    InstanceId(uuid::Uuid::from_u128(1))
}

fn name() -> ServiceName {
    ServiceName::parse("orders").unwrap()
}

fn health(status: Status) -> Health {
    Health::of([CheckState::new(status)])
}

fn registered() -> Change {
    let (key, spec) = (Key::given("a").unwrap(), Arc::new(spec("a", 1)));
    Change::Registered { id: id(), service: name(), key, spec, health: health(Status::Unknown) }
}

fn updated(status: Status) -> Change {
    let spec = Arc::new(spec("a", 1));
    Change::Updated { id: id(), service: name(), version: 2, spec, health: health(status) }
}

fn turned(old: Status, new: Status) -> Change {
    Change::HealthChanged(HealthChanged {
        id: id(),
        service: name(),
        version: 2,
        old,
        new: health(new),
        check: CheckId::parse("web").ok(),
        cause: Cause::Check,
        output: Some("answered 500".into()),
    })
}

fn overridden(status: Option<Overriding>, old: Status, new: Status) -> Change {
    let above = |status| Override { status, reason: Some("disk".into()), by: "me".into(), until: None };
    let overriding = status.map(above).map(Arc::new);
    Change::Overridden(Overridden { id: id(), service: name(), version: 3, old, new, overriding })
}

fn unregistered() -> Change {
    Change::Unregistered { id: id(), service: name(), key: Key::given("a").unwrap(), version: 9 }
}

fn at(second: usize) -> DateTime<Utc> {
    DateTime::from_timestamp(i64::try_from(second).unwrap(), 0).unwrap()
}

/// The periods that follow from these changes, a second between each two.
fn periods(most: usize, changes: impl IntoIterator<Item = Change>) -> Vec<Period> {
    let mut history = History::of_newest(most);
    for (second, change) in changes.into_iter().enumerate() {
        let revision = Revision::try_from(second).unwrap();
        history.take(Event { revision, time: at(second), actor: "somebody".into(), change });
    }
    history.into_periods().collect()
}

/// Each with when it began and ended.
fn times(periods: &[Period]) -> Vec<(Status, usize, Option<usize>)> {
    let second = |time: DateTime<Utc>| usize::try_from(time.timestamp()).unwrap();
    periods.iter().map(|period| (period.status, second(period.from), period.to.map(second))).collect()
}

#[test]
fn a_life_is_told_state_by_state() {
    use Status::{Degraded, Healthy, Unhealthy, Unknown};
    let periods = periods(
        100,
        [
            registered(),
            turned(Unknown, Healthy),
            updated(Healthy),
            turned(Healthy, Degraded),
            turned(Degraded, Degraded),
            turned(Degraded, Unhealthy),
            updated(Unknown),
            unregistered(),
        ],
    );
    assert_eq!(
        times(&periods),
        [
            (Unknown, 0, Some(1)),
            (Healthy, 1, Some(3)),
            (Degraded, 3, Some(5)),
            (Unhealthy, 5, Some(6)),
            (Unknown, 6, Some(7)),
        ]
    );
    let result = Beginning::Result {
        cause: Cause::Check,
        check: CheckId::parse("web").ok(),
        output: Some("answered 500".into()),
    };
    let began: Vec<_> = periods.iter().map(|period| &period.began_with).collect();
    assert_eq!(began, [&Beginning::Registered, &result, &result, &result, &Beginning::Updated]);
}

#[test]
fn an_override_hides_what_is_beneath_it() {
    use Status::{Healthy, Maintenance, Unhealthy, Unknown};
    let periods = periods(
        100,
        [
            registered(),
            overridden(Some(Overriding::Maintenance), Unknown, Maintenance),
            turned(Unknown, Healthy),
            updated(Healthy),
            turned(Healthy, Unhealthy),
            overridden(None, Maintenance, Unhealthy),
        ],
    );
    assert_eq!(times(&periods), [(Unknown, 0, Some(1)), (Maintenance, 1, Some(5)), (Unhealthy, 5, None)]);
    assert_eq!(periods.get(1).unwrap().began_with, Beginning::OverrideSet { reason: Some("disk".into()) });
    assert_eq!(periods.get(2).unwrap().began_with, Beginning::OverrideEnded);
}

#[test]
fn only_the_newest_are_kept() {
    let flaps = (0..50).map(|n| {
        let (one, other) = (Status::Healthy, Status::Unhealthy);
        if n % 2 == 0 { turned(one, other) } else { turned(other, one) }
    });
    let periods = periods(3, std::iter::once(registered()).chain(flaps));
    assert_eq!(times(&periods).iter().map(|(_, from, _)| *from).collect::<Vec<_>>(), [48, 49, 50]);
}

#[test]
fn what_is_not_of_an_instance_changes_nothing() {
    let token = Change::TokenRevoked {
        id: serde_json::from_str("\"01890a5d-ac96-774b-bcce-b302099a8057\"").unwrap(),
        name: crate::domain::TokenName::parse("a").unwrap(),
        version: 2,
    };
    assert_eq!(times(&periods(3, [registered(), token])), [(Status::Unknown, 0, None)]);
}
