//! TLS around a connection's stream, which goes on watching: a handshake is a part of the first head.

use std::{
    io::{self, ErrorKind},
    sync::Arc,
};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::watched::Watched;
use crate::{auth::Tls, telemetry::Metrics};

/// For whoever asks without TLS, as a person does who tries the wrong address.
const PLAIN: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\ncontent-length: 49\r\n\
    connection: close\r\n\r\nHTTPS is spoken here: ask with https:// instead.\n";
/// Of what was asked without TLS.
const ENOUGH: usize = 4096;

/// The stream within, and the name in the client's certificate.
pub async fn open(
    mut stream: Watched,
    tls: &Tls,
    metrics: &Metrics,
) -> io::Result<(TlsStream<Watched>, Option<Arc<str>>)> {
    // Whoever connects and says nothing, as a probe of the port does, has not failed at anything.
    let first = stream.first_byte().await?;
    let opened = shake_hands(stream, first, tls).await;
    if opened.is_err() {
        metrics.handshake_failed();
    }
    opened
}

async fn shake_hands(
    mut stream: Watched,
    first: u8,
    tls: &Tls,
) -> io::Result<(TlsStream<Watched>, Option<Arc<str>>)> {
    // TLS begins with a 22, and every method of HTTP with a letter.
    if first.is_ascii_alphabetic() {
        answer_in_plain(&mut stream).await?;
        return Err(io::Error::new(ErrorKind::InvalidData, "it is no TLS"));
    }
    let current = tls.current();
    let stream = TlsAcceptor::from(current.config()).accept(stream).await?;
    let certificate = current.client_of(stream.get_ref().1);
    Ok((stream, certificate))
}

async fn answer_in_plain(stream: &mut Watched) -> io::Result<()> {
    // What lies there unread would let the end of the connection overtake the answer.
    let _ = stream.read(&mut [0; ENOUGH]).await?;
    stream.write_all(PLAIN).await?;
    stream.shutdown().await
}
