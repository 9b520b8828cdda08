//! Every write that was acknowledged is in the log, once, as it was told; what was said to have failed is not; and
//! nothing is there that nobody asked for.

use std::collections::HashMap;

use super::{fold::Fold, gone::Gone};
use crate::history::{History, Outcome, Tag, Target, Verb, Write};

/// What the ledger comes to.
#[derive(Debug, Default)]
pub struct Ledger {
    pub acknowledged: usize,
    pub unknown: usize,
    pub unknown_done: usize,
    pub lost: Vec<String>,
    /// Acknowledged, and lost with the database that had them.
    pub gone: Vec<i64>,
    pub twice: Vec<String>,
    pub contradictions: Vec<String>,
    /// The revision of each write that is in the log.
    pub revisions: HashMap<Tag, i64>,
}

pub fn check(history: &History, fold: &Fold, gone: &Gone) -> Ledger {
    let mut ledger = Ledger::default();
    let writes: HashMap<Tag, &Write> = history.writes.iter().map(|write| (write.tag, write)).collect();
    for entry in &fold.entries {
        let Some(tag) = entry.tag else { continue };
        if let Some(before) = ledger.revisions.insert(tag, entry.revision) {
            ledger.twice.push(format!("{tag:?} was written at {before} and again at {}", entry.revision));
        }
        match writes.get(&tag) {
            None => ledger
                .contradictions
                .push(format!("revision {}: {tag:?} is of no request that was made", entry.revision)),
            // asked again after the loss of what it had done, it is done again
            Some(write) if write.revision().is_some_and(|told| gone.has(told)) => {}
            Some(write) => {
                if let Some(contradiction) =
                    contradiction(write, entry.revision, entry.version, entry.instance)
                {
                    ledger.contradictions.push(contradiction);
                }
            }
        }
    }
    for write in writes.into_values() {
        let is_gone = write.revision().is_some_and(|told| gone.has(told));
        if let Some(told) = write.told_otherwise.as_ref().filter(|_| !is_gone) {
            ledger.contradictions.push(format!("{:?} was told {told}", write.tag));
        }
        let written = ledger.revisions.get(&write.tag);
        match &write.outcome {
            Outcome::Done { revision, .. } => {
                ledger.acknowledged += 1;
                if written.is_some() {
                    continue;
                }
                if gone.has(*revision) {
                    ledger.gone.push(*revision);
                } else if !found_as_asked(write, *revision, fold) {
                    ledger.lost.push(format!("acknowledged at {revision} and not in the log: {write:?}"));
                }
            }
            Outcome::Unknown | Outcome::Odd(_) => {
                ledger.unknown += 1;
                ledger.unknown_done += usize::from(written.is_some());
            }
            Outcome::Refused { .. } | Outcome::Failed { .. } => {}
        }
    }
    ledger
}

/// Why a write that is in the log should not be there, or not so.
fn contradiction(write: &Write, revision: i64, version: i64, instance: Option<uuid::Uuid>) -> Option<String> {
    match &write.outcome {
        Outcome::Done { revision: told, .. } if *told != revision => {
            Some(format!("{:?} was told revision {told} and is at {revision}", write.tag))
        }
        Outcome::Done { version: Some(told), .. } if *told != version => {
            Some(format!("{:?} was told version {told} and has {version}", write.tag))
        }
        Outcome::Done { instance: Some(told), .. } if instance != Some(*told) => {
            Some(format!("{:?} was told instance {told} and is of {instance:?}", write.tag))
        }
        Outcome::Refused { status, .. } => {
            Some(format!("{:?} was refused with {status} and is in the log at {revision}", write.tag))
        }
        Outcome::Failed { code } => {
            Some(format!("{:?} failed with {code} and is in the log at {revision}", write.tag))
        }
        Outcome::Done { .. } | Outcome::Unknown | Outcome::Odd(_) => None,
    }
}

/// Whether there was nothing to change: all was as the write asks, at the revision that it was told.
fn found_as_asked(write: &Write, revision: i64, fold: &Fold) -> bool {
    if !write.verb.may_change_nothing() {
        return false;
    }
    let Some(state) = fold.row_of(&write.target, revision).at(revision) else { return false };
    let told = match write.outcome {
        Outcome::Done { version, .. } => version,
        _ => None,
    };
    let as_asked = match write.verb {
        Verb::Report { healthy } => {
            state.status.as_deref() == Some(if healthy { "healthy" } else { "unhealthy" })
        }
        _ => matches!(write.target, Target::Slot(_)),
    };
    as_asked && told == Some(state.version)
}
