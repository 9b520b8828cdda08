//! Other protocols on the port of HTTP/1, and HTTP/2 that is spoken badly.

use std::time::Duration;

use rollcall::settings::{Limits, Pace};

use super::cases::Then::{Closed, Open};
use super::cases::{Case, case, run};
use crate::support::{Raw, TestApp};

const OK: &[u16] = &[200];
const BAD: &[u16] = &[400];
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
/// A GET of the root at the host x, as a head without dynamic entries.
const HEAD: &[u8] = &[0x82, 0x86, 0x84, 0x41, 1, b'x'];

fn with(lines: &str) -> String {
    format!("GET /health/live HTTP/1.1\r\nhost: x\r\n{lines}\r\n\r\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_that_nobody_serves_is_answered_as_if_it_were_none() {
    let put = "PUT /api/v1/config/upgraded HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 2\r\n";
    let websocket = "upgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                     sec-websocket-version: 13";
    run(vec![
        case("a websocket", with(websocket), &[OK], Open),
        case(
            "h2c",
            with("upgrade: h2c\r\nconnection: upgrade, http2-settings\r\nhttp2-settings: AAMAAABk"),
            &[OK],
            Open,
        ),
        case(
            "h2c with bad settings",
            with("upgrade: h2c\r\nconnection: upgrade\r\nhttp2-settings: %%%"),
            &[OK],
            Open,
        ),
        case("TLS", with("upgrade: TLS/1.2\r\nconnection: upgrade"), &[OK], Open),
        case("several", with("upgrade: a, b/2, ;\r\nconnection: upgrade"), &[OK], Open),
        case("an empty one", with("upgrade:\r\nconnection: upgrade"), &[OK], Open),
        case("only in the connection", with("connection: upgrade"), &[OK], Open),
        case(
            "with a body",
            format!("{put}upgrade: websocket\r\nconnection: upgrade\r\n\r\n{{}}"),
            &[&[200, 201]],
            Open,
        ),
        case("two in a row", with(websocket).repeat(2), &[OK, OK], Open),
        case("in HTTP/1.0", with(websocket).replace("1.1", "1.0"), &[OK], Closed),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_speaks_something_else_is_shown_the_door() {
    let hello: &[u8] = b"\x16\x03\x01\x00\x2f\x01\x00\x00\x2b\x03\x03\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x00\x00\x02\x13\x01\x01\x00";
    let mut cases: Vec<Case> = [
        ("TLS", hello.to_vec()),
        ("SSL 2", b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10".to_vec()),
        ("SSH", b"SSH-2.0-OpenSSH_9.6\r\n".to_vec()),
        ("SMTP", b"EHLO example.org\r\n".to_vec()),
        ("Redis", b"*1\r\n$4\r\nPING\r\n".to_vec()),
        ("PostgreSQL", b"\0\0\0\x08\x04\xd2\x16\x2f".to_vec()),
        ("PROXY", b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n".to_vec()),
        ("PROXY 2", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x7f\0\0\x01\x7f\0\0\x01\0\x01\0\x02".to_vec()),
        ("RTSP", b"OPTIONS rtsp://x/ RTSP/1.0\r\n\r\n".to_vec()),
        ("SIP", b"OPTIONS sip:x SIP/2.0\r\n\r\n".to_vec()),
        ("zeros", vec![0; 5_000]),
        ("all bits", vec![0xff; 5_000]),
        ("every byte", (0..=255).collect()),
        ("an answer", b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_vec()),
        ("half a preface", b"PRI * HTTP/2.0\r\n\r\n".to_vec()),
        ("a preface gone wrong", b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n".to_vec()),
        ("a preface in small letters", b"pri * http/2.0\r\n\r\nsm\r\n\r\n".to_vec()),
    ]
    .into_iter()
    .map(|(what, sent)| case(what, sent, &[BAD], Closed))
    .collect();
    cases.push(case("nothing but empty lines", "\r\n".repeat(50_000), &[&[400, 431]], Closed));
    run(cases).await;
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Requests that are taken back before they can be answered.
fn rapid_reset() -> Vec<u8> {
    (0..2_000)
        .flat_map(|n| [frame(1, 5, 2 * n + 1, HEAD), frame(3, 0, 2 * n + 1, &8_u32.to_be_bytes())].concat())
        .collect()
}

/// A head that goes on and on.
fn endless_head() -> Vec<u8> {
    [frame(1, 1, 1, HEAD), frame(9, 0, 1, &[0x40, 1, b'a', 1, b'b']).repeat(2_000)].concat()
}

/// Whoever does that is not waited for to hang up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_http_2_is_stopped() {
    let answer = Pace { grace: Duration::from_millis(300), ..Pace::default() };
    let app = TestApp::start_within(Limits { answer, ..Limits::default() }).await;
    // Each is answered, and the answers are not read.
    let pings = frame(6, 0, 0, &[0; 8]).repeat(500_000);
    for frames in [rapid_reset(), endless_head(), pings] {
        let mut raw = Raw::connect(app.port()).await;
        // It need not be taken to its end.
        raw.send([PREFACE, SETTINGS, &frames].concat()).await;
        raw.rest().await;
    }
    app.body("/health").await;
}

/// No answer of HTTP/1 comes back: the connection is HTTP/2, and the probe is a bad frame that ends it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_2_that_is_spoken_badly_ends_its_connection() {
    let bomb = [HEAD, &[0x40, 1, b'a', 0x7f, 0x81, 0x1e], &[b'x'; 4_000][..], &[0xbe; 10_000][..]].concat();
    let mut cases = vec![
        case("only the preface", PREFACE, &[], Closed),
        case("garbage for settings", [PREFACE, &[0xff; 1_000]].concat(), &[], Closed),
        case("zeros for settings", [PREFACE, &[0; 1_000]].concat(), &[], Closed),
        case("two prefaces", [PREFACE, SETTINGS, PREFACE].concat(), &[], Closed),
        case(
            "HTTP/1 behind the preface",
            [PREFACE, b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n"].concat(),
            &[],
            Closed,
        ),
    ];
    for (what, frames) in [
        ("a frame above its size", vec![0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1]),
        ("an unknown frame", frame(0xee, 0xff, 1, b"x")),
        ("settings of a bad length", frame(4, 0, 0, &[0; 5])),
        ("settings on a stream", frame(4, 0, 1, &[])),
        ("settings with a bad window", frame(4, 0, 0, &[0, 4, 0xff, 0xff, 0xff, 0xff])),
        ("settings with a bad frame size", frame(4, 0, 0, &[0, 5, 0, 0, 0, 1])),
        ("an acknowledgement of nothing", frame(4, 1, 0, &[])),
        ("many settings", SETTINGS.repeat(5_000)),
        ("many pings", frame(6, 0, 0, &[0; 8]).repeat(5_000)),
        ("a ping of a bad length", frame(6, 0, 0, &[0; 7])),
        ("data on no stream", frame(0, 0, 0, b"x")),
        ("data on an idle stream", frame(0, 0, 1, b"x")),
        ("a head on no stream", frame(1, 5, 0, HEAD)),
        ("a head on an even stream", frame(1, 5, 2, HEAD)),
        ("an empty head", frame(1, 5, 1, &[])),
        ("a head of garbage", frame(1, 5, 1, &[0xff; 100])),
        ("a head with a bad index", frame(1, 5, 1, &[0xff, 0xff, 0xff, 0xff, 0x0f])),
        ("a head with capitals", frame(1, 5, 1, &[HEAD, &[0x40, 1, b'A', 1, b'b']].concat())),
        ("a head with a connection", frame(1, 5, 1, &[HEAD, b"\x40\x0aconnection\x05close"].concat())),
        ("a head with a coding", frame(1, 5, 1, &[HEAD, b"\x40\x11transfer-encoding\x07chunked"].concat())),
        ("a head with two paths", frame(1, 5, 1, &[HEAD, &[0x84]].concat())),
        ("a head without a path", frame(1, 5, 1, &[0x82, 0x86])),
        ("a head with a line break", frame(1, 5, 1, &[HEAD, b"\x40\x01a\x03b\r\n"].concat())),
        ("a head with a bad length", frame(1, 4, 1, &[HEAD, b"\x40\x0econtent-length\x02-1"].concat())),
        ("a head with padding beyond it", frame(1, 0x0d, 1, &[0xff, 0x82])),
        ("a head that depends on itself", frame(1, 0x25, 1, &[&[0, 0, 0, 1, 0], HEAD].concat())),
        ("heads in the wrong order", [frame(1, 5, 3, HEAD), frame(1, 5, 1, HEAD)].concat()),
        ("the same stream twice", [frame(1, 5, 1, HEAD), frame(1, 5, 1, HEAD)].concat()),
        ("a head that is not ended", [frame(1, 1, 1, HEAD), frame(6, 0, 0, &[0; 8])].concat()),
        ("a head that never ends", endless_head()),
        ("a head that unfolds", frame(1, 5, 1, &bomb)),
        ("a continuation of nothing", frame(9, 4, 1, HEAD)),
        ("a promise", frame(5, 4, 1, &[0, 0, 0, 2, 0x82])),
        ("a window of nothing", frame(8, 0, 0, &[0; 4])),
        ("a window above its size", frame(8, 0, 0, &[0x7f, 0xff, 0xff, 0xff]).repeat(2)),
        ("a reset of an idle stream", frame(3, 0, 1, &[0; 4])),
        ("a reset of no stream", frame(3, 0, 0, &[0; 4])),
        ("a farewell", frame(7, 0, 0, &[0; 8])),
        ("a thousand requests", (0..1_000).flat_map(|n| frame(1, 5, 2 * n + 1, HEAD)).collect()),
        ("requests that are taken back at once", rapid_reset()),
    ] {
        cases.push(case(what, [PREFACE, SETTINGS, &frames].concat(), &[], Closed));
    }
    run(cases).await;
}
