//! The log, the only place where state moves: the writer appends to it, the follower carries it into the view.

mod anchor;
mod follower;
mod hints;
mod plan;
mod repeat;
mod settlement;
mod upkeep;
mod writer;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::{Duration, Instant},
};

use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

pub use anchor::{Anchor, Anchors};
pub use follower::Follower;
pub use hints::{run_listener, run_notifier};
pub use plan::Outcome;
pub use repeat::IdempotencyKey;
pub use upkeep::run_upkeep;
pub use writer::Writer;

use crate::{
    domain::{Command, Refusal, Revision, Rights},
    telemetry::CommandOutcome,
};

/// How many commands may wait. More are turned away at once: they would only wait in vain.
const QUEUE: usize = 8192;
/// How long a command waits for the writer to take it up.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long a caller waits in all. Past this the outcome of a command that was taken up is unknown.
const ANSWER_WITHIN: Duration = Duration::from_millis(4700);

/// On whose behalf something is done, for the audit.
#[derive(Clone, Debug)]
pub struct Caller {
    pub actor: Arc<str>,
    /// The way it came: the door and the peer.
    pub origin: Arc<str>,
    pub request_id: Option<Arc<str>>,
    pub idempotency: Option<IdempotencyKey>,
    /// What he may do. The log does not ask: whoever hands over a command has seen to it.
    pub rights: Rights,
}

impl Caller {
    /// rollcall itself, having asked an instance for its health.
    pub fn checker() -> Self {
        let rights = Rights::All;
        Self {
            actor: "checker".into(),
            origin: "checker".into(),
            request_id: None,
            idempotency: None,
            rights,
        }
    }
}

impl Caller {
    /// Makes some more bytes part of what the caller's idempotency key stands for.
    pub fn cover(&mut self, bytes: &[u8]) {
        if let Some(key) = &mut self.idempotency {
            key.cover(bytes);
        }
    }

    /// The same caller with the key of one item of its request.
    #[must_use]
    pub fn of_item(&self, index: usize) -> Self {
        let idempotency = self.idempotency.as_ref().map(|key| key.of_item(index));
        Self { idempotency, ..self.clone() }
    }
}

/// The result of a write, and the revision from which on readers see it.
#[derive(Clone, Debug)]
pub struct Written<T> {
    pub revision: Revision,
    pub changed: bool,
    pub value: T,
}

#[derive(Debug, Error)]
pub enum WriteError {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("the database cannot be reached; nothing was changed")]
    Unavailable,
    #[error("the database has not answered; whether the change was made is not known")]
    OutcomeUnknown,
    #[error("too many changes are waiting; nothing was changed")]
    Overloaded,
    #[error("others changed the same again and again; nothing was changed")]
    TooManyConflicts,
    #[error("the row is locked in the database; nothing was changed")]
    RowBusy,
    #[error("the database refused the change")]
    Rejected,
    #[error("the idempotency key was used for another request")]
    KeyReused,
}

impl WriteError {
    fn label(&self) -> CommandOutcome {
        match self {
            Self::Refused(_) | Self::KeyReused => CommandOutcome::Refused,
            Self::TooManyConflicts => CommandOutcome::Conflict,
            Self::OutcomeUnknown => CommandOutcome::Unknown,
            Self::Unavailable | Self::Overloaded | Self::RowBusy | Self::Rejected => CommandOutcome::Failed,
        }
    }
}

/// A command on its way.
struct Pending {
    command: Command,
    caller: Caller,
    since: Instant,
    tries: u32,
    state: Arc<Claim>,
    answer: oneshot::Sender<Result<Outcome, WriteError>>,
}

/// Whether a command still waits or has been taken up. Its caller and the writer agree on it by this alone: a caller
/// that gives up first can be sure that nothing happens any more.
#[derive(Debug, Default)]
struct Claim(AtomicU8);

impl Claim {
    const WAITING: u8 = 0;
    const TAKEN: u8 = 1;
    const GIVEN_UP: u8 = 2;

    /// For the writer, again before each attempt: whether the command is still wanted.
    fn take(&self) -> bool {
        self.0.compare_exchange(Self::WAITING, Self::TAKEN, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// For the writer: the attempt is known to have changed nothing.
    fn put_back(&self) {
        // one that its caller has given up stays so
        let _stays = self.0.compare_exchange(Self::TAKEN, Self::WAITING, Ordering::AcqRel, Ordering::Acquire);
    }

    fn give_up(&self) -> bool {
        self.0.compare_exchange(Self::WAITING, Self::GIVEN_UP, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

/// Where commands are handed to the writer.
#[derive(Clone)]
pub struct Log {
    commands: mpsc::Sender<Pending>,
    follower: Arc<Follower>,
}

impl Log {
    /// The log, and the end of the queue that the writer works on.
    pub fn new(follower: Arc<Follower>) -> (Self, Queue) {
        let (commands, queue) = mpsc::channel(QUEUE);
        (Self { commands, follower }, Queue(queue))
    }

    /// Has a command decided and, where it changes something, written. When this returns, the change is durable and
    /// this replica's view has it.
    pub async fn write(&self, caller: Caller, command: Command) -> Result<Outcome, WriteError> {
        let result = self.hand_over(caller, command).await;
        let label = match &result {
            Ok(Outcome { event: Some(_), .. }) => CommandOutcome::Committed,
            Ok(_) => CommandOutcome::Unchanged,
            Err(error) => error.label(),
        };
        self.follower.metrics().command(label);
        result
    }

    async fn hand_over(&self, caller: Caller, command: Command) -> Result<Outcome, WriteError> {
        let (answer, answered) = oneshot::channel();
        let state = Arc::new(Claim::default());
        let pending =
            Pending { command, caller, since: Instant::now(), tries: 0, state: state.clone(), answer };
        match self.commands.try_send(pending) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(_)) => return Err(WriteError::Overloaded),
            Err(mpsc::error::TrySendError::Closed(_)) => return Err(WriteError::Unavailable),
        }
        match tokio::time::timeout(ANSWER_WITHIN, answered).await {
            Ok(Ok(result)) => result,
            // it was not taken up in time, or the writer is gone
            Ok(Err(_)) | Err(_) if state.give_up() => Err(WriteError::Unavailable),
            Ok(Err(_)) | Err(_) => Err(WriteError::OutcomeUnknown),
        }
    }

    pub fn follower(&self) -> &Arc<Follower> {
        &self.follower
    }
}

pub struct Queue(mpsc::Receiver<Pending>);
