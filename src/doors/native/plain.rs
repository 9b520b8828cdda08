//! The plain requests as they come off the wire, answered in the bytes that go onto it.
//!
//! Most of what a library does for a request serves requests that are not plain: it is half of what a look costs. Whatever has
//! anything about it that is not expected here is left to the library, which gives the same answer or says what is wrong.
//! Invariant: what is taken for a request here has no body, and ends where the library would see its end.

use std::{
    cell::RefCell,
    fmt::Write as _,
    mem::MaybeUninit,
    time::{Instant, SystemTime},
};

use bytes::{BufMut as _, Bytes};
use httparse::{ParserConfig, Request, Status};
use httpdate::HttpDate;

use super::front::{Asked, Found, Front, Read, Verb};
use crate::{
    app::Credential,
    clock,
    doors::kit::{Peer, is_in_a_host, request_id, values::put_number},
};

const MOST_HEADERS: usize = 32;
/// For so long the clock is not looked at again.
const DATE_LASTS_MS: u128 = 100;
/// A body up to this length is put behind its head: to own it would cost more.
const SHORT: usize = 8 * 1024;

impl Front {
    /// Answers the first of the requests that were read: gives its length, and what follows upon what is put here.
    pub fn plainly(&self, input: &[u8], peer: &Peer, answer: &mut Vec<u8>) -> Option<(usize, Bytes)> {
        let (said, length) = read(input)?;
        let shown =
            Credential { authorization: said.authorization, certificate: peer.certificate.as_deref() };
        let asked = Asked { verb: said.verb, path: said.path, shown };
        let rest = match self.look(&asked, peer, |found| self.put(found, answer)) {
            Some(rest) => rest,
            // before that who asks may not have been known here
            None if self.gets_to_know(shown, peer) => {
                self.look(&asked, peer, |found| self.put(found, answer))?
            }
            None => return None,
        };
        Some((length, rest))
    }

    /// Puts the answer here, but for a long body.
    fn put(&self, found: Found<'_>, answer: &mut Vec<u8>) -> Bytes {
        let Found { body, revision, service } = found;
        match service {
            Some(Read { revision, age_ms }) => {
                answer.put_slice(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\netag: \"");
                put_number(answer, revision);
                answer.put_slice(b"\"\r\nx-rollcall-age: ");
                put_number(answer, age_ms.cast_signed());
                answer.put_slice(b"\r\ncontent-length: ");
                put_number(answer, i64::try_from(body.len()).unwrap_or(i64::MAX));
            }
            None => answer.put_slice(b"HTTP/1.1 204 No Content"),
        }
        answer.put_slice(b"\r\nx-rollcall-revision: ");
        put_number(answer, revision);
        answer.put_slice(b"\r\nx-request-id: ");
        request_id::put_new(answer);
        answer.put_slice(b"\r\n");
        let (security, cors) = self.terms();
        security.put_lines(answer);
        if cors {
            answer.put_slice(b"vary: origin\r\n");
        }
        put_date(answer);
        answer.put_slice(b"\r\n");
        if body.len() > SHORT {
            return body.clone();
        }
        answer.put_slice(body);
        Bytes::new()
    }
}

/// A plain request: no body, no condition, no wish as to the connection, and nothing that is to be handed on.
#[derive(Debug, PartialEq)]
struct Said<'b> {
    verb: Verb,
    path: &'b str,
    authorization: Option<&'b [u8]>,
}

/// The request at the beginning, and its length. None where it is not plain, or not whole.
fn read(input: &[u8]) -> Option<(Said<'_>, usize)> {
    let mut space = [const { MaybeUninit::uninit() }; MOST_HEADERS];
    let mut request = Request::new(&mut []);
    let parsed =
        ParserConfig::default().parse_request_with_uninit_headers(&mut request, input, &mut space).ok()?;
    let (Status::Complete(length), Some(1), Some(path)) = (parsed, request.version, request.path) else {
        return None;
    };
    let verb = Verb::of(request.method?.as_bytes())?;
    let is_plain =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'-' | b'_' | b'.' | b'~');
    if !path.starts_with('/') || !path.bytes().all(is_plain) {
        return None;
    }
    let (mut hosts, mut authorization) = (0, None);
    for header in request.headers.iter() {
        match Means::by(header.name) {
            Means::Nothing => {}
            Means::Host if header.value.iter().copied().all(is_in_a_host) => hosts += 1,
            Means::Authorization if authorization.is_none() => authorization = Some(header.value),
            Means::Length if header.value == b"0" && verb == Verb::Post => {}
            Means::Connection if header.value.eq_ignore_ascii_case(b"keep-alive") => {}
            _ => return None,
        }
    }
    (hosts == 1).then_some((Said { verb, path, authorization }, length))
}

/// What a header means to whoever answers.
enum Means {
    Nothing,
    Host,
    Authorization,
    Length,
    Connection,
    /// Something that is not plain.
    More,
}

impl Means {
    fn by(name: &str) -> Self {
        const MORE: [&str; 16] = [
            "expect",
            "forwarded",
            "http2-settings",
            "if-match",
            "if-modified-since",
            "if-none-match",
            "if-unmodified-since",
            "keep-alive",
            "origin",
            "proxy-connection",
            "te",
            "traceparent",
            "trailer",
            "transfer-encoding",
            "upgrade",
            "x-request-id",
        ];
        let is = |other: &str| name.eq_ignore_ascii_case(other);
        match name.len() {
            4 if is("host") => Self::Host,
            10 if is("connection") => Self::Connection,
            13 if is("authorization") => Self::Authorization,
            14 if is("content-length") => Self::Length,
            _ if MORE.into_iter().any(is) => Self::More,
            _ => Self::Nothing,
        }
    }
}

/// The date, which all answers of a tenth of a second share.
fn put_date(head: &mut Vec<u8>) {
    thread_local! {
        static LAST: RefCell<(Option<Instant>, String)> = const { RefCell::new((None, String::new())) };
    }
    LAST.with_borrow_mut(|(written, text)| {
        if written.is_none_or(|at| at.elapsed().as_millis() >= DATE_LASTS_MS) {
            *written = Some(Instant::now());
            text.clear();
            // a String takes all that it is given
            let _always = write!(text, "date: {}\r\n", HttpDate::from(SystemTime::from(clock::now())));
        }
        head.put_slice(text.as_bytes());
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Option<(Verb, String, Option<String>, usize)> {
        let (said, length) = read(text.as_bytes())?;
        let authorization = said.authorization.map(|value| String::from_utf8_lossy(value).into_owned());
        Some((said.verb, said.path.to_owned(), authorization, length))
    }

    #[test]
    fn a_plain_request_is_understood() {
        let get = "GET /discover/shop HTTP/1.1\r\n";
        for (rest, authorization) in [
            ("Host: a:8081\r\n\r\n", None),
            ("host: [::1]\r\nAccept: */*\r\nUser-Agent: curl/8\r\n\r\n", None),
            ("HOST: a\r\nConnection: Keep-Alive\r\nX-Anything: else\r\n\r\n", None),
            ("Host: a\r\nAuthorization: Bearer b\r\n\r\n", Some("Bearer b")),
        ] {
            let text = format!("{get}{rest}");
            let path = "/discover/shop".to_owned();
            let said = (Verb::Get, path, authorization.map(str::to_owned), text.len());
            assert_eq!(read_text(&text), Some(said.clone()), "{text}");
            // whatever comes after it is another request
            assert_eq!(read_text(&format!("{text}GET / HT")), Some(said));
        }
        for length in ["", "Content-Length: 0\r\n"] {
            let text = format!("POST /api/v1/services/1/heartbeat HTTP/1.1\r\nHost: a\r\n{length}\r\n");
            assert_eq!(read_text(&text).map(|said| (said.0, said.3)), Some((Verb::Post, text.len())));
        }
    }

    #[test]
    fn whatever_is_not_plain_is_left_to_the_library() {
        let all = |text: &str| {
            assert_eq!(read_text(text), None, "{text}");
        };
        for line in [
            "GET /discover/shop HTTP/1.0",
            "GET /discover/shop HTTP/2.0",
            "PRI * HTTP/2.0",
            "HEAD /discover/shop HTTP/1.1",
            "PUT /discover/shop HTTP/1.1",
            "get /discover/shop HTTP/1.1",
            "GET /discover/shop?tag=a HTTP/1.1",
            "GET /discover/sh%6fp HTTP/1.1",
            "GET /discover/shop#a HTTP/1.1",
            "GET http://a/discover/shop HTTP/1.1",
            "GET * HTTP/1.1",
            "GET /discover/sh\u{f6}p HTTP/1.1",
            "GET  /discover/shop HTTP/1.1",
            "GET /discover/shop",
        ] {
            all(&format!("{line}\r\nHost: a\r\n\r\n"));
        }
        for headers in [
            "",
            "Host: a\r\nHost: a\r\n",
            "Host: a/b\r\n",
            "Host: a\r\nContent-Length: 0\r\n",
            "Host: a\r\nContent-Length: 5\r\n",
            "Host: a\r\nTransfer-Encoding: chunked\r\n",
            "Host: a\r\nTransfer-Encoding : chunked\r\n",
            "Host: a\r\nConnection: close\r\n",
            "Host: a\r\nConnection: keep-alive, upgrade\r\n",
            "Host: a\r\nUpgrade: h2c\r\n",
            "Host: a\r\nExpect: 100-continue\r\n",
            "Host: a\r\nIf-None-Match: \"1\"\r\n",
            "Host: a\r\nOrigin: https://b\r\n",
            "Host: a\r\nX-Request-Id: 1\r\n",
            "Host: a\r\ntraceparent: 00-1\r\n",
            "Host: a\r\nAuthorization: Bearer b\r\nAuthorization: Bearer c\r\n",
            "Host: a\r\n folded: b\r\n",
            "Host: a\r\nno header\r\n",
            "Host: a\r\nname: b\0\r\n",
        ] {
            all(&format!("GET /discover/shop HTTP/1.1\r\n{headers}\r\n"));
        }
        let post = |headers: &str| all(&format!("POST /a HTTP/1.1\r\nHost: a\r\n{headers}\r\n\r\n"));
        ["Content-Length: 1", "Content-Length: 00", "Content-Length: +0"].into_iter().for_each(post);
        let many = "X-A: b\r\n".repeat(MOST_HEADERS);
        all(&format!("GET /discover/shop HTTP/1.1\r\nHost: a\r\n{many}\r\n"));
        let whole = "GET /discover/shop HTTP/1.1\r\nHost: a\r\n\r\n";
        (0..whole.len()).for_each(|end| all(&whole[..end]));
    }

    #[test]
    fn the_date_is_as_others_write_it() {
        let mut head = Vec::new();
        put_date(&mut head);
        let text = String::from_utf8(head).unwrap();
        let date = text.strip_prefix("date: ").and_then(|text| text.strip_suffix("\r\n")).unwrap();
        let told = httpdate::parse_http_date(date).unwrap();
        let off = SystemTime::from(clock::now()).duration_since(told).unwrap_or_default();
        assert!(off.as_secs() < 5, "{text}");
    }
}
