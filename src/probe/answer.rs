//! Understands the answer to an HTTP/1 request as it comes in, and no more of it than matters.
//!
//! No input or output of its own: it is given what was read, piece by piece, and says when that was all.

use std::mem::MaybeUninit;

use httparse::{EMPTY_HEADER, Header, ParserConfig, Response, Status};

use crate::domain::check::{HttpAsk, Method};

/// How much of an answer is read where nothing in it matters, so that its connection can be kept.
const MOST_TO_PASS_OVER: usize = 16 * 1024;
/// How much is read of one that matters, and of the head of any.
const MOST_TO_READ: usize = 64 * 1024;
/// How much of a body may come in parts, each of which says how long it is.
const MOST_AROUND: usize = 4 * MOST_TO_READ;
const MOST_HEADERS: usize = 100;
const SWITCHING_PROTOCOLS: u16 = 101;
const ODD_CHUNKS: &str = "the chunks of the body cannot be told apart";

/// What was answered.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Answer {
    pub status: u16,
    /// Empty where nobody looks at it.
    pub body: Vec<u8>,
    /// Whether the connection can be used again.
    pub leaves_open: bool,
}

pub(super) struct Reader<'a> {
    ask: &'a HttpAsk,
    /// What has come and cannot be understood without what follows it.
    held: Vec<u8>,
    head: Option<Head>,
    body: Vec<u8>,
    /// How much has come of the body, with all that is around it.
    come: usize,
}

struct Head {
    status: u16,
    /// Whether somebody looks at the body.
    matters: bool,
    leaves_open: bool,
    framing: Framing,
}

/// What is yet to come of a body.
#[derive(Debug, PartialEq)]
enum Framing {
    Length(u64),
    ChunkSize,
    Chunk(u64),
    EndOfChunk,
    Trailers,
    UntilEnd,
}

impl<'a> Reader<'a> {
    pub fn new(ask: &'a HttpAsk) -> Self {
        Self { ask, held: Vec::new(), head: None, body: Vec::new(), come: 0 }
    }

    /// Whether nothing has come yet.
    pub fn is_at_start(&self) -> bool {
        self.head.is_none() && self.held.is_empty()
    }

    /// Whether nothing matters that is yet to come.
    pub fn knows_enough(&self) -> bool {
        self.head.as_ref().is_some_and(|head| !head.matters)
    }

    /// Whether the connection can be used again when all has been read, as far as that is known.
    pub fn leaves_open(&self) -> bool {
        let ends = |head: &Head| head.leaves_open && head.framing != Framing::UntilEnd;
        self.head.as_ref().is_none_or(ends)
    }

    /// What was read next. Gives the answer if that was the end of it.
    pub fn take(&mut self, piece: &[u8]) -> Result<Option<Answer>, String> {
        match self.take_in(piece) {
            Err(_) if self.knows_enough() => return Ok(Some(self.cut_off())),
            taken => taken?,
        }
        let Some(head) = &self.head else {
            return within(MOST_TO_READ, "head", self.held.len()).map(|()| None);
        };
        if head.framing == Framing::Length(0) {
            // who says more than he was asked for is not understood the next time
            let leaves_open = head.leaves_open && self.held.is_empty();
            return Ok(Some(Answer { leaves_open, ..self.cut_off() }));
        }
        if !head.matters && self.come + self.held.len() > MOST_TO_PASS_OVER {
            return Ok(Some(self.cut_off()));
        }
        within(MOST_TO_READ, "body", self.body.len() + self.held.len())?;
        within(MOST_AROUND, "body, with all that is around it,", self.come).map(|()| None)
    }

    /// Nothing more will come, or nobody waits for it.
    pub fn end(&mut self) -> Result<Answer, String> {
        if !self.held.is_empty() && !self.knows_enough() {
            let held = std::mem::take(&mut self.held);
            self.understand(&held)?;
        }
        match &self.head {
            Some(head) if !head.matters || head.framing == Framing::UntilEnd => Ok(self.cut_off()),
            Some(_) => Err("the connection was closed within the body".to_owned()),
            None => Err("the connection was closed within the head".to_owned()),
        }
    }

    /// The answer as far as it has come.
    fn cut_off(&mut self) -> Answer {
        let status = self.head.as_ref().map(|head| head.status).unwrap_or_default();
        Answer { status, body: std::mem::take(&mut self.body), leaves_open: false }
    }

    fn take_in(&mut self, piece: &[u8]) -> Result<(), String> {
        if !self.held.is_empty() && !piece.contains(&b'\n') {
            // what is waited for ends a line: until it comes the beginning is not gone through again
            self.held.extend_from_slice(piece);
        } else if self.held.is_empty() {
            let used = self.understand(piece)?;
            self.held.extend_from_slice(piece.get(used..).unwrap_or_default());
        } else {
            let mut held = std::mem::take(&mut self.held);
            held.extend_from_slice(piece);
            let used = self.understand(&held)?;
            held.drain(..used);
            self.held = held;
        }
        Ok(())
    }

    /// Gives how much was understood.
    fn understand(&mut self, input: &[u8]) -> Result<usize, String> {
        let mut used = 0;
        loop {
            let rest = input.get(used..).unwrap_or_default();
            let Some(head) = &mut self.head else {
                let Some((length, head)) = read_head(rest, self.ask)? else { return Ok(used) };
                used += length;
                let is_interim = head.status < 200 && head.status != SWITCHING_PROTOCOLS;
                self.head = Some(head).filter(|_| !is_interim);
                continue;
            };
            let Some((step, is_body)) = head.framing.step(rest)? else { return Ok(used) };
            if is_body && head.matters {
                self.body.extend_from_slice(rest.get(..step).unwrap_or_default());
            }
            self.come += step;
            used += step;
        }
    }
}

impl Framing {
    /// Takes the next part. Gives its length and whether it belongs to the body itself; None where that cannot be said
    /// yet.
    fn step(&mut self, input: &[u8]) -> Result<Option<(usize, bool)>, String> {
        let (next, step, is_body) = match self {
            Self::Length(left) => {
                let (step, left) = split(*left, input);
                (Self::Length(left), step, true)
            }
            Self::UntilEnd => (Self::UntilEnd, input.len(), true),
            Self::ChunkSize => match httparse::parse_chunk_size(input) {
                Ok(Status::Complete((step, 0))) => (Self::Trailers, step, false),
                Ok(Status::Complete((step, size))) => (Self::Chunk(size), step, false),
                Ok(Status::Partial) => return Ok(None),
                Err(_) => return Err(ODD_CHUNKS.to_owned()),
            },
            Self::Chunk(left) => match split(*left, input) {
                (step, 0) => (Self::EndOfChunk, step, true),
                (step, left) => (Self::Chunk(left), step, true),
            },
            Self::EndOfChunk => match input {
                [b'\r', b'\n', ..] => (Self::ChunkSize, 2, false),
                [] | [b'\r'] => return Ok(None),
                _ => return Err("a chunk of the body does not end where it should".to_owned()),
            },
            Self::Trailers => match httparse::parse_headers(input, &mut [EMPTY_HEADER; MOST_HEADERS]) {
                Ok(Status::Complete((step, _))) => (Self::Length(0), step, false),
                Ok(Status::Partial) => return Ok(None),
                Err(_) => return Err(ODD_CHUNKS.to_owned()),
            },
        };
        *self = next;
        Ok((step > 0).then_some((step, is_body)))
    }
}

/// How much of what is to come is there, and how much is not.
fn split(to_come: u64, input: &[u8]) -> (usize, u64) {
    let step = usize::try_from(to_come).unwrap_or(usize::MAX).min(input.len());
    (step, to_come.saturating_sub(step as u64))
}

fn within(most: usize, what: &str, length: usize) -> Result<(), String> {
    if length > most { Err(format!("the {what} is longer than {most} bytes")) } else { Ok(()) }
}

/// The head at the beginning of what has come, and its length. None where it has not all come.
fn read_head(input: &[u8], ask: &HttpAsk) -> Result<Option<(usize, Head)>, String> {
    let mut space = [const { MaybeUninit::uninit() }; MOST_HEADERS];
    let mut response = Response::new(&mut []);
    let parsed = ParserConfig::default()
        .parse_response_with_uninit_headers(&mut response, input, &mut space)
        .map_err(|error| format!("answered no HTTP: {error}"))?;
    let Status::Complete(length) = parsed else { return Ok(None) };
    let status = response.code.unwrap_or_default();
    let is_old = response.version == Some(0);
    let said = Said::by(response.headers)?;
    let has_body = ask.method != Method::Head && !matches!(status, 100..200 | 204 | 304);
    let framing = match (has_body, said.chunked, said.length) {
        (false, ..) => Framing::Length(0),
        (true, Some(true), _) => Framing::ChunkSize,
        (true, Some(false), _) | (true, None, None) => Framing::UntilEnd,
        (true, None, Some(length)) => Framing::Length(length),
    };
    let is_clear = said.chunked.is_none() || said.length.is_none();
    let leaves_open =
        is_clear && !said.close && (!is_old || said.keep_alive) && status != SWITCHING_PROTOCOLS;
    let matters = has_body && ask.expect.needs_body(status);
    Ok(Some((length, Head { status, matters, leaves_open, framing })))
}

/// What a head says of the body, and of what is to become of the connection.
#[derive(Default)]
struct Said {
    length: Option<u64>,
    /// Whether the end is known by chunks, where there is a coding at all.
    chunked: Option<bool>,
    close: bool,
    keep_alive: bool,
}

impl Said {
    fn by(headers: &[Header<'_>]) -> Result<Self, String> {
        let mut said = Self::default();
        for Header { name, value } in headers {
            if name.eq_ignore_ascii_case("content-length") {
                let length = std::str::from_utf8(value).ok().and_then(|digits| digits.trim().parse().ok());
                let length = length.ok_or("the body's length is no number")?;
                if said.length.is_some_and(|other| other != length) {
                    return Err("the body is said to have two lengths".to_owned());
                }
                said.length = Some(length);
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                said.chunked = Some(words(value).next_back().is_some_and(|word| is(word, "chunked")));
            } else if name.eq_ignore_ascii_case("connection") {
                said.close |= words(value).any(|word| is(word, "close"));
                said.keep_alive |= words(value).any(|word| is(word, "keep-alive"));
            }
        }
        Ok(said)
    }
}

fn words(value: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}

fn is(word: &[u8], name: &str) -> bool {
    word.eq_ignore_ascii_case(name.as_bytes())
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;
