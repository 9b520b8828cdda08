//! The database's time, reckoned: what it told at the last poll, and what has gone by here since.
//!
//! This machine's wall clock is read once, at the start. It may be set while the replica runs.

use std::{
    sync::atomic::{AtomicI64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use chrono::{DateTime, TimeDelta, Utc};

use crate::clock;

/// What is known of the database's clock before it was asked.
const NOT_COMPARED: i64 = i64::MIN;

pub struct Reckoning {
    started: Instant,
    /// By this machine's clock.
    started_at: DateTime<Utc>,
    /// How far the database's clock is ahead of what has gone by here since the start, in microseconds.
    ahead: AtomicI64,
    /// The latest time that was told, in microseconds.
    last: AtomicI64,
}

impl Reckoning {
    pub(super) fn begin() -> Self {
        Self {
            started: Instant::now(),
            started_at: clock::now(),
            ahead: AtomicI64::new(NOT_COMPARED),
            last: AtomicI64::new(0),
        }
    }

    /// The time now. It does not go back.
    pub fn now(&self) -> DateTime<Utc> {
        let here = self.here(Instant::now());
        // looked at once: what was not compared is not to be believed afterwards
        match self.ahead.load(Relaxed) {
            NOT_COMPARED => told(here),
            ahead => {
                let micros = here.saturating_add(ahead);
                told(self.last.fetch_max(micros, Relaxed).max(micros))
            }
        }
    }

    /// The time at a moment, in microseconds, for whoever is asked so often that he cannot wait for the others who ask: it
    /// may go back when the clocks are compared.
    pub fn micros_at(&self, at: Instant) -> i64 {
        let ahead = self.ahead.load(Relaxed);
        self.here(at).saturating_add(if ahead == NOT_COMPARED { 0 } else { ahead })
    }

    /// The same as a time.
    pub fn at(&self, at: Instant) -> DateTime<Utc> {
        told(self.micros_at(at))
    }

    /// What a clock would show here that was right at the start, or as wrong as then, and that nobody sets.
    fn here(&self, at: Instant) -> i64 {
        let gone_by = at.saturating_duration_since(self.started);
        let gone_by = i64::try_from(gone_by.as_micros()).unwrap_or(i64::MAX);
        self.started_at.timestamp_micros().saturating_add(gone_by)
    }

    /// The database told its time at some moment of a poll that took `took`. What is believed already stays, unless
    /// it lies outside of that.
    pub(super) fn compare(&self, told: DateTime<Utc>, took: Duration) {
        let ahead = told.timestamp_micros().saturating_sub(self.here(Instant::now()));
        let slack = i64::try_from(took.as_micros()).unwrap_or(i64::MAX);
        let believed = self.ahead.load(Relaxed);
        // the answer has been on its way for up to `took`: the truth is between `ahead` and that much more
        if believed < ahead || believed > ahead.saturating_add(slack) {
            self.ahead.store(ahead.saturating_add(slack / 2), Relaxed);
        }
    }
}

/// A time that was told in microseconds.
fn told(micros: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::microseconds(micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_databases_clock_is_believed_within_what_its_answer_took() {
        let clock = Reckoning::begin();
        let here = clock.now();
        assert!((here - clock.started_at).num_seconds() < 60, "as the machine has it");
        let (hour, took) = (TimeDelta::hours(1), Duration::from_millis(10));
        let off = |clock: &Reckoning, from: DateTime<Utc>| (clock.now() - from - hour).num_milliseconds();
        clock.compare(here + hour, took);
        assert!((0..60_000).contains(&off(&clock, here)));
        let believed = clock.ahead.load(Relaxed);
        // what lies within the time that the answer took says nothing new
        clock.compare(told(clock.micros_at(Instant::now())) - TimeDelta::milliseconds(5), took);
        assert_eq!(clock.ahead.load(Relaxed), believed);
        // what is told does not go back, even where the clock does
        let before = clock.now();
        clock.compare(here, took);
        assert_eq!(clock.now(), before);
        assert!(told(clock.micros_at(Instant::now())) < before);
    }
}
