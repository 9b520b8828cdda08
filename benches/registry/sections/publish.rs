//! What it costs to publish one change, in the process itself.

use std::{hint::black_box, sync::Arc, time::Instant};

use rollcall::{
    domain::{
        Cause, Change, CheckState, Checks, Event, Health, Host, Instance, InstanceId, Key, ServiceName,
        ServiceType, Spec, Status, event::HealthChanged, target::Endpoint,
    },
    view::{Snapshot, View},
};
use uuid::Uuid;

use crate::{
    bodies,
    options::Options,
    table::{Goal, Table, median},
};

const CHANGES: u64 = 20_000;

pub fn publish(options: &Options, table: &mut Table) {
    let (few, many) = (Registry::of(1000), Registry::of(100_000));
    let (mut ratios, mut small, mut large) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..=options.rounds {
        let (one, other) = if round % 2 == 0 {
            let one = few.change();
            (one, many.change())
        } else {
            let other = many.change();
            (few.change(), other)
        };
        if round > 0 {
            ratios.push(other / one);
            small.push(one);
            large.push(other);
        }
    }
    let details = format!("{:.2} µs | at 1,000 {:.2} µs", median(&large), median(&small));
    table.rounds("publishing a change at 100,000 instances ÷ at 1,000", &ratios, Goal::AtMost(2.0), details);
}

struct Registry {
    view: View,
    instances: Vec<(InstanceId, ServiceName)>,
}

impl Registry {
    fn of(instances: u64) -> Self {
        let spec = Arc::new(Spec {
            kind: ServiceType::Api,
            host: Host::parse("10.0.0.1").unwrap(),
            port: 8000,
            metadata: std::sync::Arc::default(),
            health_check_endpoint: Endpoint::default(),
            weight: 1,
            zone: None,
            region: None,
            datacenter: None,
            endpoints: std::collections::BTreeMap::new(),
            url: None,
            topics: Box::default(),
            dependencies: Box::default(),
            checks: Checks::Nobody,
        });
        let all = (0..instances).map(|number| {
            let now = chrono::DateTime::UNIX_EPOCH;
            Instance {
                id: InstanceId(Uuid::from_u128(u128::from(number))),
                service: ServiceName::parse(&format!("service-{:06}", number / 10)).unwrap(),
                key: Key::Given(format!("{number}").as_str().into()),
                spec: spec.clone(),
                health: Health::of([CheckState::new(Status::Healthy)]),
                overridden: None,
                alert: None,
                registered_at: now,
                updated_at: now,
                version: 1,
                revision: 0,
            }
        });
        let all: Vec<Instance> = all.collect();
        let instances = all.iter().map(|instance| (instance.id, instance.service.clone())).collect();
        let view = View::default();
        view.publish(Arc::new(Snapshot::loaded(1, 0, all, Vec::new())));
        Self { view, instances }
    }

    /// Microseconds for one change, the end of the snapshot before it included.
    fn change(&self) -> f64 {
        let events: Vec<Event> = (0..CHANGES).map(|number| self.report(number)).collect();
        let begun = Instant::now();
        for event in &events {
            let next = self.view.snapshot().after(std::slice::from_ref(event), event.revision);
            self.view.publish(Arc::new(black_box(next)));
        }
        begun.elapsed().as_secs_f64() / CHANGES as f64 * 1e6
    }

    fn report(&self, number: u64) -> Event {
        let which = bodies::spread(number, self.instances.len() as u64) as usize;
        let (id, service) = self.instances[which].clone();
        let change = HealthChanged {
            id,
            service,
            version: 2,
            old: Status::Healthy,
            new: Health::of([CheckState::new(Status::Unknown)]),
            check: None,
            cause: Cause::Report,
            output: None,
        };
        Event {
            revision: self.view.snapshot().revision() + 1 + number.cast_signed(),
            time: chrono::DateTime::UNIX_EPOCH,
            actor: "bench".into(),
            change: Change::HealthChanged(change),
        }
    }
}
