//! When each instance is to be asked next.

use std::{
    collections::HashMap,
    hash::{BuildHasher, BuildHasherDefault, DefaultHasher},
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, Utc};
use futures_util::StreamExt;
use tokio_util::time::{DelayQueue, delay_queue};

use crate::{
    app::{App, Difference, POLL_INTERVAL, Snapshot},
    domain::{Instance, InstanceId},
};

/// A new instance is asked about a second after it registered.
const FIRST_AFTER: Duration = Duration::from_secs(1);

#[derive(Default)]
pub(super) struct Schedule {
    followed: Option<Arc<Snapshot>>,
    queue: DelayQueue<InstanceId>,
    targets: HashMap<InstanceId, Target>,
}

struct Target {
    url: Arc<str>,
    /// None while a check of it is under way.
    waiting: Option<delay_queue::Key>,
    /// Whether it is to be asked elsewhere than at its last check.
    moved: bool,
}

/// An instance whose time has come.
pub(super) struct Due {
    pub id: InstanceId,
    pub url: Arc<str>,
    /// What was learnt elsewhere does not count here.
    pub moved: bool,
}

impl Schedule {
    /// Takes in what has changed since the snapshot that was followed last.
    pub fn follow(&mut self, snapshot: &Arc<Snapshot>, app: &App) {
        let old = match self.followed.replace(snapshot.clone()) {
            Some(old) if Arc::ptr_eq(&old, snapshot) => return,
            Some(old) => old,
            None => Arc::default(),
        };
        let is_first = old.epoch() == 0;
        snapshot.differences_to(&old, |difference| match difference {
            Difference::Added(instance) => {
                let wait = if is_first { wait_at_start(instance, app) } else { FIRST_AFTER };
                self.plan(instance, wait);
            }
            Difference::Changed(instance) => self.replan(instance),
            Difference::Gone(id) => self.remove(id),
        });
    }

    /// The next instance to be asked. Waits while there is none.
    pub async fn next(&mut self) -> Option<Due> {
        loop {
            let Some(expired) = self.queue.next().await else {
                return std::future::pending().await;
            };
            let id = expired.into_inner();
            if let Some(target) = self.targets.get_mut(&id) {
                target.waiting = None;
                let moved = std::mem::take(&mut target.moved);
                return Some(Due { id, url: target.url.clone(), moved });
            }
        }
    }

    /// A check has ended.
    pub fn again(&mut self, id: InstanceId) {
        let moved = self.targets.get(&id).is_some_and(|target| target.moved);
        self.put_off(id, if moved { FIRST_AFTER } else { POLL_INTERVAL });
    }

    pub fn put_off(&mut self, id: InstanceId, wait: Duration) {
        if let Some(target) = self.targets.get_mut(&id)
            && target.waiting.is_none()
        {
            target.waiting = Some(self.queue.insert(id, wait));
        }
    }

    fn plan(&mut self, instance: &Instance, wait: Duration) {
        let Some(url) = instance.spec.poll_url() else { return };
        let waiting = Some(self.queue.insert(instance.id, wait));
        self.targets.insert(instance.id, Target { url: url.into(), waiting, moved: false });
    }

    /// An instance that is to be asked elsewhere now is asked soon; any other change leaves its turn as it is.
    fn replan(&mut self, instance: &Instance) {
        let url = instance.spec.poll_url();
        match (self.targets.get_mut(&instance.id), url) {
            (Some(target), Some(url)) if *target.url != *url => {
                target.url = url.into();
                target.moved = true;
                if let Some(key) = &target.waiting {
                    self.queue.reset(key, FIRST_AFTER);
                }
            }
            (None, Some(_)) => self.plan(instance, FIRST_AFTER),
            (Some(_), None) => self.remove(instance.id),
            _ => {}
        }
    }

    fn remove(&mut self, id: InstanceId) {
        if let Some(key) = self.targets.remove(&id).and_then(|target| target.waiting) {
            self.queue.remove(&key);
        }
    }
}

/// How long an instance that was reported on since its check was planned need not be asked.
pub(super) fn wait_after_report(due: &Due, app: &App) -> Option<Duration> {
    let last = app.last_check(due.id)?;
    // a check in the future tells of clocks, not of checks
    let since = (app.now() - last).to_std().ok()?;
    // a planned check comes a whole interval after the last one, give or take the clocks' grain
    POLL_INTERVAL.checked_sub(since).filter(|wait| *wait > Duration::from_millis(250))
}

/// After a start every instance would be due at once. Those that were checked keep their turn, new ones are asked
/// soon, and the rest is spread over the interval.
fn wait_at_start(instance: &Instance, app: &App) -> Duration {
    let since = |at: DateTime<Utc>| (app.now() - at).to_std().unwrap_or_default();
    if let Some(wait) = app.last_check(instance.id).and_then(|at| POLL_INTERVAL.checked_sub(since(at))) {
        return wait;
    }
    if since(instance.registered_at) < POLL_INTERVAL {
        return FIRST_AFTER;
    }
    let interval = u64::try_from(POLL_INTERVAL.as_millis()).unwrap_or(1).max(1);
    Duration::from_millis(BuildHasherDefault::<DefaultHasher>::default().hash_one(instance.id) % interval)
}
