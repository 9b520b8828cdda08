//! Asks by HTTP. Redirects are not followed: a target answers for itself, and leads nowhere else.
//!
//! The connection belongs to the check and is kept for its next turn. It is driven by whoever asks, so that it needs no
//! task of its own and goes where the check goes.

use std::{
    pin::{Pin, pin},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use http::{
    HeaderName, HeaderValue, Request, StatusCode,
    header::{ACCEPT, HOST, USER_AGENT},
    request::Parts,
};
use http_body_util::{BodyExt as _, Empty};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use url::Url;

use super::{Line, Told, dial::Dialer, root_cause, tls::Trust};
use crate::domain::{Host, Seen, check::HttpAsk, expect::Judged};

/// How much of an answer is read where nothing in it matters, so that its connection can be kept.
const MOST_TO_PASS_OVER: usize = 16 * 1024;
/// How much is read of one that matters.
const MOST_TO_READ: usize = 64 * 1024;
/// An older connection is not used again: the name may lead elsewhere by now.
const KEEP_FOR: Duration = Duration::from_mins(5);
/// How long the rest of an answer is waited for that nobody looks at.
const PASS_OVER_WITHIN: Duration = Duration::from_millis(500);
const AGENT: &str = concat!("rollcall/", env!("CARGO_PKG_VERSION"));

type Driver = Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>;

pub(super) struct HttpLine {
    sender: http1::SendRequest<Empty<Bytes>>,
    driver: Driver,
    since: Instant,
    /// Its place among the connections that are kept.
    kept: Option<OwnedSemaphorePermit>,
}

impl HttpLine {
    /// The line, if there is a place for one more that is kept.
    pub fn keep(mut self, places: &Arc<Semaphore>) -> Option<Self> {
        if self.kept.is_none() {
            self.kept = places.clone().try_acquire_owned().ok();
        }
        self.kept.is_some().then_some(self)
    }
}

enum Trouble {
    /// Nobody was there.
    Unreachable(String),
    /// The connection was closed before an answer began, as targets do with those that nobody used for a while.
    Closed(String),
    Broken(String),
}

pub(super) async fn ask(
    dialer: &Dialer,
    trust: &Trust,
    ask: &HttpAsk,
    host: &Host,
    port: u16,
    line: &mut Line,
) -> Told {
    let prepared = match line.request.take() {
        Some(prepared) => prepared,
        None => match Prepared::of(ask, host, port) {
            Ok(prepared) => Box::new(prepared),
            Err(reason) => return Told::failing(reason),
        },
    };
    let kept = line.http.take().filter(|line| line.since.elapsed() < KEEP_FOR);
    let is_used = kept.is_some();
    let mut result = exchange(dialer, trust, ask, &prepared, kept).await;
    if let (true, Err(Trouble::Closed(_))) = (is_used, &result) {
        result = exchange(dialer, trust, ask, &prepared, None).await;
    }
    line.request = Some(prepared);
    match result {
        Ok((status, body, kept)) => {
            line.http = kept;
            let Judged { seen, output, load } = ask.expect.judge(status.as_u16(), &body);
            let output = match (seen, output) {
                (Seen::Failing | Seen::Warning, Some(output))
                    if output == format!("answered {}", status.as_u16()) =>
                {
                    Some(format!("answered {status}"))
                }
                (_, output) => output,
            };
            Told { seen, output, load, silent: false }
        }
        Err(Trouble::Unreachable(output) | Trouble::Closed(output)) => Told::silent(output),
        Err(Trouble::Broken(output)) => Told::failing(output),
    }
}

type Answer = (StatusCode, Bytes, Option<HttpLine>);

async fn exchange(
    dialer: &Dialer,
    trust: &Trust,
    ask: &HttpAsk,
    prepared: &Prepared,
    line: Option<HttpLine>,
) -> Result<Answer, Trouble> {
    let line = match line {
        Some(line) => line,
        // seldom, and large: what is kept open does not carry its weight around
        None => Box::pin(open(dialer, trust, ask, &prepared.url)).await?,
    };
    let request = prepared.request();
    let HttpLine { mut sender, mut driver, since, kept } = line;
    let (done, driver) = {
        let mut work = pin!(converse(&mut sender, request, ask));
        let done = tokio::select! {
            biased;
            done = &mut work => Some(done),
            _ended = driver.as_mut() => None,
        };
        match done {
            Some(done) => (done, Some(driver)),
            // What the target said before the end is there to be read. The driver has to go: whoever waits for it would
            // not learn that it has ended.
            None => {
                drop(driver);
                (work.await, None)
            }
        }
    };
    let (status, body, whole) = done?;
    let line = driver.filter(|_| whole && !sender.is_closed());
    Ok((status, body, line.map(|driver| HttpLine { sender, driver, since, kept })))
}

/// Sends the request and reads the answer as far as it matters. Says whether it was read to its end.
async fn converse(
    sender: &mut http1::SendRequest<Empty<Bytes>>,
    request: Request<Empty<Bytes>>,
    ask: &HttpAsk,
) -> Result<(StatusCode, Bytes, bool), Trouble> {
    let closed = |error: &hyper::Error| Trouble::Closed(root_cause(error));
    sender.ready().await.map_err(|error| closed(&error))?;
    let response = sender.send_request(request).await.map_err(|error| {
        let before_an_answer = error.is_canceled() || error.is_closed() || error.is_incomplete_message();
        if before_an_answer { closed(&error) } else { Trouble::Broken(root_cause(&error)) }
    })?;
    let status = response.status();
    if !ask.expect.needs_body(status.as_u16()) {
        // what nobody looks at is read only so that the connection can be kept
        let passed_over = read(response.into_body(), MOST_TO_PASS_OVER);
        let passed_over = tokio::time::timeout(PASS_OVER_WITHIN, passed_over).await;
        let whole = matches!(passed_over, Ok(Ok((_, true))));
        return Ok((status, Bytes::new(), whole));
    }
    match read(response.into_body(), MOST_TO_READ).await {
        Ok((body, true)) => Ok((status, body, true)),
        Ok((_, false)) => Err(Trouble::Broken(format!("the body is longer than {MOST_TO_READ} bytes"))),
        Err(error) => Err(Trouble::Broken(root_cause(&error))),
    }
}

async fn open(dialer: &Dialer, trust: &Trust, ask: &HttpAsk, url: &Url) -> Result<HttpLine, Trouble> {
    let host = url.host_str().unwrap_or_default();
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let port = url.port_or_known_default().unwrap_or(80);
    let stream = dialer.connect(bare, port).await.map_err(|error| Trouble::Unreachable(error.to_string()))?;
    if url.scheme() == "https" {
        let stream = trust.secure(stream, bare, ask.tls.as_ref(), b"http/1.1").await;
        greet(stream.map_err(Trouble::Broken)?).await
    } else {
        greet(stream).await
    }
}

async fn greet<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(stream: S) -> Result<HttpLine, Trouble> {
    let (sender, connection) = http1::Builder::new()
        .max_buf_size(MOST_TO_READ)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| Trouble::Broken(root_cause(&error)))?;
    Ok(HttpLine { sender, driver: Box::pin(connection), since: Instant::now(), kept: None })
}

/// What a check asks for. It is the same each time.
pub(super) struct Prepared {
    url: Url,
    head: Parts,
}

impl Prepared {
    fn of(ask: &HttpAsk, host: &Host, port: u16) -> Result<Self, String> {
        let url = Url::parse(&ask.url(host, port)).map_err(|error| error.to_string())?;
        let head = head_of(ask, &url).map_err(|error| error.to_string())?;
        Ok(Self { url, head })
    }

    fn request(&self) -> Request<Empty<Bytes>> {
        Request::from_parts(self.head.clone(), Empty::new())
    }
}

fn head_of(ask: &HttpAsk, url: &Url) -> Result<Parts, http::Error> {
    let authority = url.authority();
    let target = match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    };
    let (mut head, ()) = Request::builder().method(ask.method.as_str()).uri(target).body(())?.into_parts();
    let headers = &mut head.headers;
    headers.insert(HOST, HeaderValue::from_str(authority)?);
    headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
    headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
    for (name, value) in &ask.headers {
        headers.insert(HeaderName::from_bytes(name.as_bytes())?, HeaderValue::from_str(value)?);
    }
    Ok(head)
}

/// The beginning of a body, and whether that was all of it.
async fn read(mut body: Incoming, most: usize) -> Result<(Bytes, bool), hyper::Error> {
    let mut read = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame?;
        if let Some(data) = frame.data_ref() {
            if read.len() + data.len() > most {
                return Ok((read.freeze(), false));
            }
            read.extend_from_slice(data);
        }
    }
    Ok((read.freeze(), true))
}
