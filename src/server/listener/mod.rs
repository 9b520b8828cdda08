//! Accepts connections and serves them, until it is told to stop; then those that are under way are finished.
//!
//! Every connection has a seat, of which there are so many in all and for each address, and a deadline for whatever it
//! is waited for: a client that says nothing, or says it slowly, costs one seat and little memory, for a while.

mod descriptors;
mod protocol;
mod quick;
mod seats;
mod secured;
mod seldom;
mod stream;
mod watched;

pub use descriptors::raised as descriptors;

use std::{
    error::Error,
    future::poll_fn,
    io::{self, ErrorKind, Write as _},
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use hyper_util::{rt::TokioIo, server::graceful::GracefulConnection};
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpSocket, TcpStream},
    sync::Notify,
    task::{JoinError, JoinSet},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{
    protocol::Speakers,
    seats::{Seat, Seats},
    seldom::Seldom,
    stream::{Rewound, Stream},
    watched::{Pulse, Watched},
};
use crate::{
    auth::Tls,
    doors::{kit::Peer, native::Front},
    settings::{Limits, Pace},
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

/// The same as an alert of TLS, which is fatal and says that it is not the client's fault.
const REFUSAL_OF_TLS: &[u8] = &[21, 3, 3, 0, 2, 2, 80];

pub(super) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // What an earlier process has left of connections must not keep this one from starting.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(WAITING)
}

pub(super) async fn serve(
    socket: TcpListener,
    tls: Option<Arc<Tls>>,
    front: Front,
    limits: Limits,
    metrics: Metrics,
    stop: CancellationToken,
    drain: Duration,
) {
    let seats = Seats::within(&limits, descriptors::raised(), metrics.clone());
    let closing = Arc::new(Closing::default());
    let streams = TaskTracker::new();
    let speakers = Arc::new(Speakers::within(&limits, streams.clone()));
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
                refuse(stream, if tls.is_some() { REFUSAL_OF_TLS } else { REFUSAL });
                continue;
            }
        };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(error = chain(&error), "a connection cannot be made prompt");
        }
        let pulse = Arc::new(Pulse::default());
        let stream = Watched::new(stream, pulse.clone(), limits, metrics.clone());
        let line = Line { speakers: speakers.clone(), front: front.clone(), pulse, body: limits.body };
        if let Some(tls) = tls.clone() {
            let (closing, stop, metrics) = (closing.clone(), stop.clone(), metrics.clone());
            connections.spawn(async move {
                let _seat = seat;
                let opening = secured::open(stream.enveloped(), &tls, &metrics);
                match stop.run_until_cancelled(opening).await {
                    Some(Ok((stream, certificate))) => {
                        let stream = Stream::Secured(Box::new(stream));
                        tell_of_an_error(
                            line.serve(stream, Peer::new(peer, certificate), closing).await,
                            peer,
                        );
                    }
                    Some(Err(error)) => {
                        tracing::debug!(error = chain(&error), %peer, "a connection was not opened");
                    }
                    None => {}
                }
            });
        } else {
            let closing = closing.clone();
            connections.spawn(async move {
                let _seat = seat;
                let served = line.serve(Stream::Plain(stream), Peer::new(peer, None), closing);
                tell_of_an_error(served.await, peer);
            });
        }
    }
    drop(socket);
    streams.close();
    closing.begin();
    let ended = async {
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

/// That all connections are to come to their end.
#[derive(Default)]
struct Closing {
    begun: AtomicBool,
    told: Notify,
}

impl Closing {
    fn has_begun(&self) -> bool {
        self.begun.load(SeqCst)
    }

    fn begin(&self) {
        self.begun.store(true, SeqCst);
        self.told.notify_waiters();
    }
}

/// Serves a connection to its end.
async fn attend<C: GracefulConnection>(connection: C, closing: Arc<Closing>) -> Result<(), C::Error> {
    let mut connection = pin!(connection);
    let mut told = pin!(closing.told.notified());
    let (mut waiting, mut is_told) = (Seldom::default(), false);
    poll_fn(|context| {
        if !is_told {
            // whoever begins it after this look wakes the task
            waiting.look(false, context, |context| told.as_mut().poll(context));
            if closing.has_begun() {
                is_told = true;
                connection.as_mut().graceful_shutdown();
            }
        }
        connection.as_mut().poll(context)
    })
    .await
}

/// What answers on one connection.
struct Line {
    speakers: Arc<Speakers>,
    front: Front,
    pulse: Arc<Pulse>,
    body: Pace,
}

impl Line {
    async fn serve(
        self,
        mut stream: Stream,
        other_end: Peer,
        closing: Arc<Closing>,
    ) -> Result<(), Box<dyn Error + Send + Sync>> {
        let Some(read) = quick::serve(&mut stream, &self, &other_end, &closing).await? else {
            return Ok(stream.shutdown().await?);
        };
        let service = protocol::service(self.front, Arc::new(other_end), self.pulse, self.body);
        let may_be_two = protocol::may_be_two(&read);
        let stream = TokioIo::new(Rewound::new(read, stream));
        if may_be_two {
            let connection = self.speakers.either.serve_connection(stream, service).into_owned();
            return Box::pin(attend(connection, closing)).await;
        }
        Ok(attend(self.speakers.one.serve_connection(stream, service), closing).await?)
    }
}

fn tell_of_an_error(ended: Result<(), Box<dyn Error + Send + Sync>>, peer: SocketAddr) {
    if let Err(error) = ended {
        tracing::debug!(error, %peer, "a connection ended with an error");
    }
}

/// Says so in as many bytes as always fit, and hangs up. Whether they arrive is not waited for.
fn refuse(stream: TcpStream, refusal: &[u8]) {
    // By the socket itself: the runtime has not yet heard whether it may be written to.
    if let Ok(mut stream) = stream.into_std() {
        drop(stream.write(refusal));
    }
}

fn tell_of_a_panic(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(error = chain(&error), "a connection's task panicked");
    }
}
