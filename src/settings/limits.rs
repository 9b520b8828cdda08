//! How much of the server's time and memory one client, and all of them together, may take.
//!
//! Some of them are settings. The others are fixed for operators; they are fields so that a test of a time-out need
//! not wait for the real one.

use std::time::Duration;

#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at a time; by default what the file descriptors allow.
    pub connections: Option<usize>,
    /// Connections at a time from one address, or from one /64 of IPv6.
    pub connections_per_address: Option<usize>,
    /// Requests under way at a time.
    pub requests: usize,
    /// How often one client may ask; without it as often as it likes.
    pub rate: Option<Rate>,
    /// How long a client may take from the beginning of a request to the end of its head.
    pub head_within: Duration,
    /// How long a connection without a request is kept at least; it is ended before twice that time is over.
    pub idle_for: Duration,
    /// How fast a request's body must come.
    pub body: Pace,
    /// How fast an answer must be read.
    pub answer: Pace,
    /// When a connection of HTTP/2 is asked whether somebody is still there, and how long it has to answer.
    pub ping_every: Duration,
    pub ping_within: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: None,
            connections_per_address: None,
            // More than are of use: from some 250 writes on, more at a time only wait the longer.
            requests: 1024,
            rate: None,
            head_within: Duration::from_secs(15),
            // Load balancers keep theirs for a minute: it must be they who close first.
            idle_for: Duration::from_secs(75),
            body: Pace::default(),
            answer: Pace { grace: Duration::from_secs(30), ..Pace::default() },
            ping_every: Duration::from_secs(30),
            ping_within: Duration::from_secs(20),
        }
    }
}

/// How often a client may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    pub per_second: u32,
    /// How many may come at once.
    pub burst: u32,
}

impl Rate {
    /// With what comes in two seconds at once, where nothing else is said.
    pub fn new(per_second: u32, burst: Option<u32>) -> Self {
        Self { per_second, burst: burst.unwrap_or(per_second.saturating_mul(2)) }
    }
}

/// How slowly bytes may move. Every wait is a debt and every byte pays some of it back; a debt above the grace is too
/// much. Nothing is saved up: who was fast at first may not stand still for the longer afterwards.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    pub grace: Duration,
    pub bytes_per_second: u32,
}

impl Default for Pace {
    fn default() -> Self {
        Self { grace: Duration::from_secs(10), bytes_per_second: 1024 }
    }
}

impl Pace {
    /// The debt after a wait that brought so many bytes.
    pub fn owed(self, owed: Duration, waited: Duration, bytes: usize) -> Duration {
        let owed = owed.saturating_add(waited);
        if owed.is_zero() {
            return owed;
        }
        let micros = u64::try_from(bytes).unwrap_or(u64::MAX).saturating_mul(1_000_000);
        owed.saturating_sub(Duration::from_micros(micros / u64::from(self.bytes_per_second.max(1))))
    }

    /// How long may be waited before it is too much.
    pub fn left(self, owed: Duration) -> Duration {
        self.grace.saturating_sub(owed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_is_owed_and_bytes_pay_it_back() {
        let pace = Pace { grace: Duration::from_secs(10), bytes_per_second: 1024 };
        let seconds = Duration::from_secs;
        for (owed, waited, bytes, left) in [
            (0, 0, 0, 10),
            (0, 4, 0, 6),
            (0, 4, 2048, 8),
            (3, 4, 1024, 4),
            (9, 4, 0, 0),
            // Nothing is saved up.
            (0, 1, 1 << 30, 10),
            (0, 0, usize::MAX, 10),
        ] {
            let owed = pace.owed(seconds(owed), seconds(waited), bytes);
            assert_eq!(pace.left(owed), seconds(left), "{waited} s for {bytes} bytes");
        }
    }
}
