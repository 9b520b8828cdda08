//! How instances fare: what is reported, what is seen, and what is known.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future;

use super::{App, AppError, Caller, Consistency, Peers, Shown, Snapshot, Written};
use crate::{
    domain::{
        Cause, CheckId, Command, Instance, InstanceId, Judged, Refusal, Revision, Row, Seen, ServiceName,
        State, Status,
        check::{Ask, Check, Kind},
        ownership::owner,
        registry::{About, ReportHealth},
    },
    liveness::{Known, Subject},
    probe::{Line, Observation},
};

/// How long somebody waits for checks that are run at his word.
const RUN_WITHIN: Duration = Duration::from_secs(15);

/// The health of one instance, check by check.
#[derive(Clone, Debug)]
pub struct Health {
    pub shown: Shown,
    pub checks: Vec<CheckDetail>,
}

#[derive(Clone, Debug)]
pub struct CheckDetail {
    pub check: Arc<Check>,
    /// Where it asks; None for a check that waits to be told.
    pub target: Option<String>,
    pub status: Status,
    pub known: Known,
    pub failures: i64,
    pub last_run_at: Option<DateTime<Utc>>,
    pub next_run_at: Option<DateTime<Utc>>,
}

/// What a result changes.
#[derive(Debug)]
pub struct Verdict {
    id: InstanceId,
    judged: Arc<Judged>,
    seen: Seen,
    output: Option<Arc<str>>,
}

impl App {
    /// What somebody says of an instance's health. It counts as a result of the check, and is a sign of life.
    pub async fn report_health(
        &self,
        caller: &Caller,
        id: InstanceId,
        about: About,
        seen: Seen,
        output: Option<Arc<str>>,
    ) -> Result<Written<Shown>, AppError> {
        let report = ReportHealth {
            id,
            about: about.clone(),
            seen,
            cause: Cause::Report,
            output: output.clone(),
            unless_heard: None,
        };
        let at = self.now();
        let outcome = self.0.log.write(caller.clone(), Command::ReportHealth(report)).await?;
        if let (false, Some(Row::Instance(instance))) = (outcome.recalled, &outcome.row)
            && let Ok(Some(place)) = about.place(&instance.spec)
        {
            self.0.liveness.checked(subject_at(instance, place), at, None, output.as_deref());
            if outcome.event.is_none() {
                self.count_repeated_failure(instance, place, seen);
            }
        }
        self.seen_row(outcome, None)
    }

    /// Notes the result of asking an instance by the check at this place. Gives what is to be told of it, if it changes
    /// anything.
    pub fn noted(
        &self,
        instance: &Instance,
        place: usize,
        judged: &Arc<Judged>,
        observed: Observation,
        at: DateTime<Utc>,
    ) -> Option<Verdict> {
        let Observation { seen, latency, output, load, silent } = observed;
        let latency_ms = latency.as_secs_f32() * 1000.0;
        let is_believed = !silent || !self.is_suspicious();
        let subject = subject_at(instance, place);
        if seen == Seen::Passing {
            self.0.liveness.found_well(subject, at, latency_ms, load);
        } else if is_believed {
            self.0.liveness.checked(subject, at, Some(latency_ms), output.as_deref());
        }
        self.watch_load(instance.id, load);
        let thresholds = instance.spec.checks.thresholds(place);
        if instance.health.state(place)?.after(seen, thresholds).is_some() {
            let output = output.map(Into::into);
            return Some(Verdict { id: instance.id, judged: judged.clone(), seen, output });
        }
        if is_believed {
            self.count_repeated_failure(instance, place, seen);
        }
        None
    }

    /// Tells all of it.
    pub async fn tell(&self, verdict: Verdict) -> Result<(), AppError> {
        let Verdict { id, judged, seen, output } = verdict;
        let about = About::Judged(Judged::clone(&judged));
        let report =
            ReportHealth { id, about: about.clone(), seen, cause: Cause::Check, output, unless_heard: None };
        let outcome = self.0.log.write(Caller::checker(), Command::ReportHealth(report)).await?;
        match (&outcome.event, &outcome.row) {
            (Some(event), _) => tracing::info!(
                service_name = event.change.service().map(ServiceName::as_str),
                service_id = %id,
                seen = ?seen,
                event_type = event.change.kind(),
                "Service health changed"
            ),
            (None, Some(Row::Instance(instance))) => {
                if let Ok(Some(place)) = about.place(&instance.spec) {
                    self.count_repeated_failure(instance, place, seen);
                }
            }
            (None, _) => {}
        }
        Ok(())
    }

    /// Runs the checks of an instance now, all at once. One that takes longer than this waits for is left alone.
    pub async fn run_checks(&self, id: InstanceId) -> Result<Health, AppError> {
        let instance = State::instance(&*self.snapshot()?, id).ok_or(Refusal::NoSuchInstance)?;
        let spec = &instance.spec;
        let asked = spec.checks().into_iter().filter(|check| check.ask.kind() != Kind::Ttl);
        let runs = asked.map(|check| async move {
            let judged = Arc::new(Judged { check, host: spec.host.clone(), port: spec.port });
            let observed = self.0.asking.probes.ask(&judged, &mut Line::default()).await;
            let is_doubtful = observed.silent && self.is_suspicious();
            let verdict = self.noted_of(id, &judged, observed);
            match verdict.filter(|_| !is_doubtful) {
                Some(verdict) => self.tell(verdict).await,
                None => Ok(()),
            }
        });
        match tokio::time::timeout(RUN_WITHIN, future::try_join_all(runs)).await {
            // what they came to is told by the health, and so is what they have not come to
            Ok(Ok(_)) | Err(_) => self.health(id),
            Ok(Err(error)) => Err(error),
        }
    }

    /// The same of an instance that may be gone by now, or another one.
    fn noted_of(&self, id: InstanceId, judged: &Arc<Judged>, observed: Observation) -> Option<Verdict> {
        self.glimpse(|snapshot| {
            let instance = snapshot.find(id)?;
            let place = instance.spec.place_of_judged(judged)?;
            self.0.metrics.check_clock(instance.service.as_str()).measured(observed.latency);
            self.noted(instance, place, judged, observed, self.now())
        })
    }

    /// A failure beyond the one that made the check unhealthy changes no row, and is counted all the same.
    fn count_repeated_failure(&self, instance: &Instance, place: usize, seen: Seen) {
        if let Some(state) = instance.health.state(place)
            && seen == Seen::Failing
            && state.status == Status::Unhealthy
        {
            self.0.liveness.failed(subject_at(instance, place), state);
        }
    }

    /// A sign of life. In memory alone, unless a check that waits for it was not healthy. An instance that is not known
    /// here may have registered elsewhere a moment ago.
    pub async fn heartbeat(
        &self,
        caller: &Caller,
        id: InstanceId,
        load: Option<f32>,
    ) -> Result<(), AppError> {
        let known = |snapshot: Arc<Snapshot>| State::instance(&*snapshot, id);
        let instance = match known(self.snapshot()?) {
            Some(instance) => instance,
            None => known(self.snapshot_at(Consistency::Strong).await?).ok_or(Refusal::NoSuchInstance)?,
        };
        self.0.liveness.seen(id, self.now(), load);
        self.renew(&instance);
        self.watch_load(id, load);
        for (place, check) in instance.spec.listed().iter().enumerate() {
            let waits = check.ask.kind() == Kind::Ttl;
            if waits && instance.health.state(place).is_some_and(|state| state.status != Status::Healthy) {
                let about = About::Check(check.id.clone());
                self.report_health(&caller.of_item(place), id, about, Seen::Passing, None).await?;
            }
        }
        Ok(())
    }

    /// A sign of life of an instance, as it was at this revision, for which nothing more follows from it. False, and nothing is
    /// noted, where more does.
    pub fn heard_of(&self, instance: &Instance, seen_at: Revision, is_let_in: impl FnOnce() -> bool) -> bool {
        let changes = |(place, check): (usize, &Arc<Check>)| {
            let is_well = instance.health.state(place).is_some_and(|state| state.status == Status::Healthy);
            check.ask.kind() == Kind::Ttl && !is_well
        };
        let checks = instance.spec.listed();
        if checks.iter().enumerate().any(changes) || !is_let_in() {
            return false;
        }
        self.0.liveness.seen(instance.id, self.now(), None);
        self.renew(instance);
        if checks.iter().all(|check| check.ask.kind() != Kind::Ttl) {
            let still = || self.0.view.glimpse(|now| now.revision() == seen_at);
            self.0.liveness.take_for_plain(instance.id, still);
        }
        true
    }

    /// The same of one that is known to be such from before, where anybody may do so. Gives the newest revision; None, and
    /// nothing is noted, where it is another one.
    pub fn heard_again(&self, id: InstanceId, at: Instant) -> Option<Revision> {
        let is_noted = !self.0.auth.is_required() && self.0.liveness.seen_again(id, self.micros_at(at));
        is_noted.then(|| self.0.view.newest())
    }

    /// The instance itself was heard of, which is what its ttl checks wait for.
    pub(super) fn renew(&self, instance: &Instance) {
        for check in instance.spec.listed().iter().filter(|check| check.ask.kind() == Kind::Ttl) {
            let subject = Subject { instance: instance.id, check: Some(check.id.clone()) };
            self.0.liveness.checked(subject, self.now(), None, None);
        }
    }

    /// The replicas that share the checks out, as they come and go.
    pub fn peers(&self) -> Peers {
        self.0.asking.peers.clone()
    }

    /// Whether this replica is among those that share the checks out.
    pub fn shares_checks(&self) -> bool {
        self.0.asking.peers.borrow().checking.contains(&self.0.asking.replica)
    }

    /// Whether a check is this replica's to run.
    pub fn owns(&self, instance: InstanceId, check: &CheckId) -> bool {
        owner(&self.0.asking.peers.borrow().checking, instance.0, check.as_str())
            == Some(self.0.asking.replica)
    }

    /// When a check last had a result, or was reported on.
    pub fn last_check(&self, instance: &Instance, place: usize) -> Option<DateTime<Utc>> {
        self.last_check_of(&subject_at(instance, place))
    }

    /// The same for what the checker knows of.
    pub fn last_check_of(&self, subject: &Subject) -> Option<DateTime<Utc>> {
        self.0.liveness.last_check(subject)
    }

    /// When an instance was last heard of.
    pub fn last_seen(&self, id: InstanceId) -> Option<DateTime<Utc>> {
        self.0.liveness.known(id).last_seen
    }

    pub fn health(&self, id: InstanceId) -> Result<Health, AppError> {
        let instance = State::instance(&*self.snapshot()?, id).ok_or(Refusal::NoSuchInstance)?;
        let shown = self.shown(instance);
        let checks = shown.instance.spec.checks().into_iter().enumerate();
        let checks = checks.map(|(place, check)| self.detail(&shown, place, check)).collect();
        Ok(Health { shown, checks })
    }

    fn detail(&self, shown: &Shown, place: usize, check: Arc<Check>) -> CheckDetail {
        let instance = &*shown.instance;
        let known = self.0.liveness.known_of(&subject_at(instance, place));
        let state = instance.health.state(place);
        let beyond = |changes| if known.changes == changes { known.failures } else { 0 };
        let failures = state.map_or(0, |state| i64::from(state.failures) + beyond(state.changes));
        let last_run_at = known.last_check;
        let wait = if let Ask::Ttl { ttl } = check.ask { ttl } else { check.interval };
        let wait = TimeDelta::from_std(wait).unwrap_or_default();
        CheckDetail {
            target: check.target(&instance.spec.host, instance.spec.port),
            status: state.map_or(Status::Unknown, |state| state.status),
            failures,
            last_run_at,
            next_run_at: last_run_at.map(|at| at + wait),
            known,
            check,
        }
    }
}

/// What liveness calls a check: one with a name by its name, any other is the instance's own.
fn subject_at(instance: &Instance, place: usize) -> Subject {
    Subject { instance: instance.id, check: instance.spec.id_at(place) }
}
