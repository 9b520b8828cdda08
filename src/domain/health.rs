//! How an instance fares, and how reports change that.

use serde::{Deserialize, Serialize};

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

/// After how many failures in a row an instance is degraded, and after how many unhealthy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    pub degraded_after: u32,
    pub unhealthy_after: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    pub status: Status,
    /// Failures in a row, up to the one that made the instance unhealthy. Later ones change nothing that others
    /// wait for, so they are counted outside the log.
    pub failures: u32,
    /// How often the health has changed: what is counted outside the log says by this number which stretch of
    /// failures it belongs to.
    pub changes: u32,
}

impl Health {
    pub const UNKNOWN: Self = Self { status: Status::Unknown, failures: 0, changes: 0 };
    pub const HEALTHY: Self = Self { status: Status::Healthy, failures: 0, changes: 0 };

    /// The health after one more report, or None where the report changes nothing.
    pub fn after_report(self, healthy: bool, thresholds: Thresholds) -> Option<Self> {
        let (status, failures) = if healthy {
            (Status::Healthy, 0)
        } else {
            let failures = self.failures.saturating_add(1).min(thresholds.unhealthy_after);
            let status = if failures >= thresholds.unhealthy_after {
                Status::Unhealthy
            } else if failures >= thresholds.degraded_after {
                Status::Degraded
            } else {
                self.status
            };
            (status, failures)
        };
        if (status, failures) == (self.status, self.failures) {
            return None;
        }
        Some(Self { status, failures, changes: self.changes.wrapping_add(1) })
    }

    /// The health of one whose checks were replaced: it begins anew, yet in a stretch of its own.
    #[must_use]
    pub fn restarted_as(self, fresh: Self) -> Self {
        Self { changes: self.changes.wrapping_add(1), ..fresh }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Status::{Degraded, Healthy, Starting, Unhealthy, Unknown};

    const CLASSIC: Thresholds = Thresholds { degraded_after: 1, unhealthy_after: 3 };

    #[test]
    fn every_cell_of_the_report_table() {
        // (status, failures) by report → (status, failures), None where nothing changes
        for (status, failures, healthy, expected) in [
            (Unknown, 0, true, Some((Healthy, 0))),
            (Unknown, 0, false, Some((Degraded, 1))),
            (Starting, 0, true, Some((Healthy, 0))),
            (Starting, 0, false, Some((Degraded, 1))),
            (Healthy, 0, true, None),
            (Healthy, 0, false, Some((Degraded, 1))),
            (Degraded, 1, true, Some((Healthy, 0))),
            (Degraded, 1, false, Some((Degraded, 2))),
            (Degraded, 2, true, Some((Healthy, 0))),
            (Degraded, 2, false, Some((Unhealthy, 3))),
            (Unhealthy, 3, true, Some((Healthy, 0))),
            (Unhealthy, 3, false, None),
        ] {
            let before = Health { status, failures, changes: 7 };
            let after = before.after_report(healthy, CLASSIC);
            assert_eq!(after.map(|h| (h.status, h.failures)), expected, "{before:?} {healthy}");
            assert!(after.is_none_or(|h| h.changes == 8));
        }
    }

    #[test]
    fn below_the_first_threshold_failures_are_counted_and_the_status_stays() {
        let patient = Thresholds { degraded_after: 2, unhealthy_after: 4 };
        let mut health = Health::HEALTHY;
        let mut seen = Vec::new();
        while let Some(next) = health.after_report(false, patient) {
            health = next;
            seen.push(health.status);
        }
        assert_eq!(seen, [Healthy, Degraded, Degraded, Unhealthy]);
    }

    #[test]
    fn one_report_decides_for_an_instance_without_checks() {
        let once = Thresholds { degraded_after: 1, unhealthy_after: 1 };
        let ill = Health::HEALTHY.after_report(false, once).unwrap();
        assert_eq!((ill.status, ill.failures), (Unhealthy, 1));
        assert_eq!(ill.after_report(false, once), None);
    }

    #[test]
    fn names_on_the_wire_lead_back_to_their_status() {
        for status in Status::ALL {
            assert_eq!(Status::parse(status.as_str()), Some(status));
            assert_eq!(serde_json::to_string(&status).unwrap(), format!("\"{}\"", status.as_str()));
        }
        assert_eq!(Status::parse("Healthy"), None);
    }
}
