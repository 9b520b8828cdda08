//! Where one request ends and the next begins: whatever can be understood in two ways is refused or ends the connection.

use super::cases::Then::{Closed, Either, Open};
use super::cases::{Case, SMUGGLED, case, run};

const OK: &[u16] = &[200, 201];
const BAD: &[u16] = &[400];
/// A transfer coding that nobody here undoes.
const CODED: &[u16] = &[415];

/// A PUT of a configuration with these lines in its head, and what follows the head.
fn put(lines: &str, rest: &str) -> String {
    let lines = if lines.is_empty() { String::new() } else { format!("{lines}\r\n") };
    format!(
        "PUT /api/v1/config/framed HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n{lines}\r\n{rest}"
    )
}

fn chunked(rest: &str) -> String {
    put("transfer-encoding: chunked", rest)
}

/// A request in what the server may take for the body, behind a whole body of two bytes.
fn and_smuggled(rest: &str) -> String {
    format!("{rest}{SMUGGLED}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_has_one_length() {
    let long = "1".repeat(10_000);
    run(vec![
        case("a sound one", put("content-length: 2", "{}"), &[OK], Open),
        case("spaces around it", put("content-length:   2  ", "{}"), &[OK], Open),
        case("a tab before it", put("content-length:\t2", "{}"), &[OK], Open),
        case("a zero before it", put("content-length: 02", "{}"), &[OK], Open),
        case("the same twice", put("content-length: 2\r\ncontent-length: 2", "{}"), &[OK], Open),
        case("two of them", put("content-length: 2\r\ncontent-length: 3", "{}"), &[BAD], Closed),
        case("two, the second none", put("content-length: 2\r\ncontent-length: x", "{}"), &[BAD], Closed),
        case("two, the second signed", put("content-length: 2\r\ncontent-length: +2", "{}"), &[BAD], Closed),
        case("a list of the same", put("content-length: 2, 2", "{}"), &[BAD], Closed),
        case("a list", put("content-length: 2, 3", "{}"), &[BAD], Closed),
        case("negative", put("content-length: -1", "{}"), &[BAD], Closed),
        case("minus zero", put("content-length: -0", "{}"), &[BAD], Closed),
        case("with a plus", put("content-length: +2", "{}"), &[BAD], Closed),
        case("in hex", put("content-length: 0x2", "{}"), &[BAD], Closed),
        case("with a letter", put("content-length: 2a", "{}"), &[BAD], Closed),
        case("with a space within", put("content-length: 2 2", "{}"), &[BAD], Closed),
        case("with a point", put("content-length: 2.0", "{}"), &[BAD], Closed),
        case("with an exponent", put("content-length: 2e0", "{}"), &[BAD], Closed),
        case("with an underscore", put("content-length: 0_2", "{}"), &[BAD], Closed),
        case("with a semicolon", put("content-length: 2;", "{}"), &[BAD], Closed),
        case("in quotes", put("content-length: \"2\"", "{}"), &[BAD], Closed),
        case("in digits of another script", put("content-length: \u{ff12}", "{}"), &[BAD], Closed),
        case("empty", put("content-length:", "{}"), &[BAD], Closed),
        case("above 64 bits", put("content-length: 18446744073709551616", "{}"), &[BAD], Closed),
        case("2 to the 64th and 2", put("content-length: 18446744073709551618", "{}"), &[BAD], Closed),
        case(
            "the largest of 64 bits",
            put("content-length: 18446744073709551615", "{}"),
            &[&[400, 413, 431]],
            Closed,
        ),
        case("nearly the largest", put("content-length: 18446744073709551613", "{}"), &[&[413]], Closed),
        case("the largest with a sign", put("content-length: 9223372036854775808", "{}"), &[&[413]], Closed),
        case("of ten thousand digits", put(&format!("content-length: {long}"), "{}"), &[BAD], Closed),
        case("a space before the colon", put("content-length : 2", "{}"), &[BAD], Closed),
        case("a tab before the colon", put("content-length\t: 2", "{}"), &[BAD], Closed),
        case("a zero byte in the name", put("content-length\0: 2", "{}"), &[BAD], Closed),
        case("a zero byte behind it", put("content-length: 2\0", "{}"), &[BAD], Closed),
        case("a vertical tab before it", put("content-length: \x0b2", "{}"), &[BAD], Closed),
        case("a bare CR behind it", put("content-length: 2\rx: y", "{}"), &[BAD], Closed),
        case("folded", put("content-length:\r\n 2", "{}"), &[BAD], Closed),
        case("folded into another", put("x: y\r\n content-length: 2", "{}"), &[BAD], Closed),
        // Another name: there is no body, and what follows is the next request, and none.
        case("an underscore in the name", put("content_length: 2", "{}"), &[BAD, BAD], Closed),
        case("none at all", put("", "{}"), &[BAD, BAD], Closed),
        case("too short", put("content-length: 1", "{}"), &[BAD, BAD], Closed),
        // The probe becomes a part of the body, which then ends too early.
        case("too long", put("content-length: 1000", "{}"), &[BAD], Closed),
        case("far too long", put("content-length: 100000000", &and_smuggled("{}")), &[&[413]], Closed),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_has_one_coding() {
    let both = |first: &str, second: &str, rest: &str| put(&format!("{first}\r\n{second}"), rest);
    let (te, cl) = ("transfer-encoding: chunked", "content-length: 6");
    let whole = "2\r\n{}\r\n0\r\n\r\n";
    let coded = |name_and_value: &str| put(name_and_value, &and_smuggled(whole));
    let mut cases: Vec<Case> = vec![
        case("a sound one", chunked(whole), &[OK], Open),
        case("in capitals", put("TRANSFER-ENCODING: CHUNKED", whole), &[OK], Open),
        case("more spaces", put("transfer-encoding:   chunked  ", whole), &[OK], Open),
        // Of two lengths the chunks count, and nothing behind them does.
        case("a length before", both(cl, te, &and_smuggled(whole)), &[OK], Closed),
        case("a length behind", both(te, cl, &and_smuggled(whole)), &[OK], Closed),
        case("the classic", both(cl, te, "0\r\n\r\nG"), &[BAD], Closed),
        case(
            "the classic turned around",
            both("content-length: 4", te, &and_smuggled("0\r\n\r\n")),
            &[BAD],
            Closed,
        ),
        case("a bad length and chunks", both("content-length: x", te, whole), &[BAD], Closed),
        case(
            "chunked in HTTP/1.0",
            coded("transfer-encoding: chunked").replacen("1.1", "1.0", 1),
            &[BAD],
            Closed,
        ),
        // Another name: there is no body, and what follows is the next request, and none.
        case("an underscore", coded("transfer_encoding: chunked"), &[BAD, BAD], Closed),
        case("another name", both(cl, "x-transfer-encoding: chunked", "{    }"), &[OK], Open),
    ];
    for value in [
        "xchunked",
        "chunkedx",
        "chunked;q=1",
        "\"chunked\"",
        "'chunked'",
        "chunke",
        "cow",
        "gzip",
        "identity",
        "",
        ",",
        "chunked, identity",
        "chunked, gzip",
        "chunked chunked",
        "chunked\0",
        "\x0bchunked",
        "\0chunked",
        "chunked\x7f",
        "chunked\rx",
        "\r\n chunked",
        "x\r\n chunked",
        "chunked\r\ntransfer-encoding: identity",
        "chunked\r\ntransfer-encoding: cow",
        "chunked\r\ntransfer-encoding:",
        "ch\u{fc}nked",
        "[chunked]",
    ] {
        cases.push(case(
            &format!("{value:?}"),
            coded(&format!("transfer-encoding: {value}")),
            &[BAD],
            Closed,
        ));
    }
    for name in [
        "transfer-encoding ",
        "transfer-encoding\t",
        " transfer-encoding",
        "transfer-encoding\0",
        "transfer encoding",
    ] {
        cases.push(case(&format!("the name {name:?}"), coded(&format!("{name}: chunked")), &[BAD], Closed));
    }
    for value in [
        "gzip, chunked",
        "identity, chunked",
        "chunked, chunked",
        "cow,chunked",
        "gzip\r\ntransfer-encoding: chunked",
        ", chunked",
        "chunked\r\ntransfer-encoding: gzip, chunked",
    ] {
        // It is known where the body ends: what follows is a request of its own, and not a smuggled one.
        let sent = put(&format!("transfer-encoding: {value}"), whole);
        cases.push(case(&format!("{value:?}"), sent, &[CODED], Either));
    }
    run(cases).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chunks_have_one_meaning() {
    let long = "x".repeat(20_000);
    let zeros = "0".repeat(20_000);
    let mut cases = vec![
        case("two chunks", chunked("1\r\n{\r\n1\r\n}\r\n0\r\n\r\n"), &[OK], Open),
        case("zeros before the size", chunked("0000002\r\n{}\r\n0\r\n\r\n"), &[OK], Open),
        case("an extension", chunked("2;a=b\r\n{}\r\n0\r\n\r\n"), &[OK], Open),
        case("a quoted extension", chunked("2;a=\"b;c\"\r\n{}\r\n0\r\n\r\n"), &[OK], Open),
        case("an extension of the last", chunked("2\r\n{}\r\n0;a\r\n\r\n"), &[OK], Open),
        case("a space behind the size", chunked("2 \r\n{}\r\n0\r\n\r\n"), &[OK], Open),
        case("a trailer", chunked("2\r\n{}\r\n0\r\nx: y\r\n\r\n"), &[OK], Open),
        case("a trailer with a length", chunked("2\r\n{}\r\n0\r\ncontent-length: 9\r\n\r\n"), &[OK], Open),
        case("a trailer with a coding", chunked("2\r\n{}\r\n0\r\ntransfer-encoding: x\r\n\r\n"), &[OK], Open),
        case("a trailer with a host", chunked("2\r\n{}\r\n0\r\nhost: other\r\n\r\n"), &[OK], Open),
        // The second end is the beginning of the next request, and none.
        case("two ends", chunked("2\r\n{}\r\n0\r\n\r\n0\r\n\r\n"), &[OK, BAD], Closed),
        case("no chunk at all", chunked("0\r\n\r\n"), &[BAD], Open),
    ];
    for (what, rest) in [
        ("no size", "\r\n{}\r\n0\r\n\r\n"),
        ("no hex", "g\r\n{}\r\n0\r\n\r\n"),
        ("0x before the size", "0x2\r\n{}\r\n0\r\n\r\n"),
        ("a negative size", "-2\r\n{}\r\n0\r\n\r\n"),
        ("a size with a plus", "+2\r\n{}\r\n0\r\n\r\n"),
        ("a space before the size", " 2\r\n{}\r\n0\r\n\r\n"),
        ("a size above 64 bits", "10000000000000002\r\n{}\r\n0\r\n\r\n"),
        ("the largest size", "ffffffffffffffff\r\n{}\r\n0\r\n\r\n"),
        ("the largest size with a sign", "8000000000000000\r\n{}\r\n0\r\n\r\n"),
        ("a size with a zero byte", "2\0\r\n{}\r\n0\r\n\r\n"),
        ("a size with a vertical tab", "2\x0b\r\n{}\r\n0\r\n\r\n"),
        ("a size ended by LF", "2\n{}\r\n0\r\n\r\n"),
        ("a size ended by CR", "2\r{}\r\n0\r\n\r\n"),
        ("an extension ended by LF", "2;a\n{}\r\n0\r\n\r\n"),
        ("an extension with a bare CR", "2;a\rb\r\n{}\r\n0\r\n\r\n"),
        ("no end of the chunk", "2\r\n{}0\r\n\r\n"),
        ("another end of the chunk", "2\r\n{}XX0\r\n\r\n"),
        ("a chunk ended by LF", "2\r\n{}\n0\r\n\r\n"),
        ("a chunk longer than its size", "1\r\n{}\r\n0\r\n\r\n"),
        ("a chunk shorter than its size", "4\r\n{}\r\n0\r\n\r\n"),
        ("no last chunk", "2\r\n{}\r\n"),
        ("an end without its second line", "2\r\n{}\r\n0\r\n"),
        ("a trailer without a colon", "2\r\n{}\r\n0\r\nxy\r\n\r\n"),
        ("a trailer with a space before the colon", "2\r\n{}\r\n0\r\nx : y\r\n\r\n"),
        ("a trailer with a zero byte", "2\r\n{}\r\n0\r\nx: \0\r\n\r\n"),
        ("a folded trailer", "2\r\n{}\r\n0\r\nx: y\r\n z\r\n\r\n"),
    ] {
        cases.push(case(what, chunked(&and_smuggled(rest)), &[BAD], Closed));
    }
    for (what, rest) in [
        ("a huge extension", format!("2;{long}\r\n{{}}\r\n0\r\n\r\n")),
        ("a huge trailer", format!("2\r\n{{}}\r\n0\r\nx: {long}\r\n\r\n")),
        ("many trailers", format!("2\r\n{{}}\r\n0\r\n{}\r\n", "x: y\r\n".repeat(2_000))),
    ] {
        cases.push(case(what, chunked(&rest), &[BAD], Closed));
    }
    // Whether so many zeros are still a number may be seen in two ways; where the body ends may not.
    cases.push(case(
        "twenty thousand zeros",
        chunked(&format!("{zeros}2\r\n{{}}\r\n0\r\n\r\n")),
        &[&[200, 400]],
        Either,
    ));
    run(cases).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_in_a_row_are_answered_in_a_row() {
    const LIVE: &str = "GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n";
    let with_body = |request: &str| {
        format!("{request} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{SMUGGLED}", SMUGGLED.len())
    };
    let smuggled_in = |request: &str| {
        format!(
            "{request} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{SMUGGLED}\r\n0\r\n\r\n",
            SMUGGLED.len()
        )
    };
    let good: &[u16] = &[200];
    run(vec![
        case("two", LIVE.repeat(2), &[good, good], Open),
        case("a hundred", LIVE.repeat(100), &[good; 100], Open),
        case("empty lines between", format!("\r\n\r\n{LIVE}\r\n{LIVE}"), &[good, good], Open),
        case("a write and a read", put("content-length: 2", &format!("{{}}{LIVE}")), &[OK, good], Open),
        case(
            "the last one said",
            LIVE.replace("\r\n\r\n", "\r\nconnection: close\r\n\r\n") + SMUGGLED,
            &[good],
            Closed,
        ),
        case(
            "close among others",
            LIVE.replace("\r\n\r\n", "\r\nconnection: x, Close\r\n\r\n") + SMUGGLED,
            &[good],
            Closed,
        ),
        case(
            "close and keep",
            LIVE.replace("\r\n\r\n", "\r\nconnection: close\r\nconnection: keep-alive\r\n\r\n") + SMUGGLED,
            &[good],
            Closed,
        ),
        case("HTTP/1.0", LIVE.replace("1.1", "1.0") + SMUGGLED, &[good], Closed),
        case(
            "HTTP/1.0 that goes on",
            LIVE.replace("1.1\r\n", "1.0\r\nconnection: keep-alive\r\n"),
            &[good],
            Open,
        ),
        case("a bad one behind a good one", format!("{LIVE}GET\r\n\r\n"), &[good, BAD], Closed),
        case("a read with a body", with_body("GET /health"), &[good], Either),
        case("a read with a chunked body", smuggled_in("GET /health"), &[good], Either),
        case("a discovery with a body", with_body("GET /discover/known"), &[good], Either),
        case("a discovery with a chunked body", smuggled_in("GET /discover/known"), &[good], Either),
        case("a deletion of nothing with a body", with_body("DELETE /nowhere"), &[&[404]], Either),
        case("a deletion with a body", with_body("DELETE /api/v1/services"), &[&[405]], Either),
        case("a body for nobody", with_body("POST /nowhere"), &[&[404]], Either),
        case("a chunked body for nobody", smuggled_in("POST /nowhere"), &[&[404]], Either),
        case("a body without a type", with_body("PUT /api/v1/config/x"), &[&[415]], Either),
        case("a body for a broken path", with_body("POST /%ff"), &[BAD], Either),
        case("a body for options", with_body("OPTIONS /health"), &[&[405]], Either),
        case("a body for a trace", with_body("TRACE /health"), &[&[405]], Either),
    ])
    .await;
}
