//! A connection's stream that does not wait for ever: neither for a request, nor for its answer to be read.
//!
//! hyper knows what it waits for but does not tell, so this concludes it: the service says when a request has begun and
//! when its handler is done, the rest can be seen from the bytes. How long a body may take is not decided here: the
//! door that reads it does, and answers.
//!
//! What is quick costs nothing: timers are armed when the stream has nothing to give or takes no more, and the one for
//! the next request is not moved at each request, but asks when it rings whether there was any.

use std::{
    future::poll_fn,
    io::{self, ErrorKind, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures_util::FutureExt as _;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    task::unconstrained,
    time::{Instant, Sleep, sleep_until},
};

use super::seldom::Seldom;
use crate::{
    settings::{Limits, Pace},
    telemetry::{Metrics, Overdue},
};

/// Our pings, and our answers to the client's, are no sign that the client wants something.
const PING: usize = 17;
/// By how much TLS makes something longer, at most.
const ENVELOPE: usize = 29;

/// What the service tells its connection.
#[derive(Default)]
pub struct Pulse {
    begun: AtomicUsize,
    at_work: AtomicUsize,
    /// It speaks HTTP/2, where much else than heads of requests arrives.
    multiplexed: AtomicBool,
}

impl Pulse {
    /// A request's head is whole. Its handler is at work until what is given here is dropped.
    pub fn begin(pulse: &Arc<Self>, multiplexed: bool) -> AtWork {
        pulse.answer_at_once(multiplexed);
        pulse.at_work.fetch_add(1, Relaxed);
        AtWork(pulse.clone())
    }

    /// A request's head is whole, and its answer is there.
    pub fn answer_at_once(&self, multiplexed: bool) {
        // only the connection's own task begins requests, one after the other
        self.begun.store(self.begun.load(Relaxed).wrapping_add(1), Relaxed);
        if multiplexed {
            self.multiplexed.store(true, Relaxed);
        }
    }
}

pub struct AtWork(Arc<Pulse>);

impl Drop for AtWork {
    fn drop(&mut self) {
        self.0.at_work.fetch_sub(1, Relaxed);
    }
}

pub struct Watched {
    stream: TcpStream,
    metrics: Metrics,
    ping: usize,
    silence: Silence,
    stall: Stall,
}

impl Watched {
    pub fn new(stream: TcpStream, pulse: Arc<Pulse>, limits: Limits, metrics: Metrics) -> Self {
        let silence = Silence {
            pulse,
            limits,
            alarm: Alarm::default(),
            waiting: None,
            begun: 0,
            answered: 0,
            // It opened in order to send one.
            within_a_head: true,
        };
        let stall = Stall { pace: limits.answer, owed: Duration::ZERO, since: None, alarm: Alarm::default() };
        Self { stream, metrics, ping: PING, silence, stall }
    }

    /// What goes through it is encrypted.
    pub fn enveloped(mut self) -> Self {
        self.ping += ENVELOPE;
        self
    }

    /// The first byte, which stays where it is. It is waited for as long as for a head, of which it is a part.
    pub async fn first_byte(&mut self) -> io::Result<u8> {
        poll_fn(|context| {
            let mut byte = [0];
            match self.stream.poll_peek(context, &mut ReadBuf::new(&mut byte)) {
                Poll::Ready(Ok(0)) => Poll::Ready(Err(ErrorKind::UnexpectedEof.into())),
                Poll::Ready(Ok(_)) => Poll::Ready(Ok(u8::from_ne_bytes(byte))),
                Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                Poll::Pending => match self.silence.is_too_long(context) {
                    Some(what) => Poll::Ready(Err(self.overdue(what))),
                    None => Poll::Pending,
                },
            }
        })
        .await
    }

    /// What became of a write: progress, or a wait that may have been too long.
    fn after(
        &mut self,
        written: Poll<io::Result<usize>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(bytes)) = written {
            if bytes > self.ping {
                self.silence.answered += 1;
            }
            self.stall.took(bytes);
        }
        if written.is_ready() || !self.stall.is_too_long(context) {
            return written;
        }
        // What it did not read must not go on lying in the kernel after the end.
        drop(self.stream.set_zero_linger());
        Poll::Ready(Err(self.overdue(Overdue::Answer)))
    }

    fn overdue(&self, what: Overdue) -> io::Error {
        self.metrics.connection_overdue(what);
        ErrorKind::TimedOut.into()
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(context, buffer);
        if read.is_ready() {
            if buffer.filled().len() > before {
                this.silence.broken();
            }
            return read;
        }
        match this.silence.is_too_long(context) {
            Some(what) => Poll::Ready(Err(this.overdue(what))),
            None => Poll::Pending,
        }
    }
}

impl AsyncWrite for Watched {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(context, bytes);
        this.after(written, context)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let stream = Pin::new(&mut this.stream);
        let written = match bytes {
            // the system takes one piece at less cost than a list of one
            [only] => stream.poll_write(context, only),
            _ => stream.poll_write_vectored(context, bytes),
        };
        this.after(written, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    // Of a TCP stream neither of these waits for the client.
    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

/// For how long nothing may come.
struct Silence {
    pulse: Arc<Pulse>,
    limits: Limits,
    alarm: Alarm,
    waiting: Option<Waiting>,
    /// Requests begun when it was last looked at.
    begun: usize,
    /// Times that something of an answer was written.
    answered: usize,
    /// Something has come since, and no handler was at work: it can only be a head.
    within_a_head: bool,
}

/// What the alarm is set for, and what had happened by then.
#[derive(Clone, Copy, PartialEq)]
enum Waiting {
    Head { begun: usize },
    Next { begun: usize, answered: usize },
}

impl Silence {
    fn look(&mut self) {
        let begun = self.pulse.begun.load(Relaxed);
        if begun != self.begun {
            self.begun = begun;
            self.within_a_head = false;
        }
    }

    fn is_at_work(&self) -> bool {
        self.pulse.at_work.load(Relaxed) > 0
    }

    /// Something came.
    fn broken(&mut self) {
        self.look();
        if !self.is_at_work() && !self.pulse.multiplexed.load(Relaxed) {
            self.within_a_head = true;
        }
    }

    /// Nothing comes. What has been waited for for too long, if it has.
    fn is_too_long(&mut self, context: &mut Context<'_>) -> Option<Overdue> {
        self.look();
        if self.is_at_work() {
            return None;
        }
        let (begun, answered) = (self.begun, self.answered);
        if self.within_a_head {
            if self.waiting != Some(Waiting::Head { begun }) {
                self.waiting = Some(Waiting::Head { begun });
                self.alarm.set(self.limits.head_within);
            }
            return self.alarm.rings(context).then_some(Overdue::Head);
        }
        let next = Waiting::Next { begun, answered };
        if !matches!(self.waiting, Some(Waiting::Next { .. })) {
            self.waiting = Some(next);
            self.alarm.set(self.limits.idle_for);
        }
        while self.alarm.rings(context) {
            if self.waiting == Some(next) {
                return Some(Overdue::Next);
            }
            self.waiting = Some(next);
            self.alarm.set(self.limits.idle_for);
        }
        None
    }
}

/// For how long an answer may lie there unread.
struct Stall {
    pace: Pace,
    owed: Duration,
    since: Option<Instant>,
    alarm: Alarm,
}

impl Stall {
    fn took(&mut self, bytes: usize) {
        let waited = self.since.take().map_or(Duration::ZERO, |since| since.elapsed());
        self.owed = self.pace.owed(self.owed, waited, bytes);
    }

    fn is_too_long(&mut self, context: &mut Context<'_>) -> bool {
        if self.since.is_none() {
            self.since = Some(Instant::now());
            self.alarm.set(self.pace.left(self.owed));
        }
        self.alarm.rings(context)
    }
}

/// A timer that is made when it is first needed.
#[derive(Default)]
struct Alarm {
    sleep: Option<Pin<Box<Sleep>>>,
    waiting: Seldom,
}

impl Alarm {
    fn set(&mut self, within: Duration) {
        let at = Instant::now() + within;
        match &mut self.sleep {
            Some(sleep) => sleep.as_mut().reset(at),
            None => self.sleep = Some(Box::pin(sleep_until(at))),
        }
        self.waiting.forget();
    }

    /// Whether the time is over; if not, the task is woken when it is.
    fn rings(&mut self, context: &mut Context<'_>) -> bool {
        let Some(sleep) = &mut self.sleep else { return false };
        let is_over = sleep.is_elapsed();
        // a look that was put off, because the task has had its share of turns, would be taken for a wait
        self.waiting.look(is_over, context, |context| unconstrained(sleep.as_mut()).poll_unpin(context))
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use tokio::task::coop;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_alarm_rings_however_many_turns_the_task_has_had() {
        let mut alarm = Alarm::default();
        poll_fn(|context| {
            while coop::has_budget_remaining() {
                let _used = pin!(coop::consume_budget()).poll(context);
            }
            alarm.set(Duration::from_secs(1));
            assert!(!alarm.rings(context));
            Poll::Ready(())
        })
        .await;
        let rings = poll_fn(|context| if alarm.rings(context) { Poll::Ready(()) } else { Poll::Pending });
        tokio::time::timeout(Duration::from_secs(2), rings).await.unwrap();
    }
}
