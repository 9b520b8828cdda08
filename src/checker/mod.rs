//! Asks registered instances for their health, each check at its interval, and reports what it learns.
//!
//! One task keeps the schedule and no more than a bounded number of checks under way, of one host no more than a few. It
//! follows the view by the difference of two snapshots, so that a change costs what changed.

mod hosts;
mod leases;
mod schedule;

use std::{collections::HashMap, sync::Arc};

use tokio::task::{self, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{
    app::{App, AppError, CheckResult},
    probe::{Line, Observation, Probes, host_of},
};
use hosts::Hosts;
pub use leases::Leases;
use schedule::{Due, Schedule, TargetNo};

/// Checks under way at once.
const AT_ONCE: usize = 512;

pub struct Checker {
    app: App,
    probes: Arc<Probes>,
    schedule: Schedule,
    hosts: Hosts,
    /// The checks under way, for the one that ends without a word.
    asked: HashMap<task::Id, (TargetNo, Arc<str>)>,
    under_way: JoinSet<Line>,
}

impl Checker {
    pub fn new(app: App, probes: Arc<Probes>) -> Self {
        Self {
            app,
            probes,
            schedule: Schedule::default(),
            hosts: Hosts::default(),
            asked: HashMap::new(),
            under_way: JoinSet::new(),
        }
    }

    /// Checks until it is stopped. Checks that are under way then are dropped: their results concern nobody any more.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut changes = self.app.changes();
        let mut peers = self.app.peers();
        loop {
            if let Ok(snapshot) = self.app.snapshot() {
                self.schedule.follow(&snapshot, &self.app);
            }
            tokio::select! {
                () = stop.cancelled() => return,
                changed = changes.changed() => if changed.is_err() { return },
                Ok(()) = peers.changed() => self.schedule.take_over(&self.app),
                Some(due) = self.schedule.next(), if self.under_way.len() < AT_ONCE => self.begin(due),
                Some(done) = self.under_way.join_next_with_id() => {
                    let (task, line) = match done {
                        Ok(ended) => ended,
                        Err(error) => {
                            tracing::error!(error = crate::telemetry::chain(&error), "a check failed to run");
                            (error.id(), Line::default())
                        }
                    };
                    self.end(task, line);
                }
            }
        }
    }

    fn begin(&mut self, due: Due) {
        let check = &due.judged.check;
        if !self.app.owns(due.instance, &check.id) {
            // somebody else runs it, and it is due here again should he be gone by then
            self.schedule.skip(due.no);
            return;
        }
        // A report meanwhile counts as this check: the next one comes a whole interval after it.
        if !due.is_new
            && let Some(wait) = schedule::wait_after_report(&due, &self.app)
        {
            self.schedule.put_off(due.no, wait);
            return;
        }
        let host = host_of(&due.judged.check, &due.judged.host);
        if let Some(due) = self.hosts.enter(&host, due) {
            self.start(due, host);
        }
    }

    fn start(&mut self, due: Due, host: Arc<str>) {
        let (app, probes) = (self.app.clone(), self.probes.clone());
        let Due { no, instance, judged, mut line, .. } = due;
        let task = self.under_way.spawn(async move {
            let Observation { seen, latency, output, load } = probes.ask(&judged, &mut line).await;
            let result = CheckResult { seen, latency, output: output.map(Arc::from), load };
            match app.checked(instance, &judged, result).await {
                // an instance that has gone meanwhile needs no health
                Ok(()) | Err(AppError::Refused(_)) => {}
                Err(error) => {
                    tracing::debug!(
                        error = crate::telemetry::chain(&error),
                        "a verdict could not be written"
                    );
                }
            }
            line
        });
        self.asked.insert(task.id(), (no, host));
    }

    fn end(&mut self, task: task::Id, line: Line) {
        let Some((no, host)) = self.asked.remove(&task) else { return };
        self.schedule.again(no, line, self.app.now());
        if let Some(next) = self.hosts.leave(&host) {
            self.start(next, host);
        }
    }
}
