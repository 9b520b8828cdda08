//! Accepts connections and serves them, until it is told to stop; then those that are under way are finished.

use std::{convert::Infallible, net::SocketAddr, time::Duration};

use hyper::{Request, body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::doors::native::Front;

/// How long a client may take to send the head of a request.
const HEAD_WITHIN: Duration = Duration::from_secs(15);
/// After a failed accept, mostly for want of file descriptors.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

pub(super) async fn serve(socket: TcpListener, front: Front, stop: CancellationToken, drain: Duration) {
    let graceful = GracefulShutdown::new();
    let connections = TaskTracker::new();
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN);
    builder.http2().timer(TokioTimer::new()).max_concurrent_streams(128);
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = socket.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(error = crate::telemetry::chain(&error), "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_RETRY).await;
                continue;
            }
        };
        let connection =
            builder.serve_connection_with_upgrades(prepare(stream), answer_with(front.clone(), peer));
        let connection = graceful.watch(connection.into_owned());
        connections.spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(error, %peer, "a connection ended with an error");
            }
        });
    }
    drop(socket);
    connections.close();
    // Connections that still have not ended are dropped with their tracker's tasks when the process ends.
    if tokio::time::timeout(drain, graceful.shutdown()).await.is_err() {
        tracing::warn!("some requests did not end in time");
        return;
    }
    connections.wait().await;
}

fn prepare(stream: TcpStream) -> TokioIo<TcpStream> {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(error = crate::telemetry::chain(&error), "a connection cannot be made prompt");
    }
    TokioIo::new(stream)
}

fn answer_with(
    front: Front,
    peer: SocketAddr,
) -> impl hyper::service::Service<
    Request<Incoming>,
    Response = axum::response::Response,
    Error = Infallible,
    Future: Send + 'static,
> + Clone
+ Send
+ 'static {
    service_fn(move |request: Request<Incoming>| {
        let front = front.clone();
        async move { Ok(front.answer(request, peer).await) }
    })
}
