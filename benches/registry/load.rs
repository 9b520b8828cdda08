//! A load of HTTP/1.1 requests over kept connections, each of which waits for an answer before it asks again.

use std::{
    io::{self, Read as _, Write as _},
    net::SocketAddr,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use rustix::event::epoll;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};

/// Writes the request with this number.
pub type Requests<'a> = &'a (dyn Fn(u64, &mut Vec<u8>) + Sync);

/// Fewer cannot keep the server busy, more would leave it nothing.
const THREADS: usize = 2;

const LONGEST_HEAD: usize = 4096;

#[derive(Clone, Copy)]
pub enum Amount {
    For(Duration),
    Count(u64),
}

#[derive(Default)]
pub struct Done {
    pub requests: u64,
    pub seconds: f64,
    /// In microseconds.
    pub latencies: Vec<f64>,
    /// What went wrong first.
    pub error: Option<String>,
}

impl Done {
    pub fn rate(&self) -> f64 {
        self.requests as f64 / self.seconds
    }

    /// For a load in which nothing may fail.
    pub fn flawless(self) -> Self {
        if let Some(error) = &self.error {
            panic!("under load: {error}");
        }
        assert!(self.requests > 0, "nothing was answered");
        self
    }
}

/// To be called where nothing else runs: it blocks.
pub fn run(
    address: SocketAddr,
    connections: usize,
    amount: Amount,
    first: u64,
    requests: Requests<'_>,
) -> Done {
    let next = AtomicU64::new(first);
    let begun = Instant::now();
    let goes_on = |number: u64, now: Instant| match amount {
        Amount::For(time) => now - begun < time,
        Amount::Count(count) => number < first + count,
    };
    let parts: Vec<Done> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let share = connections / THREADS + usize::from(thread < connections % THREADS);
                let asker = Asker { next: &next, goes_on: &goes_on, requests, done: Done::default() };
                scope.spawn(move || asker.keep_asking(address, share))
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let mut whole = Done { seconds: begun.elapsed().as_secs_f64(), ..Done::default() };
    for part in parts {
        whole.requests += part.requests;
        whole.latencies.extend(part.latencies);
        whole.error = whole.error.or(part.error);
    }
    whole
}

/// One thread with some connections and one buffer for all of them: it must take as little as it can of what it shares
/// with those whom it measures.
struct Asker<'a> {
    next: &'a AtomicU64,
    goes_on: &'a (dyn Fn(u64, Instant) -> bool + Sync),
    requests: Requests<'a>,
    done: Done,
}

struct Connection {
    stream: std::net::TcpStream,
    asked: Instant,
    /// What has come of a head that is not whole yet.
    head: Vec<u8>,
    /// What is still to come of a body. None before its head is whole.
    left: Option<usize>,
}

impl Asker<'_> {
    fn keep_asking(mut self, address: SocketAddr, connections: usize) -> Done {
        if let Err(error) = self.ask(address, connections) {
            self.done.error = Some(error.to_string());
        }
        self.done
    }

    fn ask(&mut self, address: SocketAddr, connections: usize) -> io::Result<()> {
        let ready = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut open = Vec::new();
        let mut busy = 0;
        for number in 0..connections as u64 {
            let stream = std::net::TcpStream::connect(address)?;
            stream.set_nodelay(true)?;
            epoll::add(&ready, &stream, epoll::EventData::new_u64(number), epoll::EventFlags::IN)?;
            let mut connection = Connection { stream, asked: Instant::now(), head: Vec::new(), left: None };
            busy += usize::from(self.next(&mut connection)?);
            open.push(connection);
        }
        let (mut buffer, mut events) = (vec![0; 256 * 1024], Vec::with_capacity(connections));
        while busy > 0 {
            epoll::wait(&ready, rustix::buffer::spare_capacity(&mut events), None)?;
            for event in events.drain(..) {
                let connection = &mut open[event.data.u64() as usize];
                let length = connection.stream.read(&mut buffer)?;
                if length == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                if connection.take(&buffer[..length])? {
                    self.done.requests += 1;
                    self.done.latencies.push(connection.asked.elapsed().as_secs_f64() * 1e6);
                    busy -= usize::from(!self.next(connection)?);
                }
            }
        }
        Ok(())
    }

    /// Asks once more, if it is not over.
    fn next(&mut self, connection: &mut Connection) -> io::Result<bool> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        connection.asked = Instant::now();
        if !(self.goes_on)(number, connection.asked) {
            return Ok(false);
        }
        let mut request = Vec::with_capacity(512);
        (self.requests)(number, &mut request);
        connection.stream.write_all(&request)?;
        Ok(true)
    }
}

impl Connection {
    /// Whether the answer is whole.
    fn take(&mut self, bytes: &[u8]) -> io::Result<bool> {
        let left = match self.left {
            Some(left) => left.saturating_sub(bytes.len()),
            None => {
                let before = self.head.len();
                self.head.extend_from_slice(&bytes[..bytes.len().min(LONGEST_HEAD)]);
                let Some(end) = find(&self.head, b"\r\n\r\n") else { return Ok(false) };
                let head = std::str::from_utf8(&self.head[..end]).map_err(io::Error::other)?;
                if !head.starts_with("HTTP/1.1 2") {
                    return Err(io::Error::other(String::from_utf8_lossy(&self.head).into_owned()));
                }
                (end + 4 + header(head, "content-length").and_then(|text| text.parse().ok()).unwrap_or(0))
                    .saturating_sub(before + bytes.len())
            }
        };
        self.head.clear();
        self.left = Some(left).filter(|left| *left > 0);
        Ok(left == 0)
    }
}

fn header<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    head.split("\r\n").skip(1).find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// One connection, which knows as much of HTTP as an answer with a length needs.
pub struct Wire<Stream = TcpStream> {
    stream: Stream,
    answer: Vec<u8>,
    head: usize,
}

impl Wire {
    pub async fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self::over(stream))
    }
}

impl<Stream: AsyncRead + AsyncWrite + Unpin> Wire<Stream> {
    pub fn over(stream: Stream) -> Self {
        Self { stream, answer: Vec::with_capacity(16 * 1024), head: 0 }
    }

    pub async fn ask(&mut self, request: &[u8]) -> io::Result<u16> {
        self.stream.write_all(request).await?;
        self.answer.clear();
        let mut whole = None;
        loop {
            if whole.is_none()
                && let Some(end) = find(&self.answer, b"\r\n\r\n")
            {
                self.head = end + 4;
                let length = self.header("content-length").and_then(|text| text.parse::<usize>().ok());
                whole = Some(self.head + length.unwrap_or(0));
            }
            match whole {
                Some(whole) if self.answer.len() >= whole => break,
                _ => {}
            }
            if self.stream.read_buf(&mut self.answer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let status = self.answer.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
        status.ok_or_else(|| io::Error::other("not HTTP"))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        header(std::str::from_utf8(self.answer.get(..self.head)?).ok()?, name)
    }

    pub fn head(&self) -> &[u8] {
        &self.answer[..self.head]
    }

    pub fn body(&self) -> &[u8] {
        &self.answer[self.head..]
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.answer).into_owned()
    }
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}
