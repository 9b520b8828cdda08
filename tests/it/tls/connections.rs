//! What is spoken on a connection, and those on which nothing is, or something else.

use std::time::{Duration, Instant};

use reqwest::Version;
use rollcall::settings::Limits;

use super::Files;
use crate::support::{PATIENCE, Raw, TestApp, static_service, wait_until};

const SHORT: Duration = Duration::from_millis(500);
const MOMENT: Duration = Duration::from_millis(20);
/// A machine may be busy with something else.
const SOON: Duration = Duration::from_secs(10);
/// The beginning of a handshake, and of a message of 500 bytes in it.
const BEGUN: [u8; 9] = [22, 3, 1, 1, 248, 1, 0, 1, 244];

/// A number of the metrics. They are asked for over a connection that does not stay.
async fn metric(files: &Files, app: &TestApp, name: &str) -> usize {
    let http = files.http(None).http1_only().pool_max_idle_per_host(0).build().unwrap();
    let answer = http.get(format!("https://127.0.0.1:{}/metrics", app.port())).send().await.unwrap();
    let metrics = answer.text().await.unwrap();
    let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{name} is not in {metrics}")).parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_versions_of_http_are_answered_over_both_versions_of_tls() {
    let files = Files::new();
    let app = files.start(files.settings(), Limits::default()).await;
    app.registered(&static_service("orders", 80)).await;
    let url = format!("https://localhost:{}/discover/orders", app.port());
    for tls in [reqwest::tls::Version::TLS_1_2, reqwest::tls::Version::TLS_1_3] {
        let http = || files.http(None).tls_version_min(tls).tls_version_max(tls);
        for (http, version) in [(http(), Version::HTTP_2), (http().http1_only(), Version::HTTP_11)] {
            let http = http.build().unwrap();
            for _ in 0..3 {
                let answer = http.get(&url).send().await.unwrap();
                assert_eq!((answer.status().as_u16(), answer.version()), (200, version));
                assert!(answer.text().await.unwrap().contains("orders"));
            }
        }
    }
    let stranger = reqwest::Client::builder().no_proxy().build().unwrap();
    assert!(stranger.get(&url).send().await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_speaks_no_tls_is_told_so_or_hung_up_on() {
    let files = Files::new();
    let app = files.start(files.settings(), Limits::default()).await;
    for request in ["GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let mut raw = Raw::connect(app.port()).await;
        assert!(raw.send(request).await);
        let said = raw.answer().await;
        assert_eq!(said.status, 400);
        assert!(said.body.contains("https://"), "{said:?}");
        assert!(raw.rest().await.is_empty());
    }
    for odd in [&[0; 100][..], &[22; 100], &[0xff; 100], b"\r\nGET / HTTP/1.1\r\n\r\n"] {
        let mut raw = Raw::connect(app.port()).await;
        assert!(raw.send(odd).await);
        let said = raw.rest().await;
        assert!(!said.starts_with(b"HTTP"), "{said:?}");
    }
    app.get("/health/live").await.answered(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handshake_that_does_not_end_is_ended_and_its_seat_is_free_again() {
    let files = Files::new();
    let limits = Limits { head_within: SHORT, ..Limits::default() };
    let app = files.start(files.settings(), limits).await;
    let overdue = "rollcall_http_connections_overdue_total{reason=\"head\"}";
    let mut held = Vec::new();
    for begun in [&[][..], &BEGUN[..1], &BEGUN, b"GET"] {
        let mut raw = Raw::connect(app.port()).await;
        assert!(raw.send(begun).await);
        held.push(raw);
    }
    let open = metric(&files, &app, "rollcall_http_connections").await;
    assert!(open > held.len(), "each has a seat meanwhile, and there are {open} taken");
    let start = Instant::now();
    for raw in held {
        raw.rest().await;
        assert!(start.elapsed() < SOON, "ended after {:?}", start.elapsed());
    }
    // One that drips has no more time than one that stands still.
    let mut raw = Raw::connect(app.port()).await;
    assert!(raw.send(BEGUN).await);
    raw.drip(&[0], MOMENT, SOON).await;
    wait_until(PATIENCE, "their seats are free", async || {
        // The asking one, and that of the test's client.
        (metric(&files, &app, "rollcall_http_connections").await <= 2).then_some(())
    })
    .await;
    // Whoever says "GET" and stops speaks no TLS, and is answered.
    assert!(metric(&files, &app, overdue).await >= 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn for_whom_there_is_no_seat_is_told_in_the_words_of_tls() {
    let files = Files::new();
    let limits = Limits { connections: Some(2), connections_per_address: Some(2), ..Limits::default() };
    let app = files.start(files.settings(), limits).await;
    // They are accepted in this order.
    let _held = [Raw::connect(app.port()).await, Raw::connect(app.port()).await];
    let refused = Raw::connect(app.port()).await;
    assert_eq!(refused.rest().await, [21, 3, 3, 0, 2, 2, 80]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handshake_under_way_does_not_hold_up_a_stop() {
    let files = Files::new();
    let app = files.start(files.settings(), Limits::default()).await;
    let mut raw = Raw::connect(app.port()).await;
    assert!(raw.send(BEGUN).await);
    wait_until(PATIENCE, "it has a seat", async || {
        (metric(&files, &app, "rollcall_http_connections").await >= 2).then_some(())
    })
    .await;
    let start = Instant::now();
    app.stop().await;
    assert!(start.elapsed() < Duration::from_secs(8), "it took {:?}", start.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pings_do_not_keep_an_idle_connection() {
    let files = Files::new();
    let limits = Limits { idle_for: SHORT, ping_every: MOMENT, ping_within: PATIENCE, ..Limits::default() };
    let app = files.start(files.settings(), limits).await;
    let http = files.http(None).build().unwrap();
    let url = format!("https://127.0.0.1:{}/health/live", app.port());
    let answer = http.get(url).send().await.unwrap();
    assert_eq!(answer.version(), Version::HTTP_2);
    wait_until(PATIENCE, "nobody but the asking one is connected", async || {
        (metric(&files, &app, "rollcall_http_connections").await == 1).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_answer_and_a_large_request_pass() {
    let files = Files::new();
    let app = files.start(files.settings(), Limits::default()).await;
    let page = app.get("/openapi.json").await.answered(200);
    assert!(page.body.len() > 50_000);
    let value = serde_json::json!({"text": "x".repeat(60_000)});
    let stored = app.put("/api/v1/config/large").json(&value).await;
    assert!([200, 201].contains(&stored.status), "{}", stored.text());
}
