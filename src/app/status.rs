//! What the probes of an orchestrator want to know.

use std::time::Duration;

use super::App;

/// A follower that has not been current for this long has lost its database.
const STORE_LOST_AFTER: Duration = Duration::from_secs(2);

/// Whether reads can be answered, and how each part fares.
#[derive(Clone, Debug)]
pub struct Readiness {
    pub ready: bool,
    pub view: &'static str,
    pub store: &'static str,
    pub store_ok: bool,
    /// None before the first load.
    pub follower_lag_ms: Option<u64>,
    pub guards: Vec<String>,
}

impl App {
    /// Ready once the view is loaded, and from then on, whatever becomes of the database: reads go on.
    pub fn readiness(&self) -> Readiness {
        let loaded = self.0.view.is_loaded();
        let age = self.0.log.follower().age();
        let store_ok = age.is_some_and(|age| age < STORE_LOST_AFTER);
        Readiness {
            ready: loaded && !self.is_stopping(),
            view: match (loaded, self.is_stopping()) {
                (_, true) => "stopping",
                (true, false) => "loaded",
                (false, false) => "loading",
            },
            store: if store_ok { "connected" } else { "unreachable" },
            store_ok,
            follower_lag_ms: age.and_then(|age| u64::try_from(age.as_millis()).ok()),
            guards: self.0.guards.words(),
        }
    }

    /// From here on the probes say that this replica is going away.
    pub fn begin_stop(&self) {
        self.0.stopping.store(true, std::sync::atomic::Ordering::Release);
    }

    fn is_stopping(&self) -> bool {
        self.0.stopping.load(std::sync::atomic::Ordering::Acquire)
    }
}
