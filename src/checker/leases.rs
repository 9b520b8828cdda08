//! Finds the ttl checks whose time is over without a word from their instances.
//!
//! Invariant: nothing lapses because rollcall, or its database, was away. While the database cannot be asked nothing is
//! decided, and afterwards every lease has a whole ttl from then on, as after a start.

use std::{collections::HashMap, sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::{FutureExt as _, StreamExt as _};
use smallvec::SmallVec;
use tokio::task::unconstrained;
use tokio_util::{
    sync::CancellationToken,
    time::{DelayQueue, delay_queue},
};

use crate::{
    app::{App, Difference, Guard, Lease, Snapshot},
    domain::{Instance, InstanceId, Judged, check::Ask},
};

/// How often leases are looked at that should be over.
const EVERY: Duration = Duration::from_millis(250);
/// What another replica heard is known here when it has flushed it: once a second, and later where the database is slow,
/// until it is noticed to be silent.
const HEARSAY: TimeDelta = TimeDelta::milliseconds(3500);
/// When a lease that is over is looked at again.
const SOON: Duration = Duration::from_secs(5);
/// More than this are looked at in turns.
const MOST_AT_ONCE: usize = 5000;

pub struct Leases {
    app: App,
    followed: Arc<Snapshot>,
    queue: DelayQueue<Lease>,
    of_instance: HashMap<InstanceId, SmallVec<[delay_queue::Key; 1]>>,
    /// Whether there is no other replica that could have heard something.
    alone: bool,
    /// Since when there has been somebody who could hear. None while there is not.
    hears_since: Option<DateTime<Utc>>,
}

impl Leases {
    pub fn new(app: App) -> Self {
        Self {
            app,
            followed: Arc::default(),
            queue: DelayQueue::new(),
            of_instance: HashMap::new(),
            alone: false,
            hears_since: None,
        }
    }

    pub async fn run(mut self, stop: CancellationToken) {
        let mut peers = self.app.peers();
        let mut known = peers.borrow_and_update().clone();
        while stop.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_some() {
            if let Ok(snapshot) = self.app.snapshot() {
                self.follow(&snapshot);
            }
            let there = peers.borrow_and_update().clone();
            // what a replica heard that is not heard of itself may never be known here
            if there.silent > 0 || there.others < known.others {
                self.hears_since = None;
            }
            self.alone = there.others == 0;
            known = there;
            let reason = if known.silent > 0 {
                Some("another replica is silent, which may have heard what was not heard here")
            } else if self.app.readiness().store_ok {
                None
            } else {
                self.hears_since = None;
                Some("the database, which knows what others heard, cannot be reached")
            };
            self.app.guard(Guard::Leases, reason);
            if reason.is_none() {
                self.turn().await;
            }
        }
    }

    async fn turn(&mut self) {
        let now = self.app.now();
        let since = *self.hears_since.get_or_insert(now);
        let mut over = Vec::new();
        for _ in 0..MOST_AT_ONCE {
            // a task may ask timers a hundred times or so before it has to make room, and then learns nothing more
            let Some(Some(due)) = unconstrained(self.queue.next()).now_or_never() else { break };
            let key = due.key();
            let lease = due.into_inner();
            self.forget_key(lease.instance, key);
            match self.left(&lease, since, now) {
                Some(left) => self.wait(lease, left),
                None if self.app.owns(lease.instance, &lease.judged.check.id) => over.push(lease),
                // somebody else looks at it
                None => self.wait(lease, SOON),
            }
        }
        if over.is_empty() {
            return;
        }
        if let Err(error) = self.app.lapse(&over, since, self.hearsay()).await {
            tracing::debug!(error = crate::telemetry::chain(&error), "leases could not be looked at");
            self.hears_since = None;
        }
        // one that has lapsed is looked at again as well: it is renewed by the next word of its instance
        for lease in over {
            let ttl = lease.ttl;
            self.wait(lease, ttl.min(SOON));
        }
    }

    /// How long a lease still has.
    fn left(&self, lease: &Lease, since: DateTime<Utc>, now: DateTime<Utc>) -> Option<Duration> {
        let end = self.app.lease_end(lease, since)? + self.hearsay();
        (end - now).to_std().ok().filter(|left| !left.is_zero())
    }

    fn hearsay(&self) -> TimeDelta {
        if self.alone { TimeDelta::zero() } else { HEARSAY }
    }

    fn wait(&mut self, lease: Lease, wait: Duration) {
        let instance = lease.instance;
        // an instance that has gone meanwhile has no lease
        if self.followed.has_instance(instance) {
            let key = self.queue.insert(lease, wait);
            self.of_instance.entry(instance).or_default().push(key);
        }
    }

    fn forget_key(&mut self, instance: InstanceId, key: delay_queue::Key) {
        if let Some(keys) = self.of_instance.get_mut(&instance) {
            keys.retain(|other| *other != key);
            if keys.is_empty() {
                self.of_instance.remove(&instance);
            }
        }
    }

    fn follow(&mut self, snapshot: &Arc<Snapshot>) {
        let old = std::mem::replace(&mut self.followed, snapshot.clone());
        if Arc::ptr_eq(&old, snapshot) {
            return;
        }
        snapshot.differences_to(&old, |difference| match difference {
            Difference::Added(instance) => self.plan(instance),
            Difference::Changed(instance) => {
                let leases = old.find(instance.id).is_none_or(|old| !Arc::ptr_eq(&old.spec, &instance.spec));
                if leases {
                    self.remove(instance.id);
                    self.plan(instance);
                }
            }
            Difference::Gone(id) => self.remove(id),
        });
    }

    fn plan(&mut self, instance: &Instance) {
        let spec = &instance.spec;
        for check in spec.listed() {
            if let Ask::Ttl { ttl } = check.ask {
                let judged = Judged { check: check.clone(), host: spec.host.clone(), port: spec.port };
                self.wait(Lease { instance: instance.id, judged, ttl }, ttl);
            }
        }
    }

    fn remove(&mut self, id: InstanceId) {
        for key in self.of_instance.remove(&id).unwrap_or_default() {
            self.queue.remove(&key);
        }
    }
}
