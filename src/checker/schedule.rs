//! When each check is to run next.

use std::{
    hash::{BuildHasher, BuildHasherDefault, DefaultHasher},
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, Utc};
use foldhash::fast::RandomState;
use hashbrown::HashTable;
use slotmap::SlotMap;
use smallvec::SmallVec;
use smol_str::SmolStr;
use tokio::time::Instant;

use super::{
    backoff::Backoff,
    turns::{Turn, Turns},
};
use crate::{
    app::{App, Difference, Snapshot},
    domain::{Check, Checks, Instance, InstanceId, Judged, Status, check::Kind},
    probe::{Line, host_of},
    telemetry::Clock,
};

/// A new instance is asked about a second after it registered.
const FIRST_AFTER: Duration = Duration::from_secs(1);

slotmap::new_key_type! {
    /// Numbers the targets; none is used again.
    pub(super) struct TargetNo;
}

/// Of a hundred thousand targets each byte counts: what can be found is not kept twice.
#[derive(Default)]
pub(super) struct Schedule {
    followed: Option<Arc<Snapshot>>,
    turns: Turns<TargetNo>,
    targets: SlotMap<TargetNo, Target>,
    /// The targets by the ids of their instances, which stand in the targets.
    by_instance: HashTable<TargetNo>,
    hash: RandomState,
    /// The poll of the last instance that named no check. Its neighbours most likely have the same, and share it.
    poll: Option<Arc<Check>>,
    /// Those that have gone and that nobody was told of yet.
    gone: Vec<TargetNo>,
}

pub(super) struct Target {
    /// As it was when it was last followed.
    pub instance: Arc<Instance>,
    check: Arc<Check>,
    /// Where it is measured how long it takes.
    pub clock: Clock,
    /// Its connection, while no check of it is under way.
    line: Line,
    /// None while a check of it is under way.
    turn: Option<Turn>,
    /// None of one that answers.
    rest: Option<Box<Rest>>,
    /// When its last check ended here.
    ended: Option<DateTime<Utc>>,
    /// The check's place among those of the instance.
    place: u16,
    /// Whether it has become another one since its last run began.
    pub is_new: bool,
    /// Whether it has found its place in the interval.
    is_spread: bool,
}

/// How one is left alone who has been silent.
#[derive(Default)]
struct Rest {
    backoff: Backoff,
    /// Until then, unless it is heard of.
    until: Option<Instant>,
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
            let no = self.turns.next().await;
            if let Some(target) = self.targets.get_mut(no) {
                target.turn = None;
                return Due { no, host: host_of(&target.check, &target.instance.spec.host) };
            }
        }
    }

    /// A check begins. Gives what it asks, and with what; None if it has gone by now.
    pub fn begin(&mut self, no: TargetNo) -> Option<(Arc<Judged>, Line)> {
        let target = self.targets.get_mut(no)?;
        target.is_new = false;
        Some((Arc::new(target.judged()), std::mem::take(&mut target.line)))
    }

    /// A check has been run. `line` is what it keeps for the next time.
    pub fn ended(&mut self, no: TargetNo, line: Line, now: DateTime<Utc>) -> Option<&Target> {
        let target = self.targets.get_mut(no)?;
        target.ended = Some(now);
        if !target.is_new {
            target.line = line;
        }
        Some(target)
    }

    /// A check that has been run waits for its next turn. Gives its interval, unless it has gone.
    pub fn again(&mut self, no: TargetNo, silent: bool) -> Option<Duration> {
        let target = self.targets.get_mut(no)?;
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
        let Some(target) = self.targets.get(no) else { return true };
        // A report meanwhile counts as this check: the next one comes a whole interval after it.
        let wait = target.wait_after_report(app).or_else(|| target.wait_in_rest(app));
        if let Some(wait) = wait {
            self.put_off(no, wait);
        }
        wait.is_some()
    }

    /// A check is to be run now, ahead of its turn, unless it is under way.
    pub fn bring_forward(&mut self, no: TargetNo) {
        if let Some(turn) = self.targets.get_mut(no).and_then(|target| target.turn.as_mut()) {
            self.turns.put_off(turn, no, Duration::ZERO);
        }
    }

    /// Targets that have gone since this was last asked.
    pub fn gone(&mut self) -> Vec<TargetNo> {
        std::mem::take(&mut self.gone)
    }

    /// The checks that were not run here yet.
    pub fn fresh(&self) -> impl Iterator<Item = (TargetNo, &Target)> {
        self.targets.iter().filter(|(_, target)| target.ended.is_none())
    }

    pub fn target(&self, no: TargetNo) -> Option<&Target> {
        self.targets.get(no)
    }

    /// A check is another replica's to run.
    pub fn skip(&mut self, no: TargetNo) {
        if let Some(target) = self.targets.get_mut(no) {
            target.line = Line::default();
            target.is_spread = true;
            let wait = target.check.interval;
            self.put_off(no, wait);
        }
    }

    /// Others have come or gone: what is this replica's from now on is run when it would have been.
    pub fn take_over(&mut self, app: &App) {
        for (no, target) in &mut self.targets {
            if !target.is_own(app) {
                continue;
            }
            let Some(turn) = &mut target.turn else { continue };
            let check = &target.check;
            let last = app.last_check(&target.instance, target.place.into());
            let since = last.and_then(|last| (app.now() - last).to_std().ok());
            let wait = match since {
                Some(since) => check.interval.saturating_sub(since),
                None => FIRST_AFTER.min(check.interval),
            };
            // those that are overdue are not all run at once
            let wait = wait.max(share(no, FIRST_AFTER.min(check.interval)));
            self.turns.put_off(turn, no, wait);
        }
    }

    pub fn put_off(&mut self, no: TargetNo, wait: Duration) {
        if let Some(target) = self.targets.get_mut(no)
            && target.turn.is_none()
        {
            target.turn = Some(self.turns.add(no, wait));
        }
    }

    fn plan(&mut self, instance: &Arc<Instance>, place: u16, check: Arc<Check>, wait: Duration, app: &App) {
        let wait = wait.min(check.interval);
        let no = self.targets.insert_with_key(|no| Target {
            instance: instance.clone(),
            check,
            clock: app.metrics().check_clock(instance.service.as_str()),
            line: Line::default(),
            turn: Some(self.turns.add(no, wait)),
            rest: None,
            ended: None,
            place,
            is_new: false,
            is_spread: false,
        });
        let hash_of = |no: &TargetNo| self.hash.hash_one(self.targets.get(*no).map(Target::id));
        self.by_instance.insert_unique(hash_of(&no), no, hash_of);
    }

    /// What of an instance is to be asked, with its place among its checks.
    fn asked(&mut self, instance: &Instance) -> impl Iterator<Item = (u16, Arc<Check>)> + use<> {
        let mut checks = instance.spec.checks();
        if let (Checks::Poll, [check]) = (&instance.spec.checks, checks.as_mut_slice()) {
            match &self.poll {
                Some(poll) if poll == check => *check = poll.clone(),
                _ => self.poll = Some(check.clone()),
            }
        }
        (0..).zip(checks).filter(|(_, check)| check.ask.kind() != Kind::Ttl)
    }

    /// A check that asks something else now is run soon; any other change leaves its turn as it is.
    fn replan(&mut self, instance: &Arc<Instance>, app: &App) {
        let mut left = self.of(instance.id);
        let mut fresh = Vec::new();
        for (place, check) in self.asked(instance) {
            let same =
                |no: &TargetNo| self.targets.get(*no).is_some_and(|target| target.check.id == check.id);
            let Some(at) = left.iter().position(same) else {
                fresh.push((place, check));
                continue;
            };
            let no = left.swap_remove(at);
            if let Some(target) = self.targets.get_mut(no) {
                let (old, new) = (target.instance.spec.clone(), &instance.spec);
                target.instance = instance.clone();
                target.place = place;
                if (&target.check, &old.host, old.port) != (&check, &new.host, new.port) {
                    let soon = FIRST_AFTER.min(check.interval);
                    target.become_new(check);
                    if let Some(turn) = &mut target.turn {
                        self.turns.put_off(turn, no, soon);
                    }
                }
            }
        }
        for (place, check) in fresh {
            self.plan(instance, place, check, FIRST_AFTER, app);
        }
        self.forget(&left);
    }

    fn remove(&mut self, id: InstanceId) {
        let gone = self.of(id);
        self.forget(&gone);
    }

    /// The targets of an instance.
    fn of(&self, id: InstanceId) -> SmallVec<[TargetNo; 4]> {
        let is_of = |no: &TargetNo| self.targets.get(*no).is_some_and(|target| target.id() == id);
        self.by_instance.iter_hash(self.hash.hash_one(Some(id))).copied().filter(is_of).collect()
    }

    fn forget(&mut self, gone: &[TargetNo]) {
        for no in gone {
            let Some(target) = self.targets.remove(*no) else { continue };
            if let Some(turn) = target.turn {
                self.turns.remove(turn, *no);
            }
            let hash = self.hash.hash_one(Some(target.id()));
            if let Ok(entry) = self.by_instance.find_entry(hash, |other| other == no) {
                entry.remove();
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

    /// The check's place among those of the instance.
    pub fn place(&self) -> usize {
        self.place.into()
    }

    fn id(&self) -> InstanceId {
        self.instance.id
    }

    pub fn status(&self) -> Option<Status> {
        self.instance.health.state(self.place()).map(|state| state.status)
    }

    fn judged(&self) -> Judged {
        let spec = &self.instance.spec;
        Judged { check: self.check.clone(), host: spec.host.clone(), port: spec.port }
    }

    fn become_new(&mut self, check: Arc<Check>) {
        self.check = check;
        self.line = Line::default();
        self.is_new = true;
        self.rest = None;
    }

    fn rest(&mut self, silent: bool, interval: Duration) {
        if silent {
            let rest = self.rest.get_or_insert_default();
            let now = Instant::now();
            rest.backoff.silent(now);
            let wait = rest.backoff.wait(interval, now);
            rest.until = (wait > interval).then(|| now + wait);
        } else if let Some(rest) = &mut self.rest {
            rest.until = None;
            if rest.backoff.heard() {
                self.rest = None;
            }
        }
    }

    /// How long it is left alone yet, because it has been silent for long.
    fn wait_in_rest(&self, app: &App) -> Option<Duration> {
        let until = self.rest.as_ref()?.until?;
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
        let last = app.last_check(&self.instance, self.place())?;
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
fn wait_at_start(instance: &Instance, place: u16, check: &Check, app: &App) -> Duration {
    let interval = check.interval;
    let since = |at: DateTime<Utc>| (app.now() - at).to_std().unwrap_or_default();
    if let Some(wait) = app.last_check(instance, place.into()).and_then(|at| interval.checked_sub(since(at)))
    {
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
