//! Asks by the standard health protocol of gRPC.

use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::{Code, Status};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use super::{Told, dial::Dialer, root_cause, tls::Trust};
use crate::domain::{Host, check::Tls};

pub(super) async fn ask(
    dialer: &Dialer,
    trust: &Trust,
    host: &Host,
    port: u16,
    service: &str,
    tls: Option<&Tls>,
) -> Told {
    let stream = match dialer.connect(host.as_str(), port).await {
        Ok(stream) => stream,
        Err(error) => return Told::silent(error.to_string()),
    };
    let authority = host.with_port(port);
    match tls {
        None => call(stream, &format!("http://{authority}"), service).await,
        Some(tls) => match trust.secure(stream, host.as_str(), Some(tls), b"h2").await {
            Ok(stream) => call(stream, &format!("https://{authority}"), service).await,
            Err(error) => Told::failing(error),
        },
    }
}

async fn call<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    origin: &str,
    service: &str,
) -> Told {
    let origin = match origin.parse() {
        Ok(origin) => origin,
        Err(error) => return Told::failing(root_cause(&error as &http::uri::InvalidUri)),
    };
    let (sender, connection) = match http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await {
        Ok(greeted) => greeted,
        Err(error) => return Told::failing(root_cause(&error)),
    };
    let service_of = tower::service_fn(move |request| {
        let mut sender = sender.clone();
        async move { sender.send_request(request).await }
    });
    let mut client = HealthClient::with_origin(service_of, origin);
    let request = HealthCheckRequest { service: service.to_owned() };
    tokio::select! {
        biased;
        answer = client.check(request) => match answer {
            Ok(answer) => told(answer.into_inner().status()),
            Err(status) => refused(&status),
        },
        ended = connection => {
            let reason = ended.err().map_or_else(|| "the connection was closed".to_owned(), |error| root_cause(&error));
            Told::silent(reason)
        }
    }
}

fn told(status: ServingStatus) -> Told {
    match status {
        ServingStatus::Serving => Told::passing(),
        other => Told::failing(format!("answered {}", other.as_str_name())),
    }
}

fn refused(status: &Status) -> Told {
    match status.code() {
        Code::NotFound => Told::failing("the server knows no such service".to_owned()),
        Code::Unimplemented => Told::failing("the server does not speak the health protocol".to_owned()),
        code => Told::failing(format!("{code:?}: {}", status.message())),
    }
}
