//! How many connections there may be.

use std::net::Ipv4Addr;

use rollcall::settings::Limits;

use crate::support::{PATIENCE, Raw, TestApp, static_service, wait_until};

const BEGUN: &str = "GET /health/live HTTP/1.1\r\nhost: x\r\n";

fn at_most(connections: usize, per_address: Option<usize>) -> Limits {
    Limits { connections: Some(connections), connections_per_address: per_address, ..Limits::default() }
}

/// Asks over a connection that it has from the beginning: later there may be no room for one.
struct Metrics(Raw);

impl Metrics {
    async fn of(app: &TestApp) -> Self {
        Self(seated(app, Ipv4Addr::LOCALHOST).await.expect("there is room at first"))
    }

    async fn value(&mut self, name: &str) -> usize {
        assert!(self.0.send("GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n").await);
        let metrics = self.0.answer().await.body;
        let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{name} is not in {metrics}")).parse().unwrap()
    }

    async fn refused(&mut self, reason: &str) -> usize {
        self.value(&format!("rollcall_http_connections_refused_total{{reason=\"{reason}\"}}")).await
    }

    /// Waits until the number of connections is right.
    async fn become_open(&mut self, right: impl Fn(usize) -> bool) {
        wait_until(PATIENCE, "the right number is open", async || right(self.open().await).then_some(()))
            .await;
    }

    async fn open(&mut self) -> usize {
        self.value("rollcall_http_connections").await
    }
}

/// Connects, and sends enough that the connection has a seat by the time this returns, if it has one at all.
async fn seated(app: &TestApp, source: Ipv4Addr) -> Option<Raw> {
    let mut raw = Raw::from(source, app.port()).await;
    raw.send(format!("{BEGUN}\r\n")).await;
    let said = raw.answer().await;
    if said.status == 503 {
        assert!(said.head.contains("retry-after: 1"), "{said:?}");
        assert!(raw.rest().await.is_empty());
        return None;
    }
    assert_eq!(said.status, 200);
    Some(raw)
}

/// Takes all the seats that are left of so many, its own and those of the test's client among them.
async fn take_all(app: &TestApp, metrics: &mut Metrics, seats: usize) -> Vec<Raw> {
    let mut held = Vec::new();
    while metrics.open().await < seats {
        held.push(seated(app, Ipv4Addr::LOCALHOST).await.expect("there is room"));
    }
    held
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beyond_the_limit_a_connection_is_refused_until_another_ends() {
    let app = TestApp::start_within(at_most(8, Some(8))).await;
    let mut metrics = Metrics::of(&app).await;
    let mut held = take_all(&app, &mut metrics, 8).await;
    assert!(seated(&app, Ipv4Addr::LOCALHOST).await.is_none());
    assert!(seated(&app, Ipv4Addr::new(127, 0, 0, 2)).await.is_none());
    assert_eq!((metrics.refused("total").await, metrics.refused("address").await), (2, 0));
    assert_eq!(metrics.open().await, 8);
    held.pop();
    metrics.become_open(|open| open < 8).await;
    assert!(seated(&app, Ipv4Addr::LOCALHOST).await.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_address_does_not_keep_out_the_others() {
    // Of twelve it may have nine by default.
    let app = TestApp::start_within(at_most(12, None)).await;
    let mut metrics = Metrics::of(&app).await;
    let _held = take_all(&app, &mut metrics, 9).await;
    assert!(seated(&app, Ipv4Addr::LOCALHOST).await.is_none());
    assert!(seated(&app, Ipv4Addr::new(127, 0, 0, 2)).await.is_some());
    assert_eq!((metrics.refused("total").await, metrics.refused("address").await), (0, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_slow_connections_stop_nobody_and_are_forgotten() {
    let app = TestApp::start().await;
    let mut metrics = Metrics::of(&app).await;
    let before = metrics.open().await;
    let mut held = Vec::new();
    for _ in 0..300 {
        let mut raw = Raw::connect(app.port()).await;
        assert!(raw.send(BEGUN).await);
        held.push(raw);
    }
    metrics.become_open(|open| open >= before + 300).await;
    app.registered(&static_service("slow", 80)).await;
    assert_eq!(app.array("/discover/slow").await.len(), 1);
    drop(held);
    // The test's client may have opened some of its own.
    metrics.become_open(|open| open < before + 30).await;
}
