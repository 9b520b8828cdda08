//! How often one client may ask, where that is limited.

use std::net::Ipv4Addr;
use std::time::Duration;

use rollcall::settings::{Limits, Rate};

use super::refused;
use crate::support::{Raw, TestApp, static_service};

const HERE: Ipv4Addr = Ipv4Addr::LOCALHOST;
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const DISCOVER: &str = "/discover/shop";
const LIST: &str = "/api/v1/services?limit=1";

async fn start(per_second: u32, burst: u32) -> TestApp {
    let rate = Some(Rate { per_second, burst });
    let app = TestApp::start_within(Limits { rate, ..Limits::default() }).await;
    app.registered(&static_service("shop", 1)).await;
    app
}

struct Visitor(Raw);

impl Visitor {
    async fn from(source: Ipv4Addr, app: &TestApp) -> Self {
        Self(Raw::from(source, app.port()).await)
    }

    /// The status, and in how many seconds to come again.
    async fn asks(&mut self, method: &str, path: &str) -> (u16, Option<u64>) {
        assert!(self.0.send(format!("{method} {path} HTTP/1.1\r\nhost: x\r\n\r\n")).await);
        let said = self.0.answer().await;
        let wait = said.head.lines().find_map(|line| line.strip_prefix("retry-after: "));
        if said.status == 429 {
            assert!(said.body.contains("\"code\":\"too_many_requests\""), "{said:?}");
            assert!(said.head.contains("content-type: application/problem+json"), "{said:?}");
        }
        (said.status, wait.map(|seconds| seconds.parse().unwrap()))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_asks_too_often_is_told_when_to_come_again_and_others_notice_nothing() {
    // The test's own client registers and asks for metrics from the same address.
    let app = start(1, 20).await;
    let mut here = Visitor::from(HERE, &app).await;
    let mut elsewhere = Visitor::from(ELSEWHERE, &app).await;
    let mut answered = 0;
    let wait = loop {
        let path = if answered % 2 == 0 { DISCOVER } else { LIST };
        match here.asks("GET", path).await {
            (200, None) => answered += 1,
            (429, Some(wait)) => break wait,
            other => panic!("{other:?}"),
        }
        assert!(answered <= 40, "nobody is refused");
    };
    assert!(answered >= 15, "{answered}");
    assert_eq!(wait, 1);
    for path in [DISCOVER, LIST, DISCOVER, LIST] {
        assert_eq!(elsewhere.asks("GET", path).await, (200, None));
    }
    for probe in ["/", "/health", "/health/live", "/health/ready", "/metrics"] {
        assert_eq!(here.asks("GET", probe).await, (200, None));
    }
    // a sign of life has a burst of its own, and is judged by what it says
    let unknown = "/api/v1/services/00000000-0000-0000-0000-000000000000/heartbeat";
    assert_eq!(here.asks("POST", unknown).await.0, 404);
    assert!(refused(&app, "discover", "rate").await + refused(&app, "list", "rate").await > 0);
    assert_eq!(refused(&app, "heartbeat", "rate").await, 0);
    assert_eq!(app.metric("rollcall_http_requests_under_way").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_as_long_as_it_was_told_is_answered() {
    let app = start(2, 2).await;
    let mut here = Visitor::from(ELSEWHERE, &app).await;
    for path in [DISCOVER, LIST] {
        let wait = loop {
            if let (429, Some(wait)) = here.asks("GET", path).await {
                break wait;
            }
        };
        // this is the time that was asked for, and no hope
        tokio::time::sleep(Duration::from_secs(wait)).await;
        assert_eq!(here.asks("GET", path).await, (200, None));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_limited_unless_it_is_set() {
    let app = TestApp::start().await;
    app.registered(&static_service("shop", 1)).await;
    let mut here = Visitor::from(HERE, &app).await;
    for path in [DISCOVER, LIST].into_iter().cycle().take(2_000) {
        assert_eq!(here.asks("GET", path).await, (200, None));
    }
}
