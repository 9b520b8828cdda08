//! Commands on their way to the writer, and the answers on their way back.
//!
//! The commands of one request travel by themselves, so that they share batches with those of others, and their caller
//! waits for all of them at once.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU8, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::value::RawValue;
use tokio::sync::Notify;

use super::{Caller, Outcome, WriteError, plan::Order};
use crate::domain::Command;

type Answer = Result<Outcome, WriteError>;

/// A command on its way.
pub(super) struct Pending {
    pub command: Command,
    pub spec_text: Option<Arc<RawValue>>,
    pub caller: Caller,
    pub since: Instant,
    pub tries: u32,
    slip: Slip,
}

impl Pending {
    pub fn new(caller: Caller, command: Command, spec_text: Option<Arc<RawValue>>, slip: Slip) -> Self {
        Self { command, spec_text, caller, since: Instant::now(), tries: 0, slip }
    }

    pub fn order(&self) -> Order<'_> {
        Order { command: &self.command, caller: &self.caller, spec_text: self.spec_text.as_ref() }
    }

    /// The bytes in it that there may be many of.
    pub fn weight(&self) -> usize {
        let content = match &self.command {
            Command::PutConfig { content, .. } => content.text().len(),
            _ => 0,
        };
        self.spec_text.as_ref().map_or(content, |text| text.get().len())
    }

    /// Whether it is about somebody of whom nothing, or nothing good, was heard.
    pub fn rests_on_silence(&self) -> bool {
        matches!(self.command, Command::Expire(_)) || self.command.silence().is_some()
    }

    /// For the writer, again before each attempt: whether the command is still wanted. From then on its caller does not
    /// know what becomes of it.
    pub fn take(&self) -> bool {
        self.slip.cell().is_some_and(|cell| cell.moves(Cell::WAITING, Cell::TAKEN))
    }

    /// For the writer, when nothing has become of it yet. One that its caller has given up stays so.
    pub fn put_back(&self) {
        if let Some(cell) = self.slip.cell() {
            cell.moves(Cell::TAKEN, Cell::WAITING);
        }
    }

    pub fn reply(self, answer: Answer) {
        if let Some(cell) = self.slip.cell() {
            *cell.answer.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
        }
    }
}

/// What a caller waits for: a cell for each of its commands.
pub(super) struct Request {
    cells: Box<[Cell]>,
    left: AtomicUsize,
    done: Notify,
}

/// Whether a command still waits or has been taken up, and its answer. Its caller and the writer agree on it by this
/// alone: a caller that gives up first can be sure that nothing happens any more.
#[derive(Default)]
struct Cell {
    state: AtomicU8,
    answer: Mutex<Option<Answer>>,
}

impl Cell {
    const WAITING: u8 = 0;
    const TAKEN: u8 = 1;
    const GIVEN_UP: u8 = 2;

    fn moves(&self, from: u8, to: u8) -> bool {
        self.state.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

/// The place of one command in its request. When it is dropped, nothing more comes for it.
pub(super) struct Slip {
    request: Arc<Request>,
    index: usize,
}

impl Slip {
    fn cell(&self) -> Option<&Cell> {
        self.request.cells.get(self.index)
    }
}

impl Drop for Slip {
    fn drop(&mut self) {
        if self.request.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.request.done.notify_one();
        }
    }
}

impl Request {
    pub fn of(commands: usize) -> Arc<Self> {
        let cells = (0..commands).map(|_| Cell::default()).collect();
        Arc::new(Self { cells, left: AtomicUsize::new(commands), done: Notify::new() })
    }

    /// One for each command.
    pub fn slips(self: &Arc<Self>) -> impl Iterator<Item = Slip> {
        (0..self.cells.len()).map(|index| Slip { request: self.clone(), index })
    }

    /// The answers, in the order of the commands.
    pub async fn answers(&self, within: Duration) -> impl Iterator<Item = Answer> {
        if self.left.load(Ordering::Acquire) > 0 {
            // what has not come by then is told by its cell
            let _late = tokio::time::timeout(within, self.done.notified()).await;
        }
        self.cells.iter().map(|cell| {
            let answer = || cell.answer.lock().unwrap_or_else(PoisonError::into_inner).take();
            match answer() {
                Some(answer) => answer,
                // it was not taken up in time, or the writer is gone
                None if cell.moves(Cell::WAITING, Cell::GIVEN_UP) => Err(WriteError::Unavailable),
                None => answer().unwrap_or(Err(WriteError::OutcomeUnknown)),
            }
        })
    }
}
