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
    store::{Patience, StoreError, liveness},
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

impl Lease {
    fn subject(&self) -> Subject {
        Subject { instance: self.instance, check: Some(self.judged.check.id.clone()) }
    }
}

impl App {
    /// When it is over, as far as is known here. `since` is from when on somebody could hear.
    pub fn lease_end(&self, lease: &Lease, since: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let instance = State::instance(&*self.snapshot().ok()?, lease.instance)?;
        let heard = self.0.liveness.known_of(&lease.subject()).last_check;
        let heard = heard.map_or(instance.registered_at, |at| at.max(instance.registered_at));
        heard.max(since).checked_add_signed(TimeDelta::from_std(lease.ttl).ok()?)
    }

    /// Makes those unhealthy that no replica has heard of in time. What is known here is a second old where others are
    /// concerned, so the database is asked first: an error means that it could not be.
    pub async fn lapse(
        &self,
        over: &[Lease],
        since: DateTime<Utc>,
        hearsay: TimeDelta,
    ) -> Result<(), AppError> {
        let snapshot = self.snapshot()?;
        let is_well = |lease: &&Lease| {
            let Some(instance) = State::instance(&*snapshot, lease.instance) else { return false };
            let place = instance.spec.place_of_judged(&lease.judged);
            let state = place.and_then(|place| instance.health.state(place));
            state.is_some_and(|state| state.status != Status::Unhealthy)
        };
        let over: Vec<&Lease> = over.iter().filter(is_well).collect();
        if over.is_empty() {
            return Ok(());
        }
        let subjects: Vec<Subject> = over.iter().map(|lease| lease.subject()).collect();
        let stored = match self.stored_checks(&subjects, Patience::USED).await {
            // the connection had ended while nobody used it
            Err(StoreError::Broken(_) | StoreError::Timeout(_)) => {
                self.0.lanes.forget_idle();
                self.stored_checks(&subjects, Patience::FRESH).await?
            }
            result => result?,
        };
        let now = self.now();
        let is_over = |lease: &&Lease| {
            let here = self.lease_end(lease, since);
            let elsewhere = stored.get(&lease.subject()).copied();
            let elsewhere =
                elsewhere.and_then(|at| at.checked_add_signed(TimeDelta::from_std(lease.ttl).ok()?));
            here.max(elsewhere).is_some_and(|end| end + hearsay <= now)
        };
        let commands = over.into_iter().filter(is_over).map(|lease| {
            // what is heard between this look and the writing is made sure of there
            let unless_heard =
                TimeDelta::from_std(lease.ttl).ok().and_then(|ttl| (now - hearsay).checked_sub_signed(ttl));
            // as of the last word: silence is no result that would renew it
            if let Some(last) = self.0.liveness.known_of(&lease.subject()).last_check {
                self.0.liveness.checked(lease.subject(), last, None, Some(SILENCE));
            }
            let report = ReportHealth {
                id: lease.instance,
                about: About::Judged(lease.judged.clone()),
                seen: Seen::Lapsed,
                cause: Cause::Check,
                output: Some(SILENCE.into()),
                unless_heard,
            };
            (Caller::checker(), Command::ReportHealth(report))
        });
        let mut failed = None;
        for result in self.0.log.write_all(commands.collect()).await {
            match result.map_err(AppError::from) {
                Ok(outcome) => tell(&outcome),
                // an instance that has gone meanwhile needs no health
                Err(AppError::Refused(_)) => {}
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        if let Some(error) = failed {
            // its turn comes again
            tracing::warn!(error = crate::telemetry::chain(&error), "a lapse could not be written");
        }
        Ok(())
    }

    async fn stored_checks(
        &self,
        subjects: &[Subject],
        patience: Patience,
    ) -> Result<HashMap<Subject, DateTime<Utc>>, StoreError> {
        let mut lane = self.0.lanes.take(LANE_PATIENCE).await?;
        let stored = liveness::last_checks(&mut lane.connection, subjects, patience).await?;
        lane.give_back();
        Ok(stored)
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
