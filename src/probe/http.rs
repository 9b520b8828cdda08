//! Asks by HTTP. Redirects are not followed: a target answers for itself, and leads nowhere else.
//!
//! The connection belongs to the check and is kept for its next turn. It is driven by whoever asks, so that it needs no
//! task of its own and goes where the check goes.

use std::{pin::Pin, time::Instant};

use bytes::{Bytes, BytesMut};
use http::{
    HeaderName, HeaderValue, Request, StatusCode,
    header::{ACCEPT, HOST, USER_AGENT},
};
use http_body_util::{BodyExt as _, Empty};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use url::Url;

use super::{Told, dial::Dialer, root_cause, tls::Trust};
use crate::domain::{Host, Seen, check::HttpAsk, expect::Judged};

/// How much of an answer is read where nothing in it matters, so that its connection can be kept.
const MOST_TO_PASS_OVER: usize = 16 * 1024;
/// How much is read of one that matters.
const MOST_TO_READ: usize = 64 * 1024;
/// An older connection is not used again: the name may lead elsewhere by now.
const KEEP_FOR: std::time::Duration = std::time::Duration::from_mins(5);
const AGENT: &str = concat!("rollcall/", env!("CARGO_PKG_VERSION"));

type Driver = Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>;

pub(super) struct HttpLine {
    sender: http1::SendRequest<Empty<Bytes>>,
    driver: Driver,
    since: Instant,
}

enum Trouble {
    /// Nothing was heard.
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
    kept: &mut Option<HttpLine>,
) -> Told {
    let url = match Url::parse(&ask.place.endpoint().url(host, port)) {
        Ok(url) => url,
        Err(error) => return Told::failing(error.to_string()),
    };
    let line = kept.take().filter(|line| line.since.elapsed() < KEEP_FOR);
    let is_used = line.is_some();
    let mut result = exchange(dialer, trust, ask, &url, line).await;
    if let (true, Err(Trouble::Closed(_))) = (is_used, &result) {
        result = exchange(dialer, trust, ask, &url, None).await;
    }
    match result {
        Ok((status, body, line)) => {
            *kept = line;
            let Judged { seen, output, load } = ask.expect.judge(status.as_u16(), &body);
            let output = match (seen, output) {
                (Seen::Failing | Seen::Warning, Some(output))
                    if output == format!("answered {}", status.as_u16()) =>
                {
                    Some(format!("answered {status}"))
                }
                (_, output) => output,
            };
            Told { seen, output, load, unreachable: false }
        }
        Err(Trouble::Unreachable(output) | Trouble::Closed(output)) => Told::unreachable(output),
        Err(Trouble::Broken(output)) => Told::failing(output),
    }
}

type Answer = (StatusCode, Bytes, Option<HttpLine>);

async fn exchange(
    dialer: &Dialer,
    trust: &Trust,
    ask: &HttpAsk,
    url: &Url,
    line: Option<HttpLine>,
) -> Result<Answer, Trouble> {
    let mut line = match line {
        Some(line) => line,
        None => open(dialer, trust, ask, url).await?,
    };
    let request = request(ask, url).map_err(|error| Trouble::Broken(error.to_string()))?;
    let reads = ask.expect.reads_body();
    let most = if reads { MOST_TO_READ } else { MOST_TO_PASS_OVER };
    let HttpLine { sender, driver, .. } = &mut line;
    let work = async {
        let closed = |error: &hyper::Error| Trouble::Closed(root_cause(error));
        sender.ready().await.map_err(|error| closed(&error))?;
        let response = sender.send_request(request).await.map_err(|error| {
            let before_an_answer = error.is_canceled() || error.is_closed() || error.is_incomplete_message();
            if before_an_answer { closed(&error) } else { Trouble::Broken(root_cause(&error)) }
        })?;
        let status = response.status();
        let (body, whole) = read(response.into_body(), most).await?;
        Ok((status, body, whole))
    };
    let (status, body, whole) = tokio::select! {
        biased;
        done = work => done?,
        // an answer that came with the end of its connection is seen by the work first
        ended = driver.as_mut() => {
            let reason = ended.err().map_or_else(|| "the connection was closed".to_owned(), |error| root_cause(&error));
            return Err(Trouble::Closed(reason));
        }
    };
    if reads && !whole {
        return Err(Trouble::Broken(format!("the body is longer than {MOST_TO_READ} bytes")));
    }
    Ok((status, body, whole.then_some(line).filter(|line| !line.sender.is_closed())))
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
    Ok(HttpLine { sender, driver: Box::pin(connection), since: Instant::now() })
}

fn request(ask: &HttpAsk, url: &Url) -> Result<Request<Empty<Bytes>>, http::Error> {
    let authority = url.authority();
    let target = match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    };
    let mut request = Request::builder().method(ask.method.as_str()).uri(target).body(Empty::new())?;
    let headers = request.headers_mut();
    headers.insert(HOST, HeaderValue::from_str(authority)?);
    headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
    headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
    for (name, value) in &ask.headers {
        headers.insert(HeaderName::from_bytes(name.as_bytes())?, HeaderValue::from_str(value)?);
    }
    Ok(request)
}

/// The beginning of a body, and whether that was all of it.
async fn read(mut body: Incoming, most: usize) -> Result<(Bytes, bool), Trouble> {
    let mut read = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Trouble::Broken(root_cause(&error)))?;
        if let Some(data) = frame.data_ref() {
            if read.len() + data.len() > most {
                return Ok((read.freeze(), false));
            }
            read.extend_from_slice(data);
        }
    }
    Ok((read.freeze(), true))
}
