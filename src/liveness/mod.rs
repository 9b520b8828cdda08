//! What changes all the time and matters only near its end: last seen, last check, load, and failures beyond the
//! count that made an instance unhealthy.
//!
//! It is kept in memory, flushed once a second, and followed by all replicas. It never moves a revision: nobody is
//! woken because an instance is still well.

mod flusher;
mod packed;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use chrono::{DateTime, Utc};
use foldhash::fast::RandomState;

use crate::domain::{CheckState, InstanceId};
pub use crate::store::liveness::{Sign as Known, Subject};
pub use flusher::Flusher;
use packed::{Moment, Packed};

const SHARDS: usize = 16;
/// What a check said may be a page of text; the reader wants its beginning.
const LONGEST_OUTPUT: usize = 4096;

#[derive(Default)]
pub struct Liveness {
    shards: [Mutex<Shard>; SHARDS],
}

#[derive(Default)]
struct Shard {
    instances: HashMap<InstanceId, Entry, RandomState>,
    /// Of the checks that have names.
    checks: HashMap<Subject, Entry, RandomState>,
    /// Those with something fresh.
    dirty: Vec<Subject>,
    /// Instances of which nothing follows from a sign of life but that it is noted, and when they were heard of since the
    /// last flush: apart from the entries, so that what is told all day leads into little memory.
    plain: HashMap<InstanceId, Moment, RandomState>,
    /// Those of them that were heard of.
    plain_dirty: Vec<InstanceId>,
    /// What a check said last. Where many fail, they mostly say the same.
    output: Option<Arc<str>>,
}

/// What is known of one subject. Each of the three is merged over the one before it.
#[derive(Default)]
struct Entry {
    /// As the database has it.
    stored: Packed,
    /// In a flush whose answer has not come yet.
    flying: Option<Box<Known>>,
    /// Since that flush.
    fresh: Option<Box<Known>>,
}

impl Liveness {
    pub fn known(&self, id: InstanceId) -> Known {
        self.known_of(&Subject::of(id))
    }

    /// When something was last checked.
    pub fn last_check(&self, subject: &Subject) -> Option<DateTime<Utc>> {
        let shard = self.shard(subject.instance);
        let Entry { stored, flying, fresh } = shard.entry(subject)?;
        let later = [flying, fresh].into_iter().flatten().filter_map(|known| known.last_check).max();
        stored.last_check().max(later)
    }

    pub fn known_of(&self, subject: &Subject) -> Known {
        let shard = self.shard(subject.instance);
        let mut known = shard.entry(subject).map(Entry::merged).unwrap_or_default();
        if subject.check.is_none() {
            let heard = shard.plain.get(&subject.instance).and_then(|heard| heard.time());
            known.last_seen = known.last_seen.max(heard);
        }
        known
    }

    /// A sign of life: a registration, a heartbeat, a report.
    pub fn seen(&self, id: InstanceId, at: DateTime<Utc>, load: Option<f32>) {
        self.note(Subject::of(id), &Known { last_seen: Some(at), load, ..Known::default() });
    }

    /// A sign of life, at this time in microseconds, of an instance that is known to be there, and known to be plain. False, and
    /// nothing is noted, where it is not.
    pub fn seen_again(&self, id: InstanceId, micros: i64) -> bool {
        let mut shard = self.shard(id);
        let shard = &mut *shard;
        let Some(heard) = shard.plain.get_mut(&id) else { return false };
        if *heard == Moment::NEVER {
            shard.plain_dirty.push(id);
        }
        *heard = (*heard).max(Moment::at(micros));
        true
    }

    /// An instance that was heard of is plain, if that still holds: what is known of it may be about to be taken back.
    pub fn take_for_plain(&self, id: InstanceId, still: impl FnOnce() -> bool) {
        let mut shard = self.shard(id);
        if !shard.instances.contains_key(&id) {
            return;
        }
        if still() {
            shard.plain.entry(id).or_insert(Moment::NEVER);
        } else {
            shard.take_for_special(id);
        }
    }

    /// The instance is another one now. To be said when everybody can see that.
    pub fn changed(&self, id: InstanceId) {
        self.shard(id).take_for_special(id);
    }

    /// All of them may be.
    pub fn all_changed(&self) {
        for mut shard in self.each_shard() {
            shard.gather();
            shard.plain.clear();
        }
    }

    /// How many signs wait to be written, at most.
    fn waiting(&self) -> usize {
        self.each_shard().map(|shard| shard.dirty.len() + shard.plain_dirty.len()).sum()
    }

    /// The result of a check, or a report that counts as one.
    pub fn checked(
        &self,
        subject: Subject,
        at: DateTime<Utc>,
        latency_ms: Option<f32>,
        output: Option<&str>,
    ) {
        let mut shard = self.shard(subject.instance);
        let output = output.map(|text| shard.shared(beginning(text)));
        shard.note(subject, &Known { last_check: Some(at), latency_ms, output, ..Known::default() });
    }

    /// The good result of asking an instance: it is a sign of life as well.
    pub fn found_well(&self, subject: Subject, at: DateTime<Utc>, latency_ms: f32, load: Option<f32>) {
        let mut sign = Known { last_check: Some(at), latency_ms: Some(latency_ms), ..Known::default() };
        let seen = Known { last_seen: Some(at), load, ..Known::default() };
        if subject.check.is_some() {
            self.note(Subject::of(subject.instance), &seen);
        } else {
            merge(&mut sign, &seen);
        }
        self.note(subject, &sign);
    }

    /// A failure that changed nothing any more. The state says which stretch of failures it belongs to.
    pub fn failed(&self, subject: Subject, state: CheckState) {
        self.note(subject, &Known { failures: 1, changes: state.changes, ..Known::default() });
    }

    /// Forgets an instance that is no longer registered. What is left of its checks goes with the next cleaning.
    pub fn forget(&self, id: InstanceId) {
        let mut shard = self.shard(id);
        shard.instances.remove(&id);
        shard.plain.remove(&id);
    }

    fn note(&self, subject: Subject, sign: &Known) {
        self.shard(subject.instance).note(subject, sign);
    }

    fn shard(&self, id: InstanceId) -> MutexGuard<'_, Shard> {
        // the low bits of a version 7 UUID are random
        let number = usize::try_from(id.0.as_u128() % SHARDS as u128).unwrap_or(0);
        let shard = self.shards.get(number).unwrap_or(&self.shards[0]);
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn each_shard(&self) -> impl Iterator<Item = MutexGuard<'_, Shard>> {
        self.shards.iter().map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Shard {
    fn entry(&self, subject: &Subject) -> Option<&Entry> {
        match subject.check {
            None => self.instances.get(&subject.instance),
            Some(_) => self.checks.get(subject),
        }
    }

    fn entry_mut(&mut self, subject: &Subject) -> Option<&mut Entry> {
        match subject.check {
            None => self.instances.get_mut(&subject.instance),
            Some(_) => self.checks.get_mut(subject),
        }
    }

    fn entry_or_new(&mut self, subject: Subject) -> &mut Entry {
        match subject.check {
            None => self.instances.entry(subject.instance).or_default(),
            Some(_) => self.checks.entry(subject).or_default(),
        }
    }

    fn shared(&mut self, output: &str) -> Arc<str> {
        match &self.output {
            Some(last) if **last == *output => last.clone(),
            _ => self.output.insert(output.into()).clone(),
        }
    }

    fn note(&mut self, subject: Subject, sign: &Known) {
        let fresh = &mut self.entry_or_new(subject.clone()).fresh;
        if let Some(fresh) = fresh {
            merge(fresh, sign);
        } else {
            *fresh = Some(Box::new(sign.clone()));
            self.dirty.push(subject);
        }
    }

    fn take_for_special(&mut self, id: InstanceId) {
        if let Some(at) = self.plain.remove(&id).and_then(Moment::time) {
            self.note(Subject::of(id), &Known { last_seen: Some(at), ..Known::default() });
        }
    }

    /// Puts what was heard of plain instances to what else is fresh.
    fn gather(&mut self) {
        for id in std::mem::take(&mut self.plain_dirty) {
            let heard = self.plain.get_mut(&id).map(|heard| std::mem::replace(heard, Moment::NEVER));
            if let Some(at) = heard.and_then(Moment::time) {
                self.note(Subject::of(id), &Known { last_seen: Some(at), ..Known::default() });
            }
        }
    }
}

impl Entry {
    fn is_to_be_stored(&self) -> bool {
        self.fresh.is_some() || self.flying.is_some()
    }

    fn merged(&self) -> Known {
        let mut known = self.stored.known();
        for later in [&self.flying, &self.fresh].into_iter().flatten() {
            merge(&mut known, later);
        }
        known
    }
}

/// Puts a later sign over an earlier one, as `note_liveness` does in the database.
fn merge(known: &mut Known, later: &Known) {
    known.last_seen = known.last_seen.max(later.last_seen);
    if later.last_check.is_some() && later.last_check >= known.last_check {
        known.last_check = later.last_check;
        known.latency_ms = later.latency_ms;
        known.output.clone_from(&later.output);
    }
    known.load = later.load.or(known.load);
    if later.failures > 0 || later.changes > known.changes {
        match later.changes.cmp(&known.changes) {
            std::cmp::Ordering::Equal => known.failures += later.failures,
            std::cmp::Ordering::Greater => (known.failures, known.changes) = (later.failures, later.changes),
            std::cmp::Ordering::Less => {}
        }
    }
}

fn beginning(text: &str) -> &str {
    let mut end = text.len().min(LONGEST_OUTPUT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{CheckId, Status};

    fn id(n: u128) -> InstanceId {
        InstanceId(uuid::Uuid::from_u128(n))
    }

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(second, 0).unwrap()
    }

    fn micros(second: i64) -> i64 {
        at(second).timestamp_micros()
    }

    #[test]
    fn failures_are_counted_within_their_stretch() {
        let liveness = Liveness::default();
        let third = CheckState { changes: 3, ..CheckState::new(Status::Unhealthy) };
        let failed = |state| {
            liveness.failed(Subject::of(id(1)), state);
            liveness.known(id(1)).failures
        };
        assert_eq!(failed(third), 1);
        assert_eq!(failed(third), 2);
        liveness.seen(id(1), at(5), None);
        let known = liveness.known(id(1));
        assert_eq!((known.failures, known.changes, known.last_seen), (2, 3, Some(at(5))));
        assert_eq!(failed(CheckState { changes: 5, ..third }), 1);
        assert_eq!(failed(third), 1);
        liveness.forget(id(1));
        assert_eq!(liveness.known(id(1)), Known::default());
    }

    #[test]
    fn the_newest_check_wins_and_time_never_goes_back() {
        let liveness = Liveness::default();
        liveness.checked(Subject::of(id(1)), at(9), Some(1.5), Some("late"));
        liveness.checked(Subject::of(id(1)), at(8), Some(9.0), Some("early"));
        liveness.seen(id(1), at(3), Some(0.5));
        liveness.seen(id(1), at(2), None);
        let known = liveness.known(id(1));
        assert_eq!(
            (known.last_check, known.latency_ms, known.output.as_deref()),
            (Some(at(9)), Some(1.5), Some("late"))
        );
        assert_eq!((known.last_seen, known.load), (Some(at(3)), Some(0.5)));
    }

    #[test]
    fn only_who_is_known_to_be_plain_is_noted_at_once() {
        let liveness = Liveness::default();
        assert!(!liveness.seen_again(id(1), micros(1)));
        liveness.take_for_plain(id(1), || true);
        assert!(!liveness.seen_again(id(1), micros(1)), "nobody has heard of it");
        liveness.seen(id(1), at(1), Some(0.5));
        assert!(!liveness.seen_again(id(1), micros(2)));
        liveness.take_for_plain(id(1), || false);
        assert!(!liveness.seen_again(id(1), micros(2)));
        liveness.take_for_plain(id(1), || true);
        assert!(liveness.seen_again(id(1), micros(2)) && liveness.seen_again(id(1), micros(1)));
        let known = liveness.known(id(1));
        assert_eq!((known.last_seen, known.load), (Some(at(2)), Some(0.5)));
        let flown = |liveness: &Liveness| -> Vec<_> {
            let flying = liveness.take_off(10).into_iter();
            flying.map(|(subject, sign)| (subject.instance, sign.last_seen)).collect()
        };
        assert!(liveness.waiting() > 0);
        assert_eq!((flown(&liveness), liveness.waiting()), (vec![(id(1), Some(at(2)))], 0));
        assert!(liveness.seen_again(id(1), micros(3)));
        assert_eq!(flown(&liveness), [(id(1), Some(at(3)))]);
        assert_eq!(flown(&liveness), []);
        // what was heard until then stays
        assert!(liveness.seen_again(id(1), micros(4)));
        liveness.changed(id(1));
        assert_eq!(
            (liveness.known(id(1)).last_seen, flown(&liveness)),
            (Some(at(4)), vec![(id(1), Some(at(4)))])
        );
        liveness.take_for_plain(id(1), || true);
        assert!(liveness.seen_again(id(1), micros(5)));
        liveness.all_changed();
        assert_eq!(
            (liveness.known(id(1)).last_seen, flown(&liveness)),
            (Some(at(5)), vec![(id(1), Some(at(5)))])
        );
        for change in [Liveness::changed, |liveness: &Liveness, _| liveness.all_changed(), Liveness::forget] {
            liveness.seen(id(1), at(2), None);
            liveness.take_for_plain(id(1), || true);
            change(&liveness, id(1));
            assert!(!liveness.seen_again(id(1), micros(3)));
        }
    }

    #[test]
    fn each_check_is_known_by_itself() {
        let liveness = Liveness::default();
        let web = Subject { instance: id(1), check: CheckId::parse("web").ok() };
        liveness.checked(web.clone(), at(1), None, Some("of the check"));
        liveness.seen(id(1), at(2), None);
        assert_eq!(liveness.known(id(1)).output, None);
        assert_eq!(liveness.known_of(&web).output.as_deref(), Some("of the check"));
        assert_eq!(liveness.known_of(&web).last_seen, None);
    }

    #[test]
    fn what_many_say_is_kept_once() {
        let liveness = Liveness::default();
        let said = |n: u128, text: &str| {
            liveness.checked(Subject::of(id(n)), at(1), None, Some(text));
            liveness.known(id(n)).output.unwrap()
        };
        // ids whose low bits are the same lie beside each other
        let (one, two, three) = (said(16, "refused"), said(32, "refused"), said(48, "other"));
        assert!(Arc::ptr_eq(&one, &two) && *three == *"other");
    }

    #[test]
    fn output_is_cut_between_characters() {
        let long = "é".repeat(4000);
        assert_eq!(beginning(&long).len(), LONGEST_OUTPUT);
        assert_eq!(beginning(&format!("a{long}")).len(), LONGEST_OUTPUT - 1);
        assert_eq!(beginning("short"), "short");
    }
}
