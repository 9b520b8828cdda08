//! Answers plain requests as they come off the wire, until something else is asked.
//!
//! What is asked then, and all that comes after it, is the library's: a connection is never handed back.

use std::{
    cell::RefCell,
    future::poll_fn,
    io::{self, ErrorKind, IoSlice},
    mem::MaybeUninit,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};

use super::{Closing, Line, seldom::Seldom, stream::Stream};
use crate::doors::kit::Peer;

/// A plain request is much shorter.
const PIECE: usize = 2048;

/// What of an answer has not been sent yet.
struct Unsent {
    first: Bytes,
    rest: Bytes,
}

/// Answers plain requests. Gives what was read that is none; None where the connection has come to its end.
pub async fn serve(
    stream: &mut Stream,
    line: &Line,
    peer: &Peer,
    closing: &Closing,
) -> io::Result<Option<Bytes>> {
    let mut told = pin!(closing.told.notified());
    let (mut waiting, mut unsent, mut read_ahead) = (Seldom::default(), None, None);
    poll_fn(|context| {
        // whoever begins it after this look wakes the task
        waiting.look(false, context, |context| told.as_mut().poll(context));
        loop {
            if unsent.is_some() {
                ready!(send_on(stream, &mut unsent, context))?;
            }
            if closing.has_begun() {
                return Poll::Ready(Ok(None));
            }
            if let Some(read_ahead) = read_ahead.take() {
                return Poll::Ready(Ok(Some(read_ahead)));
            }
            let mut space = [const { MaybeUninit::uninit() }; PIECE];
            let mut piece = ReadBuf::uninit(&mut space);
            ready!(Pin::new(&mut *stream).poll_read(context, &mut piece))?;
            let piece = piece.filled();
            if piece.is_empty() {
                return Poll::Ready(Ok(None));
            }
            let Some((length, left)) = answer(stream, line, peer, piece, context)? else {
                return Poll::Ready(Ok(Some(Bytes::copy_from_slice(piece))));
            };
            unsent = left;
            // who does not wait for his answer asks more than what is plain
            read_ahead = piece.get(length..).filter(|rest| !rest.is_empty()).map(Bytes::copy_from_slice);
        }
    })
    .await
}

/// Answers the request that a piece begins with, if it is plain. Gives its length, and what could not be sent at once.
fn answer(
    stream: &mut Stream,
    line: &Line,
    peer: &Peer,
    piece: &[u8],
    context: &mut Context<'_>,
) -> io::Result<Option<(usize, Option<Unsent>)>> {
    thread_local! {
        static ANSWER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    }
    ANSWER.with_borrow_mut(|first| {
        first.clear();
        let Some((length, mut rest)) = line.front.plainly(piece, peer, first) else { return Ok(None) };
        line.pulse.answer_at_once(false);
        let sent = match send(stream, first, &rest, context) {
            Poll::Ready(sent) => sent?,
            Poll::Pending => 0,
        };
        let of_first = sent.min(first.len());
        rest.advance(sent - of_first);
        let first = first.get(of_first..).unwrap_or_default();
        let is_sent = first.is_empty() && rest.is_empty() && flushed(stream, context)?.is_ready();
        let unsent = (!is_sent).then(|| Unsent { first: Bytes::copy_from_slice(first), rest });
        Ok(Some((length, unsent)))
    })
}

fn send_on(
    stream: &mut Stream,
    unsent: &mut Option<Unsent>,
    context: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    while let Some(Unsent { first, rest }) =
        unsent.as_mut().filter(|left| left.first.len() + left.rest.len() > 0)
    {
        let sent = ready!(send(stream, first, rest, context))?;
        let of_first = sent.min(first.len());
        first.advance(of_first);
        rest.advance(sent - of_first);
    }
    if flushed(stream, context)?.is_pending() {
        return Poll::Pending;
    }
    *unsent = None;
    Poll::Ready(Ok(()))
}

/// Sends what the other side takes of it, which is something.
fn send(
    stream: &mut Stream,
    first: &[u8],
    rest: &[u8],
    context: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    let stream = Pin::new(stream);
    let sent = match (first, rest) {
        (only, []) | ([], only) => ready!(stream.poll_write(context, only))?,
        (first, rest) => {
            ready!(stream.poll_write_vectored(context, &[IoSlice::new(first), IoSlice::new(rest)]))?
        }
    };
    Poll::Ready(if sent == 0 { Err(ErrorKind::WriteZero.into()) } else { Ok(sent) })
}

fn flushed(stream: &mut Stream, context: &mut Context<'_>) -> io::Result<Poll<()>> {
    match Pin::new(stream).poll_flush(context) {
        Poll::Ready(flushed) => flushed.map(Poll::Ready),
        Poll::Pending => Ok(Poll::Pending),
    }
}
