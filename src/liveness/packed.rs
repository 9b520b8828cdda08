//! What is known of each instance all the time, in little room.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::Known;

/// A time as the database has it, in microseconds, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment(i64);

/// `Known` in less room.
pub(super) struct Packed {
    last_seen: Moment,
    last_check: Moment,
    output: Option<Arc<str>>,
    /// Not a number where it is not known.
    latency_ms: f32,
    load: f32,
    failures: i64,
    changes: u32,
}

impl Moment {
    /// Earlier than all others.
    pub const NEVER: Self = Self(i64::MIN);

    pub fn at(micros: i64) -> Self {
        Self(micros)
    }

    pub fn time(self) -> Option<DateTime<Utc>> {
        if self == Self::NEVER { None } else { DateTime::from_timestamp_micros(self.0) }
    }
}

impl From<Option<DateTime<Utc>>> for Moment {
    fn from(time: Option<DateTime<Utc>>) -> Self {
        time.map_or(Self::NEVER, |time| Self(time.timestamp_micros()))
    }
}

impl Packed {
    pub fn last_check(&self) -> Option<DateTime<Utc>> {
        self.last_check.time()
    }

    pub fn known(&self) -> Known {
        let number = |number: f32| (!number.is_nan()).then_some(number);
        Known {
            last_seen: self.last_seen.time(),
            last_check: self.last_check.time(),
            latency_ms: number(self.latency_ms),
            output: self.output.clone(),
            load: number(self.load),
            failures: self.failures,
            changes: self.changes,
        }
    }
}

impl From<Known> for Packed {
    fn from(known: Known) -> Self {
        Self {
            last_seen: known.last_seen.into(),
            last_check: known.last_check.into(),
            output: known.output,
            latency_ms: known.latency_ms.unwrap_or(f32::NAN),
            load: known.load.unwrap_or(f32::NAN),
            failures: known.failures,
            changes: known.changes,
        }
    }
}

impl Default for Packed {
    fn default() -> Self {
        Known::default().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_comes_out_as_it_was() {
        let at = DateTime::from_timestamp_micros(1_790_000_000_123_456);
        let full = Known {
            last_seen: at,
            last_check: DateTime::from_timestamp_micros(-1),
            latency_ms: Some(1.25),
            output: Some("HTTP 503".into()),
            load: Some(0.0),
            failures: 7,
            changes: 3,
        };
        for known in [Known::default(), Known { last_seen: None, load: None, ..full.clone() }, full] {
            assert_eq!(Packed::from(known.clone()).known(), known);
        }
        assert!(size_of::<Packed>() < size_of::<Known>());
    }

    #[test]
    fn never_is_before_any_time() {
        assert!(Moment::NEVER < Moment::at(0) && Moment::at(0) < Moment::at(1));
        assert_eq!(Moment::from(None).time(), None);
        assert_eq!(Moment::at(5).time(), DateTime::from_timestamp_micros(5));
    }
}
