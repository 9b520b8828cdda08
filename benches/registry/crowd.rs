//! Clients of all kinds at once, who wait for an answer and ask again whatever it was: also when they were refused, and
//! without a look at Retry-After. One thread for all of them.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use rustix::event::epoll;

use crate::bodies;

/// An answer that comes later is as good as none.
const WITHIN: Duration = Duration::from_secs(1);
/// How long is waited for what is still to come at the end.
const REST: Duration = Duration::from_secs(5);
const TOO_LONG: usize = 64 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Discover,
    Heartbeat,
    /// A page of a list.
    List,
    /// An instance with something new.
    Update,
    /// A new instance.
    Register,
    /// The one that this connection registered last.
    Deregister,
}

impl Kind {
    pub const ALL: [Self; 6] =
        [Self::Discover, Self::Heartbeat, Self::List, Self::Update, Self::Register, Self::Deregister];

    /// Of twenty requests ten are discoveries, five heartbeats, one a list, and four change something.
    fn of(turn: u64, has_own: bool) -> Self {
        match turn % 20 {
            1 | 5 | 9 | 13 | 17 => Self::Heartbeat,
            3 => Self::List,
            7 | 15 => Self::Update,
            11 | 19 if has_own => Self::Deregister,
            11 | 19 => Self::Register,
            _ => Self::Discover,
        }
    }
}

/// What became of the requests of a kind.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    pub asked: u64,
    /// A success in time.
    pub good: u64,
    /// A success too late.
    pub late: u64,
    /// 503 or 429.
    pub refused: u64,
    /// Anything else, or nothing.
    pub failed: u64,
}

#[derive(Default)]
pub struct Tally {
    pub kinds: [Counts; Kind::ALL.len()],
    pub seconds: f64,
    /// What those who were asked computed in this time, in seconds.
    pub cpu: f64,
    /// In milliseconds, of what was good.
    pub latencies: Vec<f64>,
    pub worst_failure: Option<String>,
}

impl Tally {
    pub fn of(&self, kind: Kind) -> Counts {
        self.kinds[kind as usize]
    }

    /// Good answers a second.
    pub fn goodput(&self) -> f64 {
        self.kinds.iter().map(|counts| counts.good).sum::<u64>() as f64 / self.seconds
    }

    pub fn offered(&self) -> f64 {
        self.kinds.iter().map(|counts| counts.asked).sum::<u64>() as f64 / self.seconds
    }
}

/// Whom the clients know.
pub struct Crowd {
    pub address: SocketAddr,
    pub services: u64,
    /// Instances that are there for good.
    pub ids: Vec<String>,
    /// The number of the next new instance.
    pub next: u64,
}

struct Client {
    stream: TcpStream,
    turn: u64,
    kind: Kind,
    asked: Instant,
    received: Vec<u8>,
    own: Option<String>,
    is_busy: bool,
}

impl Crowd {
    /// So many connections ask, for so long after a while that is not counted. `cpu` tells what those who are asked have
    /// computed so far.
    pub fn ask(
        &mut self,
        connections: usize,
        warm_up: Duration,
        time: Duration,
        cpu: impl Fn() -> f64,
    ) -> io::Result<Tally> {
        let ready = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut clients = Vec::new();
        for number in 0..connections as u64 {
            let stream = TcpStream::connect(self.address)?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            epoll::add(&ready, &stream, epoll::EventData::new_u64(number), epoll::EventFlags::IN)?;
            clients.push(Client {
                stream,
                turn: number.wrapping_mul(7),
                kind: Kind::Discover,
                asked: Instant::now(),
                received: Vec::new(),
                own: None,
                is_busy: false,
            });
        }
        let begin = Instant::now() + warm_up;
        let end = begin + time;
        let mut tally = Tally { seconds: time.as_secs_f64(), ..Tally::default() };
        for client in &mut clients {
            self.next_of(client)?;
        }
        let (mut buffer, mut events) = (vec![0; 256 * 1024], Vec::with_capacity(1024));
        let mut busy = connections;
        let (mut cpu_before, mut has_ended) = (None, false);
        while busy > 0 && Instant::now() < end + REST {
            let patience = epoll_patience(end + REST);
            epoll::wait(&ready, rustix::buffer::spare_capacity(&mut events), Some(&patience))?;
            let now = Instant::now();
            if cpu_before.is_none() && now >= begin {
                cpu_before = Some(cpu());
            }
            if !has_ended && now >= end {
                has_ended = true;
                tally.cpu = cpu() - cpu_before.unwrap_or_default();
            }
            for event in events.drain(..) {
                let client = &mut clients[event.data.u64() as usize];
                if !client.take(&mut buffer)? {
                    continue;
                }
                let now = Instant::now();
                client.is_busy = false;
                client.settle(now, begin, end, &mut tally);
                if now < end {
                    self.next_of(client)?;
                } else {
                    busy -= 1;
                }
            }
        }
        for client in clients.iter().filter(|client| client.is_busy && client.asked >= begin) {
            let counts = &mut tally.kinds[client.kind as usize];
            counts.asked += 1;
            counts.failed += 1;
        }
        Ok(tally)
    }

    fn next_of(&mut self, client: &mut Client) -> io::Result<()> {
        client.turn += 1;
        client.kind = Kind::of(client.turn, client.own.is_some());
        let number = bodies::spread(client.turn, self.ids.len() as u64);
        let mut request = Vec::with_capacity(512);
        match client.kind {
            Kind::Discover => {
                let service = number % self.services;
                bodies::get(&format!("/discover/service-{service:06}"), &mut request);
            }
            Kind::List => bodies::get("/api/v1/services?limit=50", &mut request),
            Kind::Heartbeat => {
                let path = format!("/api/v1/services/{}/heartbeat", self.ids[number as usize]);
                bodies::post(&path, "{\"load\":0.5}", &mut request);
            }
            Kind::Update => {
                let body = bodies::registration(number % self.services, number);
                let body = body.replace("1.4.2", &format!("1.4.{}", client.turn));
                bodies::post("/api/v1/services/register", &body, &mut request);
            }
            Kind::Register => {
                self.next += 1;
                let body = bodies::registration(self.next % self.services, self.next);
                bodies::post("/api/v1/services/register", &body, &mut request);
            }
            Kind::Deregister => {
                let id = client.own.as_deref().unwrap_or_default();
                write!(request, "DELETE /api/v1/services/{id} HTTP/1.1\r\nHost: registry\r\n\r\n")?;
            }
        }
        client.asked = Instant::now();
        client.is_busy = true;
        // a request is far smaller than what the system takes at once
        client.stream.write_all(&request)
    }
}

fn epoll_patience(until: Instant) -> rustix::event::Timespec {
    let left = until.saturating_duration_since(Instant::now());
    rustix::event::Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() }
}

impl Client {
    /// Whether the answer is whole.
    fn take(&mut self, buffer: &mut [u8]) -> io::Result<bool> {
        let length = match self.stream.read(buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        };
        self.received.extend_from_slice(&buffer[..length]);
        let Some(end) = self.received.windows(4).position(|window| window == b"\r\n\r\n") else {
            return Ok(false);
        };
        let body = self.header("content-length: ", end).and_then(|text| text.parse().ok()).unwrap_or(0);
        Ok(self.received.len() >= end + 4 + body)
    }

    fn header(&self, name: &str, end: usize) -> Option<&str> {
        str::from_utf8(&self.received[..end]).ok()?.lines().find_map(|line| line.strip_prefix(name))
    }

    fn settle(&mut self, now: Instant, begin: Instant, end: Instant, tally: &mut Tally) {
        let status: u16 = str::from_utf8(&self.received[9..12]).unwrap().parse().unwrap();
        let is_good = (200..300).contains(&status);
        match self.kind {
            Kind::Register if is_good => {
                let place = self.header("location: ", self.received.len().min(2048));
                self.own = place.and_then(|place| place.rsplit('/').next()).map(str::to_owned);
            }
            Kind::Deregister if is_good || status == 404 => self.own = None,
            _ => {}
        }
        if self.asked >= begin {
            let took = now - self.asked;
            let counts = &mut tally.kinds[self.kind as usize];
            counts.asked += 1;
            match status {
                // what comes after the end belongs to no second that is counted
                200..300 if took <= WITHIN && now <= end => {
                    counts.good += 1;
                    tally.latencies.push(took.as_secs_f64() * 1e3);
                }
                200..300 if took <= WITHIN => counts.asked -= 1,
                200..300 => counts.late += 1,
                429 | 503 => counts.refused += 1,
                _ => {
                    counts.failed += 1;
                    tally.worst_failure = Some(String::from_utf8_lossy(&self.received).into_owned());
                }
            }
        }
        self.received.clear();
        self.received.shrink_to(TOO_LONG);
    }
}
