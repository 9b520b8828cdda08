//! The wall clock, for all code outside `domain`.
//!
//! `domain` gets the time as an argument, and deadlines that several replicas must agree on are the
//! database's. What is left is asked for here. Invariant: this is the only place that reads the wall clock.

use chrono::{DateTime, SubsecRound as _, Utc};

/// Now, in whole microseconds: that is what `PostgreSQL` keeps and what the API prints, so a time that went out
/// and came back equals itself.
#[expect(clippy::disallowed_methods, reason = "the one place where the wall clock is read")]
pub fn now() -> DateTime<Utc> {
    Utc::now().trunc_subsecs(6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn now_has_no_fraction_of_a_microsecond() {
        assert!((0..50).all(|_| now().timestamp_subsec_nanos().is_multiple_of(1_000)));
    }
}
