//! Clients that take their time: how long each thing may last, with limits short enough to wait for.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use rollcall::settings::{Limits, Pace};

use crate::support::{PATIENCE, Raw, TestApp, wait_until};

const LIVE: &str = "GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n";
const PUT: &str = "PUT /api/v1/config/slow HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n";
const MOMENT: Duration = Duration::from_millis(20);
const SHORT: Duration = Duration::from_millis(500);
/// A machine may be busy with something else.
const SOON: Duration = Duration::from_secs(10);

fn head_within(head_within: Duration) -> Limits {
    Limits { head_within, ..Limits::default() }
}

fn idle_for(idle_for: Duration) -> Limits {
    Limits { idle_for, ..head_within(SHORT) }
}

/// Ends when the server does, or fails.
async fn is_ended(raw: Raw) -> Duration {
    let start = Instant::now();
    raw.rest().await;
    let waited = start.elapsed();
    assert!(waited < SOON, "ended after {waited:?}");
    waited
}

/// How many connections were ended for this. The test's client may have had some of them.
async fn overdue(app: &TestApp, reason: &str) -> usize {
    let metrics = app.get("/metrics").await.text();
    let name = format!("rollcall_http_connections_overdue_total{{reason=\"{reason}\"}} ");
    let line = metrics.lines().find_map(|line| line.strip_prefix(&name));
    line.unwrap_or_else(|| panic!("{name} is not in {metrics}")).parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_that_does_not_come_ends_the_connection() {
    let app = TestApp::start_within(head_within(SHORT)).await;
    for begun in ["", "G", "PRI * HT", "GET /health/live HTTP/1.1\r\nhost: x\r\n", &format!("{LIVE}GET /hea")]
    {
        let mut raw = Raw::connect(app.port()).await;
        assert!(raw.send(begun).await);
        if begun.starts_with(LIVE) {
            assert_eq!(raw.answer().await.status, 200);
            // What came together with the last request is not seen to be a beginning; what follows is.
            assert!(raw.send("l").await);
        }
        let waited = is_ended(raw).await;
        assert!(waited >= SHORT / 2, "{begun:?} was ended after {waited:?}");
    }
    assert!(overdue(&app, "head").await >= 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_that_drips_ends_the_connection_in_the_same_time() {
    let app = TestApp::start_within(head_within(SHORT)).await;
    let endless = b"x: y\r\n";
    for before in ["GET / HTTP/1.1\r\n", LIVE] {
        // the server may have the connection before its client knows
        let start = Instant::now();
        let mut raw = Raw::connect(app.port()).await;
        assert!(raw.send(before).await);
        if before == LIVE {
            assert_eq!(raw.answer().await.status, 200);
            assert!(raw.send("GET / HTTP/1.1\r\n").await);
        }
        raw.drip(endless, MOMENT, SOON).await;
        assert!(start.elapsed() >= SHORT, "ended after {:?}", start.elapsed());
    }
    assert!(overdue(&app, "head").await >= 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kept_connection_may_be_idle_for_longer_than_a_head_may_take() {
    let idle = SHORT * 3;
    let app = TestApp::start_within(idle_for(idle)).await;
    let whole = format!("{PUT}content-length: 2\r\n\r\n{{}}");
    // In one piece, in pieces, and with a body: the ways in which a connection becomes idle.
    let ways = [
        vec![LIVE],
        vec!["GET /health", "/live HTTP/1.1\r\nhost", ": x\r\n\r\n"],
        vec![&whole],
        vec![&whole[..20], &whole[20..whole.len() - 1], "}"],
    ];
    join_all(ways.iter().map(async |pieces| {
        let mut raw = Raw::connect(app.port()).await;
        for _ in 0..2 {
            for piece in pieces {
                assert!(raw.send(piece).await);
                tokio::time::sleep(MOMENT).await;
            }
            assert!([200, 201].contains(&raw.answer().await.status), "{pieces:?}");
            tokio::time::sleep(SHORT * 2).await;
        }
        // After so long a silence it is still there.
        assert!(raw.send(LIVE).await);
        assert_eq!(raw.answer().await.status, 200);
        let waited = is_ended(raw).await;
        assert!(waited + MOMENT >= idle, "{pieces:?}: ended after {waited:?}");
    }))
    .await;
    assert!(overdue(&app, "idle").await >= 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_stops_coming_is_408_and_ends_the_connection() {
    let body = Pace { grace: SHORT, ..Pace::default() };
    let app = TestApp::start_within(Limits { body, ..Limits::default() }).await;
    for (head, begun) in [
        ("content-length: 100", ""),
        ("content-length: 100", "{"),
        ("transfer-encoding: chunked", "1\r\n{\r\n"),
        ("transfer-encoding: chunked", "5"),
        ("content-length: 100\r\nexpect: 100-continue", ""),
    ] {
        let mut raw = Raw::connect(app.port()).await;
        assert!(raw.send(format!("{PUT}{head}\r\n\r\n{begun}")).await);
        let mut said = raw.answer().await;
        if said.status == 100 {
            said = raw.answer().await;
        }
        assert_eq!(said.status, 408, "{head}: {said:?}");
        assert!(said.body.contains("\"code\":\"request_timeout\""), "{said:?}");
        assert!(said.head.contains("content-type: application/problem+json"), "{said:?}");
        assert!(said.head.contains("connection: close"), "{said:?}");
        is_ended(raw).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_drips_is_too_slow_and_a_steady_one_is_not() {
    let body = Pace { grace: SHORT, bytes_per_second: 1_000 };
    let app = TestApp::start_within(Limits { body, ..Limits::default() }).await;
    let mut raw = Raw::connect(app.port()).await;
    assert!(raw.send(format!("{PUT}content-length: 100000\r\n\r\n")).await);
    raw.drip(b" ", MOMENT, SOON).await;
    assert_eq!(raw.answer().await.status, 408);

    let mut raw = Raw::connect(app.port()).await;
    assert!(raw.send(format!("{PUT}content-length: 10022\r\n\r\n{{")).await);
    for _ in 0..30 {
        tokio::time::sleep(MOMENT * 2).await;
        assert!(raw.send([b' '; 334]).await);
    }
    assert!(raw.send("}").await);
    assert_eq!(raw.answer().await.status, 201);
}

/// More answers than the buffers of both sides hold.
async fn asking_for_much(app: &TestApp) -> Raw {
    let mut raw = Raw::connect(app.port()).await;
    let one = app.get("/openapi.json").await.answered(200).body.len();
    let asked = "GET /openapi.json HTTP/1.1\r\nhost: x\r\n\r\n".repeat(40_000_000 / one);
    assert!(raw.send(asked).await);
    raw
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_read_the_answer_is_hung_up_on() {
    let answer = Pace { grace: SHORT, ..Pace::default() };
    let app = TestApp::start_within(Limits { answer, ..Limits::default() }).await;
    let _raw = asking_for_much(&app).await;
    wait_until(PATIENCE, "the connection is ended", async || {
        (overdue(&app, "answer").await > 0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_sips_at_the_answer_is_hung_up_on_too() {
    let answer = Pace { grace: SHORT, bytes_per_second: 10_000_000 };
    let app = TestApp::start_within(Limits { answer, ..Limits::default() }).await;
    let mut raw = asking_for_much(&app).await;
    wait_until(PATIENCE, "the connection is ended", async || {
        // Far more than nothing, far less than is asked for.
        raw.sip(20_000).await;
        (overdue(&app, "answer").await > 0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_2_without_a_sign_of_life_is_ended() {
    let limits = Limits { ping_every: SHORT, ping_within: SHORT, ..Limits::default() };
    let app = TestApp::start_within(limits).await;
    let mut raw = Raw::connect(app.port()).await;
    let request: &[u8] = &[0, 0, 6, 1, 5, 0, 0, 0, 1, 0x82, 0x86, 0x84, 0x41, 1, b'x'];
    assert!(
        raw.send([b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &[0, 0, 0, 4, 0, 0, 0, 0, 0][..], request].concat())
            .await
    );
    let waited = is_ended(raw).await;
    assert!(waited >= SHORT, "ended after {waited:?}");
}
