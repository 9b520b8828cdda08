//! Plain requests are answered off the wire, before the library. Nobody is to notice.

use std::{collections::BTreeMap, time::Duration};

use rollcall::settings::{Limits, Pace};
use serde_json::{Value, json};

use crate::support::{PATIENCE, Raw, Said, TestApp, static_service, wait_until};

const SHORT: Duration = Duration::from_millis(500);
const LIVE: &str = "GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n";

fn discover(name: &str, headers: &str) -> String {
    format!("GET /discover/{name} HTTP/1.1\r\nHost: x\r\n{headers}\r\n")
}

/// The first line and the headers, but for what is another one each time.
fn lasting(said: &Said) -> (String, BTreeMap<String, String>) {
    let (first, rest) = said.head.split_once("\r\n").unwrap();
    let headers = rest.lines().filter_map(|line| line.split_once(": "));
    let mut headers: BTreeMap<_, _> =
        headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    for changing in ["date", "x-request-id", "x-rollcall-age"] {
        let length = headers.remove(changing).map(|value| value.len());
        assert!(changing == "x-rollcall-age" || length > Some(20), "{changing} {said:?}");
    }
    (first.to_owned(), headers)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_wire_is_answered_as_the_library_answers() {
    let app = TestApp::start().await;
    let id = app.registered(&static_service("shop", 1)).await["id"].as_str().unwrap().to_owned();
    // it has to have been heard of before it is known to be plain
    app.post(&format!("/api/v1/services/{id}/heartbeat")).await.answered(204);
    let beat =
        |headers: &str| format!("POST /api/v1/services/{id}/heartbeat HTTP/1.1\r\nHost: x\r\n{headers}\r\n");
    let ask = async |request: String| {
        let mut raw = Raw::connect(app.port()).await;
        assert!(raw.send(&request).await);
        raw.answer().await
    };
    for request in [&beat as &dyn Fn(&str) -> String, &|headers| discover("shop", headers)] {
        let plain = ask(request("")).await;
        // whoever wishes something more is answered by the library
        let other = ask(request("TE: trailers\r\n")).await;
        assert_eq!((lasting(&plain), &plain.body), (lasting(&other), &other.body));
        assert!(plain.status < 300);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_come_in_any_pieces_and_any_order() {
    let app = TestApp::start().await;
    app.registered(&static_service("shop", 1)).await;
    let (plain, unknown) = (discover("shop", ""), discover("nobody", ""));
    let asked: [(String, u16); 7] = [
        (plain.clone(), 200),
        (plain.clone(), 200),
        (LIVE.to_owned(), 200),
        (plain.clone(), 200),
        (unknown, 200),
        (discover("shop", "If-None-Match: *\r\n"), 304),
        (plain.clone(), 200),
    ];
    let all: String = asked.iter().map(|(request, _)| request.as_str()).collect();
    let body = app.get("/discover/shop").await.answered(200).text();
    for piece in [1, 7, plain.len() - 1, plain.len(), plain.len() + 1, 2 * plain.len() + 9, all.len()] {
        let mut raw = Raw::connect(app.port()).await;
        for piece in all.as_bytes().chunks(piece) {
            assert!(raw.send(piece).await);
            tokio::task::yield_now().await;
        }
        for (request, status) in &asked {
            let said = raw.answer().await;
            assert_eq!(said.status, *status, "{request}");
            assert!(*request != plain || said.body == body, "{said:?}");
        }
    }
}

/// A service of so many thousand instances. Of twelve the answer is larger than what lies in the kernel for a client that
/// does not read.
async fn large(app: &TestApp, thousands: u16) {
    for first in (1..).step_by(1000).take(thousands.into()) {
        let instances: Vec<Value> = (first..first + 1000)
            .map(|port| {
                let mut instance = static_service("large", port);
                instance["metadata"] = json!({"version": "1", "environment": "x", "region": "r".repeat(60)});
                instance["description"] = json!("d".repeat(500));
                instance
            })
            .collect();
        app.post("/api/v1/services/register/batch").json(&json!(instances)).await.answered(200);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_answer_comes_whole_to_whoever_reads_slowly() {
    let app = TestApp::start().await;
    large(&app, 4).await;
    let body = app.get("/discover/large").await.answered(200).text();
    assert!(body.len() > 2_500_000, "{}", body.len());
    let mut raw = Raw::connect(app.port()).await;
    assert!(raw.send(discover("large", "")).await);
    tokio::time::sleep(SHORT).await;
    assert_eq!(raw.answer().await.body, body);
    assert!(raw.send(discover("large", "") + LIVE).await);
    tokio::time::sleep(SHORT).await;
    assert_eq!(raw.answer().await.body, body);
    assert_eq!(raw.answer().await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_read_or_ask_is_hung_up_on() {
    let answer = Pace { grace: SHORT, ..Pace::default() };
    let app = TestApp::start_within(Limits { answer, idle_for: SHORT, ..Limits::default() }).await;
    large(&app, 12).await;
    let mut unread = Raw::connect(app.port()).await;
    assert!(unread.send(discover("large", "")).await);
    let mut idle = Raw::connect(app.port()).await;
    assert!(idle.send(discover("nobody-yet", "Connection: keep-alive\r\n")).await);
    assert_eq!(idle.answer().await.status, 200);
    app.registered(&static_service("shop", 1)).await;
    let mut plain = Raw::connect(app.port()).await;
    assert!(plain.send(discover("shop", "")).await);
    assert_eq!(plain.answer().await.status, 200);
    assert!(idle.rest().await.is_empty() && plain.rest().await.is_empty());
    wait_until(PATIENCE, "those who do not read are hung up on", async || {
        let metrics = app.get("/metrics").await.text();
        metrics.contains("rollcall_http_connections_overdue_total{reason=\"answer\"} 1").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_ends_who_asks_no_more() {
    let app = TestApp::start().await;
    app.registered(&static_service("shop", 1)).await;
    let mut raw = Raw::connect(app.port()).await;
    assert!(raw.send(discover("shop", "")).await);
    assert_eq!(raw.answer().await.status, 200);
    let stopping = tokio::spawn(app.stop());
    assert!(raw.rest().await.is_empty());
    tokio::time::timeout(PATIENCE, stopping).await.unwrap().unwrap();
}
