//! The gate: what doors may call. One function a use case.

mod config;
mod error;
mod health;
mod history;
mod instances;
mod leases;
mod metrics;
mod overrides;
mod reads;
mod status;
mod tokens;
mod who;

use std::sync::{Arc, atomic::AtomicBool};

use uuid::Uuid;

pub use error::AppError;
pub use health::{CheckDetail, CheckResult, Health};
pub use history::{EventQuery, EventRecord, Verification};
pub use instances::Shown;
pub use leases::Lease;
pub use reads::Consistency;
pub use status::Readiness;
pub use tokens::{NewToken, Secret};
pub use who::{Memory, permit};

pub use crate::{
    auth::{Auth, Credential, Identity, Refused},
    liveness::Known,
    log::{Caller, IdempotencyKey, Peers, Written},
    view::{Difference, ServiceView, Slot, Snapshot, Tokens},
};
use crate::{liveness::Liveness, log::Log, probe::Probes, store::Lanes, telemetry::Metrics, view::View};

/// How instances are asked for their health, and who does so.
pub struct Asking {
    pub probes: Arc<Probes>,
    pub replica: Uuid,
    pub peers: Peers,
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
        let stopping = AtomicBool::new(false);
        let app = Self(Arc::new(Parts { view, log, liveness, lanes, metrics, auth, asking, stopping }));
        app.register_metrics();
        app
    }

    pub fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }
}
