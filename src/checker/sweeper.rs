//! Removes instances that have been ill for longer than their checks allow, slowly.
//!
//! Invariant: however many replicas there are, all of them together remove no more than one pass may in the time between
//! two passes, and no time counts against an instance in which rollcall could not hear that it was well again.

use std::{collections::HashMap, sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use foldhash::fast::RandomState;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    app::{App, AppError, Difference, Guard, Snapshot, Subject, Sweep},
    domain::{AtStake, CheckId, Expire, Hearing, InstanceId, Overdue, removal::allowance},
};

const EVERY: Duration = Duration::from_secs(1);
/// The others are to know that somebody looks, whether there is something to be removed or not.
const LOOK_AT_LEAST_EVERY: Duration = Duration::from_secs(5);
const BETWEEN_PASSES: TimeDelta = TimeDelta::seconds(5);

const TOO_MANY: &str = "more than 55 % of the instances that could be removed are ill at once, so none is";
const IN_TURN: &str = "more instances are due than may be removed at once, so they are removed bit by bit";
const CUT_OFF: &str = "this replica may be cut off from its targets, so it does not know who is well again";
const DEAF: &str = "the database, or another replica, is not heard of, so nobody knows who is well again";

pub struct Sweeper {
    app: App,
    followed: Arc<Snapshot>,
    at_stake: HashMap<InstanceId, AtStake, RandomState>,
    /// Since when this replica has been able to hear. None while it is not.
    hears_since: Option<DateTime<Utc>>,
    /// How far removals had come at the last look, and when that was.
    looked: Option<(Instant, Sweep)>,
    /// How many that are due are held back.
    held: usize,
}

impl Sweeper {
    pub fn new(app: App) -> Self {
        let (followed, at_stake) = (Arc::default(), HashMap::default());
        Self { app, followed, at_stake, hears_since: None, looked: None, held: 0 }
    }

    pub async fn run(mut self, stop: CancellationToken) {
        while stop.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_some() {
            if let Ok(snapshot) = self.app.snapshot() {
                self.follow(&snapshot);
            }
            if let Err(error) = self.turn().await {
                self.hears_since = None;
                tracing::debug!(error = crate::telemetry::chain(&error), "nothing could be removed");
            }
        }
    }

    async fn turn(&mut self) -> Result<(), AppError> {
        let is_cut_off = self.app.is_suspicious();
        if is_cut_off || !self.app.readiness().store_ok || self.app.peers().borrow().silent > 0 {
            self.hears_since = None;
            let now = self.app.now();
            let held =
                self.looked.as_ref().map_or(0, |(_, row)| self.due(row, DateTime::UNIX_EPOCH, now).len());
            self.hold(held, if is_cut_off { CUT_OFF } else { DEAF });
            return Ok(());
        }
        let now = self.app.now();
        let here_since = *self.hears_since.get_or_insert(now);
        let known = self.looked.as_ref().filter(|(at, _)| at.elapsed() < LOOK_AT_LEAST_EVERY);
        if known.is_some_and(|(_, row)| self.due(row, here_since, now).is_empty()) {
            self.hold(0, IN_TURN);
            return Ok(());
        }
        let row = self.app.look_around().await?;
        let due = self.due(&row, here_since, now);
        // one in the future is of a clock that has gone back since
        let is_time = row.removed_at.is_none_or(|at| at + BETWEEN_PASSES <= now || at > now + BETWEEN_PASSES);
        self.looked = Some((Instant::now(), row));
        let ill = self.at_stake.values().filter(|at_stake| at_stake.is_ill()).count();
        let Some(most) = allowance(due.len(), ill, self.at_stake.len()) else {
            self.hold(due.len(), TOO_MANY);
            return Ok(());
        };
        self.hold(due.len() - most, IN_TURN);
        if is_time && most > 0 {
            self.app.remove_ill(due.into_iter().take(most).collect()).await?;
        }
        Ok(())
    }

    /// Those that should be gone by now, those first that should have been gone first.
    fn due(&self, row: &Sweep, here_since: DateTime<Utc>, now: DateTime<Utc>) -> Vec<Expire> {
        let hearing = Hearing { here_since, gaps: &row.gaps };
        let due = self.at_stake.iter().filter_map(|(id, at_stake)| {
            let heard = |check: &CheckId| {
                self.app.last_check_of(&Subject { instance: *id, check: Some(check.clone()) })
            };
            let Overdue { since, unless_heard } = at_stake.overdue(&hearing, heard, now)?;
            Some((since, Expire { id: *id, version: at_stake.version, pass: row.pass, unless_heard }))
        });
        let mut due: Vec<_> = due.collect();
        due.sort_unstable_by_key(|(end, expire)| (*end, expire.id));
        due.into_iter().map(|(_, expire)| expire).collect()
    }

    fn hold(&mut self, held: usize, reason: &'static str) {
        self.app.guard(Guard::Removals, (held > 0).then_some(reason));
        if held > self.held {
            self.app.metrics().held_back(Guard::Removals, held - self.held);
        }
        self.held = held;
    }

    fn follow(&mut self, snapshot: &Arc<Snapshot>) {
        let old = std::mem::replace(&mut self.followed, snapshot.clone());
        if Arc::ptr_eq(&old, snapshot) {
            return;
        }
        snapshot.differences_to(&old, |difference| match difference {
            Difference::Added(instance) | Difference::Changed(instance) => {
                match AtStake::of(instance, self.at_stake.get(&instance.id)) {
                    Some(at_stake) => drop(self.at_stake.insert(instance.id, at_stake)),
                    None => drop(self.at_stake.remove(&instance.id)),
                }
            }
            Difference::Gone(id) => drop(self.at_stake.remove(&id)),
        });
    }
}
