//! A refusal is an answer too: some state between its request and its answer must have been one to refuse in.

use super::{
    fold::{Fold, State},
    gone::Gone,
    order::RealTime,
};
use crate::history::{Condition, History, Outcome, Target, Write};

pub fn justified(history: &History, fold: &Fold, times: &RealTime, gone: &Gone) -> Vec<String> {
    let mut findings = Vec::new();
    for write in &history.writes {
        let Outcome::Refused { status, current } = write.outcome else { continue };
        let first = times.known_before(write.invoked);
        let last = times.possible_at(write.completed).max(first);
        if !gone.touches(first, last) && !is_justified(write, (status, current), (first, last), fold) {
            findings.push(format!("no state explains {write:?}"));
        }
    }
    findings
}

fn is_justified(
    write: &Write,
    (status, current): (u16, Option<i64>),
    (first, last): (i64, i64),
    fold: &Fold,
) -> bool {
    let explains = |state: Option<&State>| match status {
        404 => state.is_none(),
        412 => {
            let version = state.map(|state| state.version);
            let failed = match write.condition {
                Condition::None => false,
                Condition::Version(wanted) => version != Some(wanted),
                Condition::Absent => version.is_some(),
            };
            failed && version == current
        }
        _ => false,
    };
    match &write.target {
        Target::Slot(slot) => {
            fold.instances_in(slot, first, last).into_iter().any(|instance| match instance {
                // nobody there is no reason to refuse a registration, unless it demanded somebody
                None => status == 412 && explains(None),
                Some(id) => fold.timeline(&Target::Instance(id)).within(first, last).any(explains),
            })
        }
        target => fold.timeline(target).within(first, last).any(explains),
    }
}
