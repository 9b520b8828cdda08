//! Asks registered instances for their health, each check at its interval, and reports what it learns.
//!
//! One task keeps the schedule and no more than a bounded number of checks under way, of one host no more than a few. It
//! follows the view by the difference of two snapshots, so that a change costs what changed. That a target is silent is
//! told only where it is not rather this replica that is cut off.

mod backoff;
mod doubt;
mod hosts;
mod leases;
mod schedule;

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::{
    task::{self, JoinError, JoinSet},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{
    app::{App, AppError, Guard, Verdict},
    domain::Status,
    probe::{Line, Probes, host_of},
};
use doubt::{Doubt, Steps};
use hosts::Hosts;
pub use leases::Leases;
use schedule::{Due, Schedule, TargetNo};

/// Checks under way at once.
const AT_ONCE: usize = 512;
const CUT_OFF: &str =
    "most of the targets that used to answer are silent, so it may be this replica that is cut off";

pub struct Checker {
    app: App,
    probes: Arc<Probes>,
    schedule: Schedule,
    hosts: Hosts,
    doubt: Doubt<Verdict>,
    /// The checks under way, for the one that ends without a word.
    asked: HashMap<task::Id, Asked>,
    under_way: JoinSet<Ended>,
    /// What was held back for a while and is told now.
    telling: JoinSet<()>,
}

struct Asked {
    no: TargetNo,
    host: Arc<str>,
    interval: Duration,
}

/// What is left of a check that was run.
#[derive(Default)]
struct Ended {
    line: Line,
    silent: bool,
    /// What follows from silence.
    verdict: Option<Verdict>,
}

impl Checker {
    pub fn new(app: App, probes: Arc<Probes>) -> Self {
        Self {
            app,
            probes,
            schedule: Schedule::default(),
            hosts: Hosts::default(),
            doubt: Doubt::new(Instant::now()),
            asked: HashMap::new(),
            under_way: JoinSet::new(),
            telling: JoinSet::new(),
        }
    }

    /// Checks until it is stopped. Checks that are under way then are dropped: their results concern nobody any more.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut changes = self.app.changes();
        let mut peers = self.app.peers();
        loop {
            if let Ok(snapshot) = self.app.snapshot()
                && self.schedule.follow(&snapshot, &self.app)
            {
                self.take_for_well();
            }
            self.schedule.gone().into_iter().for_each(|no| self.doubt.forget(no));
            let next_trial = self.doubt.next();
            tokio::select! {
                () = stop.cancelled() => return,
                changed = changes.changed() => if changed.is_err() { return },
                Ok(()) = peers.changed() => {
                    self.schedule.take_over(&self.app);
                    self.take_for_well();
                }
                Some(due) = self.schedule.next(), if self.under_way.len() < AT_ONCE => self.begin(due),
                Some(done) = self.under_way.join_next_with_id() => self.end(done),
                Some(told) = self.telling.join_next() => {
                    if let Err(error) = told {
                        tracing::error!(error = crate::telemetry::chain(&error), "a verdict was lost");
                    }
                }
                () = tokio::time::sleep_until(next_trial.unwrap_or_else(Instant::now)),
                    if next_trial.is_some() => self.settle(),
            }
        }
    }

    /// Those that others found well are taken to answer until they have been asked here: a replica that is cut off from the
    /// beginning is to notice it.
    fn take_for_well(&mut self) {
        let app = &self.app;
        let is_well = |status| status == Some(Status::Healthy);
        for (no, instance, judged) in self.schedule.fresh() {
            if app.owns(instance, &judged.check.id) && is_well(app.status_of(instance, judged)) {
                self.doubt.heard(no);
            }
        }
    }

    fn begin(&mut self, due: Due) {
        let check = &due.judged.check;
        if !self.doubt.wants(due.no) {
            if !self.app.owns(due.instance, &check.id) {
                // somebody else runs it, and it is due here again should he be gone by then
                self.schedule.skip(due.no);
                self.doubt.hand_over(due.no);
                return;
            }
            // A report meanwhile counts as this check: the next one comes a whole interval after it.
            if !due.is_new
                && let Some(wait) = schedule::wait_after_report(&due, &self.app)
            {
                self.schedule.put_off(due.no, wait);
                return;
            }
            if self.schedule.rests(&due, &self.app) {
                return;
            }
        }
        let host = host_of(&due.judged.check, &due.judged.host);
        if let Some(due) = self.hosts.enter(&host, due) {
            self.start(due, host);
        }
    }

    fn start(&mut self, due: Due, host: Arc<str>) {
        let (app, probes) = (self.app.clone(), self.probes.clone());
        let Due { no, instance, judged, mut line, .. } = due;
        let interval = judged.check.interval;
        let task = self.under_way.spawn(async move {
            let observed = probes.ask(&judged, &mut line).await;
            let silent = observed.silent;
            let mut verdict = app.noted(instance, &judged, observed);
            if !silent && let Some(verdict) = verdict.take() {
                tell(&app, verdict).await;
            }
            Ended { line, silent, verdict }
        });
        self.asked.insert(task.id(), Asked { no, host, interval });
    }

    fn end(&mut self, done: Result<(task::Id, Ended), JoinError>) {
        let (task, Ended { line, silent, verdict }) = match done {
            Ok(ended) => ended,
            Err(error) => {
                tracing::error!(error = crate::telemetry::chain(&error), "a check failed to run");
                (error.id(), Ended::default())
            }
        };
        let Some(Asked { no, host, interval }) = self.asked.remove(&task) else { return };
        self.schedule.again(no, line, silent, self.app.now());
        if silent {
            self.doubt.silent(no, verdict, interval, self.has_trusted_others(), Instant::now());
        } else {
            self.doubt.heard(no);
        }
        self.settle();
        if let Some(next) = self.hosts.leave(&host) {
            self.start(next, host);
        }
    }

    /// Whether there are replicas that do not doubt themselves: then one that does is not among those that share the
    /// checks out.
    fn has_trusted_others(&self) -> bool {
        !self.app.shares_checks()
    }

    fn settle(&mut self) {
        let (app, schedule) = (&self.app, &self.schedule);
        let is_ill = |no| {
            let Some((instance, judged)) = schedule.target(no) else { return true };
            app.status_of(instance, judged).is_none_or(|status| status == Status::Unhealthy)
        };
        let Steps { tell: told, ask, dropped, turned } = self.doubt.settle(Instant::now(), is_ill);
        for no in ask {
            self.schedule.bring_forward(no);
        }
        for verdict in told {
            let app = self.app.clone();
            self.telling.spawn(async move { tell(&app, verdict).await });
        }
        if dropped > 0 {
            self.app.metrics().held_back(Guard::Suspicion, dropped);
        }
        if turned {
            self.app.guard(Guard::Suspicion, self.doubt.is_suspicious().then_some(CUT_OFF));
        }
    }
}

async fn tell(app: &App, verdict: Verdict) {
    match app.tell(verdict).await {
        // an instance that has gone meanwhile needs no health
        Ok(()) | Err(AppError::Refused(_)) => {}
        Err(error) => {
            tracing::debug!(error = crate::telemetry::chain(&error), "a verdict could not be written");
        }
    }
}
