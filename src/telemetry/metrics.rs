//! The metrics: the rest of the program says what happened, and this counts it.
//!
//! Methods and no public families, so that a label can only be what a method lets through. Invariant: no text
//! of a client's becomes a label, but for the names of the first thousand services.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use prometheus_client::{
    collector::Collector, encoding::text, metrics::histogram::Histogram, registry::Registry,
};

use super::{
    families::{Alerted, Families, Request, Service},
    histogram::Durations,
    kinds::{Class, CommandOutcome, Full, Guard, NotLetIn, Overdue, PollResult, Refused},
    labels::{Bounded, ServiceLabels},
};

/// The content type of what `render` gives.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Far more than there are routes; it only bounds the damage if somebody passes a path for one.
const MOST_ROUTES: usize = 512;

/// A cheap handle: clones count into the same registry.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    registry: Mutex<Registry>,
    families: Families,
    services: ServiceLabels,
    routes: Bounded,
}

/// Clones count into the same histogram.
#[derive(Clone, Debug)]
pub struct Clock(Histogram);

impl Clock {
    pub fn measured(&self, took: Duration) {
        self.0.observe(took.as_secs_f64());
    }
}

impl Metrics {
    pub fn new() -> Self {
        let mut registry = Registry::default();
        let routes = Bounded::new(MOST_ROUTES);
        let families = Families::register(&mut registry, &routes.other());
        let services = ServiceLabels::new();
        Self(Arc::new(Inner { registry: Mutex::new(registry), families, services, routes }))
    }

    /// Adds what is counted elsewhere and only looked up when it is asked for. To be called before serving.
    pub fn register_collector(&self, collector: Box<dyn Collector>) {
        self.0.registry.lock().unwrap_or_else(PoisonError::into_inner).register_collector(collector);
    }

    /// The names that may be labels, for collectors: all families share the same thousand.
    pub fn services(&self) -> &ServiceLabels {
        &self.0.services
    }

    /// All metrics as `OpenMetrics` text; see `CONTENT_TYPE`.
    pub fn render(&self) -> String {
        let registry = self.0.registry.lock().unwrap_or_else(PoisonError::into_inner);
        let mut output = String::new();
        if text::encode(&mut output, &registry).is_err() {
            // What is there lacks its end mark, and a scraper refuses it for that: better than silent holes.
            tracing::error!("A collector of metrics failed");
        }
        output
    }

    /// A service was registered, for the first time or again.
    pub fn registered(&self, service: &str) {
        let service_name = self.0.services.of(service);
        self.0.families.registrations.get_or_create(&Service { service_name }).inc();
    }

    /// Where it is measured how long asking the instances of a service takes.
    pub fn check_clock(&self, service: &str) -> Clock {
        let service_name = self.0.services.of(service);
        Clock(self.0.families.checks.get_or_create_owned(&Service { service_name }))
    }

    /// A request was answered. `route` is the route's pattern, never the path that was asked for; `None` for a
    /// path that is no route.
    pub fn request(&self, route: Option<&str>, method: &str, status: u16, took: Duration) {
        self.requests(route, method, status).observe(took);
    }

    /// Where such requests are counted, for whoever answers many of them.
    pub fn requests(&self, route: Option<&str>, method: &str, status: u16) -> Durations {
        let routes = &self.0.routes;
        let route = route.map_or_else(|| routes.other(), |route| routes.of(route));
        let labels = Request { route, method: known_method(method), status };
        self.0.families.requests.get_or_create_owned(&labels)
    }

    pub fn connections(&self, open: usize) {
        self.0.families.connections.open.set(i64::try_from(open).unwrap_or(i64::MAX));
    }

    pub fn connection_refused(&self, full: Full) {
        self.0.families.connections.refused.get_or_create(&full.into()).inc();
    }

    /// A connection was ended because its client took too long.
    pub fn unauthenticated(&self, why: NotLetIn) {
        self.0.families.connections.unauthenticated.get_or_create(&why.into()).inc();
    }

    pub fn connection_overdue(&self, overdue: Overdue) {
        self.0.families.connections.overdue.get_or_create(&overdue.into()).inc();
    }

    /// A client and we did not agree upon TLS: for its certificate, ours, or a version that nobody else speaks.
    pub fn handshake_failed(&self) {
        self.0.families.connections.not_agreed.inc();
    }

    /// A request has a place among those that are answered.
    pub fn request_let_in(&self) {
        self.0.families.admission.under_way.inc();
    }

    /// It needs its place no longer.
    pub fn request_let_out(&self) {
        self.0.families.admission.under_way.dec();
    }

    pub fn request_refused(&self, class: Class, reason: Refused) {
        self.0.families.admission.refused.get_or_create(&(class, reason).into()).inc();
    }

    /// The writer appended a batch of so many commands, and it took so long.
    pub fn appended(&self, commands: usize, seconds: f64) {
        self.0.families.batches.inc();
        self.0.families.batch_size.observe(f64::from(u32::try_from(commands).unwrap_or(u32::MAX)));
        self.0.families.append.observe(seconds);
    }

    /// The writer answered a command.
    pub fn command(&self, outcome: CommandOutcome) {
        self.0.families.commands.get_or_create(&outcome.into()).inc();
    }

    /// A group of changes lost a race and is decided anew.
    pub fn conflict(&self) {
        self.0.families.conflicts.inc();
    }

    /// A group of changes met a version that the log does not explain.
    pub fn unexplained_conflict(&self) {
        self.0.families.unexplained_conflicts.inc();
    }

    pub fn queue_length(&self, commands: usize) {
        self.0.families.queue_length.set(i64::try_from(commands).unwrap_or(i64::MAX));
    }

    /// The follower reached a revision.
    pub fn followed_to(&self, revision: i64) {
        self.0.families.revision.set(revision);
    }

    /// The follower polled the log.
    pub fn polled(&self, result: PollResult) {
        self.0.families.polls.get_or_create(&result.into()).inc();
    }

    /// The follower read its whole state anew.
    pub fn rebuilt(&self) {
        self.0.families.rebuilds.inc();
    }

    pub fn connected(&self, succeeded: bool) {
        self.0.families.connects.get_or_create(&succeeded.into()).inc();
    }

    pub fn query_failed(&self) {
        self.0.families.query_failures.inc();
    }

    /// The load of an instance was worth an alert of this level.
    pub fn load_alert(&self, level: &'static str) {
        self.0.families.notices.alerts.get_or_create(&Alerted { level }).inc();
    }

    /// A guard holds something back from now on, or does so no longer.
    pub fn guarded(&self, guard: Guard, active: bool) {
        self.0.families.notices.guards.get_or_create(&guard.into()).set(active.into());
    }

    /// So many verdicts were not believed.
    pub fn held_back(&self, guard: Guard, verdicts: usize) {
        let verdicts = u64::try_from(verdicts).unwrap_or(u64::MAX);
        self.0.families.notices.held_back.get_or_create(&guard.into()).inc_by(verdicts);
    }

    pub fn liveness_flushed(&self, succeeded: bool) {
        self.0.families.flushes.get_or_create(&succeeded.into()).inc();
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

/// A client may invent methods.
fn known_method(method: &str) -> &'static str {
    const KNOWN: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE"];
    KNOWN.into_iter().find(|known| *known == method).unwrap_or("other")
}

#[cfg(test)]
mod tests {
    use prometheus_client::{
        encoding::{DescriptorEncoder, EncodeMetric as _},
        metrics::gauge::ConstGauge,
    };

    use super::*;

    fn has(metrics: &Metrics, line: &str) -> bool {
        metrics.render().lines().any(|found| found == line)
    }

    #[test]
    fn every_family_is_there_before_anything_happened() {
        let output = Metrics::new().render();
        for (name, kind, sample) in [
            ("service_registrations", "counter", "service_registrations_total{service_name=\"other\"} 0"),
            (
                "health_check_duration_seconds",
                "histogram",
                "health_check_duration_seconds_count{service_name=\"other\"} 0",
            ),
            (
                "http_request_duration_seconds",
                "histogram",
                "http_request_duration_seconds_count{route=\"other\",method=\"GET\",status=\"404\"} 0",
            ),
            ("rollcall_http_connections", "gauge", "rollcall_http_connections 0"),
            (
                "rollcall_http_connections_refused",
                "counter",
                "rollcall_http_connections_refused_total{reason=\"address\"} 0",
            ),
            (
                "rollcall_http_connections_overdue",
                "counter",
                "rollcall_http_connections_overdue_total{reason=\"head\"} 0",
            ),
            ("rollcall_guard_active", "gauge", "rollcall_guard_active{guard=\"suspicion\"} 0"),
            ("rollcall_guard_held_back", "counter", "rollcall_guard_held_back_total{guard=\"suspicion\"} 0"),
            ("rollcall_http_handshakes_failed", "counter", "rollcall_http_handshakes_failed_total 0"),
            ("rollcall_http_requests_under_way", "gauge", "rollcall_http_requests_under_way 0"),
            (
                "rollcall_http_requests_refused",
                "counter",
                "rollcall_http_requests_refused_total{class=\"heartbeat\",reason=\"overloaded\"} 0",
            ),
            (
                "rollcall_http_requests_refused",
                "counter",
                "rollcall_http_requests_refused_total{class=\"list\",reason=\"rate\"} 0",
            ),
            ("rollcall_writer_batches", "counter", "rollcall_writer_batches_total 0"),
            ("rollcall_writer_commands", "counter", "rollcall_writer_commands_total{outcome=\"unknown\"} 0"),
            ("rollcall_writer_batch_size", "histogram", "rollcall_writer_batch_size_count 0"),
            ("rollcall_writer_append_seconds", "histogram", "rollcall_writer_append_seconds_count 0"),
            ("rollcall_writer_conflicts", "counter", "rollcall_writer_conflicts_total 0"),
            (
                "rollcall_writer_unexplained_conflicts",
                "counter",
                "rollcall_writer_unexplained_conflicts_total 0",
            ),
            ("rollcall_writer_queue_length", "gauge", "rollcall_writer_queue_length 0"),
            ("rollcall_follower_revision", "gauge", "rollcall_follower_revision 0"),
            ("rollcall_follower_polls", "counter", "rollcall_follower_polls_total{result=\"nothing\"} 0"),
            ("rollcall_follower_rebuilds", "counter", "rollcall_follower_rebuilds_total 0"),
            ("rollcall_store_connects", "counter", "rollcall_store_connects_total{result=\"failed\"} 0"),
            ("rollcall_store_query_failures", "counter", "rollcall_store_query_failures_total 0"),
            ("rollcall_liveness_flushes", "counter", "rollcall_liveness_flushes_total{result=\"ok\"} 0"),
        ] {
            assert!(output.contains(&format!("# HELP {name} ")), "{name}");
            assert!(output.contains(&format!("# TYPE {name} {kind}\n")), "{name}");
            assert!(output.lines().any(|line| line == sample), "{sample}\n{output}");
        }
        assert!(output.ends_with("# EOF\n"));
    }

    #[test]
    fn what_happened_is_counted() {
        let metrics = Metrics::new();
        metrics.registered("billing");
        metrics.clone().registered("billing");
        metrics.check_clock("billing").measured(Duration::from_millis(20));
        metrics.request(Some("/api/v1/services/{id}"), "GET", 200, Duration::from_micros(200));
        metrics.connections(5);
        metrics.connection_refused(Full::Everywhere);
        metrics.connection_overdue(Overdue::Answer);
        metrics.handshake_failed();
        metrics.request_let_in();
        metrics.request_let_in();
        metrics.request_let_out();
        metrics.request_refused(Class::Register, Refused::Overloaded);
        metrics.appended(3, 0.003);
        metrics.command(CommandOutcome::Committed);
        metrics.conflict();
        metrics.unexplained_conflict();
        metrics.queue_length(7);
        metrics.followed_to(1_000_000_042);
        metrics.polled(PollResult::Events);
        metrics.rebuilt();
        metrics.connected(true);
        metrics.query_failed();
        metrics.liveness_flushed(false);
        for line in [
            "service_registrations_total{service_name=\"billing\"} 2",
            "health_check_duration_seconds_bucket{le=\"0.025\",service_name=\"billing\"} 1",
            "health_check_duration_seconds_bucket{le=\"0.01\",service_name=\"billing\"} 0",
            "http_request_duration_seconds_count{route=\"/api/v1/services/{id}\",method=\"GET\",status=\"200\"} 1",
            "rollcall_http_connections 5",
            "rollcall_http_connections_refused_total{reason=\"total\"} 1",
            "rollcall_http_connections_overdue_total{reason=\"answer\"} 1",
            "rollcall_http_handshakes_failed_total 1",
            "rollcall_http_requests_under_way 1",
            "rollcall_http_requests_refused_total{class=\"register\",reason=\"overloaded\"} 1",
            "rollcall_writer_batches_total 1",
            "rollcall_writer_batch_size_sum 3.0",
            "rollcall_writer_append_seconds_count 1",
            "rollcall_writer_commands_total{outcome=\"committed\"} 1",
            "rollcall_writer_conflicts_total 1",
            "rollcall_writer_unexplained_conflicts_total 1",
            "rollcall_writer_queue_length 7",
            "rollcall_follower_revision 1000000042",
            "rollcall_follower_polls_total{result=\"events\"} 1",
            "rollcall_follower_rebuilds_total 1",
            "rollcall_store_connects_total{result=\"ok\"} 1",
            "rollcall_store_query_failures_total 1",
            "rollcall_liveness_flushes_total{result=\"failed\"} 1",
        ] {
            assert!(has(&metrics, line), "{line}\n{}", metrics.render());
        }
    }

    #[test]
    fn a_flood_of_names_paths_and_methods_does_not_become_series() {
        let metrics = Metrics::new();
        for number in 0..3_000 {
            metrics.registered(&format!("service-{number}"));
            metrics.check_clock(&format!("service-{number}")).measured(Duration::from_millis(100));
            metrics.request(Some(&format!("/path/{number}")), "BREW", 404, Duration::from_millis(100));
            metrics.request(None, "GET", 404, Duration::from_millis(100));
        }
        let output = metrics.render();
        let series = |start: &str| output.lines().filter(|line| line.starts_with(start)).count();
        assert_eq!(series("service_registrations_total{"), 1_001);
        assert_eq!(series("health_check_duration_seconds_count{"), 1_001);
        assert_eq!(series("http_request_duration_seconds_count{"), MOST_ROUTES + 2);
        assert!(has(&metrics, "service_registrations_total{service_name=\"other\"} 2000"));
        let nowhere =
            "http_request_duration_seconds_count{route=\"other\",method=\"GET\",status=\"404\"} 3000";
        assert!(has(&metrics, nowhere));
        assert!(!output.contains("BREW"));
    }

    #[derive(Debug)]
    struct Answer;

    impl Collector for Answer {
        fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
            let gauge = ConstGauge::new(42_i64);
            gauge.encode(encoder.encode_descriptor("answer", "The answer.", None, gauge.metric_type())?)
        }
    }

    #[derive(Debug)]
    struct Broken;

    impl Collector for Broken {
        fn encode(&self, _: DescriptorEncoder) -> Result<(), fmt::Error> {
            Err(fmt::Error)
        }
    }

    #[test]
    fn a_collector_is_asked_at_each_scrape() {
        let metrics = Metrics::new();
        metrics.register_collector(Box::new(Answer));
        assert!(has(&metrics, "answer 42"));
    }

    #[test]
    fn a_failing_collector_leaves_an_output_that_no_scraper_takes_for_whole() {
        let metrics = Metrics::new();
        metrics.register_collector(Box::new(Broken));
        let output = metrics.render();
        assert!(output.contains("rollcall_writer_batches_total 0"));
        assert!(!output.contains("# EOF"));
    }
}
