//! How an instance fares, check by check, and how results change that.

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

/// The states an instance can be in, by their names on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    Unknown,
    Starting,
    Healthy,
    Degraded,
    Unhealthy,
    Maintenance,
    Stopping,
    Stopped,
}

impl Status {
    pub const ALL: [Self; 8] = [
        Self::Unknown,
        Self::Starting,
        Self::Healthy,
        Self::Degraded,
        Self::Unhealthy,
        Self::Maintenance,
        Self::Stopping,
        Self::Stopped,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Unhealthy => "unhealthy",
            Self::Maintenance => "maintenance",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == text)
    }
}

/// Where a change of health came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// Somebody said so.
    Report,
    /// rollcall asked the instance.
    Check,
}

/// What a check saw, or was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Seen {
    Passing,
    /// Alive, and not well.
    Warning,
    Failing,
    /// No word came within the time that was promised.
    Lapsed,
}

/// How many results in a row it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Thresholds {
    pub degraded_after: u16,
    pub unhealthy_after: u16,
    pub healthy_after: u16,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self { degraded_after: 1, unhealthy_after: 3, healthy_after: 1 }
    }
}

/// How one check fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckState {
    pub status: Status,
    /// Failures in a row, up to the one that made it unhealthy. Later ones change nothing that others wait for, so
    /// they are counted outside the log.
    pub failures: u16,
    /// Good results in a row, while they do not suffice.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub successes: u16,
    /// How often the state has changed: what is counted outside the log says by this number which stretch of failures
    /// it belongs to.
    pub changes: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the form that serde asks for")]
pub(super) fn is_zero(number: &u16) -> bool {
    *number == 0
}

impl CheckState {
    pub const fn new(status: Status) -> Self {
        Self { status, failures: 0, successes: 0, changes: 0 }
    }

    /// The state under other thresholds: no count goes beyond what they look at.
    #[must_use]
    pub fn within(self, thresholds: Thresholds) -> Self {
        Self {
            failures: self.failures.min(thresholds.unhealthy_after),
            successes: self.successes.min(thresholds.healthy_after.saturating_sub(1)),
            ..self
        }
    }

    /// The state after one more result, or None where it changes nothing.
    pub fn after(self, seen: Seen, thresholds: Thresholds) -> Option<Self> {
        let (status, failures, successes) = match seen {
            Seen::Passing if self.status == Status::Healthy => (Status::Healthy, 0, 0),
            Seen::Passing => {
                let successes = self.successes.saturating_add(1);
                if successes >= thresholds.healthy_after {
                    (Status::Healthy, 0, 0)
                } else {
                    (self.status, 0, successes)
                }
            }
            Seen::Warning => (Status::Degraded, 0, 0),
            Seen::Failing => {
                let failures = self.failures.saturating_add(1).min(thresholds.unhealthy_after);
                let status = if failures >= thresholds.unhealthy_after || self.status == Status::Unhealthy {
                    Status::Unhealthy
                } else if failures >= thresholds.degraded_after {
                    Status::Degraded
                } else {
                    self.status
                };
                (status, failures, 0)
            }
            Seen::Lapsed => (Status::Unhealthy, thresholds.unhealthy_after, 0),
        };
        let next = Self { status, failures, successes, changes: self.changes };
        (next != self).then(|| Self { changes: self.changes.wrapping_add(1), ..next })
    }
}

/// How an instance fares: the state of each of its checks, in their order. One that nobody checks has a state all the
/// same, which reports change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "HealthText", into = "HealthText")]
pub struct Health(SmallVec<[CheckState; 1]>);

impl Health {
    pub fn of(states: impl IntoIterator<Item = CheckState>) -> Self {
        let mut states: SmallVec<_> = states.into_iter().collect();
        if states.is_empty() {
            states.push(CheckState::new(Status::Healthy));
        }
        Self(states)
    }

    pub fn states(&self) -> &[CheckState] {
        &self.0
    }

    pub fn state(&self, check: usize) -> Option<CheckState> {
        self.0.get(check).copied()
    }

    /// What the checks come to together: one that is ill is enough, and all must have been heard of.
    pub fn status(&self) -> Status {
        let burden = |status: &Status| match status {
            Status::Unhealthy => 5,
            Status::Stopped => 4,
            Status::Stopping | Status::Maintenance => 3,
            Status::Degraded => 2,
            Status::Unknown | Status::Starting => 1,
            Status::Healthy => 0,
        };
        self.0.iter().map(|state| state.status).max_by_key(burden).unwrap_or(Status::Unknown)
    }

    /// The most failures in a row of any check.
    pub fn failures(&self) -> u16 {
        self.0.iter().map(|state| state.failures).max().unwrap_or(0)
    }

    /// How often it has changed, all checks together.
    pub fn changes(&self) -> u32 {
        self.0.iter().fold(0, |sum, state| sum.wrapping_add(state.changes))
    }

    /// The health with another state of one check.
    #[must_use]
    pub fn with(&self, check: usize, state: CheckState) -> Self {
        let mut states = self.0.clone();
        if let Some(place) = states.get_mut(check) {
            *place = state;
        }
        Self(states)
    }
}

/// Health as it is written: one state by itself, as it was before there could be several, and more as a list beside what
/// they come to.
#[derive(Serialize, Deserialize)]
pub(super) struct HealthText {
    pub status: Status,
    pub failures: u16,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub successes: u16,
    pub changes: u32,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<CheckState>,
}

impl From<HealthText> for Health {
    fn from(text: HealthText) -> Self {
        let HealthText { status, failures, successes, changes, checks } = text;
        if checks.is_empty() {
            Self::of([CheckState { status, failures, successes, changes }])
        } else {
            Self::of(checks)
        }
    }
}

impl From<Health> for HealthText {
    fn from(health: Health) -> Self {
        match health.states() {
            [CheckState { status, failures, successes, changes }] => Self {
                status: *status,
                failures: *failures,
                successes: *successes,
                changes: *changes,
                checks: Vec::new(),
            },
            states => Self {
                status: health.status(),
                failures: health.failures(),
                successes: 0,
                changes: health.changes(),
                checks: states.to_vec(),
            },
        }
    }
}

#[cfg(test)]
#[path = "health_tests.rs"]
mod tests;
