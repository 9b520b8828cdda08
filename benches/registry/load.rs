//! A load of HTTP/1.1 requests over kept connections, each of which waits for an answer before it asks again.

use std::{
    io,
    net::SocketAddr,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// Writes the request with this number.
pub type Requests<'a> = &'a (dyn Fn(u64, &mut Vec<u8>) + Sync);

/// Fewer cannot keep the server busy, more would leave it nothing.
const THREADS: usize = 2;

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
    let goes_on = |number: u64| match amount {
        Amount::For(time) => begun.elapsed() < time,
        Amount::Count(count) => number < first + count,
    };
    let parts: Vec<Done> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let share = connections / THREADS + usize::from(thread < connections % THREADS);
                let (next, goes_on) = (&next, &goes_on);
                scope.spawn(move || {
                    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                    let all = (0..share).map(|_| keep_asking(address, next, goes_on, requests));
                    runtime.block_on(futures_util::future::join_all(all))
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let mut whole = Done { seconds: begun.elapsed().as_secs_f64(), ..Done::default() };
    for part in parts {
        whole.requests += part.requests;
        whole.latencies.extend(part.latencies);
        whole.error = whole.error.or(part.error);
    }
    whole
}

async fn keep_asking(
    address: SocketAddr,
    next: &AtomicU64,
    goes_on: &(dyn Fn(u64) -> bool + Sync),
    requests: Requests<'_>,
) -> Done {
    let mut done = Done::default();
    let outcome = async {
        let mut wire = Wire::connect(address).await?;
        let mut request = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if !goes_on(number) {
                return Ok(());
            }
            request.clear();
            requests(number, &mut request);
            let asked = Instant::now();
            let status = wire.ask(&request).await?;
            if !(200..300).contains(&status) {
                return Err(io::Error::other(wire.text()));
            }
            done.requests += 1;
            done.latencies.push(asked.elapsed().as_secs_f64() * 1e6);
        }
    };
    let outcome: io::Result<()> = outcome.await;
    done.error = outcome.err().map(|error| error.to_string());
    done
}

/// One connection, which knows as much of HTTP as an answer with a length needs.
pub struct Wire {
    stream: TcpStream,
    answer: Vec<u8>,
    head: usize,
}

impl Wire {
    pub async fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, answer: Vec::with_capacity(16 * 1024), head: 0 })
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
        let head = std::str::from_utf8(self.answer.get(..self.head)?).ok()?;
        head.split("\r\n").skip(1).find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
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
