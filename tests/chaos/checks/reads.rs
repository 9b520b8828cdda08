//! Reads: each shows the state of the revision that it names; a strong one names none older than itself; and one
//! replica never goes back.

use super::{fold::Fold, gone::Gone, order::RealTime};
use crate::history::{
    Consistency, History, Micros, Outcome, Read, ReadResult, ReadTarget, Seen, Target, Write,
};

/// What a read shows is what the log says of its revision.
pub fn true_to_the_log(history: &History, fold: &Fold, gone: &Gone) -> Vec<String> {
    let known = history.reads.iter().filter(|read| !gone.has(read.revision));
    known.filter_map(|read| untrue(read, fold)).collect()
}

fn untrue(read: &Read, fold: &Fold) -> Option<String> {
    let revision = read.revision;
    if revision > fold.head() {
        return Some(format!("a read names {revision}, beyond the log's {}", fold.head()));
    }
    let at = |target: &Target| {
        let state = fold.timeline(target).at(revision)?;
        Some(Seen { version: state.version, tag: state.content })
    };
    match (&read.target, &read.result) {
        (ReadTarget::Row(target), ReadResult::Row(seen)) if *seen != at(target) => {
            Some(format!("at {revision} there was {:?}, and not as in {read:?}", at(target)))
        }
        (ReadTarget::Service(service), ReadResult::Service(seen)) => {
            let there =
                fold.instances_of(service).filter_map(|id| Some((id, at(&Target::Instance(id))?))).collect();
            (*seen != there).then(|| format!("at {revision} {service} had {there:?}, and not as in {read:?}"))
        }
        _ => None,
    }
}

/// A strong read is no older than its request; one that names a revision has it.
pub fn fresh(history: &History, times: &RealTime) -> Vec<String> {
    let mut findings = Vec::new();
    for read in &history.reads {
        let least = match read.consistency {
            Consistency::Default => continue,
            Consistency::Strong => times.known_before(read.invoked),
            Consistency::AtLeast(revision) => revision,
        };
        if read.revision < least {
            findings.push(format!("{least} had been acknowledged before {read:?}"));
        }
    }
    findings
}

/// What one replica has shown or acknowledged it shows from then on.
pub fn never_back(history: &History, replicas: usize) -> Vec<String> {
    (0..replicas).flat_map(|replica| never_back_on(history, replica)).collect()
}

fn never_back_on(history: &History, replica: usize) -> Vec<String> {
    let reads = history.reads.iter().filter(|read| read.replica == replica);
    let acknowledged = |write: &&Write| {
        write.replica == replica
            && matches!(write.outcome, Outcome::Done { .. })
            && write.told_otherwise.is_none()
    };
    let writes = history.writes.iter().filter(acknowledged);
    let mut shown: Vec<(Micros, i64)> = reads.clone().map(|read| (read.completed, read.revision)).collect();
    shown.extend(writes.filter_map(|write| Some((write.completed, write.revision()?))));
    shown.sort_unstable();
    let mut newest = 0;
    for (_, revision) in &mut shown {
        newest = newest.max(*revision);
        *revision = newest;
    }
    let mut findings = Vec::new();
    for read in reads {
        let until = shown.partition_point(|(completed, _)| *completed < read.invoked);
        if let Some((_, newest)) = shown[..until].last().filter(|(_, newest)| *newest > read.revision) {
            let by = history.writes.iter().find(|write| write.revision() == Some(*newest));
            findings.push(format!("replica {replica} had shown {newest} before {read:?}; written by {by:?}"));
        }
    }
    findings
}
