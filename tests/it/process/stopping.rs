//! An orderly stop, and one that cannot wait.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use rustix::process::Signal;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::{Database, Folder, PATIENCE, Process, TestApp, static_service, wait_until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn either_signal_stops_it_in_order() {
    let database = Database::fresh().await;
    let url = database.url();
    for signal in [Signal::TERM, Signal::INT] {
        let folder = Arc::new(Folder::new());
        let mut server = Process::serve(&folder, &[("DATABASE_URL", &url)]).ready().await;
        server.registered(&static_service("one", 80)).await;
        let start = Instant::now();
        server.signal(signal);
        let status = server.ended(Duration::from_secs(35)).await;
        assert_eq!(status.code(), Some(0), "{signal:?}");
        assert!(start.elapsed() < Duration::from_secs(15), "idle, it took {:?}", start.elapsed());
        assert!(server.try_get("/health/live").await.is_none());
    }
}

/// A request whose body never comes: whoever waits for it waits long.
async fn endless_request(server: &Process) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", server.port)).await.unwrap();
    let head = "POST /api/v1/services/register HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
                content-length: 100\r\n\r\n{";
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    stream
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_ends_it_at_once() {
    let database = Database::fresh().await;
    let folder = Arc::new(Folder::new());
    let mut server = Process::serve(&folder, &[("DATABASE_URL", &database.url())]).ready().await;
    let _held = endless_request(&server).await;
    server.signal(Signal::TERM);
    // It has heard the first one when it takes no more connections.
    wait_until(PATIENCE, "the first signal is heard", async || {
        (server.has_ended() || TcpStream::connect(("127.0.0.1", server.port)).await.is_err()).then_some(())
    })
    .await;
    if !server.has_ended() {
        server.signal(Signal::TERM);
    }
    server.ended(Duration::from_secs(3)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_hangs_does_not_hold_up_an_orderly_stop() {
    let database = Database::fresh().await;
    let folder = Arc::new(Folder::new());
    let mut server = Process::serve(&folder, &[("DATABASE_URL", &database.url())]).ready().await;
    let _held = endless_request(&server).await;
    let _idle = TcpStream::connect(("127.0.0.1", server.port)).await.unwrap();
    server.signal(Signal::TERM);
    assert_eq!(server.ended(Duration::from_secs(35)).await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_while_it_stopped_is_kept() {
    let database = Database::fresh().await;
    let folder = Arc::new(Folder::new());
    let mut server = Process::serve(&folder, &[("DATABASE_URL", &database.url())]).ready().await;
    let asking = join_all((1..=60).map(async |port| {
        let answer = server.register(&static_service("begun", port)).tried().await;
        answer.filter(|answer| answer.status == 201).map(|_| u64::from(port))
    }));
    let signalling = async {
        tokio::task::yield_now().await;
        server.signal(Signal::TERM);
    };
    let (acknowledged, ()) = tokio::join!(asking, signalling);
    assert_eq!(server.ended(Duration::from_secs(35)).await.code(), Some(0));
    let app = TestApp::start_on(&database).await;
    let kept = app.array("/discover/begun").await;
    for port in acknowledged.into_iter().flatten() {
        assert!(kept.iter().any(|one| one["port"] == port), "{port} was acknowledged, and is lost");
    }
}
