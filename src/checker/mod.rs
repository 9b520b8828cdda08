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
mod sweeper;

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use tokio::{
    task::{JoinError, JoinSet, unconstrained},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{
    app::{App, AppError, Guard, Verdict},
    domain::Status,
    probe::{Line, Probes},
};
use doubt::{Doubt, Steps};
use hosts::Hosts;
pub use leases::Leases;
use schedule::{Due, Schedule, TargetNo};
pub use sweeper::Sweeper;

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
    under_way: JoinSet<Ended>,
    /// What was held back for a while and is told now.
    telling: JoinSet<()>,
}

/// A check that was run.
struct Ended {
    no: TargetNo,
    host: Arc<str>,
    interval: Duration,
    result: Outcome,
}

/// What is left of it.
#[derive(Default)]
struct Outcome {
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
                due = self.schedule.next(), if self.under_way.len() < AT_ONCE => self.begin(due),
                Some(done) = self.under_way.join_next() => self.end(done),
                Some(told) = self.telling.join_next() => {
                    if let Err(error) = told {
                        tracing::error!(error = crate::telemetry::chain(&error), "a verdict was lost");
                    }
                }
                () = tokio::time::sleep_until(next_trial.unwrap_or_else(Instant::now)),
                    if next_trial.is_some() => self.settle(),
            }
            self.keep_up();
        }
    }

    /// What else has ended or is due by now, before anything is waited for again.
    fn keep_up(&mut self) {
        for _ in 0..AT_ONCE {
            let mut is_idle = true;
            if let Some(done) = self.under_way.try_join_next() {
                self.end(done);
                is_idle = false;
            }
            if self.under_way.len() < AT_ONCE
                && let Some(due) = unconstrained(self.schedule.next()).now_or_never()
            {
                self.begin(due);
                is_idle = false;
            }
            if is_idle {
                return;
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
        if let Some(due) = self.hosts.enter(due) {
            self.start(due);
        }
    }

    fn start(&mut self, due: Due) {
        let (app, probes) = (self.app.clone(), self.probes.clone());
        let Due { no, instance, judged, host, mut line, .. } = due;
        let interval = judged.check.interval;
        self.under_way.spawn(async move {
            let run = async move {
                let observed = probes.ask(&judged, &mut line).await;
                let silent = observed.silent;
                let mut verdict = app.noted(instance, &judged, observed);
                if !silent && let Some(verdict) = verdict.take() {
                    tell(&app, verdict).await;
                }
                Outcome { line, silent, verdict }
            };
            // its turn comes again whatever becomes of it
            let result = AssertUnwindSafe(run).catch_unwind().await.unwrap_or_else(|_| {
                tracing::error!("a check failed to run");
                Outcome::default()
            });
            Ended { no, host, interval, result }
        });
    }

    fn end(&mut self, done: Result<Ended, JoinError>) {
        let Ended { no, host, interval, result: Outcome { line, silent, verdict } } = match done {
            Ok(ended) => ended,
            Err(error) => {
                tracing::error!(error = crate::telemetry::chain(&error), "a check was lost");
                return;
            }
        };
        self.schedule.again(no, line, silent, self.app.now());
        if silent {
            self.doubt.silent(no, verdict, interval, self.has_trusted_others(), Instant::now());
        } else {
            self.doubt.heard(no);
        }
        self.settle();
        if let Some(next) = self.hosts.leave(&host) {
            self.start(next);
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
