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
mod turns;

use std::{panic::AssertUnwindSafe, sync::Arc};

use futures_util::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use tokio::{
    task::{JoinSet, unconstrained},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{
    app::{App, AppError, Guard, Verdict},
    domain::{Judged, Status},
    probe::{Line, Observation, Probes},
};
use doubt::{Doubt, Steps};
use hosts::Hosts;
pub use leases::Leases;
use schedule::{Due, Schedule, Target, TargetNo};
pub use sweeper::Sweeper;

/// Checks under way at once.
const AT_ONCE: usize = 512;
/// So many are seen to before anything else is looked at.
const AT_A_STRETCH: usize = 64;
const CUT_OFF: &str =
    "most of the targets that used to answer are silent, so it may be this replica that is cut off";

pub struct Checker {
    app: App,
    probes: Arc<Probes>,
    schedule: Schedule,
    hosts: Hosts,
    doubt: Doubt<TargetNo, Verdict>,
    /// Driven here and by no tasks of their own: most of them have nothing to do but to wait.
    under_way: FuturesUnordered<BoxFuture<'static, Ended>>,
    /// What was held back for a while and is told now.
    telling: JoinSet<()>,
}

/// What has become of a check that is under way.
enum Ended {
    /// It was run. Of one that broke down there is nothing to tell.
    Run { due: Due, judged: Arc<Judged>, line: Line, observed: Option<Observation> },
    /// What follows from it was told.
    Told { due: Due },
}

impl Checker {
    pub fn new(app: App, probes: Arc<Probes>) -> Self {
        Self {
            app,
            probes,
            schedule: Schedule::default(),
            hosts: Hosts::default(),
            doubt: Doubt::new(Instant::now()),
            under_way: FuturesUnordered::new(),
            telling: JoinSet::new(),
        }
    }

    /// Checks until it is stopped. Checks that are under way then are dropped: their results concern nobody any more.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut changes = self.app.changes();
        let mut peers = self.app.peers();
        loop {
            self.follow();
            let next_trial = self.doubt.next();
            tokio::select! {
                () = stop.cancelled() => return,
                changed = changes.changed() => if changed.is_err() { return },
                Ok(()) = peers.changed() => {
                    self.schedule.take_over(&self.app);
                    self.take_for_well();
                }
                due = self.schedule.next(), if self.under_way.len() < AT_ONCE => self.begin(due),
                Some(ended) = self.under_way.next() => self.end(ended),
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
        for _ in 0..AT_A_STRETCH {
            let ended = unconstrained(self.under_way.next()).now_or_never().flatten();
            let mut is_idle = ended.is_none();
            if let Some(ended) = ended {
                self.end(ended);
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

    /// Takes in what has changed.
    fn follow(&mut self) {
        if let Ok(snapshot) = self.app.snapshot()
            && self.schedule.follow(&snapshot, &self.app)
        {
            self.take_for_well();
        }
        self.schedule.gone().into_iter().for_each(|no| self.doubt.forget(no));
    }

    /// Those that others found well are taken to answer until they have been asked here: a replica that is cut off from the
    /// beginning is to notice it.
    fn take_for_well(&mut self) {
        for (no, target) in self.schedule.fresh() {
            if target.is_own(&self.app) && target.status() == Some(Status::Healthy) {
                self.doubt.heard(no);
            }
        }
    }

    fn begin(&mut self, due: Due) {
        if !self.doubt.wants(due.no) {
            if !self.schedule.target(due.no).is_some_and(|target| target.is_own(&self.app)) {
                // somebody else runs it, and it is due here again should he be gone by then
                self.schedule.skip(due.no);
                self.doubt.hand_over(due.no);
                return;
            }
            if self.schedule.can_wait(due.no, &self.app) {
                return;
            }
        }
        if let Some(due) = self.hosts.enter(due) {
            self.start(due);
        }
    }

    fn start(&mut self, due: Due) {
        let mut next = Some(due);
        while let Some(due) = next {
            if let Some((judged, line)) = self.schedule.begin(due.no) {
                self.under_way.push(run(self.probes.clone(), judged, due, line).boxed());
                return;
            }
            // it has gone while it waited for its host
            next = self.hosts.leave(&due.host);
        }
    }

    fn end(&mut self, ended: Ended) {
        match ended {
            Ended::Run { due, judged, line, observed } => {
                let silent = observed.as_ref().is_some_and(|observed| observed.silent);
                let verdict = self.note(due.no, &judged, line, observed);
                match verdict {
                    Some(verdict) if !silent => {
                        let app = self.app.clone();
                        let told = async move {
                            if AssertUnwindSafe(tell(&app, verdict)).catch_unwind().await.is_err() {
                                tracing::error!("a verdict could not be told");
                            }
                            Ended::Told { due }
                        };
                        self.under_way.push(told.boxed());
                    }
                    verdict => self.again(&due, silent, verdict),
                }
            }
            Ended::Told { due } => self.again(&due, false, None),
        }
    }

    /// What a check has come to. Gives what is to be told of it, if it changes anything.
    fn note(
        &mut self,
        no: TargetNo,
        judged: &Arc<Judged>,
        line: Line,
        observed: Option<Observation>,
    ) -> Option<Verdict> {
        // what is noted must not be about somebody who is known to be gone, or to be another one
        self.follow();
        // one time for both: what is noted is no report by somebody else
        let now = self.app.now();
        let target = self.schedule.ended(no, line, now)?;
        let observed = observed.filter(|_| !target.is_new)?;
        target.clock.measured(observed.latency);
        let noted = || self.app.noted(&target.instance, target.place(), judged, observed, now);
        std::panic::catch_unwind(AssertUnwindSafe(noted)).unwrap_or_else(|_| {
            tracing::error!("a check could not be noted");
            None
        })
    }

    /// All is done that follows from a check: it waits for its next turn.
    fn again(&mut self, due: &Due, silent: bool, verdict: Option<Verdict>) {
        match self.schedule.again(due.no, silent) {
            Some(interval) if silent => {
                self.doubt.silent(due.no, verdict, interval, self.has_trusted_others(), Instant::now());
            }
            Some(_) => self.doubt.heard(due.no),
            None => {}
        }
        self.settle();
        if let Some(next) = self.hosts.leave(&due.host) {
            self.start(next);
        }
    }

    /// Whether there are replicas that do not doubt themselves: then one that does is not among those that share the
    /// checks out.
    fn has_trusted_others(&self) -> bool {
        !self.app.shares_checks()
    }

    fn settle(&mut self) {
        let status = |no| self.schedule.target(no).and_then(Target::status);
        let is_ill = |no| status(no).is_none_or(|status| status == Status::Unhealthy);
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

/// Asks. Its turn comes again whatever becomes of it.
async fn run(probes: Arc<Probes>, judged: Arc<Judged>, due: Due, mut line: Line) -> Ended {
    let asked = AssertUnwindSafe(probes.ask(&judged, &mut line)).catch_unwind().await;
    match asked {
        Ok(observed) => Ended::Run { due, judged, line, observed: Some(observed) },
        Err(_) => {
            tracing::error!("a check failed to run");
            Ended::Run { due, judged, line: Line::default(), observed: None }
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
