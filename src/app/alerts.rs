//! Load that somebody should know of: an event, a line in the log, and a metric.
//!
//! Whoever tells of a load does not wait for that: it is noted down, and a task writes it.

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{App, Caller};
use crate::domain::{AlertLevel, Change, Command, Event, InstanceId, Refusal, State, event::AlertRaised};
use crate::log::WriteError;

/// So many may wait; one more is noted down when it is told again.
const WAITING: usize = 1024;
/// So many are written at once.
const AT_ONCE: usize = 128;

/// A load that is worth an alert.
pub struct Loaded {
    instance: InstanceId,
    load: f32,
}

/// Where loads are noted down.
pub type Loads = mpsc::Sender<Loaded>;

pub fn loads() -> (Loads, mpsc::Receiver<Loaded>) {
    mpsc::channel(WAITING)
}

impl App {
    /// Notes a load down, if it is worth an alert and none was given a moment ago.
    pub fn watch_load(&self, id: InstanceId, load: Option<f32>) {
        let Some(load) = load.filter(|load| AlertLevel::of(*load).is_some()) else { return };
        let Ok(snapshot) = self.snapshot() else { return };
        let known = State::instance(&*snapshot, id);
        if known
            .is_some_and(|instance| instance.alert.as_ref().is_none_or(|alert| !alert.is_recent(self.now())))
        {
            // where there is no room it comes again
            let _full = self.0.asking.loads.try_send(Loaded { instance: id, load });
        }
    }

    /// Gives alerts until it is stopped.
    pub async fn run_alerts(self, mut loads: mpsc::Receiver<Loaded>, stop: CancellationToken) {
        let mut taken = Vec::with_capacity(AT_ONCE);
        while let Some(1..) = stop.run_until_cancelled(loads.recv_many(&mut taken, AT_ONCE)).await {
            let now = self.now();
            let raise = |loaded: Loaded| Command::RaiseAlert { id: loaded.instance, load: loaded.load, now };
            let commands = taken.drain(..).map(|loaded| (Caller::checker(), raise(loaded))).collect();
            let mut failed = None;
            for result in self.0.log.write_all(commands).await {
                match result {
                    Ok(outcome) => outcome.event.iter().for_each(|event| self.tell_of_alert(event)),
                    // an instance that has gone meanwhile has no load
                    Err(WriteError::Refused(Refusal::NoSuchInstance)) => {}
                    Err(error) => failed = failed.or(Some(error)),
                }
            }
            if let Some(error) = failed {
                tracing::warn!(error = crate::telemetry::chain(&error), "alerts for load were not written");
            }
        }
    }

    fn tell_of_alert(&self, event: &Event) {
        let Change::AlertRaised(AlertRaised { id, service, level, load, .. }) = &event.change else { return };
        self.0.metrics.load_alert(level.as_str());
        tracing::warn!(
            service_name = service.as_str(),
            service_id = %id,
            level = level.as_str(),
            load,
            event_type = "load_alert",
            "Service load is high"
        );
    }
}
