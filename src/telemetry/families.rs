//! The families of metrics: names, help texts, labels and buckets.
//!
//! They are the promise to whoever builds a dashboard: every family is in the output from the first scrape on,
//! so that a rate can be computed from zero. The library leaves out a family without a child, so each starts
//! with the children that are known beforehand.

use std::sync::Arc;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::{Family, MetricConstructor},
        gauge::Gauge,
        histogram::Histogram,
    },
    registry::{Metric, Registry},
};

use super::{
    histogram::{Bounds, Durations},
    kinds::{Class, CommandOutcome, Full, Guard, NotLetIn, Overdue, PollResult, Refused},
};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Service {
    pub service_name: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Request {
    pub route: Arc<str>,
    pub method: &'static str,
    pub status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Outcome {
    outcome: &'static str,
}

impl From<CommandOutcome> for Outcome {
    fn from(outcome: CommandOutcome) -> Self {
        Self { outcome: outcome.label() }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Attempt {
    result: &'static str,
}

impl From<PollResult> for Attempt {
    fn from(result: PollResult) -> Self {
        Self { result: result.label() }
    }
}

impl From<bool> for Attempt {
    fn from(succeeded: bool) -> Self {
        Self { result: if succeeded { "ok" } else { "failed" } }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Alerted {
    pub level: &'static str,
}

/// Of alerts, by their names on the wire.
const LEVELS: [&str; 3] = ["warning", "critical", "emergency"];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Guarded {
    guard: &'static str,
}

impl From<Guard> for Guarded {
    fn from(guard: Guard) -> Self {
        Self { guard: guard.label() }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Reason {
    reason: &'static str,
}

impl From<Full> for Reason {
    fn from(full: Full) -> Self {
        Self { reason: full.label() }
    }
}

impl From<NotLetIn> for Reason {
    fn from(why: NotLetIn) -> Self {
        Self { reason: why.label() }
    }
}

impl From<Overdue> for Reason {
    fn from(overdue: Overdue) -> Self {
        Self { reason: overdue.label() }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Turned {
    class: &'static str,
    reason: &'static str,
}

impl From<(Class, Refused)> for Turned {
    fn from((class, reason): (Class, Refused)) -> Self {
        Self { class: class.label(), reason: reason.label() }
    }
}

/// Makes a histogram of a family with the family's buckets.
#[derive(Clone, Copy, Debug)]
pub(super) struct Buckets(pub &'static [f64]);

impl MetricConstructor<Histogram> for Buckets {
    fn new_metric(&self) -> Histogram {
        Histogram::new(self.0.iter().copied())
    }
}

/// Requests last from microseconds (a read) to half a minute (a long poll).
const REQUEST_SECONDS: Bounds =
    Bounds(&[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0]);
const CHECK_SECONDS: Buckets =
    Buckets(&[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0]);
const APPEND_SECONDS: Buckets =
    Buckets(&[0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.0, 2.0, 5.0]);
const BATCH_COMMANDS: Buckets = Buckets(&[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0]);

pub(super) struct Families {
    pub registrations: Family<Service, Counter>,
    pub checks: Family<Service, Histogram, Buckets>,
    pub requests: Family<Request, Durations, Bounds>,
    pub connections: Connections,
    pub admission: Admission,
    pub batches: Counter,
    pub commands: Family<Outcome, Counter>,
    pub batch_size: Histogram,
    pub append: Histogram,
    pub conflicts: Counter,
    pub unexplained_conflicts: Counter,
    pub queue_length: Gauge,
    pub revision: Gauge,
    pub polls: Family<Attempt, Counter>,
    pub rebuilds: Counter,
    pub connects: Family<Attempt, Counter>,
    pub query_failures: Counter,
    pub flushes: Family<Attempt, Counter>,
    pub notices: Notices,
}

impl Families {
    /// Makes all of them, with the children known beforehand, in a registry. A counter's name gets its
    /// `_total` from the library.
    pub fn register(registry: &mut Registry, other: &Arc<str>) -> Self {
        let families = Self {
            registrations: add(
                registry,
                "service_registrations",
                "Registrations of services, repeated ones included",
                Family::default(),
            ),
            checks: add(
                registry,
                "health_check_duration_seconds",
                "How long asking an instance for its health took",
                Family::new_with_constructor(CHECK_SECONDS),
            ),
            requests: add(
                registry,
                "http_request_duration_seconds",
                "How long HTTP requests took to answer",
                Family::new_with_constructor(REQUEST_SECONDS),
            ),
            connections: Connections::register(registry),
            admission: Admission::register(registry),
            batches: add(registry, "rollcall_writer_batches", "Batches sent to the log", Counter::default()),
            commands: add(
                registry,
                "rollcall_writer_commands",
                "Commands that reached the writer, by what became of them",
                Family::default(),
            ),
            batch_size: add(
                registry,
                "rollcall_writer_batch_size",
                "Commands in a batch",
                BATCH_COMMANDS.new_metric(),
            ),
            append: add(
                registry,
                "rollcall_writer_append_seconds",
                "How long appending a batch to the log took",
                APPEND_SECONDS.new_metric(),
            ),
            conflicts: add(
                registry,
                "rollcall_writer_conflicts",
                "Groups of changes decided anew because another replica had changed a row first",
                Counter::default(),
            ),
            unexplained_conflicts: add(
                registry,
                "rollcall_writer_unexplained_conflicts",
                "Conflicts that no event in the log explains: rows changed by something else than rollcall",
                Counter::default(),
            ),
            queue_length: add(
                registry,
                "rollcall_writer_queue_length",
                "Commands waiting for the writer",
                Gauge::default(),
            ),
            revision: add(
                registry,
                "rollcall_follower_revision",
                "The revision of the log that answers are read from",
                Gauge::default(),
            ),
            polls: add(
                registry,
                "rollcall_follower_polls",
                "Polls of the log, by what they found",
                Family::default(),
            ),
            rebuilds: add(
                registry,
                "rollcall_follower_rebuilds",
                "Times the state in memory was read anew from the tables",
                Counter::default(),
            ),
            connects: add(
                registry,
                "rollcall_store_connects",
                "Attempts to connect to the database",
                Family::default(),
            ),
            query_failures: add(
                registry,
                "rollcall_store_query_failures",
                "Queries that failed or took too long",
                Counter::default(),
            ),
            flushes: add(
                registry,
                "rollcall_liveness_flushes",
                "Times the signs of life in memory were written to the database",
                Family::default(),
            ),
            notices: Notices::register(registry),
        };
        families.start(other);
        families
    }

    fn start(&self, other: &Arc<str>) {
        let service = Service { service_name: Arc::clone(other) };
        drop(self.registrations.get_or_create(&service));
        drop(self.checks.get_or_create(&service));
        // A path that is no route: it can always be asked for, so the series is a true one.
        let nowhere = Request { route: Arc::clone(other), method: "GET", status: 404 };
        drop(self.requests.get_or_create(&nowhere));
        for outcome in CommandOutcome::ALL {
            drop(self.commands.get_or_create(&outcome.into()));
        }
        for result in PollResult::ALL {
            drop(self.polls.get_or_create(&result.into()));
        }
        for succeeded in [true, false] {
            drop(self.connects.get_or_create(&succeeded.into()));
            drop(self.flushes.get_or_create(&succeeded.into()));
        }
    }
}

pub(super) struct Connections {
    pub open: Gauge,
    pub refused: Family<Reason, Counter>,
    pub overdue: Family<Reason, Counter>,
    pub unauthenticated: Family<Reason, Counter>,
    pub not_agreed: Counter,
}

impl Connections {
    fn register(registry: &mut Registry) -> Self {
        let connections = Self {
            open: add(registry, "rollcall_http_connections", "Open connections", Gauge::default()),
            refused: add(
                registry,
                "rollcall_http_connections_refused",
                "Connections refused because there were as many as there may be",
                Family::default(),
            ),
            overdue: add(
                registry,
                "rollcall_http_connections_overdue",
                "Connections ended because the client took too long",
                Family::default(),
            ),
            unauthenticated: add(
                registry,
                "rollcall_http_unauthenticated",
                "Requests refused because it was not known who asked",
                Family::default(),
            ),
            not_agreed: add(
                registry,
                "rollcall_http_handshakes_failed",
                "Connections on which TLS was not agreed upon",
                Counter::default(),
            ),
        };
        for why in NotLetIn::ALL {
            drop(connections.unauthenticated.get_or_create(&why.into()));
        }
        for full in Full::ALL {
            drop(connections.refused.get_or_create(&full.into()));
        }
        for overdue in Overdue::ALL {
            drop(connections.overdue.get_or_create(&overdue.into()));
        }
        connections
    }
}

/// What somebody should know of.
pub(super) struct Notices {
    pub alerts: Family<Alerted, Counter>,
    pub guards: Family<Guarded, Gauge>,
    pub held_back: Family<Guarded, Counter>,
}

impl Notices {
    fn register(registry: &mut Registry) -> Self {
        let notices = Self {
            alerts: add(
                registry,
                "rollcall_load_alerts",
                "Alerts for the load of instances",
                Family::default(),
            ),
            guards: add(
                registry,
                "rollcall_guard_active",
                "Whether a guard holds something back at the moment",
                Family::default(),
            ),
            held_back: add(
                registry,
                "rollcall_guard_held_back",
                "Verdicts that were not believed because of a guard",
                Family::default(),
            ),
        };
        for level in LEVELS {
            drop(notices.alerts.get_or_create(&Alerted { level }));
        }
        for guard in Guard::ALL {
            drop(notices.guards.get_or_create(&guard.into()));
            drop(notices.held_back.get_or_create(&guard.into()));
        }
        notices
    }
}

pub(super) struct Admission {
    pub under_way: Gauge,
    pub refused: Family<Turned, Counter>,
}

impl Admission {
    fn register(registry: &mut Registry) -> Self {
        let admission = Self {
            under_way: add(
                registry,
                "rollcall_http_requests_under_way",
                "Requests that were let in and are not answered yet",
                Gauge::default(),
            ),
            refused: add(
                registry,
                "rollcall_http_requests_refused",
                "Requests refused because there were too many, by what they were for",
                Family::default(),
            ),
        };
        for class in Class::ALL {
            for reason in Refused::ALL {
                drop(admission.refused.get_or_create(&(class, reason).into()));
            }
        }
        admission
    }
}

fn add<M: Metric + Clone>(registry: &mut Registry, name: &str, help: &str, metric: M) -> M {
    registry.register(name, help, metric.clone());
    metric
}
