//! Accepts connections and serves them, until it is told to stop; then those that are under way are finished.
//!
//! Every connection has a seat, of which there are so many in all and for each address, and a deadline for whatever it
//! is waited for: a client that says nothing, or says it slowly, costs one seat and little memory, for a while.

mod descriptors;
mod protocol;
mod seats;
mod watched;

use std::{
    io::{self, ErrorKind, Write as _},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use hyper_util::{rt::TokioIo, server::graceful::GracefulShutdown};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    task::{JoinError, JoinSet},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{
    seats::{Seat, Seats},
    watched::{Pulse, Watched},
};
use crate::{
    doors::{
        kit::{Peer, peer::Refusals},
        native::Front,
    },
    settings::Limits,
    telemetry::{Metrics, Told, chain},
};

/// Connections that wait to be accepted; the system may allow fewer. The library's 128 are full as soon as all clients
/// come back at once, and whoever does not fit in tries again only after a second.
const WAITING: u32 = 4_096;
/// After a failed accept, mostly for want of file descriptors.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);
/// For whom there is no seat. It is sent before anything is read: what it would answer does not matter.
const REFUSAL: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

pub(super) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // What an earlier process has left of connections must not keep this one from starting.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(WAITING)
}

pub(super) async fn serve(
    socket: TcpListener,
    front: Front,
    limits: Limits,
    metrics: Metrics,
    stop: CancellationToken,
    drain: Duration,
) {
    let seats = Seats::within(&limits, descriptors::raised(), metrics.clone());
    let graceful = GracefulShutdown::new();
    let streams = TaskTracker::new();
    let builder = protocol::builder(&limits, streams.clone());
    let mut connections = JoinSet::new();
    let (mut refused, mut failed) = (Told::default(), Told::default());
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            Some(ended) = connections.join_next(), if !connections.is_empty() => {
                tell_of_a_panic(ended);
                continue;
            }
            accepted = socket.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            // The client gave up before it was its turn.
            Err(error)
                if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset) =>
            {
                continue;
            }
            Err(error) => {
                if let Some(times) = failed.again() {
                    tracing::warn!(error = chain(&error), times, "connections cannot be accepted");
                }
                tokio::time::sleep(ACCEPT_RETRY).await;
                continue;
            }
        };
        let seat = match Seat::take(&seats, peer.ip()) {
            Ok(seat) => seat,
            Err(full) => {
                metrics.connection_refused(full);
                if let Some(times) = refused.again() {
                    tracing::warn!(%peer, ?full, times, "connections are refused: there are too many");
                }
                refuse(stream);
                continue;
            }
        };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(error = chain(&error), "a connection cannot be made prompt");
        }
        let pulse = Arc::new(Pulse::default());
        let other_end = Arc::new(Peer { address: peer, certificate: None, refusals: Refusals::default() });
        let service = protocol::service(front.clone(), other_end, pulse.clone(), limits.body);
        let stream = TokioIo::new(Watched::new(stream, pulse, limits, metrics.clone()));
        let connection = builder.serve_connection_with_upgrades(stream, service);
        let connection = graceful.watch(connection.into_owned());
        connections.spawn(async move {
            let _seat = seat;
            if let Err(error) = connection.await {
                tracing::debug!(error, %peer, "a connection ended with an error");
            }
        });
    }
    drop(socket);
    streams.close();
    let ended = async {
        graceful.shutdown().await;
        while let Some(ended) = connections.join_next().await {
            tell_of_a_panic(ended);
        }
        streams.wait().await;
    };
    // What has not ended by then is dropped together with the set.
    if tokio::time::timeout(drain, ended).await.is_err() {
        tracing::warn!("some requests did not end in time");
    }
}

/// Says so in as many bytes as always fit, and hangs up. Whether they arrive is not waited for.
fn refuse(stream: TcpStream) {
    // By the socket itself: the runtime has not yet heard whether it may be written to.
    if let Ok(mut stream) = stream.into_std() {
        drop(stream.write(REFUSAL));
    }
}

fn tell_of_a_panic(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(error = chain(&error), "a connection's task panicked");
    }
}
