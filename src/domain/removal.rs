//! The removal of instances that have been ill for longer than their checks allow: who is due, and how many may go at
//! once.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use smallvec::SmallVec;

use super::{
    check::{Ask, Check, CheckId},
    health::Status,
    ids::{InstanceId, Version},
    instance::Instance,
};

/// Of fewer than these it means nothing that most are ill at once.
const ENOUGH_TO_DOUBT: usize = 20;
/// Where more of those at stake are ill at once, it is not they who are to blame.
const MOST_ILL_PERCENT: usize = 55;
const MOST_AT_ONCE_PERCENT: usize = 15;
/// They are written in one group.
const MOST_AT_ONCE: usize = 500;

/// How many of those that are due a pass may remove. None where so many are ill that none may go: those of them that are
/// not due yet will be in a moment. At stake are all that could ever be due.
pub fn allowance(due: usize, ill: usize, at_stake: usize) -> Option<usize> {
    if at_stake >= ENOUGH_TO_DOUBT && ill * 100 > at_stake * MOST_ILL_PERCENT {
        return None;
    }
    Some((at_stake * MOST_AT_ONCE_PERCENT / 100).clamp(1, MOST_AT_ONCE).min(due))
}

/// The removal of an instance that is due, as one pass of many.
#[derive(Clone, Debug)]
pub struct Expire {
    pub id: InstanceId,
    /// The instance that was found due: what changes it makes another one of it.
    pub version: Version,
    /// The pass that this belongs to.
    pub pass: i64,
    /// A check that must not have been heard of after a time.
    pub unless_heard: Option<(CheckId, DateTime<Utc>)>,
}

/// An instance that is removed when it has been ill for too long, and what it is ill with.
#[derive(Clone, Debug)]
pub struct AtStake {
    pub version: Version,
    /// What an operator has set above it is not taken from under his hands.
    is_overridden: bool,
    ills: SmallVec<[Ill; 1]>,
}

#[derive(Clone, Debug)]
struct Ill {
    check: CheckId,
    /// The stretch of illness: by how often the state had changed.
    changes: u32,
    since: DateTime<Utc>,
    after: Duration,
    /// How long it takes until the check is heard of again.
    period: Duration,
    /// Whether it waits to be told, so that any word of late says that somebody is there.
    is_told: bool,
}

/// When somebody could hear, as far as that moves the end of someone's patience.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hearing<'a> {
    /// Since when this replica has been able to hear.
    pub here_since: DateTime<Utc>,
    /// The times that no replica could for long: when each was over, and how long it had lasted.
    pub gaps: &'a [(DateTime<Utc>, TimeDelta)],
}

/// An instance that should be gone.
#[derive(Clone, Debug, PartialEq)]
pub struct Overdue {
    pub since: DateTime<Utc>,
    /// The check that must not have been heard of after a time.
    pub unless_heard: Option<(CheckId, DateTime<Utc>)>,
}

impl AtStake {
    /// None for one that is never removed. `before` is what was known of it: an illness that goes on goes on from when it
    /// began.
    pub fn of(instance: &Instance, before: Option<&Self>) -> Option<Self> {
        let checks = instance.spec.listed();
        if checks.iter().all(|check| check.deregister_after.is_none()) {
            return None;
        }
        let ills = checks.iter().enumerate().filter_map(|(place, check)| {
            let (state, after) = (instance.health.state(place)?, check.deregister_after?);
            // one that is on its way to be well is waited for
            if state.status != Status::Unhealthy || state.successes > 0 {
                return None;
            }
            let known = before.and_then(|before| before.ills.iter().find(|ill| ill.check == check.id));
            let since = known.filter(|ill| ill.changes == state.changes).map(|ill| ill.since);
            Some(Ill {
                check: check.id.clone(),
                changes: state.changes,
                since: since.unwrap_or(instance.updated_at),
                after,
                period: period(check),
                is_told: matches!(check.ask, Ask::Ttl { .. }),
            })
        });
        Some(Self {
            version: instance.version,
            is_overridden: instance.overridden.is_some(),
            ills: ills.collect(),
        })
    }

    pub fn is_ill(&self) -> bool {
        !self.ills.is_empty()
    }

    /// Whether it should be gone. `heard` says when a check was last heard of.
    pub fn overdue(
        &self,
        hearing: &Hearing<'_>,
        heard: impl Fn(&CheckId) -> Option<DateTime<Utc>>,
        now: DateTime<Utc>,
    ) -> Option<Overdue> {
        if self.is_overridden {
            return None;
        }
        let overdue = self.ills.iter().filter_map(|ill| {
            let since = ill.end(hearing)?;
            let silent_until = now.checked_sub_signed(TimeDelta::from_std(ill.period).ok()?)?;
            let is_heard = ill.is_told && heard(&ill.check).is_some_and(|at| at > silent_until);
            let unless_heard = ill.is_told.then(|| (ill.check.clone(), silent_until));
            (since <= now && !is_heard).then_some(Overdue { since, unless_heard })
        });
        overdue.min_by_key(|overdue| overdue.since)
    }
}

impl Ill {
    /// None for a time that no calendar has.
    fn end(&self, hearing: &Hearing<'_>) -> Option<DateTime<Utc>> {
        let period = TimeDelta::from_std(self.period).ok()?;
        let mut end = self.since.checked_add_signed(TimeDelta::from_std(self.after).ok()?)?;
        for (_, lasted) in hearing.gaps.iter().filter(|(ended, _)| *ended > self.since) {
            end = end.checked_add_signed(*lasted)?.checked_add_signed(period)?;
        }
        Some(end.max(hearing.here_since.checked_add_signed(period)?))
    }
}

fn period(check: &Check) -> Duration {
    match check.ask {
        Ask::Ttl { ttl } => ttl,
        _ => {
            let again = check.timeout.saturating_add(check.retry_delay).saturating_mul(check.retries);
            check.interval.saturating_add(check.timeout).saturating_add(again)
        }
    }
}

#[cfg(test)]
#[path = "removal_tests.rs"]
mod tests;
