use serde_json::json;

use super::*;

fn ask(method: Method, reads_body: bool) -> HttpAsk {
    let expect = if reads_body { json!({"json": {"status": "up"}}) } else { json!({}) };
    let method = method.as_str();
    serde_json::from_value(json!({"path": "/", "method": method, "expect": expect})).unwrap()
}

/// What comes of these pieces, and of the end of the connection after them.
fn read<'p>(ask: &HttpAsk, pieces: impl IntoIterator<Item = &'p [u8]>) -> Result<Answer, String> {
    let mut reader = Reader::new(ask);
    for piece in pieces {
        if let Some(answer) = reader.take(piece)? {
            return Ok(answer);
        }
    }
    reader.end()
}

/// Read as a whole, byte by byte, and parted in two at each place, it comes to the same.
fn read_in_all_ways(ask: &HttpAsk, said: &[u8]) -> Result<Answer, String> {
    let whole = read(ask, [said]);
    let mut ways = vec![read(ask, said.chunks(1))];
    ways.extend((1..said.len()).map(|at| read(ask, [&said[..at], &said[at..]])));
    for way in ways {
        // what is said beyond the end may not have come yet
        let without_rest = |read: &Result<Answer, String>| match read {
            Ok(answer) => Ok((answer.status, answer.body.clone())),
            Err(error) => Err(error.clone()),
        };
        assert_eq!(without_rest(&way), without_rest(&whole), "{:?}", String::from_utf8_lossy(said));
    }
    whole
}

const OK: &str = "HTTP/1.1 200 OK\r\n";

#[test]
fn an_answer_ends_where_it_says() {
    let cases: [(&str, &str, bool); 17] = [
        ("Content-Length: 2\r\n\r\nok", "ok", true),
        ("content-length:2\r\nContent-Length: 2 \r\n\r\nok", "ok", true),
        ("Content-Length: 0\r\n\r\n", "", true),
        ("Content-Length: 2\r\n\r\nokHTTP/1.1 408", "ok", false),
        ("Content-Length: 2\r\nConnection: Close\r\n\r\nok", "ok", false),
        ("Content-Length: 2\r\nConnection: keep-alive, close\r\n\r\nok", "ok", false),
        ("Content-Length: 2\r\nConnection: keep-alive\r\n\r\nok", "ok", true),
        ("Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", "ok", true),
        ("Transfer-Encoding: Chunked\r\n\r\n1;a=b\r\no\r\n01\r\nk\r\n0\r\n\r\n", "ok", true),
        ("Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nSum: 1\r\nTime: 2\r\n\r\n", "ok", true),
        ("Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "", true),
        ("Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nmore", "", false),
        // it may have been put there by somebody between us
        ("Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n2\r\nok\r\n0\r\n\r\n", "ok", false),
        ("Transfer-Encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", "ok", true),
        ("Transfer-Encoding: chunked, gzip\r\n\r\nok", "ok", false),
        ("\r\nok", "ok", false),
        ("\r\n", "", false),
    ];
    for (said, body, leaves_open) in cases {
        let said = format!("{OK}{said}");
        let answer = Answer { status: 200, body: body.into(), leaves_open };
        assert_eq!(
            read_in_all_ways(&ask(Method::Get, true), said.as_bytes()),
            Ok(answer.clone()),
            "{said:?}"
        );
        // where nobody looks at the body
        let passed_over = Answer { body: Vec::new(), ..answer };
        assert_eq!(read_in_all_ways(&ask(Method::Get, false), said.as_bytes()), Ok(passed_over), "{said:?}");
    }
}

#[test]
fn some_answers_have_no_body_whatever_they_say() {
    let length = "Content-Length: 5\r\n\r\n";
    for (method, head, status, leaves_open) in [
        (Method::Head, OK, 200, true),
        (Method::Get, "HTTP/1.1 204 No Content\r\n", 204, true),
        (Method::Get, "HTTP/1.1 304 Not Modified\r\n", 304, true),
        (
            Method::Get,
            "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 100\r\n\r\nHTTP/1.1 204 \r\n",
            204,
            true,
        ),
        (Method::Get, "HTTP/1.1 101 Switching Protocols\r\n", 101, false),
        (Method::Get, "HTTP/1.0 204 No Content\r\n", 204, false),
        (Method::Get, "HTTP/1.0 204 No Content\r\nConnection: keep-alive\r\n", 204, true),
    ] {
        let answer = Answer { status, body: Vec::new(), leaves_open };
        let said = format!("{head}{length}");
        assert_eq!(read_in_all_ways(&ask(method, true), said.as_bytes()), Ok(answer), "{said:?}");
    }
}

#[test]
fn what_is_no_answer_is_refused_with_its_reason() {
    for (said, reason) in [
        ("SSH-2.0-none\r\n", "answered no HTTP: "),
        ("HTTP/2 200 OK\r\n\r\n", "answered no HTTP: "),
        ("HTTP/1.1 2000 OK\r\n\r\n", "answered no HTTP: "),
        ("HTTP/1.1 200 OK\r\nno header\r\n\r\n", "answered no HTTP: "),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok", "two lengths"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok", "no number"),
        ("HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok", "no number"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "cannot be told apart"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nokk\r\n", "does not end"),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nno trailer\r\n\r\n",
            "cannot be told apart",
        ),
        ("HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nok", "closed within the body"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n", "closed within the body"),
        ("HTTP/1.1 200 OK\r\nContent-", "closed within the head"),
        ("HTTP/1.1 100 Continue\r\n\r\n", "closed within the head"),
    ] {
        let refused = read_in_all_ways(&ask(Method::Get, true), said.as_bytes()).unwrap_err();
        assert!(refused.contains(reason), "{said:?}: {refused}");
    }
}

#[test]
fn an_odd_body_is_good_enough_where_nobody_looks_at_it() {
    let get = ask(Method::Get, false);
    let enough = Answer { status: 200, body: Vec::new(), leaves_open: false };
    let odd = format!("{OK}Transfer-Encoding: chunked\r\n\r\nzz\r\n");
    assert_eq!(read_in_all_ways(&get, odd.as_bytes()), Ok(enough.clone()));
    for said in ["Content-Length: 200\r\n\r\nok", "Transfer-Encoding: chunked\r\n\r\n5\r\nok"] {
        let mut reader = Reader::new(&get);
        assert!(reader.is_at_start());
        assert_eq!(reader.take(b"HTTP/1.1 2"), Ok(None));
        assert!(!reader.knows_enough() && !reader.is_at_start());
        assert_eq!(reader.take(format!("00 OK\r\n{said}").as_bytes()), Ok(None));
        assert!(reader.knows_enough());
        assert_eq!(reader.end(), Ok(enough.clone()));
    }
}

#[test]
fn nothing_is_read_without_end() {
    let long = |unit: &str| unit.repeat(MOST_TO_READ / unit.len() + 1);
    let endless = [
        (format!("{OK}X: {}", long("x")), "head is longer"),
        (format!("{OK}\r\n{}", long("x")), "body is longer"),
        (format!("{OK}Content-Length: 99999999\r\n\r\n{}", long("x")), "body is longer"),
        (format!("{OK}Transfer-Encoding: chunked\r\n\r\n{}", long("1\r\nx\r\n")), ""),
        (format!("{OK}Transfer-Encoding: chunked\r\n\r\n1;{}", long("x")), "body is longer"),
        (format!("{OK}Transfer-Encoding: chunked\r\n\r\n{}", long("1;a=b\r\nx\r\n").repeat(5)), "is longer"),
        (format!("{OK}Transfer-Encoding: chunked\r\n\r\n0\r\nX: {}", long("x")), "body is longer"),
    ];
    for (said, reason) in &endless {
        for piece in [1000, usize::MAX] {
            let pieces = || said.as_bytes().chunks(piece.min(said.len()));
            let read_whole = read(&ask(Method::Get, true), pieces());
            assert!(read_whole.is_err_and(|error| error.contains(reason)), "{reason}");
            // where nobody looks at it, a little is enough
            let get = ask(Method::Get, false);
            let mut reader = Reader::new(&get);
            let ended = pieces().position(|piece| !matches!(reader.take(piece), Ok(None)));
            let most = if reason.starts_with("head") { MOST_TO_READ } else { MOST_TO_PASS_OVER };
            assert!(
                ended.is_some_and(|pieces| pieces * piece.min(said.len()) <= most + 1000),
                "{reason} {ended:?}"
            );
        }
    }
}

#[test]
fn nothing_that_is_said_is_too_odd() {
    let seeds: [&[u8]; 3] = [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nA: b\r\n\r\n",
        b"HTTP/1.1 103 Hints\r\n\r\nHTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\nok",
    ];
    for seed in seeds {
        for at in 0..seed.len() {
            for byte in [0, b'\r', b'\n', b' ', b':', b'0', b'9', b'f', b';', 0x7f, 0xff] {
                let mut said = seed.to_vec();
                said[at] = byte;
                for reads_body in [false, true] {
                    // whatever it comes to, it comes to the same in all ways
                    let _either = read_in_all_ways(&ask(Method::Get, reads_body), &said);
                }
            }
        }
    }
}
