//! Asks by HTTP. Redirects are not followed: a target answers for itself, and leads nowhere else.
//!
//! The connection belongs to the check and is kept for its next turn, and with it what is asked for on it. It is driven
//! by whoever asks, so that it needs no task of its own and goes where the check goes.

use std::{
    future::poll_fn,
    mem::MaybeUninit,
    pin::Pin,
    sync::Arc,
    task::{Poll, ready},
    time::{Duration, Instant},
};

use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode,
    header::{ACCEPT, CONTENT_LENGTH, HOST, USER_AGENT},
};
use tokio::{
    io::{self, AsyncRead as _, AsyncWriteExt as _, ReadBuf},
    net::TcpStream,
    sync::{OwnedSemaphorePermit, Semaphore},
    task::unconstrained,
};
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;
use url::Url;

use super::{
    Line, Told,
    answer::{Answer, Reader},
    dial::Dialer,
    tls::Trust,
};
use crate::domain::{
    Host,
    check::{HttpAsk, Method},
    expect::Judged,
};

/// So much is read at once.
const PIECE: usize = 4096;
/// An older connection is not used again: the name may lead elsewhere by now.
const KEEP_FOR: Duration = Duration::from_mins(5);
/// How long the rest of an answer is waited for that nobody looks at.
const PASS_OVER_WITHIN: Duration = Duration::from_millis(500);
/// Before the patience of a check is at its end, what is known by then is told.
const LAST_MOMENT: Duration = Duration::from_millis(20);
const AGENT: &str = concat!("rollcall/", env!("CARGO_PKG_VERSION"));

type Stream = Either<TcpStream, Box<TlsStream<TcpStream>>>;

pub(super) struct HttpLine {
    stream: Stream,
    /// The same each time.
    request: Box<[u8]>,
    since: Instant,
    /// Its place among the connections that are kept.
    kept: Option<OwnedSemaphorePermit>,
}

impl HttpLine {
    /// The line, if there is a place for one more that is kept.
    pub fn keep(mut self: Box<Self>, places: &Arc<Semaphore>) -> Option<Box<Self>> {
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
    deadline: Instant,
) -> Told {
    let kept = match line.http.take().filter(|line| line.since.elapsed() < KEEP_FOR) {
        Some(line) => untouched(line).await,
        None => None,
    };
    let exchanged = match kept {
        Some(kept) => Some(exchange(kept, ask, deadline).await),
        None => None,
    };
    let result = match exchanged {
        Some(result) if !matches!(result, Err(Trouble::Closed(_))) => result,
        // large: who has a line does not carry its weight around
        _ => match Box::pin(open(dialer, trust, ask, host, port)).await {
            Ok(opened) => exchange(opened, ask, deadline).await,
            Err(trouble) => Err(trouble),
        },
    };
    match result {
        Ok((answer, kept)) => {
            line.http = kept;
            told(ask, &answer)
        }
        Err(Trouble::Unreachable(output) | Trouble::Closed(output)) => Told::silent(output),
        Err(Trouble::Broken(output)) => Told::failing(output),
    }
}

fn told(ask: &HttpAsk, answer: &Answer) -> Told {
    let Judged { seen, output, load } = ask.expect.judge(answer.status, &answer.body);
    // what a status is called says more than its number
    let output = output.map(|output| match StatusCode::from_u16(answer.status) {
        Ok(status) if output == format!("answered {}", answer.status) => format!("answered {status}"),
        _ => output,
    });
    Told { seen, output, load, silent: false }
}

async fn exchange(
    mut line: Box<HttpLine>,
    ask: &HttpAsk,
    deadline: Instant,
) -> Result<(Answer, Option<Box<HttpLine>>), Trouble> {
    let HttpLine { stream, request, .. } = &mut *line;
    let answer = converse(stream, request, ask, deadline).await?;
    let kept = answer.leaves_open.then_some(line);
    Ok((answer, kept))
}

/// Sends the request and reads the answer as far as it matters.
async fn converse(
    stream: &mut Stream,
    request: &[u8],
    ask: &HttpAsk,
    deadline: Instant,
) -> Result<Answer, Trouble> {
    // who hangs up early may have said why before that: it is there to be read
    let sent = async {
        stream.write_all(request).await?;
        stream.flush().await
    };
    let sent = sent.await;
    let mut reader = Reader::new(ask);
    while !reader.knows_enough() {
        match (read(stream, &mut reader).await, &sent) {
            (Ok(None), _) => {}
            (Ok(Some(answer)), _) => return Ok(answer),
            (Err(Trouble::Closed(_)), Err(error)) => return Err(Trouble::Closed(error.to_string())),
            (Err(trouble), _) => return Err(trouble),
        }
    }
    // the rest is read only so that the connection can be kept
    if !reader.leaves_open() {
        return reader.end().map_err(Trouble::Broken);
    }
    let rest = async {
        loop {
            if let Some(answer) = read(stream, &mut reader).await? {
                return Ok::<_, Trouble>(answer);
            }
        }
    };
    let left = deadline.saturating_duration_since(Instant::now() + LAST_MOMENT);
    let within = PASS_OVER_WITHIN.min(left);
    match tokio::time::timeout(within, rest).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(_)) | Err(_) => reader.end().map_err(Trouble::Broken),
    }
}

/// The line, if it is as it was left. One that was closed meanwhile is of no use, and where something has come that
/// nobody asked for the next answer would be to another question.
async fn untouched(mut line: Box<HttpLine>) -> Option<Box<HttpLine>> {
    let mut byte = [0];
    let touched = poll_fn(|cx| {
        let polled = Pin::new(&mut line.stream).poll_read(cx, &mut ReadBuf::new(&mut byte));
        Poll::Ready(polled.is_ready())
    });
    // that it is not looked at does not tell that it is untouched
    let touched = unconstrained(touched).await;
    (!touched).then_some(line)
}

/// Reads once. Gives the answer if that was the end of it.
async fn read(stream: &mut Stream, reader: &mut Reader<'_>) -> Result<Option<Answer>, Trouble> {
    let polled = poll_fn(|cx| {
        let mut space = [const { MaybeUninit::uninit() }; PIECE];
        let mut piece = ReadBuf::uninit(&mut space);
        ready!(Pin::new(&mut *stream).poll_read(cx, &mut piece))?;
        let understood = match piece.filled() {
            [] => None,
            piece => Some(reader.take(piece)),
        };
        Poll::Ready(io::Result::Ok(understood))
    });
    match polled.await {
        Ok(Some(understood)) => understood.map_err(Trouble::Broken),
        Ok(None) if reader.is_at_start() => Err(Trouble::Closed("closed without an answer".to_owned())),
        Ok(None) => reader.end().map(Some).map_err(Trouble::Broken),
        Err(error) if reader.is_at_start() => Err(Trouble::Closed(error.to_string())),
        Err(error) => Err(Trouble::Broken(error.to_string())),
    }
}

async fn open(
    dialer: &Dialer,
    trust: &Trust,
    ask: &HttpAsk,
    host: &Host,
    port: u16,
) -> Result<Box<HttpLine>, Trouble> {
    let url = Url::parse(&ask.url(host, port)).map_err(|error| Trouble::Broken(error.to_string()))?;
    let request = request_for(ask, &url).map_err(|error| Trouble::Broken(error.to_string()))?;
    let host = url.host_str().unwrap_or_default();
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let port = url.port_or_known_default().unwrap_or(80);
    let stream = dialer.connect(bare, port).await.map_err(|error| Trouble::Unreachable(error.to_string()))?;
    let stream = if url.scheme() == "https" {
        let stream = trust.secure(stream, bare, ask.tls.as_ref(), b"http/1.1").await;
        Either::Right(Box::new(stream.map_err(Trouble::Broken)?))
    } else {
        Either::Left(stream)
    };
    Ok(Box::new(HttpLine { stream, request, since: Instant::now(), kept: None }))
}

fn request_for(ask: &HttpAsk, url: &Url) -> Result<Box<[u8]>, http::Error> {
    let headers = headers_of(ask, url)?;
    let mut request = format!("{} {}", ask.method.as_str(), url.path()).into_bytes();
    if let Some(query) = url.query() {
        request.push(b'?');
        request.extend_from_slice(query.as_bytes());
    }
    request.extend_from_slice(b" HTTP/1.1\r\n");
    for (name, value) in &headers {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            request.extend_from_slice(part);
        }
    }
    request.extend_from_slice(b"\r\n");
    Ok(request.into())
}

fn headers_of(ask: &HttpAsk, url: &Url) -> Result<HeaderMap, http::Error> {
    let mut headers = HeaderMap::new();
    headers.insert(HOST, HeaderValue::from_str(url.authority())?);
    headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
    headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
    if matches!(ask.method, Method::Post | Method::Put) {
        headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    for (name, value) in &ask.headers {
        headers.insert(HeaderName::from_bytes(name.as_bytes())?, HeaderValue::from_str(value)?);
    }
    Ok(headers)
}
