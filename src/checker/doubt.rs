//! Doubt in oneself: where most targets fall silent at once, it is rather this replica that is cut off.
//!
//! That a target is silent is told to nobody before a trial: some of those that used to answer are asked as well, ahead of
//! their turn. Where more than half of them are silent too, this replica is suspicious of itself. Then the others run
//! its checks; and if there is nobody else who is not suspicious, a silence is believed when it has lasted for one
//! more interval. From time to time there is another trial, until one ends well.

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasher as _, Hash},
    time::Duration,
};

use foldhash::fast::RandomState;
use tokio::time::Instant;

/// Of fewer targets than this nothing can be concluded.
const ENOUGH: usize = 20;
/// So many are asked in a trial.
const ASKED: usize = 40;
/// Between two trials that are made because of new silences.
const PAUSE: Duration = Duration::from_millis(500);
/// Between two trials in suspicion.
const RETRY: Duration = Duration::from_secs(3);
/// A silence is not believed in suspicion before it has lasted for so long: the others must have heard that they are
/// needed.
const LEAST_DOUBT: Duration = Duration::from_secs(5);

/// Targets go by numbers.
pub(super) struct Doubt<No, Verdict> {
    /// Those that answered when they were last asked, or are taken to do so.
    answering: HashSet<No, RandomState>,
    /// What waits for a trial.
    held: Vec<(No, Verdict)>,
    trial: Option<Trial<No>>,
    not_before: Instant,
    is_suspicious: bool,
    /// Since when those have been silent who fell silent in suspicion.
    doubted: HashMap<No, Instant, RandomState>,
    /// What can be told.
    told: Vec<Verdict>,
    /// What was not believed, and is not told.
    dropped: usize,
}

struct Trial<No> {
    /// Whether each answered; None while it is not known.
    asked: HashMap<No, Option<bool>>,
    /// How much of what is held came before it.
    covers: usize,
}

/// What is to be done now.
pub(super) struct Steps<No, Verdict> {
    pub tell: Vec<Verdict>,
    /// Targets to ask ahead of their turn.
    pub ask: Vec<No>,
    /// How many verdicts were not believed.
    pub dropped: usize,
    /// Suspicion has begun, or ended.
    pub turned: bool,
}

impl<No: Copy + Ord + Hash, Verdict> Doubt<No, Verdict> {
    pub fn new(now: Instant) -> Self {
        Self {
            answering: HashSet::default(),
            held: Vec::new(),
            trial: None,
            not_before: now,
            is_suspicious: false,
            doubted: HashMap::default(),
            told: Vec::new(),
            dropped: 0,
        }
    }

    pub fn is_suspicious(&self) -> bool {
        self.is_suspicious
    }

    /// Whether a target is to be asked for a trial, whoever's it is.
    pub fn wants(&self, no: No) -> bool {
        self.trial.as_ref().is_some_and(|trial| trial.asked.get(&no) == Some(&None))
    }

    /// A target has answered, well or ill, or is known to have done so.
    pub fn heard(&mut self, no: No) {
        self.answering.insert(no);
        self.doubted.remove(&no);
        self.note(no, true);
    }

    /// A target was silent. `verdict` is what follows from that, if anything does. `others` is whether there is somebody
    /// who is not suspicious of himself.
    pub fn silent(
        &mut self,
        no: No,
        verdict: Option<Verdict>,
        interval: Duration,
        others: bool,
        now: Instant,
    ) {
        self.note(no, false);
        let Some(verdict) = verdict else {
            // it is known to be silent, and says nothing about this side
            self.answering.remove(&no);
            return;
        };
        if !self.is_suspicious {
            self.held.push((no, verdict));
            return;
        }
        let since = *self.doubted.entry(no).or_insert(now);
        if !others && now - since >= interval.max(LEAST_DOUBT) {
            self.tell(no, verdict);
        } else {
            self.dropped += 1;
        }
    }

    /// A target is somebody else's now. In suspicion all are, and are remembered for its end.
    pub fn hand_over(&mut self, no: No) {
        if !self.is_suspicious {
            self.forget(no);
        }
    }

    pub fn forget(&mut self, no: No) {
        self.answering.remove(&no);
        self.doubted.remove(&no);
        self.held.retain(|(held, _)| *held != no);
        if let Some(trial) = &mut self.trial {
            trial.asked.remove(&no);
            trial.covers = trial.covers.min(self.held.len());
        }
    }

    /// When there is something to do next, if nothing happens.
    pub fn next(&self) -> Option<Instant> {
        (self.trial.is_none() && (self.is_suspicious || !self.held.is_empty())).then_some(self.not_before)
    }

    /// What follows from all that has happened. `is_ill` is whether others have found out about a target meanwhile.
    pub fn settle(&mut self, now: Instant, is_ill: impl Fn(No) -> bool) -> Steps<No, Verdict> {
        let was_suspicious = self.is_suspicious;
        self.end_trial(now);
        let ask = if self.next().is_some_and(|at| at <= now) { self.begin_trial(is_ill) } else { Vec::new() };
        let turned = was_suspicious != self.is_suspicious;
        let (tell, dropped) = (std::mem::take(&mut self.told), std::mem::take(&mut self.dropped));
        Steps { tell, ask, dropped, turned }
    }

    fn tell(&mut self, no: No, verdict: Verdict) {
        self.answering.remove(&no);
        self.told.push(verdict);
    }

    fn note(&mut self, no: No, answered: bool) {
        if let Some(known) = self.trial.as_mut().and_then(|trial| trial.asked.get_mut(&no)) {
            *known = Some(answered);
        }
    }

    fn begin_trial(&mut self, is_ill: impl Fn(No) -> bool) -> Vec<No> {
        let sample = self.sample(is_ill);
        if sample.len() < ENOUGH {
            self.trust(self.held.len());
            return Vec::new();
        }
        let silent: HashSet<_> = self.held.iter().map(|(no, _)| *no).collect();
        let (known, ask): (Vec<_>, Vec<_>) = sample.into_iter().partition(|no| silent.contains(no));
        let asked = known.into_iter().map(|no| (no, Some(false))).chain(ask.iter().map(|no| (*no, None)));
        self.trial = Some(Trial { asked: asked.collect(), covers: self.held.len() });
        ask
    }

    /// Some of those that answered, picked at random: neighbours may share a fate.
    fn sample(&mut self, is_ill: impl Fn(No) -> bool) -> Vec<No> {
        let order = RandomState::default();
        let mut picked: Vec<_> = self.answering.iter().map(|no| (order.hash_one(no), *no)).collect();
        if picked.len() > ASKED * 5 {
            picked.select_nth_unstable(ASKED * 5);
            picked.truncate(ASKED * 5);
        }
        picked.sort_unstable();
        let (ill, mut well): (Vec<_>, Vec<_>) =
            picked.into_iter().map(|(_, no)| no).partition(|no| is_ill(*no));
        for no in ill {
            self.answering.remove(&no);
        }
        well.truncate(ASKED);
        well
    }

    fn end_trial(&mut self, now: Instant) {
        let Some(trial) = self.trial.take_if(|trial| trial.asked.values().all(Option::is_some)) else {
            return;
        };
        let silent = trial.asked.values().filter(|answered| **answered == Some(false)).count();
        if trial.asked.len() >= ENOUGH && silent * 2 > trial.asked.len() {
            self.is_suspicious = true;
            self.dropped += self.held.len();
            for (no, _) in self.held.drain(..) {
                self.doubted.entry(no).or_insert(now);
            }
            self.not_before = now + RETRY;
        } else {
            self.trust(trial.covers);
            self.not_before = now + PAUSE;
        }
    }

    /// It is the targets, and not this side: tells the first of what was held.
    fn trust(&mut self, first: usize) {
        self.is_suspicious = false;
        self.doubted.clear();
        for (no, verdict) in self.held.drain(..first).collect::<Vec<_>>() {
            self.tell(no, verdict);
        }
    }
}

#[cfg(test)]
#[path = "doubt_tests.rs"]
mod tests;
