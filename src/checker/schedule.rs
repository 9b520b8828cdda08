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
use smol_str::SmolStr;
use tokio::time::Instant;
use tokio_util::time::{DelayQueue, delay_queue};

use super::backoff::Backoff;
use crate::{
    app::{App, Difference, Snapshot},
    domain::{Check, Checks, Instance, InstanceId, Judged, Status, check::Kind},
    probe::{Line, host_of},
    telemetry::Clock,
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
    /// The poll of the last instance that named no check. Its neighbours most likely have the same, and share it.
    poll: Option<Arc<Check>>,
    /// Those that have gone and that nobody was told of yet.
    gone: Vec<TargetNo>,
}

pub(super) struct Target {
    /// As it was when it was last followed.
    pub instance: Arc<Instance>,
    /// The check's place among those of the instance.
    pub place: usize,
    check: Arc<Check>,
    /// Where it is measured how long it takes.
    pub clock: Clock,
    /// Its connection, while no check of it is under way.
    line: Line,
    /// None while a check of it is under way.
    waiting: Option<delay_queue::Key>,
    /// Whether it has become another one since its last run began.
    pub is_new: bool,
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
    pub host: SmolStr,
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
                for (place, check) in self.asked(instance) {
                    let wait =
                        if is_first { wait_at_start(instance, place, &check, app) } else { FIRST_AFTER };
                    self.plan(instance, place, check, wait, app);
                }
            }
            Difference::Changed(instance) => self.replan(instance, app),
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
                return Due { no, host: host_of(&target.check, &target.instance.spec.host) };
            }
        }
    }

    /// A check begins. Gives what it asks, and with what; None if it has gone by now.
    pub fn begin(&mut self, no: TargetNo) -> Option<(Arc<Judged>, Line)> {
        let target = self.targets.get_mut(&no)?;
        target.is_new = false;
        Some((Arc::new(target.judged()), std::mem::take(&mut target.line)))
    }

    /// A check has been run. `line` is what it keeps for the next time.
    pub fn ended(&mut self, no: TargetNo, line: Line, now: DateTime<Utc>) -> Option<&Target> {
        let target = self.targets.get_mut(&no)?;
        target.ended = Some(now);
        if !target.is_new {
            target.line = line;
        }
        Some(target)
    }

    /// A check that has been run waits for its next turn. Gives its interval, unless it has gone.
    pub fn again(&mut self, no: TargetNo, silent: bool) -> Option<Duration> {
        let target = self.targets.get_mut(&no)?;
        let interval = target.check.interval;
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
        self.put_off(no, wait);
        Some(interval)
    }

    /// A check whose turn is now: puts it off if it need not be run.
    pub fn can_wait(&mut self, no: TargetNo, app: &App) -> bool {
        let Some(target) = self.targets.get(&no) else { return true };
        // A report meanwhile counts as this check: the next one comes a whole interval after it.
        let wait = target.wait_after_report(app).or_else(|| target.wait_in_rest(app));
        if let Some(wait) = wait {
            self.put_off(no, wait);
        }
        wait.is_some()
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
    pub fn fresh(&self) -> impl Iterator<Item = (TargetNo, &Target)> {
        self.targets.iter().filter(|(_, target)| target.ended.is_none()).map(|(no, target)| (*no, target))
    }

    pub fn target(&self, no: TargetNo) -> Option<&Target> {
        self.targets.get(&no)
    }

    /// A check is another replica's to run.
    pub fn skip(&mut self, no: TargetNo) {
        if let Some(target) = self.targets.get_mut(&no) {
            target.line = Line::default();
            target.is_spread = true;
            let wait = target.check.interval;
            self.put_off(no, wait);
        }
    }

    /// Others have come or gone: what is this replica's from now on is run when it would have been.
    pub fn take_over(&mut self, app: &App) {
        for (no, target) in &mut self.targets {
            let check = &target.check;
            if !target.is_own(app) {
                continue;
            }
            let Some(key) = &target.waiting else { continue };
            let last = app.last_check(&target.instance, target.place);
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

    fn plan(&mut self, instance: &Arc<Instance>, place: usize, check: Arc<Check>, wait: Duration, app: &App) {
        self.last += 1;
        let no = self.last;
        let waiting = Some(self.queue.insert(no, wait.min(check.interval)));
        let target = Target {
            instance: instance.clone(),
            place,
            clock: app.metrics().check_clock(instance.service.as_str()),
            check,
            line: Line::default(),
            waiting,
            is_new: false,
            is_spread: false,
            ended: None,
            backoff: Backoff::default(),
            rests_until: None,
        };
        self.targets.insert(no, target);
        self.of_instance.entry(instance.id).or_default().push(no);
    }

    /// What of an instance is to be asked, with its place among its checks.
    fn asked(&mut self, instance: &Instance) -> impl Iterator<Item = (usize, Arc<Check>)> + use<> {
        let mut checks = instance.spec.checks();
        if let (Checks::Poll, [check]) = (&instance.spec.checks, checks.as_mut_slice()) {
            match &self.poll {
                Some(poll) if poll == check => *check = poll.clone(),
                _ => self.poll = Some(check.clone()),
            }
        }
        checks.into_iter().enumerate().filter(|(_, check)| check.ask.kind() != Kind::Ttl)
    }

    /// A check that asks something else now is run soon; any other change leaves its turn as it is.
    fn replan(&mut self, instance: &Arc<Instance>, app: &App) {
        let mut left = self.of_instance.remove(&instance.id).unwrap_or_default();
        let mut kept = SmallVec::new();
        let mut fresh = Vec::new();
        for (place, check) in self.asked(instance) {
            let same = |no: &TargetNo| self.targets.get(no).is_some_and(|target| target.check.id == check.id);
            let Some(at) = left.iter().position(same) else {
                fresh.push((place, check));
                continue;
            };
            let no = left.swap_remove(at);
            kept.push(no);
            if let Some(target) = self.targets.get_mut(&no) {
                let (old, new) = (target.instance.spec.clone(), &instance.spec);
                target.instance = instance.clone();
                target.place = place;
                if (&target.check, &old.host, old.port) != (&check, &new.host, new.port) {
                    let soon = FIRST_AFTER.min(check.interval);
                    target.become_new(check);
                    if let Some(key) = &target.waiting {
                        self.queue.reset(key, soon);
                    }
                }
            }
        }
        if !kept.is_empty() {
            self.of_instance.insert(instance.id, kept);
        }
        for (place, check) in fresh {
            self.plan(instance, place, check, FIRST_AFTER, app);
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
    /// Whether it is this replica's to ask.
    pub fn is_own(&self, app: &App) -> bool {
        app.owns(self.instance.id, &self.check.id)
    }

    pub fn status(&self) -> Option<Status> {
        self.instance.health.state(self.place).map(|state| state.status)
    }

    fn judged(&self) -> Judged {
        let spec = &self.instance.spec;
        Judged { check: self.check.clone(), host: spec.host.clone(), port: spec.port }
    }

    fn become_new(&mut self, check: Arc<Check>) {
        self.check = check;
        self.line = Line::default();
        self.is_new = true;
        self.backoff = Backoff::default();
        self.rests_until = None;
    }

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

    /// How long it is left alone yet, because it has been silent for long.
    fn wait_in_rest(&self, app: &App) -> Option<Duration> {
        let until = self.rests_until?;
        let check = &self.check;
        // who is to be removed in the end must be found in time if he is well again
        if check.deregister_after.is_some() {
            return None;
        }
        let left = until.saturating_duration_since(Instant::now());
        // who registers again, or sends a heartbeat, may be there again
        let is_heard = app.last_seen(self.instance.id) > self.ended;
        (!left.is_zero() && !is_heard).then(|| left.min(check.interval))
    }

    /// How long it need not be run because of a report since it was planned.
    fn wait_after_report(&self, app: &App) -> Option<Duration> {
        // what was learnt of another target does not count here
        if self.is_new {
            return None;
        }
        let last = app.last_check(&self.instance, self.place)?;
        if self.ended.is_some_and(|ended| last <= ended) {
            return None;
        }
        // a check in the future tells of clocks, not of checks
        let since = (app.now() - last).to_std().ok()?;
        // a planned check comes a whole interval after the last one, give or take the clocks' grain
        let interval = self.check.interval;
        let grain = Duration::from_millis(250).min(interval / 2);
        interval.checked_sub(since).filter(|wait| *wait > grain)
    }
}

/// After a start every check would be due at once. Those that were run keep their turn, those of new instances are run
/// soon, and the rest is spread over the interval.
fn wait_at_start(instance: &Instance, place: usize, check: &Check, app: &App) -> Duration {
    let interval = check.interval;
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
