//! Linearizability, with the revision as witness.
//!
//! The log is the order in which writes took effect; what has to be shown is that each was right at its place (the
//! row had the version that the writer demanded, and got the next), and that the order agrees with real time.

use std::collections::HashMap;

use super::{fold::Fold, log::Kind};
use crate::history::{Condition, History, Micros, NEVER, Outcome, Tag, Target, Write};

/// From what a request could know to what it could not know yet, by revision.
pub struct RealTime {
    /// When writes were acknowledged, with the newest revision that had been told by then.
    told: Vec<(Micros, i64)>,
    /// When writes were asked for, with the oldest revision that any later one got.
    asked: Vec<(Micros, i64)>,
}

impl RealTime {
    pub fn of(history: &History, revisions: &HashMap<Tag, i64>) -> Self {
        let acknowledged = |write: &Write| {
            let revision = write.revision().filter(|_| write.completed != NEVER)?;
            Some((write.completed, revision))
        };
        let mut told: Vec<_> = history.writes.iter().filter_map(acknowledged).collect();
        told.sort_unstable();
        let mut newest = 0;
        for (_, revision) in &mut told {
            newest = newest.max(*revision);
            *revision = newest;
        }
        let written = |write: &Write| Some((write.invoked, *revisions.get(&write.tag)?));
        let mut asked: Vec<_> = history.writes.iter().filter_map(written).collect();
        asked.sort_unstable();
        let mut oldest = i64::MAX;
        for (_, revision) in asked.iter_mut().rev() {
            oldest = oldest.min(*revision);
            *revision = oldest;
        }
        Self { told, asked }
    }

    /// The newest revision that had been acknowledged to somebody before `time`.
    pub fn known_before(&self, time: Micros) -> i64 {
        let until = self.told.partition_point(|(told, _)| *told < time);
        self.told[..until].last().map_or(0, |(_, revision)| *revision)
    }

    /// The newest revision that can have been there at `time`: everything asked for later is newer.
    pub fn possible_at(&self, time: Micros) -> i64 {
        let from = self.asked.partition_point(|(asked, _)| *asked <= time);
        self.asked.get(from).map_or(i64::MAX, |(_, revision)| revision - 1)
    }
}

/// Every write was right where it stands in the log.
pub fn replay(history: &History, fold: &Fold) -> Vec<String> {
    let writes: HashMap<Tag, &Write> = history.writes.iter().map(|write| (write.tag, write)).collect();
    let mut findings = Vec::new();
    let mut config_versions: HashMap<&str, i64> = HashMap::new();
    for entry in &fold.entries {
        let target = match (&entry.kind, entry.instance) {
            (Kind::ConfigPut { .. } | Kind::ConfigDeleted, _) => Target::Config(entry.service.clone()),
            (Kind::EpochStarted { .. } | Kind::Other(_), _) | (_, None) => continue,
            (_, Some(id)) => Target::Instance(id),
        };
        let before = fold.timeline(&target).before(entry.revision);
        let is_config = matches!(target, Target::Config(_));
        // the versions of a deleted configuration go on
        let last = if is_config {
            config_versions.insert(&entry.service, entry.version).unwrap_or(0)
        } else {
            before.map_or(0, |state| state.version)
        };
        let at = entry.revision;
        if entry.version != last + 1 {
            findings.push(format!("revision {at}: version {} follows {last} of {target:?}", entry.version));
        }
        let Some(write) = entry.tag.and_then(|tag| writes.get(&tag)) else { continue };
        let version = before.map(|state| state.version);
        let held = match write.condition {
            Condition::None => true,
            Condition::Version(wanted) => version == Some(wanted),
            Condition::Absent => version.is_none(),
        };
        if !held {
            findings.push(format!("revision {at}: the row had {version:?} before {write:?}"));
        }
        if let (Some(number), Kind::ConfigPut { number: written }) = (write.number, &entry.kind) {
            let next = before.and_then(|state| state.number).map_or(0, |number| number + 1);
            if *written != Some(number) || number != next {
                findings.push(format!("revision {at}: {written:?} in place of {next}: {write:?}"));
            }
        }
    }
    findings
}

/// What had been acknowledged before another was asked for stands before it in the log.
pub fn real_time(history: &History, revisions: &HashMap<Tag, i64>, times: &RealTime) -> Vec<String> {
    let mut findings = Vec::new();
    for write in &history.writes {
        let Some(revision) = revisions.get(&write.tag) else { continue };
        let known = times.known_before(write.invoked);
        if *revision <= known {
            findings.push(format!("{known} was acknowledged before this was asked for: {write:?}"));
        }
    }
    // one that changed nothing still tells a state, and none from before it was asked
    for write in history.writes.iter().filter(|write| !revisions.contains_key(&write.tag)) {
        if let Outcome::Done { revision, .. } = write.outcome
            && (revision < times.known_before(write.invoked) || revision > times.possible_at(write.completed))
        {
            findings.push(format!("answered from a state that did not hold then: {write:?}"));
        }
    }
    findings
}
