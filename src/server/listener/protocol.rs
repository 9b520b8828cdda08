//! What of HTTP is spoken, and how much of it may be said at once.

use std::{convert::Infallible, future::ready, sync::Arc};

use futures_util::future::Either;
use http_body_util::Full;
use hyper::{
    Request, StatusCode, Version,
    body::{Body as _, Incoming},
    header::{CONNECTION, HOST, HeaderValue},
    rt::Executor,
    server::conn::http1,
    service::{Service, service_fn},
};
use hyper_util::{rt::TokioTimer, server::conn::auto};
use tokio_util::task::TaskTracker;

use super::watched::Pulse;
use crate::{
    doors::{
        kit::{Peer, is_in_a_host},
        native::{Answer, Front},
    },
    settings::{Limits, Pace},
};

/// The head of a request, its target included; a longer one is 431. It bounds what is read ahead of a body too.
const LARGEST_HEAD: usize = 64 * 1024;
/// The same where heads are compressed.
const LARGEST_HEADER_LIST: u32 = 16 * 1024;
const STREAMS: u32 = 128;
/// How much a client may send ahead of its being read: on one stream, and on all of a connection.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 512 * 1024;
const LARGEST_FRAME: u32 = 16 * 1024;
/// Streams that a client opened and took back before they were looked at: beyond that the connection ends.
const TAKEN_BACK: usize = 32;
/// Streams that were reset for a client's errors: beyond that the connection ends.
const FAULTY: usize = 128;

/// What every HTTP/2 connection begins with.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What speaks HTTP with whoever connects.
pub struct Speakers {
    pub one: http1::Builder,
    /// For connections that may be HTTP/2. They are larger, even where they turn out not to be.
    pub either: auto::Builder<Streams>,
}

impl Speakers {
    pub fn within(limits: &Limits, streams: TaskTracker) -> Self {
        let mut one = http1::Builder::new();
        // `Watched` has the deadlines: hyper's own costs an allocation a request. Who has nothing more to say may still
        // want to hear the answer.
        one.header_read_timeout(None).max_buf_size(LARGEST_HEAD).half_close(true);
        let mut either = auto::Builder::new(Streams(streams));
        either.http1().header_read_timeout(None).max_buf_size(LARGEST_HEAD).half_close(true);
        either
            .http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(limits.ping_every)
            .keep_alive_timeout(limits.ping_within)
            .max_concurrent_streams(STREAMS)
            .max_header_list_size(LARGEST_HEADER_LIST)
            .max_pending_accept_reset_streams(TAKEN_BACK)
            .max_local_error_reset_streams(FAULTY)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(LARGEST_FRAME);
        Self { one, either }
    }
}

/// Whether what begins like this may be HTTP/2.
pub fn may_be_two(read: &[u8]) -> bool {
    read.starts_with(PREFACE) || PREFACE.starts_with(read)
}

/// The requests of an HTTP/2 connection as tasks that are waited for.
#[derive(Clone)]
pub struct Streams(TaskTracker);

impl<F> Executor<F> for Streams
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        self.0.spawn(stream);
    }
}

/// What answers the requests of a connection, and tells its pulse of them.
pub fn service(
    front: Front,
    peer: Arc<Peer>,
    pulse: Arc<Pulse>,
    body: Pace,
) -> impl Service<Request<Incoming>, Response = Answer, Error = Infallible, Future: Send + 'static> + Send + 'static
{
    service_fn(move |mut request: Request<Incoming>| {
        let multiplexed = request.version() == Version::HTTP_2;
        let at_once = match has_one_host(&request) {
            false => Some(no_http()),
            true if request.body().is_end_stream() => front.at_once(&request, &peer),
            true => {
                request.extensions_mut().insert(body);
                None
            }
        };
        if let Some(answer) = at_once {
            pulse.answer_at_once(multiplexed);
            return Either::Left(ready(Ok(answer)));
        }
        let (at_work, front, peer) = (Pulse::begin(&pulse, multiplexed), front.clone(), peer.clone());
        // boxed, so that what is answered at once does not carry its weight around
        Either::Right(Box::pin(async move {
            let _at_work = at_work;
            Ok(front.answer(request, peer).await)
        }))
    })
}

/// RFC 9112, section 3.2: whoever stands between may have taken another one of two hosts for the true one.
fn has_one_host<B>(request: &Request<B>) -> bool {
    let mut hosts = request.headers().get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) => request.version() != Version::HTTP_11,
        (Some(host), None) => host.as_bytes().iter().copied().all(is_in_a_host),
        (Some(_), Some(_)) => false,
    }
}

/// As bare as what hyper answers to whatever else is no HTTP.
fn no_http() -> Answer {
    let mut response = Answer::new(http_body_util::Either::Left(Full::default()));
    *response.status_mut() = StatusCode::BAD_REQUEST;
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_names_one_host() {
        for (version, hosts, good) in [
            (Version::HTTP_11, &["a"][..], true),
            (Version::HTTP_11, &["a-b.example:8081"], true),
            (Version::HTTP_11, &["[::1]:8081"], true),
            (Version::HTTP_11, &["my_service"], true),
            (Version::HTTP_11, &[""], true),
            (Version::HTTP_11, &[], false),
            (Version::HTTP_11, &["a", "a"], false),
            (Version::HTTP_11, &["a, b"], false),
            (Version::HTTP_11, &["user@a"], false),
            (Version::HTTP_11, &["a/b"], false),
            (Version::HTTP_10, &[], true),
            (Version::HTTP_10, &["a", "b"], false),
            (Version::HTTP_2, &[], true),
        ] {
            let mut request = Request::builder().version(version);
            for host in hosts {
                request = request.header(HOST, *host);
            }
            assert_eq!(has_one_host(&request.body(()).unwrap()), good, "{version:?} {hosts:?}");
        }
    }
}
