//! The removal of instances that have been ill for longer than their checks allow: who is due, and how many may go at
//! once.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use smallvec::SmallVec;

use super::{
    check::{Ask, Check, CheckId},
    event::Change,
    health::Status,
    ids::{InstanceId, Version},
    instance::Instance,
    registry::{Refusal, State},
};

/// Of fewer than these it means nothing that most are due at once.
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
    /// The instance that was found due: a word from it makes another one of it.
    pub version: Version,
    /// The pass that this belongs to.
    pub pass: i64,
}

pub(super) fn expire(state: &impl State, command: &Expire) -> Result<Option<Change>, Refusal> {
    let instance = state.instance(command.id).ok_or(Refusal::NoSuchInstance)?;
    if instance.version != command.version {
        return Err(Refusal::PreconditionFailed { current: Some(instance.version) });
    }
    Ok(Some(Change::Unregistered {
        id: instance.id,
        service: instance.service.clone(),
        key: instance.key.clone(),
        version: instance.version + 1,
    }))
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
}

/// When somebody could hear, as far as that moves the end of someone's patience.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hearing {
    /// Since when this replica has been able to hear.
    pub here_since: DateTime<Utc>,
    /// The last time that no replica could for long: when it was over, and how long it had lasted.
    pub resumed_at: DateTime<Utc>,
    pub away: TimeDelta,
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
            if state.status != Status::Unhealthy {
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

    /// Since when it should be gone.
    pub fn due(&self, hearing: &Hearing, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        if self.is_overridden {
            return None;
        }
        self.ills.iter().filter_map(|ill| ill.end(hearing)).min().filter(|end| *end <= now)
    }
}

impl Ill {
    /// None for a time that no calendar has.
    fn end(&self, hearing: &Hearing) -> Option<DateTime<Utc>> {
        let period = TimeDelta::from_std(self.period).ok()?;
        let mut end = self.since.checked_add_signed(TimeDelta::from_std(self.after).ok()?)?;
        if self.since < hearing.resumed_at {
            end = end.checked_add_signed(hearing.away)?.checked_add_signed(period)?;
        }
        Some(end.max(hearing.here_since.checked_add_signed(period)?))
    }
}

fn period(check: &Check) -> Duration {
    match check.ask {
        Ask::Ttl { ttl } => ttl,
        _ => check.interval.saturating_add(check.timeout),
    }
}

#[cfg(test)]
#[path = "removal_tests.rs"]
mod tests;
