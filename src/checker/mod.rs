//! Asks registered instances for their health, each at its interval, and reports what it learns.
//!
//! One task keeps the schedule and no more than a bounded number of checks under way. It follows the view by the
//! difference of two snapshots, so that a change costs what changed.

mod schedule;

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::task::{self, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{
    app::{App, AppError, CheckResult},
    domain::InstanceId,
    probe::http::HttpProbe,
};
use schedule::{Due, Schedule};

const TIME_OUT: Duration = Duration::from_secs(10);
/// Checks under way at once.
const AT_ONCE: usize = 256;

pub struct Checker {
    app: App,
    probe: HttpProbe,
    schedule: Schedule,
    /// The checks under way, for the one that ends without a word.
    asked: HashMap<task::Id, InstanceId>,
}

impl Checker {
    pub fn new(app: App) -> Result<Self, reqwest::Error> {
        Ok(Self {
            app,
            probe: HttpProbe::new(TIME_OUT)?,
            schedule: Schedule::default(),
            asked: HashMap::new(),
        })
    }

    /// Checks until it is stopped. Checks that are under way then are dropped: their results concern nobody any more.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut changes = self.app.changes();
        let mut under_way = JoinSet::new();
        loop {
            if let Ok(snapshot) = self.app.snapshot() {
                self.schedule.follow(&snapshot, &self.app);
            }
            tokio::select! {
                () = stop.cancelled() => return,
                changed = changes.changed() => if changed.is_err() { return },
                Some(due) = self.schedule.next(), if under_way.len() < AT_ONCE => {
                    self.begin(due, &mut under_way);
                }
                Some(done) = under_way.join_next_with_id() => {
                    let task = match done {
                        Ok((task, ())) => task,
                        Err(error) => {
                            tracing::error!(error = crate::telemetry::chain(&error), "a check failed to run");
                            error.id()
                        }
                    };
                    if let Some(id) = self.asked.remove(&task) {
                        self.schedule.again(id);
                    }
                }
            }
        }
    }

    fn begin(&mut self, due: Due, under_way: &mut JoinSet<()>) {
        // A report meanwhile counts as this check: the next one comes a whole interval after it.
        if !due.moved
            && let Some(wait) = schedule::wait_after_report(&due, &self.app)
        {
            self.schedule.put_off(due.id, wait);
            return;
        }
        let (app, probe) = (self.app.clone(), self.probe.clone());
        let id = due.id;
        let task = under_way.spawn(async move {
            let seen = probe.ask(&due.url).await;
            let output = seen.output.map(Arc::from);
            let result = CheckResult { healthy: seen.healthy, latency: seen.latency, output };
            match app.checked(due.id, &due.url, result).await {
                // an instance that has gone meanwhile needs no health
                Ok(()) | Err(AppError::Refused(_)) => {}
                Err(error) => {
                    tracing::debug!(
                        error = crate::telemetry::chain(&error),
                        "a verdict could not be written"
                    );
                }
            }
        });
        self.asked.insert(task.id(), id);
    }
}
