//! When each check is to run next.

use std::{
    collections::HashMap,
    hash::{BuildHasher, BuildHasherDefault, DefaultHasher},
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, Utc};
use foldhash::fast::RandomState;
use futures_util::StreamExt;
use smallvec::SmallVec;
use tokio::time::Instant;
use tokio_util::time::{DelayQueue, delay_queue};

use super::backoff::Backoff;
use crate::{
    app::{App, Difference, Snapshot, Subject},
    domain::{Instance, InstanceId, Judged, check::Kind},
    probe::{Line, host_of},
};

/// A new instance is asked about a second after it registered.
const FIRST_AFTER: Duration = Duration::from_secs(1);

/// Numbers the targets; none is used again.
pub(super) type TargetNo = u64;

#[derive(Default)]
pub(super) struct Schedule {
    followed: Option<Arc<Snapshot>>,
    queue: DelayQueue<TargetNo>,
    targets: HashMap<TargetNo, Target, RandomState>,
    of_instance: HashMap<InstanceId, SmallVec<[TargetNo; 1]>, RandomState>,
    last: TargetNo,
    /// Those that have gone and that nobody was told of yet.
    gone: Vec<TargetNo>,
}

struct Target {
    instance: InstanceId,
    judged: Arc<Judged>,
    /// What is known of it outside the log goes by this.
    subject: Subject,
    host: Arc<str>,
    /// Its connection and the like, while no check of it is under way.
    line: Line,
    /// None while a check of it is under way.
    waiting: Option<delay_queue::Key>,
    /// Whether it is another one than at its last run.
    is_new: bool,
    /// Whether it has found its place in the interval.
    is_spread: bool,
    /// When its last check ended here.
    ended: Option<DateTime<Utc>>,
    backoff: Backoff,
    /// Until when it is left alone, unless it is heard of.
    rests_until: Option<Instant>,
}

/// A check whose time has come.
pub(super) struct Due {
    pub no: TargetNo,
    pub instance: InstanceId,
    pub judged: Arc<Judged>,
    pub host: Arc<str>,
    pub line: Line,
    /// What was learnt of another target does not count here.
    pub is_new: bool,
    pub rests_until: Option<Instant>,
    subject: Subject,
    ended: Option<DateTime<Utc>>,
}

impl Schedule {
    /// Takes in what has changed since the snapshot that was followed last. Returns whether this was the first.
    pub fn follow(&mut self, snapshot: &Arc<Snapshot>, app: &App) -> bool {
        let old = match self.followed.replace(snapshot.clone()) {
            Some(old) if Arc::ptr_eq(&old, snapshot) => return false,
            Some(old) => old,
            None => Arc::default(),
        };
        let is_first = old.epoch() == 0;
        snapshot.differences_to(&old, |difference| match difference {
            Difference::Added(instance) => {
                for (place, judged) in asked(instance) {
                    let wait =
                        if is_first { wait_at_start(instance, place, &judged, app) } else { FIRST_AFTER };
                    self.plan(instance, place, judged, wait);
                }
            }
            Difference::Changed(instance) => self.replan(instance),
            Difference::Gone(id) => self.remove(id),
        });
        is_first
    }

    /// The next check to run. Waits while there is none.
    pub async fn next(&mut self) -> Due {
        loop {
            let Some(expired) = self.queue.next().await else {
                return std::future::pending().await;
            };
            let no = expired.into_inner();
            if let Some(target) = self.targets.get_mut(&no) {
                target.waiting = None;
                return Due {
                    no,
                    instance: target.instance,
                    judged: target.judged.clone(),
                    subject: target.subject.clone(),
                    host: target.host.clone(),
                    line: std::mem::take(&mut target.line),
                    is_new: std::mem::take(&mut target.is_new),
                    rests_until: target.rests_until,
                    ended: target.ended,
                };
            }
        }
    }

    /// A check has ended. `line` is what it keeps for the next time.
    pub fn again(&mut self, no: TargetNo, line: Line, silent: bool, now: DateTime<Utc>) {
        let Some(target) = self.targets.get_mut(&no) else { return };
        target.ended = Some(now);
        let interval = target.judged.check.interval;
        target.rest(silent, interval);
        let wait = if target.is_new {
            FIRST_AFTER.min(interval)
        } else if target.is_spread {
            interval
        } else {
            // those that registered together part, each to a place of its own
            target.is_spread = true;
            interval / 2 + share(no, interval / 2)
        };
        if !target.is_new {
            target.line = line;
        }
        self.put_off(no, wait);
    }

    /// A check whose turn is now: puts it off if it is left alone for a while.
    pub fn rests(&mut self, due: &Due, app: &App) -> bool {
        // who is to be removed in the end must be found in time if he is well again
        if due.judged.check.deregister_after.is_some() {
            return false;
        }
        let Some(left) = due.rests_until.map(|until| until.saturating_duration_since(Instant::now())) else {
            return false;
        };
        // who registers again, or sends a heartbeat, may be there again
        let is_heard = app.last_seen(due.instance) > due.ended;
        if left.is_zero() || is_heard {
            return false;
        }
        self.put_off(due.no, left.min(due.judged.check.interval));
        true
    }

    /// A check is to be run now, ahead of its turn, unless it is under way.
    pub fn bring_forward(&mut self, no: TargetNo) {
        if let Some(key) = self.targets.get(&no).and_then(|target| target.waiting.as_ref()) {
            self.queue.reset(key, Duration::ZERO);
        }
    }

    /// Targets that have gone since this was last asked.
    pub fn gone(&mut self) -> Vec<TargetNo> {
        std::mem::take(&mut self.gone)
    }

    /// The checks that were not run here yet.
    pub fn fresh(&self) -> impl Iterator<Item = (TargetNo, InstanceId, &Judged)> {
        let fresh = self.targets.iter().filter(|(_, target)| target.ended.is_none());
        fresh.map(|(no, target)| (*no, target.instance, &*target.judged))
    }

    pub fn target(&self, no: TargetNo) -> Option<(InstanceId, &Judged)> {
        self.targets.get(&no).map(|target| (target.instance, &*target.judged))
    }

    /// A check is another replica's to run.
    pub fn skip(&mut self, no: TargetNo) {
        if let Some(target) = self.targets.get_mut(&no) {
            target.line = Line::default();
            target.is_spread = true;
            let wait = target.judged.check.interval;
            self.put_off(no, wait);
        }
    }

    /// Others have come or gone: what is this replica's from now on is run when it would have been.
    pub fn take_over(&mut self, app: &App) {
        for (no, target) in &mut self.targets {
            let check = &target.judged.check;
            if !app.owns(target.instance, &check.id) {
                continue;
            }
            let Some(key) = &target.waiting else { continue };
            let last = app.last_check_of(&target.subject);
            let since = last.and_then(|last| (app.now() - last).to_std().ok());
            let wait = match since {
                Some(since) => check.interval.saturating_sub(since),
                None => FIRST_AFTER.min(check.interval),
            };
            // those that are overdue are not all run at once
            let wait = wait.max(share(no, FIRST_AFTER.min(check.interval)));
            self.queue.reset(key, wait);
        }
    }

    pub fn put_off(&mut self, no: TargetNo, wait: Duration) {
        if let Some(target) = self.targets.get_mut(&no)
            && target.waiting.is_none()
        {
            target.waiting = Some(self.queue.insert(no, wait));
        }
    }

    fn plan(&mut self, instance: &Instance, place: usize, judged: Judged, wait: Duration) {
        let subject = Subject { instance: instance.id, check: instance.spec.id_at(place) };
        let instance = instance.id;
        self.last += 1;
        let no = self.last;
        let waiting = Some(self.queue.insert(no, wait.min(judged.check.interval)));
        let host = host_of(&judged.check, &judged.host);
        let judged = Arc::new(judged);
        let target = Target {
            instance,
            judged,
            subject,
            host,
            line: Line::default(),
            waiting,
            is_new: false,
            is_spread: false,
            ended: None,
            backoff: Backoff::default(),
            rests_until: None,
        };
        self.targets.insert(no, target);
        self.of_instance.entry(instance).or_default().push(no);
    }

    /// A check that asks something else now is run soon; any other change leaves its turn as it is.
    fn replan(&mut self, instance: &Instance) {
        let mut left = self.of_instance.remove(&instance.id).unwrap_or_default();
        let mut kept = SmallVec::new();
        let mut fresh = Vec::new();
        for (at, judged) in asked(instance) {
            let same = |no: &TargetNo| {
                self.targets.get(no).is_some_and(|target| target.judged.check.id == judged.check.id)
            };
            let Some(place) = left.iter().position(same) else {
                fresh.push((at, judged));
                continue;
            };
            let no = left.swap_remove(place);
            kept.push(no);
            if let Some(target) = self.targets.get_mut(&no)
                && *target.judged != judged
            {
                let soon = FIRST_AFTER.min(judged.check.interval);
                target.subject.check = instance.spec.id_at(at);
                target.host = host_of(&judged.check, &judged.host);
                target.judged = Arc::new(judged);
                target.line = Line::default();
                target.is_new = true;
                target.backoff = Backoff::default();
                target.rests_until = None;
                if let Some(key) = &target.waiting {
                    self.queue.reset(key, soon);
                }
            }
        }
        if !kept.is_empty() {
            self.of_instance.insert(instance.id, kept);
        }
        for (at, judged) in fresh {
            self.plan(instance, at, judged, FIRST_AFTER);
        }
        self.forget(&left);
    }

    fn remove(&mut self, id: InstanceId) {
        let gone = self.of_instance.remove(&id).unwrap_or_default();
        self.forget(&gone);
    }

    fn forget(&mut self, gone: &[TargetNo]) {
        for no in gone {
            if let Some(key) = self.targets.remove(no).and_then(|target| target.waiting) {
                self.queue.remove(&key);
            }
        }
        self.gone.extend_from_slice(gone);
    }
}

impl Target {
    fn rest(&mut self, silent: bool, interval: Duration) {
        if !silent {
            self.backoff.heard();
            self.rests_until = None;
            return;
        }
        let now = Instant::now();
        self.backoff.silent(now);
        let wait = self.backoff.wait(interval, now);
        self.rests_until = (wait > interval).then(|| now + wait);
    }
}

/// What of an instance is to be asked, with its place among its checks.
fn asked(instance: &Instance) -> impl Iterator<Item = (usize, Judged)> {
    let spec = &instance.spec;
    spec.checks()
        .into_iter()
        .enumerate()
        .filter(|(_, check)| check.ask.kind() != Kind::Ttl)
        .map(|(place, check)| (place, Judged { check, host: spec.host.clone(), port: spec.port }))
}

/// How long a check that was reported on since it was planned need not be run.
pub(super) fn wait_after_report(due: &Due, app: &App) -> Option<Duration> {
    let last = app.last_check_of(&due.subject)?;
    if due.ended.is_some_and(|ended| last <= ended) {
        return None;
    }
    // a check in the future tells of clocks, not of checks
    let since = (app.now() - last).to_std().ok()?;
    // a planned check comes a whole interval after the last one, give or take the clocks' grain
    let interval = due.judged.check.interval;
    let grain = Duration::from_millis(250).min(interval / 2);
    interval.checked_sub(since).filter(|wait| *wait > grain)
}

/// After a start every check would be due at once. Those that were run keep their turn, those of new instances are run
/// soon, and the rest is spread over the interval.
fn wait_at_start(instance: &Instance, place: usize, judged: &Judged, app: &App) -> Duration {
    let interval = judged.check.interval;
    let since = |at: DateTime<Utc>| (app.now() - at).to_std().unwrap_or_default();
    if let Some(wait) = app.last_check(instance, place).and_then(|at| interval.checked_sub(since(at))) {
        return wait;
    }
    if since(instance.registered_at) < interval {
        return FIRST_AFTER;
    }
    share(instance.id, interval)
}

/// A part of a time, always the same one for the same thing.
fn share(of: impl std::hash::Hash, time: Duration) -> Duration {
    let time = u64::try_from(time.as_millis()).unwrap_or(1).max(1);
    Duration::from_millis(BuildHasherDefault::<DefaultHasher>::default().hash_one(of) % time)
}
