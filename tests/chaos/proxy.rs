//! A TCP proxy between one replica and its database, whose way of failing can be set while it runs.

mod pump;

use std::{
    collections::HashMap,
    io,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpStream, UnixStream},
    sync::watch,
};
use tokio_util::sync::CancellationToken;

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    ToDatabase,
    FromDatabase,
}

/// What happens to bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Pass,
    /// Each piece comes later.
    Delay(Duration),
    /// So many bytes a second.
    Slow(u64),
    /// Nothing comes through now; all of it does when the mode changes, as when packets are sent again. What was
    /// sent before the sender lost patience comes too, late.
    Hold,
    /// Everything is swallowed. A connection that lost bytes stays open and silent for ever.
    BlackHole,
    /// The same for one direction.
    HalfOpen(Way),
    /// Requests come but for the last message, at which a transaction ends: what it holds, it goes on holding.
    WithholdSync,
    /// Connections are reset as soon as they are made.
    Refuse,
}

pub struct Proxy {
    pub port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    mode: watch::Sender<Mode>,
    trap: Trap,
    upstream: Mutex<PathBuf>,
    links: Mutex<HashMap<u64, Arc<Link>>>,
    next: AtomicU64,
    stop: CancellationToken,
}

/// Holds one request.
#[derive(Default)]
struct Trap {
    bytes: Mutex<Option<Vec<u8>>>,
    held: watch::Sender<usize>,
}

impl Trap {
    /// Whether these bytes are what is waited for. It happens once.
    fn catches(&self, bytes: &[u8]) -> bool {
        let mut wanted = lock(&self.bytes);
        let caught =
            wanted.as_ref().is_some_and(|wanted| bytes.windows(wanted.len()).any(|some| some == wanted));
        if caught {
            *wanted = None;
            self.held.send_replace(1);
        }
        caught
    }
}

/// One connection of the replica, and its other half to the database.
#[derive(Default)]
struct Link {
    cut: CancellationToken,
    /// Bytes of a direction were lost: nothing that follows them would make sense.
    deaf: [AtomicBool; 2],
}

impl Link {
    fn is_deaf(&self, way: Way) -> bool {
        self.deaf[way as usize].load(Ordering::Acquire)
    }

    fn deafen(&self, way: Way) {
        self.deaf[way as usize].store(true, Ordering::Release);
    }
}

impl Proxy {
    /// Listens on a port of its own, and passes on to a Unix socket.
    pub async fn start(upstream: PathBuf) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Shared {
            mode: watch::Sender::new(Mode::Pass),
            trap: Trap::default(),
            upstream: Mutex::new(upstream),
            links: Mutex::default(),
            next: AtomicU64::new(0),
            stop: CancellationToken::new(),
        });
        tokio::spawn(accept(listener, Arc::clone(&shared)));
        Ok(Self { port, shared })
    }

    pub fn set(&self, mode: Mode) {
        self.shared.mode.send_replace(mode);
    }

    /// From now on it leads to another server. Connections to the one before stay.
    pub fn lead_to(&self, upstream: PathBuf) {
        *lock(&self.shared.upstream) = upstream;
    }

    /// Resets all connections.
    pub fn cut(&self) {
        for link in lock(&self.shared.links).values() {
            link.cut.cancel();
        }
    }

    pub fn connections(&self) -> usize {
        lock(&self.shared.links).len()
    }

    /// The next request that contains these bytes is held on its way, with all that follows it on its connection.
    pub fn trap(&self, bytes: &[u8]) {
        *lock(&self.shared.trap.bytes) = Some(bytes.to_vec());
    }

    /// Whether something is held.
    pub fn has_caught(&self) -> bool {
        *self.shared.trap.held.borrow() > 0
    }

    /// Lets go what was held. It arrives late.
    pub fn release(&self) {
        self.shared.trap.held.send_replace(0);
    }

    /// All connections that stand now go silent for ever; new ones are as good as any. Says how many there were.
    pub fn deafen_all(&self) -> usize {
        let links = lock(&self.shared.links);
        for link in links.values() {
            link.deafen(Way::ToDatabase);
            link.deafen(Way::FromDatabase);
        }
        links.len()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.stop.cancel();
        self.cut();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let accepted = tokio::select! {
            () = shared.stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((near, _)) = accepted else { continue };
        tokio::spawn(connect(near, Arc::clone(&shared)));
    }
}

async fn connect(near: TcpStream, shared: Arc<Shared>) {
    let _ = near.set_nodelay(true);
    if *shared.mode.borrow() == Mode::Refuse {
        reset(&near);
        return;
    }
    let upstream = lock(&shared.upstream).clone();
    let Ok(far) = UnixStream::connect(upstream).await else {
        reset(&near);
        return;
    };
    let (number, link) = (shared.next.fetch_add(1, Ordering::Relaxed), Arc::new(Link::default()));
    lock(&shared.links).insert(number, Arc::clone(&link));
    pump::both_ways(near, far, &shared, &link).await;
    lock(&shared.links).remove(&number);
}

/// Closing it sends a reset in place of a farewell.
fn reset(stream: &TcpStream) {
    let _ = stream.set_zero_linger();
}
