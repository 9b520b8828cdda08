//! Carries bytes, or fails to.

use std::time::Duration;

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, UnixStream},
    sync::watch,
};

use super::{Link, Mode, Shared, Way, reset};

/// The message at which `PostgreSQL` commits what was asked for before it.
const SYNC: [u8; 5] = [b'S', 0, 0, 0, 4];
const PIECE: usize = 16 * 1024;
/// As much as is kept of what may not pass yet.
const HELD: usize = 8 * 1024 * 1024;
/// How long the database's half of a silent connection outlives the replica's, which it has not heard close.
const ORPHAN: Duration = Duration::from_secs(8);

/// Until both directions have ended, or the connection is cut.
pub async fn both_ways(mut near: TcpStream, mut far: UnixStream, shared: &Shared, link: &Link) {
    let was_cut = {
        let (near_read, near_write) = near.split();
        let (far_read, far_write) = far.split();
        let there = one_way(near_read, far_write, Way::ToDatabase, shared, link);
        let back = one_way(far_read, near_write, Way::FromDatabase, shared, link);
        tokio::select! {
            () = link.cut.cancelled() => true,
            _ = async { tokio::join!(there, back) } => false,
        }
    };
    if was_cut {
        reset(&near);
    }
}

async fn one_way(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    way: Way,
    shared: &Shared,
    link: &Link,
) {
    let mut mode = shared.mode.subscribe();
    let mut piece = vec![0; PIECE];
    while let Ok(length) = from.read(&mut piece).await {
        let mut bytes = piece.get(..length).unwrap_or_default().to_vec();
        if !may_pass(&mut from, &mut bytes, way, &mut mode, link).await {
            if length == 0 {
                // whoever is deaf does not hear a farewell either
                tokio::time::sleep(ORPHAN).await;
                break;
            }
            continue;
        }
        if way == Way::ToDatabase && shared.trap.catches(&bytes) {
            let mut held = shared.trap.held.subscribe();
            // released, or the proxy is gone
            drop(held.wait_for(|held| *held == 0).await);
        }
        let withheld =
            way == Way::ToDatabase && *mode.borrow() == Mode::WithholdSync && bytes.ends_with(&SYNC);
        if withheld {
            bytes.truncate(bytes.len() - SYNC.len());
        }
        if length == 0 || to.write_all(&bytes).await.is_err() {
            break;
        }
        if withheld && (mode.changed().await.is_err() || to.write_all(&SYNC).await.is_err()) {
            break;
        }
    }
    let _ = to.shutdown().await;
}

/// Waits as the mode says. False where the bytes are lost.
async fn may_pass(
    from: &mut (impl AsyncRead + Unpin),
    bytes: &mut Vec<u8>,
    way: Way,
    mode: &mut watch::Receiver<Mode>,
    link: &Link,
) -> bool {
    loop {
        let now = *mode.borrow_and_update();
        if now == Mode::BlackHole || now == Mode::HalfOpen(way) {
            link.deafen(way);
        }
        if link.is_deaf(way) {
            return false;
        }
        match now {
            Mode::Delay(time) => {
                tokio::time::sleep(time).await;
                return !link.is_deaf(way);
            }
            Mode::Slow(rate) => {
                let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
                tokio::time::sleep(Duration::from_micros(length * 1_000_000 / rate.max(1))).await;
                return !link.is_deaf(way);
            }
            Mode::Hold => hold(from, bytes, mode).await,
            Mode::Pass | Mode::Refuse | Mode::HalfOpen(_) | Mode::BlackHole | Mode::WithholdSync => {
                return true;
            }
        }
    }
}

/// Takes what comes and keeps it, until the mode changes: the sender may be gone by then, and what it sent is on
/// its way all the same.
async fn hold(from: &mut (impl AsyncRead + Unpin), bytes: &mut Vec<u8>, mode: &mut watch::Receiver<Mode>) {
    let mut ended = bytes.is_empty();
    let mut piece = vec![0; PIECE];
    loop {
        let may_take = !ended && bytes.len() < HELD;
        tokio::select! {
            _ = mode.changed() => return,
            read = from.read(&mut piece), if may_take => match read {
                Ok(length) if length > 0 => bytes.extend_from_slice(piece.get(..length).unwrap_or_default()),
                Ok(_) | Err(_) => ended = true,
            },
        }
    }
}
