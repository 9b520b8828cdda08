//! What becomes of instances that promised a word and were not heard of.

use std::{collections::HashMap, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};

use super::{App, AppError, Caller, reads::LANE_PATIENCE};
use crate::{
    domain::{
        Cause, Command, InstanceId, Judged, Seen, ServiceName, State, Status,
        registry::{About, ReportHealth},
    },
    liveness::Subject,
    log::Outcome,
    store::liveness,
};

const SILENCE: &str = "nothing was heard of it in time";

/// That an instance is heard of within a time.
#[derive(Clone, Debug)]
pub struct Lease {
    pub instance: InstanceId,
    /// The check that says so.
    pub judged: Judged,
    pub ttl: Duration,
}

impl App {
    /// When it is over, as far as is known here. `since` is from when on somebody could hear.
    pub fn lease_end(&self, lease: &Lease, since: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let instance = State::instance(&*self.snapshot().ok()?, lease.instance)?;
        let seen = self.shown(instance).last_seen().max(since);
        seen.checked_add_signed(TimeDelta::from_std(lease.ttl).ok()?)
    }

    /// Makes those unhealthy that no replica has heard of in time. What is known here is a second old where others are
    /// concerned, so the database is asked first.
    pub async fn lapse(
        &self,
        over: &[Lease],
        since: DateTime<Utc>,
        hearsay: TimeDelta,
    ) -> Result<(), AppError> {
        let ids: Vec<InstanceId> = over.iter().map(|lease| lease.instance).collect();
        let mut lane = self.0.lanes.take(LANE_PATIENCE).await?;
        let stored = liveness::last_seen(&mut lane.connection, &ids).await?;
        lane.give_back();
        let stored: HashMap<InstanceId, DateTime<Utc>> = stored.into_iter().collect();
        let (snapshot, now) = (self.snapshot()?, self.now());
        let is_over = |lease: &&Lease| {
            let here = self.lease_end(lease, since);
            let elsewhere = stored.get(&lease.instance).copied();
            let elsewhere =
                elsewhere.and_then(|at| at.checked_add_signed(TimeDelta::from_std(lease.ttl).ok()?));
            here.max(elsewhere).is_some_and(|end| end + hearsay <= now)
        };
        let is_well = |lease: &&Lease| {
            let Some(instance) = State::instance(&*snapshot, lease.instance) else { return false };
            let place = instance.spec.place_of_judged(&lease.judged);
            let state = place.and_then(|place| instance.health.state(place));
            state.is_some_and(|state| state.status != Status::Unhealthy)
        };
        let commands = over.iter().filter(is_over).filter(is_well).map(|lease| {
            let subject = Subject { instance: lease.instance, check: Some(lease.judged.check.id.clone()) };
            self.0.liveness.checked(subject, now, None, Some(SILENCE));
            let report = ReportHealth {
                id: lease.instance,
                about: About::Judged(lease.judged.clone()),
                seen: Seen::Lapsed,
                cause: Cause::Check,
                output: Some(SILENCE.into()),
            };
            (Caller::checker(), Command::ReportHealth(report))
        });
        for result in self.0.log.write_all(commands.collect()).await {
            match result.map_err(AppError::from) {
                Ok(outcome) => tell(&outcome),
                // an instance that has gone meanwhile needs no health
                Err(AppError::Refused(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn tell(outcome: &Outcome) {
    if let Some(event) = &outcome.event {
        tracing::info!(
            service_name = event.change.service().map(ServiceName::as_str),
            service_id = event.change.instance().map(tracing::field::display),
            event_type = "lapse",
            "Service was not heard of in time"
        );
    }
}
