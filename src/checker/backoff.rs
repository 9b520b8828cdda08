//! How seldom somebody is asked who has been silent for long.

use std::time::Duration;

use tokio::time::Instant;

/// Silent for so long, a target is asked half as often, and half as often again each time that this has doubled.
const LONG: Duration = Duration::from_mins(10);
/// Nobody is left alone for longer than this, but for those who asked for it.
const LONGEST_WAIT: Duration = Duration::from_mins(5);

#[derive(Default)]
pub(super) struct Backoff {
    silent_since: Option<Instant>,
    /// It has answered once since. Another answer, and all is as before; silence, and so is the long wait.
    is_half_open: bool,
}

impl Backoff {
    pub fn silent(&mut self, now: Instant) {
        self.is_half_open = false;
        self.silent_since.get_or_insert(now);
    }

    /// It has answered. Returns whether all is as before by now.
    pub fn heard(&mut self) -> bool {
        if self.is_half_open || self.silent_since.is_none() {
            *self = Self::default();
        } else {
            self.is_half_open = true;
        }
        self.silent_since.is_none()
    }

    /// How long it is left alone from now on.
    pub fn wait(&self, interval: Duration, now: Instant) -> Duration {
        let Some(since) = self.silent_since.filter(|_| !self.is_half_open) else { return interval };
        let mut wait = interval;
        let mut long = LONG;
        while now - since >= long && wait < LONGEST_WAIT {
            wait = (wait * 2).min(LONGEST_WAIT);
            long *= 2;
        }
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_silent_for_long_is_asked_less_often() {
        let begin = Instant::now();
        let (seconds, minutes) = (Duration::from_secs, Duration::from_mins);
        for (silent_for, interval, wait) in [
            (seconds(0), seconds(30), seconds(30)),
            (seconds(599), seconds(30), seconds(30)),
            (minutes(10), seconds(30), minutes(1)),
            (minutes(19), seconds(30), minutes(1)),
            (minutes(20), seconds(30), minutes(2)),
            (minutes(40), seconds(30), minutes(4)),
            (minutes(80), seconds(30), minutes(5)),
            (minutes(9999), seconds(30), minutes(5)),
            (minutes(9999), minutes(20), minutes(20)),
            (minutes(20), Duration::from_millis(100), Duration::from_millis(400)),
        ] {
            let mut backoff = Backoff::default();
            backoff.silent(begin);
            backoff.silent(begin + silent_for);
            assert_eq!(backoff.wait(interval, begin + silent_for), wait, "{silent_for:?} {interval:?}");
        }
    }

    #[test]
    fn the_first_answer_opens_it_by_half() {
        let begin = Instant::now();
        let (interval, late) = (Duration::from_secs(30), begin + Duration::from_hours(2));
        let mut backoff = Backoff::default();
        assert!(backoff.heard());
        assert_eq!(backoff.wait(interval, late), interval);
        backoff.silent(begin);
        assert_eq!(backoff.wait(interval, late), LONGEST_WAIT);
        assert!(!backoff.heard());
        assert_eq!(backoff.wait(interval, late), interval, "it may be there again");
        backoff.silent(late);
        assert_eq!(backoff.wait(interval, late), LONGEST_WAIT, "it was not");
        assert!(!backoff.heard());
        assert!(backoff.heard());
        backoff.silent(late);
        assert_eq!(backoff.wait(interval, late), interval, "its silence is a new one");
    }
}
