//! The body of a request: its type, its size and its JSON, each refused in words that help.

use std::{sync::Arc, time::Duration};

use axum::{
    body::{Body, Bytes, HttpBody as _},
    extract::{FromRequest, Request},
    http::{
        HeaderMap, HeaderValue, StatusCode,
        header::{CONNECTION, CONTENT_ENCODING, CONTENT_TYPE, TRANSFER_ENCODING},
    },
};
use futures_util::FutureExt as _;
use http_body_util::BodyExt as _;
use serde_json::Value;
use tokio::time::{Instant, timeout};

use super::{admission::Place, problem::Problem};
use crate::{app::Caller, settings::Pace};

/// Types that a JSON body may be sent as.
pub const JSON: &[&str] = &["application/json"];
pub const MERGE_PATCH: &[&str] = &["application/merge-patch+json", "application/json"];

/// The largest body of a single thing, and of many at once.
pub const ONE: usize = 1024 * 1024;
pub const MANY: usize = 16 * ONE;

/// How much of a body that is too large is read and thrown away.
const READ_TO_SPARE: usize = 4 * ONE;

/// How deep JSON may be nested. What is read here is walked by recursion, here and wherever it comes back.
const DEEPEST: usize = 32;

/// What was sent, unread.
pub struct Sent {
    headers: HeaderMap,
    body: Body,
    pace: Pace,
    place: Option<Arc<Place>>,
}

impl<S: Sync> FromRequest<S> for Sent {
    type Rejection = std::convert::Infallible;

    async fn from_request(request: Request, _: &S) -> Result<Self, Self::Rejection> {
        let (parts, body) = request.into_parts();
        // The listener says how fast it must come.
        let pace = parts.extensions.get().copied().unwrap_or_default();
        let place = parts.extensions.get().cloned();
        Ok(Self { headers: parts.headers, body, pace, place })
    }
}

impl Sent {
    /// The JSON in a body of at most `largest` bytes. The caller's idempotency key stands for it too.
    pub async fn json(self, caller: &mut Caller, types: &[&str], largest: usize) -> Result<Value, Problem> {
        let body = self.bytes(types, largest).await?;
        caller.cover(&body);
        parse(&body)
    }

    /// The same where an empty body, or null, is as good as none.
    pub async fn json_if_any(self, types: &[&str], largest: usize) -> Result<Option<Value>, Problem> {
        let body = self.bytes(types, largest).await?;
        if body.is_empty() {
            Ok(None)
        } else {
            parse(&body).map(|value| Some(value).filter(|value| !value.is_null()))
        }
    }

    /// JSON as the text that was sent: it is whole and not too deep.
    pub async fn json_text(
        self,
        caller: &mut Caller,
        types: &[&str],
        largest: usize,
    ) -> Result<String, Problem> {
        let body = self.bytes(types, largest).await?;
        caller.cover(&body);
        refuse_depth(&body)?;
        let text = str::from_utf8(&body)
            .map_err(|error| Problem::malformed_json(format!("the body is not UTF-8: {error}")))?;
        serde_json::from_str::<Value>(text).map_err(|error| malformed(&error))?;
        Ok(text.to_owned())
    }

    async fn bytes(self, types: &[&str], largest: usize) -> Result<Bytes, Problem> {
        let given =
            self.headers.get(CONTENT_TYPE).map(|value| is_one_of(types, value.to_str().unwrap_or("")));
        if given == Some(false) {
            return Err(unsupported(types));
        }
        // Of all codings only chunks are undone on the way here.
        let all_are = |name, known: &[u8]| {
            let mut codings = self.headers.get_all(name).iter();
            codings.all(|coding| coding.as_bytes().eq_ignore_ascii_case(known))
        };
        if !all_are(CONTENT_ENCODING, b"identity") || !all_are(TRANSFER_ENCODING, b"chunked") {
            return Err(Problem::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported_media_type",
                "send the body without a Content-Encoding, and with no Transfer-Encoding but chunked",
            ));
        }
        let body = gather(self.body, largest, self.pace, self.place.as_deref()).await?;
        if given.is_none() && !body.is_empty() {
            return Err(unsupported(types));
        }
        Ok(body)
    }
}

fn is_one_of(types: &[&str], content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    types.iter().any(|known| known.eq_ignore_ascii_case(essence))
}

fn unsupported(types: &[&str]) -> Problem {
    Problem::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "unsupported_media_type",
        format!("send the body with Content-Type: {}", types.join(" or ")),
    )
}

/// The whole body. One that is too large is read to its end all the same, within reason: a client that is still
/// sending when the connection closes never sees the answer.
///
/// While it is waited for, its request takes nobody's place: a place is for what the server has to do.
async fn gather(mut body: Body, largest: usize, pace: Pace, place: Option<&Place>) -> Result<Bytes, Problem> {
    let declared = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if declared > largest + READ_TO_SPARE {
        return Err(too_large(largest));
    }
    // no room is made on the client's word that it is going to send so much
    let (mut whole, mut gathered) = (None, Vec::new());
    let (mut received, mut owed) = (0, Duration::ZERO);
    loop {
        // There is no clock where there is nothing to wait for.
        let (frame, waited) = match body.frame().now_or_never() {
            Some(frame) => (frame, Duration::ZERO),
            None => {
                place.inspect(|place| place.leave());
                let since = Instant::now();
                let frame = timeout(pace.left(owed), body.frame()).await.map_err(|_| too_slow(pace))?;
                (frame, since.elapsed())
            }
        };
        let Some(frame) = frame else { break };
        let Ok(data) = frame.map_err(|_| incomplete())?.into_data() else { continue };
        received += data.len();
        owed = pace.owed(owed, waited, data.len());
        if received == data.len() && received <= largest && body.is_end_stream() {
            // as nearly always, it has come in one piece
            whole = Some(data);
        } else if received <= largest {
            gathered.extend_from_slice(&data);
        } else if received > largest + READ_TO_SPARE {
            break;
        }
    }
    if received > largest {
        return Err(too_large(largest));
    }
    if place.is_none_or(Place::come_back) {
        Ok(whole.unwrap_or_else(|| gathered.into()))
    } else {
        Err(Problem::overloaded())
    }
}

fn too_large(largest: usize) -> Problem {
    Problem::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "body_too_large",
        format!("the body may have at most {largest} bytes"),
    )
}

/// The rest of the body is not waited for, so the connection cannot be used again.
fn too_slow(pace: Pace) -> Problem {
    let Pace { grace, bytes_per_second } = pace;
    let detail =
        format!("the body came at less than {bytes_per_second} bytes a second for {} s", grace.as_secs());
    Problem::new(StatusCode::REQUEST_TIMEOUT, "request_timeout", detail)
        .with_header(CONNECTION, HeaderValue::from_static("close"))
}

fn incomplete() -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "incomplete_body", "the body ended before it was whole")
}

fn parse(body: &[u8]) -> Result<Value, Problem> {
    refuse_depth(body)?;
    serde_json::from_slice(body).map_err(|error| malformed(&error))
}

fn malformed(error: &serde_json::Error) -> Problem {
    // the message ends in the line and the column
    Problem::malformed_json(format!("the body is not JSON: {error}"))
}

fn refuse_depth(body: &[u8]) -> Result<(), Problem> {
    let (mut depth, mut in_text, mut escaped) = (0_usize, false, false);
    let (mut line, mut column) = (1_usize, 0_usize);
    for byte in body {
        column += 1;
        match byte {
            b'\n' => (line, column) = (line + 1, 0),
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b'{' | b'[' if !in_text => depth += 1,
            b'}' | b']' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > DEEPEST {
            return Err(Problem::malformed_json(format!(
                "the JSON is nested more than {DEEPEST} levels deep at line {line} column {column}"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderValue, header};
    use futures_util::StreamExt as _;

    use super::*;

    fn sent(content_type: Option<&'static str>, body: &str) -> Sent {
        let mut headers = HeaderMap::new();
        if let Some(text) = content_type {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(text));
        }
        Sent { headers, body: Body::from(body.to_owned()), pace: Pace::default(), place: None }
    }

    fn detail(problem: &Problem) -> String {
        let body = serde_json::to_value(problem.body("", "")).unwrap();
        format!("{} {}", body["status"], body["detail"].as_str().unwrap())
    }

    #[tokio::test]
    async fn a_body_needs_its_type() {
        for (content_type, body, good) in [
            (Some("application/json"), "{}", true),
            (Some("Application/JSON; charset=utf-8"), "{}", true),
            (Some("text/plain"), "{}", false),
            (Some("application/x-www-form-urlencoded"), "", false),
            (None, "{}", false),
            (None, "", true),
        ] {
            let read = sent(content_type, body).json_if_any(JSON, ONE).await;
            match read {
                Ok(_) => assert!(good, "{content_type:?}"),
                Err(problem) => {
                    assert!(
                        !good && problem.status() == StatusCode::UNSUPPORTED_MEDIA_TYPE,
                        "{content_type:?}"
                    );
                }
            }
        }
        assert!(sent(Some("application/merge-patch+json"), "{}").json_if_any(MERGE_PATCH, ONE).await.is_ok());
        assert!(sent(Some("application/merge-patch+json"), "{}").json_if_any(JSON, ONE).await.is_err());
    }

    #[tokio::test]
    async fn a_body_has_a_largest_size() {
        let body = format!("\"{}\"", "x".repeat(98));
        assert!(sent(Some("application/json"), &body).json_if_any(JSON, 100).await.is_ok());
        let problem = sent(Some("application/json"), &body).json_if_any(JSON, 99).await.unwrap_err();
        assert_eq!(problem.status(), StatusCode::PAYLOAD_TOO_LARGE);
        let huge = "x".repeat(5 * ONE);
        let problem = sent(Some("application/json"), &huge).json_if_any(JSON, 99).await.unwrap_err();
        assert_eq!(problem.status(), StatusCode::PAYLOAD_TOO_LARGE);
    }

    /// A body of so many frames of so many bytes, each of which is there after so many seconds.
    async fn paced(frames: &[(u64, usize)]) -> Result<Bytes, Problem> {
        let frames = futures_util::stream::iter(frames.to_vec()).then(async |(after, bytes)| {
            tokio::time::sleep(Duration::from_secs(after)).await;
            Ok::<_, std::convert::Infallible>(vec![b' '; bytes])
        });
        gather(Body::from_stream(frames), ONE, Pace::default(), None).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_must_go_on_coming() {
        for (frames, good) in [
            (&[(9, 10)][..], true),
            (&[(11, 10)], false),
            // A byte at a time is no progress.
            (&[(1, 1); 9], true),
            (&[(1, 1); 11], false),
            // Slow, but not too slow.
            (&[(9, 9 * 1024); 20], true),
            (&[(2, 1024); 20], false),
            // Who was fast at first may not be silent for the longer afterwards.
            (&[(0, 512 * 1024), (11, 1)], false),
        ] {
            let read = paced(frames).await;
            assert_eq!(read.is_ok(), good, "{frames:?}");
            if let Err(problem) = read {
                assert_eq!(problem.status(), StatusCode::REQUEST_TIMEOUT);
            }
        }
    }

    #[tokio::test]
    async fn no_coding_but_chunks_is_undone() {
        for (codings, good) in [
            (&["chunked"][..], true),
            (&["Chunked"], true),
            (&["gzip, chunked"], false),
            (&["gzip", "chunked"], false),
        ] {
            let mut sent = sent(Some("application/json"), "{}");
            for coding in codings {
                sent.headers.append(TRANSFER_ENCODING, HeaderValue::from_static(coding));
            }
            assert_eq!(sent.json_if_any(JSON, ONE).await.is_ok(), good, "{codings:?}");
        }
    }

    #[tokio::test]
    async fn broken_json_is_told_with_its_place() {
        for (body, told) in [
            ("{\n \"a\": }", "line 2 column 7"),
            ("", "EOF"),
            ("{} {}", "line 1 column 4"),
            ("\"\\ud800\"", "line 1"),
        ] {
            for problem in [
                sent(Some("application/json"), body)
                    .json(&mut Caller::checker(), JSON, ONE)
                    .await
                    .unwrap_err(),
                sent(Some("application/json"), body)
                    .json_text(&mut Caller::checker(), JSON, ONE)
                    .await
                    .unwrap_err(),
            ] {
                assert!(detail(&problem).starts_with("400 "), "{body}");
                assert!(detail(&problem).contains(told), "{}", detail(&problem));
            }
        }
    }

    #[test]
    fn json_may_be_so_deep_and_no_deeper() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(parse(nested(32).as_bytes()).is_ok());
        let problem = parse(format!("\n{}", nested(33)).as_bytes()).unwrap_err();
        assert!(detail(&problem).ends_with("at line 2 column 33"), "{}", detail(&problem));
        assert!(parse(nested(100_000).as_bytes()).is_err());
        let brackets_in_text = format!("[\"\\\"{}\"]", "[".repeat(50));
        assert!(parse(brackets_in_text.as_bytes()).is_ok());
        let siblings = format!("[{}{{}}]", "[[]],".repeat(100));
        assert!(parse(siblings.as_bytes()).is_ok());
    }
}
