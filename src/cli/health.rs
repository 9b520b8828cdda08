//! `rollcall health`: asks a running registry whether it is ready, and says so by the exit code. For containers and
//! service managers, whose machines may have no other HTTP client.
//!
//! One request by hand over one connection: all that is wanted of the answer is its status line. Only a server
//! elsewhere that speaks TLS is asked by the HTTP client, which verifies its certificate. The one beside it need not
//! prove who it is: it is told nothing, and its certificate is for the names that others know it by.

use std::{
    io::ErrorKind,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;
use url::{Host, Url};

use super::{Failure, block_on, load_aside};
use crate::{
    server::{TlsError, towards_itself},
    settings::Flags,
};

pub const ABOUT: &str = "Ask a running registry whether it is ready.\n\n\
    The exit code is 0 when GET /health/ready answers 200, 1 when it does not, and 2 when there is no address to \
    ask. It asks at ROLLCALL_ADDR, else where `rollcall serve` listens with the same settings. With TLS, the \
    certificate is verified at ROLLCALL_ADDR, and at the server's own address it is not: no secret is sent there.";

const ADDR: &str = "ROLLCALL_ADDR";
const HEALTH: &str = "/health/ready";
/// Whoever asks again and again has no use for a later answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);
/// More than the answer ever has.
const MOST_OF_AN_ANSWER: u64 = 16 * 1024;

#[derive(clap::Args)]
pub struct Arguments {
    #[arg(
        long,
        value_name = "URL",
        help = "Where to ask, such as http://127.0.0.1:8081 [env: ROLLCALL_ADDR]"
    )]
    addr: Option<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum HealthError {
    #[error("{ADDR} is {0:?}, but it takes http://host:port or https://host:port")]
    Address(String),
    #[error("{place} cannot be asked")]
    Unreachable { place: String, source: std::io::Error },
    #[error("{url} cannot be asked")]
    Refused { url: String, source: reqwest::Error },
    #[error("the server beside it cannot be asked over TLS")]
    Tls(#[from] TlsError),
    #[error("{place} did not answer in time")]
    Silent { place: String },
    #[error("{place} is not ready: {answer}")]
    NotReady { place: String, answer: String },
}

/// Whom to ask.
#[derive(Debug, PartialEq, Eq)]
enum Target {
    Plain(String),
    Secured(String),
}

pub fn run(arguments: Arguments) -> Result<(), Failure> {
    let given = arguments.addr.or_else(|| std::env::var(ADDR).ok()).filter(|addr| !addr.trim().is_empty());
    match given.map(|addr| target_of(&addr)).transpose()? {
        Some(Target::Plain(place)) => block_on(ask(&place, None, ANSWER_WITHIN), || ())??,
        Some(Target::Secured(url)) => block_on(ask_verified(url), || ())??,
        None => block_on(ask_own(), || ())??,
    }
    Ok(())
}

/// From `http://host:port`, or without the scheme, to `host:port`; with TLS, to a URL.
fn target_of(addr: &str) -> Result<Target, HealthError> {
    let wrong = || HealthError::Address(addr.to_owned());
    let bare = addr.trim();
    let whole = if bare.contains("://") { bare.to_owned() } else { format!("http://{bare}") };
    let url = Url::parse(&whole).map_err(|_| wrong())?;
    if !["http", "https"].contains(&url.scheme()) || !url.username().is_empty() || url.password().is_some() {
        return Err(wrong());
    }
    let port = url.port_or_known_default().ok_or_else(wrong)?;
    let place = match url.host().ok_or_else(wrong)? {
        Host::Ipv6(ip) => format!("[{ip}]:{port}"),
        host => format!("{host}:{port}"),
    };
    if url.scheme() == "https" {
        return Ok(Target::Secured(format!("https://{place}{HEALTH}")));
    }
    Ok(Target::Plain(place))
}

/// The server with the same settings.
async fn ask_own() -> Result<(), Failure> {
    let settings = load_aside(Flags::default())?.settings;
    let tls = match &settings.tls {
        Some(tls) => Some(towards_itself(tls).await.map_err(HealthError::Tls)?),
        None => None,
    };
    Ok(ask(&reachable(settings.listen), tls, ANSWER_WITHIN).await?)
}

async fn ask_verified(url: String) -> Result<(), HealthError> {
    let asked = async {
        let client = reqwest::Client::builder().no_proxy().timeout(ANSWER_WITHIN).build()?;
        client.get(&url).send().await
    };
    match asked.await {
        Ok(answer) if answer.status() == 200 => Ok(()),
        Ok(answer) => Err(HealthError::NotReady { place: url, answer: answer.status().to_string() }),
        Err(source) => Err(HealthError::Refused { url, source: source.without_url() }),
    }
}

/// Nobody can connect to "all addresses", where a server may well listen.
fn reachable(listen: SocketAddr) -> String {
    let ip = match listen {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        other => other.ip(),
    };
    SocketAddr::new(ip, listen.port()).to_string()
}

async fn ask(place: &str, tls: Option<ClientConfig>, within: Duration) -> Result<(), HealthError> {
    let answered = match tokio::time::timeout(within, answer_of(place, tls)).await {
        Ok(Ok(answered)) => answered,
        Ok(Err(source)) => return Err(HealthError::Unreachable { place: place.to_owned(), source }),
        Err(_) => return Err(HealthError::Silent { place: place.to_owned() }),
    };
    let text = String::from_utf8_lossy(&answered);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.lines().next().unwrap_or_default();
    if status.starts_with("HTTP/1.1 200 ") {
        return Ok(());
    }
    let answer = format!("{status} {}", body.trim()).replace(char::is_control, " ");
    Err(HealthError::NotReady { place: place.to_owned(), answer })
}

async fn answer_of(place: &str, tls: Option<ClientConfig>) -> std::io::Result<Vec<u8>> {
    let stream = TcpStream::connect(place).await?;
    match tls {
        None => exchange(stream, place).await,
        Some(tls) => {
            // Its name is not verified, but the protocol wants one.
            let name = ServerName::from(IpAddr::from(Ipv4Addr::LOCALHOST));
            exchange(TlsConnector::from(Arc::new(tls)).connect(name, stream).await?, place).await
        }
    }
}

async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin, place: &str) -> std::io::Result<Vec<u8>> {
    let request = format!("GET {HEALTH} HTTP/1.1\r\nHost: {place}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    match stream.take(MOST_OF_AN_ANSWER).read_to_end(&mut answer).await {
        // The answer is there: how it ended says nothing.
        Err(error) if error.kind() != ErrorKind::UnexpectedEof || answer.is_empty() => Err(error),
        _ => Ok(answer),
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn an_address_may_leave_out_what_goes_without_saying() {
        let plain = |place: &str| Target::Plain(place.to_owned());
        for (addr, place) in [
            ("http://127.0.0.1:8081", "127.0.0.1:8081"),
            (" http://registry.example:9000/ ", "registry.example:9000"),
            ("registry:9000", "registry:9000"),
            ("[::1]:9000", "[::1]:9000"),
            ("http://registry", "registry:80"),
        ] {
            assert_eq!(target_of(addr).expect(addr), plain(place));
        }
        for (addr, url) in [
            ("https://registry", "https://registry:443/health/ready"),
            ("https://[::1]:8081/", "https://[::1]:8081/health/ready"),
        ] {
            assert_eq!(target_of(addr).expect(addr), Target::Secured(url.to_owned()));
        }
        for addr in ["ftp://registry", "http://", "https://", "http://u:p@registry", "a b", "registry:port"] {
            assert!(matches!(target_of(addr), Err(HealthError::Address(_))), "{addr}");
        }
    }

    #[test]
    fn where_all_addresses_are_listened_on_loopback_is_asked() {
        for (listen, place) in
            [("0.0.0.0:8081", "127.0.0.1:8081"), ("[::]:8081", "[::1]:8081"), ("10.0.0.7:80", "10.0.0.7:80")]
        {
            assert_eq!(reachable(listen.parse().expect(listen)), place);
        }
    }

    /// What comes of asking a server that gives this answer and closes, or none and does not.
    async fn asked(answer: &str) -> Result<(), HealthError> {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let place = listener.local_addr().expect("an address").to_string();
        let answering = async {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let mut request = [0; 512];
            let length = stream.read(&mut request).await.expect("a request");
            assert!(request[..length].starts_with(b"GET /health/ready HTTP/1.1\r\n"));
            stream.write_all(answer.as_bytes()).await.expect("somebody who reads");
            if !answer.is_empty() {
                drop(stream);
            }
            std::future::pending().await
        };
        tokio::select! {
            result = ask(&place, None, Duration::from_millis(500)) => result,
            never = answering => never,
        }
    }

    #[tokio::test]
    async fn only_200_is_ready() {
        assert!(asked("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").await.is_ok());
        let ill = "HTTP/1.1 503 Service Unavailable\r\n\r\n{\"view\":\"loading\"}\u{1b}";
        let error = asked(ill).await.expect_err("not ready").to_string();
        assert!(error.ends_with("HTTP/1.1 503 Service Unavailable {\"view\":\"loading\"} "), "{error}");
        assert!(matches!(asked("SSH-2.0-x\r\n").await, Err(HealthError::NotReady { .. })));
        assert!(matches!(asked("").await, Err(HealthError::Silent { .. })));
    }

    #[tokio::test]
    async fn nobody_there_is_not_ready() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let place = listener.local_addr().expect("an address").to_string();
        drop(listener);
        assert!(matches!(ask(&place, None, ANSWER_WITHIN).await, Err(HealthError::Unreachable { .. })));
    }
}
