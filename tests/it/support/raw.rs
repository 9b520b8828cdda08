//! A connection without a client's manners: any bytes are sent, and whatever comes back is kept.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use super::PATIENCE;

pub struct Raw {
    stream: TcpStream,
    received: Vec<u8>,
}

/// One answer of HTTP/1.
#[derive(Debug)]
pub struct Said {
    pub status: u16,
    /// In lower case.
    pub head: String,
    pub body: String,
}

impl Raw {
    pub async fn connect(port: u16) -> Self {
        Self::from(Ipv4Addr::LOCALHOST, port).await
    }

    /// From another address of this machine.
    pub async fn from(source: Ipv4Addr, port: u16) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((source, 0).into()).unwrap();
        let target = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Self { stream: socket.connect(target).await.unwrap(), received: Vec::new() }
    }

    /// False when the server takes no more.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).await.is_ok()
    }

    /// Sends so many bytes at a time until the server ends the connection. It is to do so before the deadline.
    pub async fn drip(&mut self, bytes: &[u8], every: Duration, deadline: Duration) {
        let dripping = async {
            for piece in bytes.iter().cycle() {
                if !self.send([*piece]).await || timeout(every, self.more()).await == Ok(false) {
                    return;
                }
            }
        };
        assert!(timeout(deadline, dripping).await.is_ok(), "dripped for {deadline:?}, and was not stopped");
    }

    /// Says that nothing more will be sent.
    pub async fn finish(&mut self) {
        let _ = self.stream.shutdown().await;
    }

    /// The next answer.
    pub async fn answer(&mut self) -> Said {
        loop {
            if let Some((said, length)) = first(&self.received) {
                self.received.drain(..length);
                return said;
            }
            let text = String::from_utf8_lossy(&self.received).into_owned();
            assert!(self.more().await, "no whole answer: {text:?}");
        }
    }

    /// Whether something more has come; if not, the server has ended the connection.
    async fn more(&mut self) -> bool {
        let reading = self.stream.read_buf(&mut self.received);
        let read = timeout(PATIENCE, reading).await.expect("the server neither says something nor hangs up");
        read.is_ok_and(|read| read > 0)
    }

    /// Takes no more than so much of what was sent.
    pub async fn sip(&mut self, bytes: usize) {
        let mut some = vec![0; bytes];
        let _ = timeout(PATIENCE, self.stream.read(&mut some)).await.expect("something to read, or an end");
    }

    /// All that is still said until the server hangs up.
    pub async fn rest(mut self) -> Vec<u8> {
        while self.more().await {}
        self.received
    }
}

/// All answers of HTTP/1 in what was received, and what is left.
pub fn answers(mut bytes: &[u8]) -> (Vec<Said>, &[u8]) {
    let mut said = Vec::new();
    while let Some((next, length)) = first(bytes) {
        said.push(next);
        bytes = &bytes[length..];
    }
    (said, bytes)
}

fn first(bytes: &[u8]) -> Option<(Said, usize)> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let head = str::from_utf8(&bytes[..end]).ok()?.to_lowercase();
    let status = head.strip_prefix("http/1.")?.split(' ').nth(1)?.parse().ok()?;
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let length = length.map_or(0, |length| length.parse().unwrap());
    let body = String::from_utf8_lossy(bytes.get(end..end + length)?).into_owned();
    Some((Said { status, head, body }, end + length))
}
