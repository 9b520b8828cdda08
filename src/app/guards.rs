//! The board: what holds verdicts back at the moment, and why.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

use super::App;
pub use crate::telemetry::Guard;

pub struct Guards {
    standing: Mutex<BTreeMap<Guard, &'static str>>,
    /// Tells the other replicas whether this one can be relied on.
    doubts: watch::Sender<bool>,
}

impl Guards {
    pub fn new(doubts: watch::Sender<bool>) -> Self {
        Self { standing: Mutex::default(), doubts }
    }

    fn standing(&self) -> MutexGuard<'_, BTreeMap<Guard, &'static str>> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As probes are told.
    pub fn words(&self) -> Vec<String> {
        self.standing().iter().map(|(guard, reason)| format!("{}: {reason}", guard.label())).collect()
    }
}

impl App {
    /// A guard holds something back from now on, for this reason; without one it does so no longer.
    pub fn guard(&self, guard: Guard, reason: Option<&'static str>) {
        let guards = &self.0.guards;
        let before = match reason {
            Some(reason) => guards.standing().insert(guard, reason),
            None => guards.standing().remove(&guard),
        };
        if before == reason {
            return;
        }
        self.0.metrics.guarded(guard, reason.is_some());
        match reason {
            Some(reason) => tracing::warn!(guard = guard.label(), reason, "a guard holds verdicts back"),
            None => tracing::info!(guard = guard.label(), "a guard holds nothing back any more"),
        }
        if guard == Guard::Suspicion {
            guards.doubts.send_replace(reason.is_some());
        }
    }

    /// Whether this replica doubts what it sees.
    pub fn is_suspicious(&self) -> bool {
        *self.0.guards.doubts.borrow()
    }
}
