//! What an operator sets above the checks of an instance: no verdict and no registration undoes it.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::health::Status;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Override {
    pub status: Overriding,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Who set it.
    pub by: Arc<str>,
    /// When it ends by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<DateTime<Utc>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overriding {
    /// Being worked on: it is not asked for anything.
    Maintenance,
    /// On its way out: it finishes what it has, and gets nothing new.
    Drain,
}

impl Overriding {
    pub const ALL: [Self; 2] = [Self::Maintenance, Self::Drain];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Maintenance => "maintenance",
            Self::Drain => "drain",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|overriding| overriding.as_str() == text)
    }

    /// What the instance is shown as.
    pub fn status(self) -> Status {
        match self {
            Self::Maintenance => Status::Maintenance,
            Self::Drain => Status::Stopping,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_override_is_shown_by_a_status_of_its_own() {
        for (overriding, name, status) in [
            (Overriding::Maintenance, "maintenance", Status::Maintenance),
            (Overriding::Drain, "drain", Status::Stopping),
        ] {
            assert_eq!((overriding.as_str(), overriding.status()), (name, status));
            assert_eq!(Overriding::parse(name), Some(overriding));
        }
        assert_eq!(Overriding::parse("stopping"), None);
    }
}
