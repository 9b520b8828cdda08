//! The gate: what doors may call. One function a use case.

mod alerts;
mod config;
mod error;
mod guards;
mod health;
mod history;
mod instances;
mod leases;
mod metrics;
mod overrides;
mod reads;
mod removals;
mod status;
mod tokens;
mod who;

use std::sync::{Arc, atomic::AtomicBool};

use tokio::sync::watch;
use uuid::Uuid;

pub use alerts::{Loads, loads};
pub use error::AppError;
pub use guards::Guard;
pub use health::{CheckDetail, Health, Verdict};
pub use history::{EventQuery, EventRecord, Verification};
pub use instances::Shown;
pub use leases::Lease;
pub use reads::Consistency;
pub use removals::Sweep;
pub use status::Readiness;
pub use tokens::{NewToken, Secret};
pub use who::{Memory, permit};

pub use crate::{
    auth::{Auth, Credential, Identity, Refused},
    liveness::{Known, Subject},
    log::{Caller, IdempotencyKey, Peers, Written},
    view::{Difference, ServiceView, Slot, Snapshot, Tokens},
};
use guards::Guards;

use crate::{liveness::Liveness, log::Log, probe::Probes, store::Lanes, telemetry::Metrics, view::View};

/// How instances are asked for their health, and who does so.
pub struct Asking {
    pub probes: Arc<Probes>,
    pub replica: Uuid,
    pub peers: Peers,
    pub loads: Loads,
    /// Where this replica says that it doubts what it sees.
    pub doubts: watch::Sender<bool>,
}

/// Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct App(Arc<Parts>);

struct Parts {
    view: Arc<View>,
    log: Log,
    liveness: Arc<Liveness>,
    lanes: Lanes,
    metrics: Metrics,
    auth: Auth,
    asking: Asking,
    guards: Guards,
    stopping: AtomicBool,
}

impl App {
    pub fn new(
        view: Arc<View>,
        log: Log,
        liveness: Arc<Liveness>,
        lanes: Lanes,
        metrics: Metrics,
        auth: Auth,
        asking: Asking,
    ) -> Self {
        let (guards, stopping) = (Guards::new(asking.doubts.clone()), AtomicBool::new(false));
        let app =
            Self(Arc::new(Parts { view, log, liveness, lanes, metrics, auth, asking, guards, stopping }));
        app.register_metrics();
        app
    }

    pub fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }
}
