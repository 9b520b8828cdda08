//! Request lines and fields that are wrong, odd or too much.

use super::cases::Then::{Closed, Either, Open};
use super::cases::{Case, case, run};

const OK: &[u16] = &[200];
const BAD: &[u16] = &[400];
/// Understood, but there is no such thing.
const NOTHING: &[u16] = &[400, 404, 405];
const TOO_LARGE: &[u16] = &[414, 431];

fn line(line: &str) -> String {
    format!("{line}\r\nhost: x\r\n\r\n")
}

/// A sound read with these lines in its head.
fn with(lines: &str) -> String {
    format!("GET /health/live HTTP/1.1\r\n{lines}\r\n\r\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_line_has_a_method_a_target_and_a_version() {
    let cases: Vec<Case> = [
        "GET",
        "GET ",
        "GET /",
        "GET /health",
        "GET /health HTTP",
        "GET /health HTTP/",
        "GET /health HTTP/0.9",
        "GET /health HTTP/1",
        "GET /health HTTP/1.2",
        "GET /health HTTP/2.0",
        "GET /health HTTP/3.0",
        "GET /health HTTP/9.9",
        "GET /health HTTP/1.1.1",
        "GET /health HTTP/1.10",
        "GET /health HTTP/11",
        "GET /health HTTP/-1.1",
        "GET /health HTTP/ 1.1",
        "GET /health HTTP /1.1",
        "GET /health http/1.1",
        "GET /health HTP/1.1",
        "GET /health XHTTP/1.1",
        "GET /health HTTP/1.1 ",
        "GET /health HTTP/1.1\0",
        "GET /health HTTP/1.1 x",
        "GET  /health HTTP/1.1",
        "GET /health  HTTP/1.1",
        "GET\t/health\tHTTP/1.1",
        "GET\x0b/health HTTP/1.1",
        " GET /health HTTP/1.1",
        "\tGET /health HTTP/1.1",
        "/health GET HTTP/1.1",
        "G\0T /health HTTP/1.1",
        "G\u{c9}T /health HTTP/1.1",
        "G(T /health HTTP/1.1",
        "G/T /health HTTP/1.1",
        "GET: /health HTTP/1.1",
        "\x7f /health HTTP/1.1",
        "GET /he alth HTTP/1.1",
        "GET /he\0alth HTTP/1.1",
        "GET /he\x7falth HTTP/1.1",
        "GET /he\x01alth HTTP/1.1",
        "GET /he\talth HTTP/1.1",
        "GET  HTTP/1.1",
        "GET /health\rHTTP/1.1",
        "GET http:// HTTP/1.1",
        "GET http:///health HTTP/1.1",
        "GET http://[::1/health HTTP/1.1",
    ]
    .into_iter()
    .map(|bad| case(&format!("{bad:?}"), line(bad), &[BAD], Closed))
    .collect();
    run(cases).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn odd_methods_and_targets_lead_nowhere() {
    let long = "x".repeat(10_000);
    run(vec![
        case("an unknown method", line("BREW /health HTTP/1.1"), &[&[405]], Open),
        case("a method in small letters", line("get /health HTTP/1.1"), &[&[405]], Open),
        case("a very long method", line(&format!("{long} /health HTTP/1.1")), &[&[400, 405]], Either),
        case("TRACE", line("TRACE /health HTTP/1.1"), &[&[405]], Open),
        case("OPTIONS", line("OPTIONS /health HTTP/1.1"), &[&[405]], Open),
        case("OPTIONS of all", line("OPTIONS * HTTP/1.1"), &[NOTHING], Either),
        case("GET of all", line("GET * HTTP/1.1"), &[NOTHING], Either),
        case("CONNECT", line("CONNECT example.org:443 HTTP/1.1"), &[NOTHING], Either),
        case("CONNECT with a path", line("CONNECT /health HTTP/1.1"), &[NOTHING], Either),
        case("CONNECT with a scheme", line("CONNECT http://x/health HTTP/1.1"), &[NOTHING], Either),
        case("PRI", line("PRI * HTTP/1.1"), &[NOTHING], Either),
        case("only an authority", line("GET x:80 HTTP/1.1"), &[NOTHING], Either),
        case("no slash", line("GET health HTTP/1.1"), &[NOTHING], Either),
        case("a backslash", line("GET \\health HTTP/1.1"), &[NOTHING], Either),
        case("only a query", line("GET ?a=b HTTP/1.1"), &[&[200, 400, 404]], Either),
        case("the whole address", line("GET http://x/health/live HTTP/1.1"), &[OK], Open),
        case("another whole address", line("GET https://other:9/health/live HTTP/1.1"), &[OK], Open),
        case("an address without a path", line("GET http://x HTTP/1.1"), &[OK], Open),
        case("an address with a user", line("GET http://u:p@x/health/live HTTP/1.1"), &[&[200, 400]], Either),
        case("another scheme", line("GET file:///etc/passwd HTTP/1.1"), &[NOTHING], Either),
        case("two slashes", line("GET //health HTTP/1.1"), &[NOTHING], Either),
        case("a port above all", line("GET http://x:99999999/health HTTP/1.1"), &[&[200, 400]], Either),
        case("a scheme without a name", line("GET ://x/health HTTP/1.1"), &[&[200, 400]], Either),
        case("dots", line("GET /docs/../health/live HTTP/1.1"), &[NOTHING], Open),
        case("dots in escapes", line("GET /docs/%2e%2e/%2e%2e/etc/passwd HTTP/1.1"), &[NOTHING], Open),
        case("a slash in escapes", line("GET /health%2Flive HTTP/1.1"), &[NOTHING], Open),
        case("a zero byte in escapes", line("GET /discover/%00 HTTP/1.1"), &[&[200, 400, 404]], Open),
        case("a line break in escapes", line("GET /discover/a%0d%0ax:y HTTP/1.1"), &[&[200, 400, 404]], Open),
        case("a lone percent", line("GET /discover/% HTTP/1.1"), &[BAD], Open),
        case("half an escape", line("GET /discover/%4 HTTP/1.1"), &[BAD], Open),
        case("no escape", line("GET /discover/%zz HTTP/1.1"), &[BAD], Open),
        case("an escape that is no UTF-8", line("GET /discover/%ff HTTP/1.1"), &[BAD], Open),
        case("an overlong escape", line("GET /discover/%c0%af HTTP/1.1"), &[BAD], Open),
        case("a surrogate as escapes", line("GET /discover/%ed%a0%80 HTTP/1.1"), &[BAD], Open),
        case(
            "a broken escape in the query",
            line("GET /api/v1/services?name=%zz HTTP/1.1"),
            &[&[200, 400]],
            Open,
        ),
        case("no UTF-8 in the query", line("GET /api/v1/services?name=%ff HTTP/1.1"), &[&[200, 400]], Open),
        case("a query of signs", line("GET /api/v1/services?&&==&%26&a&=b HTTP/1.1"), &[&[200, 400]], Open),
        case("a fragment", line("GET /health/live#x HTTP/1.1"), &[&[200, 400, 404]], Either),
        case("a letter beyond ASCII", line("GET /discover/\u{e9} HTTP/1.1"), &[&[200, 400, 404]], Either),
        case(
            "a byte beyond UTF-8",
            b"GET /discover/\xff HTTP/1.1\r\nhost: x\r\n\r\n",
            &[&[400, 404]],
            Either,
        ),
        case("a long path", line(&format!("GET /discover/{long} HTTP/1.1")), &[&[400, 404]], Open),
        case("a very long path", line(&format!("GET /{} HTTP/1.1", long.repeat(7))), &[TOO_LARGE], Closed),
        case("a very long query", line(&format!("GET /?{} HTTP/1.1", long.repeat(7))), &[TOO_LARGE], Closed),
        case(
            "many parameters",
            line(&format!("GET /api/v1/services?{} HTTP/1.1", "a=b&".repeat(10_000))),
            &[&[200, 400]],
            Open,
        ),
        case("many parts", line(&format!("GET {} HTTP/1.1", "/a".repeat(10_000))), &[&[404]], Open),
        case("many slashes", line(&format!("GET /{} HTTP/1.1", "/".repeat(10_000))), &[&[404]], Either),
        case("only line feeds", "GET /health/live HTTP/1.1\nhost: x\n\n", &[OK], Open),
        case("only carriage returns", "GET /health/live HTTP/1.1\rhost: x\r\r", &[BAD], Closed),
        case(
            "line feeds and returns mixed up",
            "GET /health/live HTTP/1.1\n\rhost: x\n\r\n\r",
            &[BAD],
            Closed,
        ),
        case("empty lines first", format!("\r\n\n\r\n{}", with("host: x")), &[OK], Open),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_names_one_host() {
    let mut cases: Vec<Case> = [
        "x: y",
        "host: x\r\nhost: x",
        "host: x\r\nHOST: y",
        "host: x\r\nhost:",
        "host: a b",
        "host: a, b",
        "host: a/b",
        "host: u@a",
        "host: a?b",
        "host: a#b",
        "host: \u{e9}",
        "host: a\tb",
        "host: \"a\"",
        "host: a\\b",
        "host: <a>",
        "host: a\0",
        "host : x",
        " host: x",
        "host\0: x",
        "host: x\r\n y",
    ]
    .into_iter()
    .map(|bad| case(&format!("{bad:?}"), with(bad), &[BAD], Closed))
    .collect();
    for good in [
        "host:",
        "host: x",
        "HOST: X",
        "host: [::1]:8081",
        "host: 127.0.0.1:1",
        "host: a_b.c-d",
        "host:\t x \t",
    ] {
        cases.push(case(&format!("{good:?}"), with(good), &[OK], Open));
    }
    let old = "GET /health/live HTTP/1.0\r\n";
    cases.push(case("HTTP/1.0 without a host", format!("{old}\r\n"), &[OK], Closed));
    cases.push(case("HTTP/1.0 with two", format!("{old}host: a\r\nhost: b\r\n\r\n"), &[BAD], Closed));
    cases.push(case(
        "a whole address without a host",
        "GET http://x/health HTTP/1.1\r\n\r\n",
        &[BAD],
        Closed,
    ));
    run(cases).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fields_are_sound() {
    let cases: Vec<Case> = [
        "x",
        ": y",
        " : y",
        "x y: z",
        "x\0: y",
        "x\x01: y",
        "x\x7f: y",
        "\u{e9}: y",
        "x(y): z",
        "x\"y\": z",
        "x,y: z",
        "x: \0",
        "x: y\0z",
        "x: \x01",
        "x: \x08",
        "x: \x0b",
        "x: \x0c",
        "x: \x1b[2J",
        "x: \x7f",
        "x: y\rz",
        "x: y\r",
        "x: y\r\n z",
        "x: y\r\n\tz",
        "x:\r\n y",
        " x: y",
        "\tx: y",
        "x\r\n: y",
        "=x",
        "[x]: y",
        "{x}: y",
        "x@y: z",
    ]
    .into_iter()
    .map(|bad| case(&format!("{bad:?}"), with(&format!("host: x\r\n{bad}")), &[BAD], Closed))
    .collect();
    run(cases).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fields_are_not_too_many_and_mean_what_they_mean() {
    let fields = |count: usize| "a: b\r\n".repeat(count);
    let long = |count: usize| "x".repeat(count);
    let put = |lines: &str, rest: &str| {
        format!(
            "PUT /api/v1/config/headed HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n{lines}\r\n\r\n{rest}"
        )
    };
    run(vec![
        case(
            "bytes beyond ASCII in a value",
            b"GET /health/live HTTP/1.1\r\nhost: x\r\nx: \xff\xfe\r\n\r\n",
            &[OK],
            Open,
        ),
        case("99 and the host", with(&format!("host: x\r\n{}x: y", fields(98))), &[OK], Open),
        case("a hundred and the host", with(&format!("host: x\r\n{}x: y", fields(99))), &[&[431]], Closed),
        case("ten thousand", with(&format!("host: x\r\n{}x: y", fields(10_000))), &[&[431]], Closed),
        case("a large one", with(&format!("host: x\r\nx: {}", long(60_000))), &[OK], Open),
        case("one too large", with(&format!("host: x\r\nx: {}", long(70_000))), &[&[431]], Closed),
        case("a name too large", with(&format!("host: x\r\n{}: y", long(70_000))), &[&[400, 431]], Closed),
        case("one without an end", format!("GET / HTTP/1.1\r\nx: {}", long(2_000_000)), &[&[431]], Closed),
        case("a request line without an end", long(2_000_000), &[&[400, 431]], Closed),
        case("a long id", with(&format!("host: x\r\nx-request-id: {}", long(10_000))), &[OK], Open),
        case("an odd id", with("host: x\r\nx-request-id: <script>\\u0000%0d%0a"), &[OK], Open),
        case("an odd traceparent", with("host: x\r\ntraceparent: 00-0-0-zz"), &[OK], Open),
        case("an odd connection", with("host: x\r\nconnection: ,,;\u{e9}"), &[OK], Open),
        case("connection names the host", with("host: x\r\nconnection: host"), &[OK], Open),
        case("a type that is not to be had", with("host: x\r\naccept: image/png;q=oh"), &[OK], Open),
        case("a range", with("host: x\r\nrange: bytes=9-1,-5"), &[OK], Open),
        case("odd tags", with("host: x\r\nif-none-match: \"\",,W/,*"), &[&[200, 304, 400]], Open),
        case("an odd precondition", put("content-length: 2\r\nif-match: 3", "{}"), &[&[400, 412]], Either),
        case(
            "two preconditions",
            put("content-length: 2\r\nif-match: *\r\nif-none-match: *", "{}"),
            &[BAD],
            Either,
        ),
        case(
            "a key too long",
            put(&format!("content-length: 2\r\nidempotency-key: {}", long(300)), "{}"),
            &[BAD],
            Either,
        ),
        case(
            "two keys",
            put("content-length: 2\r\nidempotency-key: a\r\nidempotency-key: b", "{}"),
            &[BAD],
            Either,
        ),
        case(
            "a body is announced and comes",
            put("content-length: 2\r\nexpect: 100-continue", "{}"),
            &[&[100], &[200, 201]],
            Open,
        ),
        case("expected without a body", with("host: x\r\nexpect: 100-continue"), &[OK], Open),
        case(
            "another expectation",
            put("content-length: 2\r\nexpect: 200-ok", "{}"),
            &[&[200, 201, 417]],
            Open,
        ),
        case(
            "too much is announced",
            put("content-length: 100000000\r\nexpect: 100-continue", ""),
            &[&[413]],
            Closed,
        ),
        case(
            "the wrong type is announced",
            put("content-length: 2\r\nexpect: 100-continue\r\ncontent-encoding: x", "{}"),
            &[&[415]],
            Either,
        ),
        case(
            "announced in HTTP/1.0",
            put("content-length: 2\r\nexpect: 100-continue", "{}").replacen("1.1", "1.0", 1),
            &[&[200, 201]],
            Closed,
        ),
    ])
    .await;
}
