use std::collections::BTreeMap;

use chrono::DateTime;
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::domain::{
    Cause, Change, CheckState, Checks, Health, Status, event::HealthChanged, instance::tests::spec,
};

/// So many that most services are found by the signpost.
const NUMBERS: u128 = 400;

#[derive(Clone, Debug)]
enum Step {
    Register { number: u128 },
    Report { number: u128, status: Status },
    Unregister { number: u128 },
}

/// Mostly registrations, so that services outgrow what is copied at once.
fn steps() -> impl Strategy<Value = Vec<Step>> {
    let number = 0..NUMBERS;
    let status = prop_oneof![Just(Status::Healthy), Just(Status::Unhealthy)];
    let step = prop_oneof![
        6 => number.clone().prop_map(|number| Step::Register { number }),
        3 => (number.clone(), status).prop_map(|(number, status)| Step::Report { number, status }),
        1 => number.prop_map(|number| Step::Unregister { number }),
    ];
    proptest::collection::vec(step, 0..600)
}

/// Three large services and many small ones; nobody moves from one to another.
fn service_of(number: u128) -> ServiceName {
    let service = if number.is_multiple_of(2) { number % 3 } else { number };
    ServiceName::parse(&format!("service-{service}")).unwrap()
}

fn registered(number: u128) -> Change {
    let spec = Spec { checks: Checks::Nobody, ..spec("10.0.0.1", 8000) };
    Change::Registered {
        id: InstanceId(Uuid::from_u128(number)),
        service: service_of(number),
        key: Key::Given(number.to_string().as_str().into()),
        spec: Arc::new(spec),
        health: Health::of([CheckState::new(Status::Healthy)]),
    }
}

/// What a step comes to for an instance that is there, or is not.
fn change(step: &Step, known: Option<&Instance>) -> Option<Change> {
    match (step, known) {
        (Step::Register { number }, None) => Some(registered(*number)),
        (Step::Report { status, .. }, Some(instance)) => Some(Change::HealthChanged(HealthChanged {
            id: instance.id,
            service: instance.service.clone(),
            version: instance.version + 1,
            old: instance.status(),
            new: Health::of([CheckState::new(*status)]),
            check: None,
            cause: Cause::Report,
            output: None,
        })),
        (Step::Unregister { .. }, Some(instance)) => Some(Change::Unregistered {
            id: instance.id,
            service: instance.service.clone(),
            key: instance.key.clone(),
            version: instance.version + 1,
        }),
        _ => None,
    }
}

fn event(revision: Revision, change: Change) -> Event {
    Event { revision, time: DateTime::UNIX_EPOCH, actor: "test".into(), change }
}

type Model = BTreeMap<InstanceId, Arc<Instance>>;

/// The snapshot and the model after these steps, one publication each.
fn walk(mut snapshot: Snapshot, mut model: Model, steps: &[Step]) -> (Snapshot, Model) {
    for step in steps {
        let (Step::Register { number } | Step::Report { number, .. } | Step::Unregister { number }) = step;
        let id = InstanceId(Uuid::from_u128(*number));
        let Some(change) = change(step, model.get(&id).map(Arc::as_ref)) else { continue };
        let event = event(snapshot.revision() + 1, change);
        snapshot = snapshot.after(std::slice::from_ref(&event), event.revision);
        match evolve(model.get(&id).cloned().map(Row::Instance).as_ref(), &event) {
            Some(Row::Instance(instance)) => model.insert(id, instance),
            _ => model.remove(&id),
        };
    }
    (snapshot, model)
}

proptest! {
    #[test]
    fn it_is_what_the_events_come_to(before in steps(), after in steps()) {
        let (old, old_model) = walk(Snapshot::default(), Model::new(), &before);
        let (snapshot, model) = walk(old.clone(), old_model.clone(), &after);
        for (snapshot, model) in [(&old, &old_model), (&snapshot, &model)] {
            prop_assert_eq!(&snapshot.instances(), model);
            for number in 0..NUMBERS {
                let (id, service) = (InstanceId(Uuid::from_u128(number)), service_of(number));
                prop_assert_eq!(snapshot.find(id), model.get(&id));
                let found = snapshot.service(service.as_str()).map_or(0, |view| view.instances.len());
                let expected = model.values().filter(|instance| instance.service == service).count();
                prop_assert_eq!(found, expected);
            }
        }
        let mut told = old_model;
        snapshot.differences_to(&old, |difference| match difference {
            Difference::Added(new) | Difference::Changed(new) => {
                told.insert(new.id, new.clone());
            }
            Difference::Gone(id) => {
                told.remove(&id);
            }
        });
        prop_assert_eq!(told, model);
    }
}

#[test]
fn counts_go_on_from_one_snapshot_to_the_next() {
    let count = |snapshot: &Snapshot, times| {
        let view = snapshot.service("service-7").unwrap();
        (0..times).for_each(|_| view.discoveries.count());
        view.discoveries.total()
    };
    let first = Snapshot::default().after(&[event(1, registered(7))], 1);
    assert_eq!(count(&first, 3), 3);
    let second = first.after(&[event(2, registered(9))], 2);
    assert_eq!(count(&second, 4), 7);
    // somebody still looks at the one before
    assert_eq!(count(&first, 2), 9);
    let rows = second.instances().values().map(|instance| (**instance).clone()).collect();
    let rebuilt = Snapshot::loaded(1, 2, rows, Vec::new()).with_counts_of(&second);
    assert_eq!(count(&rebuilt, 1), 10);
}

#[test]
fn what_instances_have_in_common_is_kept_once() {
    let events: Vec<_> =
        (1..).zip([7, 9, 12, 18, 21]).map(|(at, number)| event(at, registered(number))).collect();
    let snapshot = Snapshot::default().after(&events, 5);
    let instances: Vec<_> = snapshot.instances().into_values().collect();
    for instance in &instances {
        assert!(Arc::ptr_eq(&instance.spec.metadata, &instances[0].spec.metadata), "{}", instance.service);
    }
    let mut next = Arc::new(spec("10.0.0.1", 8000));
    snapshot.share(&service_of(23), &mut next);
    assert!(Arc::ptr_eq(&next.metadata, &instances[0].spec.metadata));
    let other = Arc::make_mut(&mut next);
    Arc::make_mut(&mut other.metadata).environment = "staging".to_owned();
    let own = next.metadata.clone();
    snapshot.share(&service_of(23), &mut next);
    assert!(Arc::ptr_eq(&next.metadata, &own), "another one stays as it is");
}

#[test]
fn what_is_equal_and_written_in_another_way_stays_as_it_came() {
    let registered = |number, offset: &str| {
        let Change::Registered { id, service, key, mut spec, health } = registered(number) else {
            unreachable!("that is what it makes")
        };
        let metadata = Arc::make_mut(&mut Arc::make_mut(&mut spec).metadata);
        metadata.other.insert("offset".to_owned(), serde_json::from_str(offset).unwrap());
        Change::Registered { id, service, key, spec, health }
    };
    let events = (1..).zip([(7, "0.0"), (9, "-0.0"), (12, "-0.0")]);
    let events: Vec<_> = events.map(|(at, (number, offset))| event(at, registered(number, offset))).collect();
    let snapshot = Snapshot::default().after(&events, 3);
    let kept = |number| snapshot.find(InstanceId(Uuid::from_u128(number))).unwrap().spec.metadata.clone();
    let offset = |number| kept(number).other["offset"].to_string();
    assert_eq!(kept(7), kept(9));
    assert_eq!((&*offset(7), &*offset(9)), ("0.0", "-0.0"));
    assert!(Arc::ptr_eq(&kept(9), &kept(12)));
}
