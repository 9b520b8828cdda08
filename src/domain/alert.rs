//! Load that somebody should know of.

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

/// An instance gives no more than one alert in this time.
pub const QUIET_FOR: TimeDelta = TimeDelta::seconds(300);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlertLevel {
    Warning,
    Critical,
    Emergency,
}

impl AlertLevel {
    pub const ALL: [Self; 3] = [Self::Warning, Self::Critical, Self::Emergency];

    /// None where the load is nothing to speak of.
    pub fn of(load: f32) -> Option<Self> {
        Self::ALL.into_iter().rev().find(|level| load >= level.from())
    }

    fn from(self) -> f32 {
        match self {
            Self::Warning => 0.6,
            Self::Critical => 0.8,
            Self::Emergency => 0.95,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Critical => "critical",
            Self::Emergency => "emergency",
        }
    }
}

/// The last alert that an instance gave.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    pub level: AlertLevel,
    pub load: f32,
    pub at: DateTime<Utc>,
}

impl Alert {
    /// Whether another one would come too soon.
    pub fn is_recent(&self, now: DateTime<Utc>) -> bool {
        now - self.at < QUIET_FOR
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn load_has_three_levels() {
        for (load, level) in [
            (0.0, None),
            (0.59, None),
            (0.6, Some(AlertLevel::Warning)),
            (0.79, Some(AlertLevel::Warning)),
            (0.8, Some(AlertLevel::Critical)),
            (0.94, Some(AlertLevel::Critical)),
            (0.95, Some(AlertLevel::Emergency)),
            (1.0, Some(AlertLevel::Emergency)),
        ] {
            assert_eq!(AlertLevel::of(load), level, "{load}");
        }
        for level in AlertLevel::ALL {
            assert_eq!(serde_json::to_string(&level).unwrap(), format!("\"{}\"", level.as_str()));
        }
    }

    #[test]
    fn an_instance_is_quiet_for_five_minutes() {
        let at = DateTime::UNIX_EPOCH;
        let alert = Alert { level: AlertLevel::Warning, load: 0.7, at };
        for (after, recent) in [(0, true), (299, true), (300, false), (-10, true)] {
            assert_eq!(alert.is_recent(at + TimeDelta::seconds(after)), recent, "{after}");
        }
    }
}
