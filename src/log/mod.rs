//! The log, the only place where state moves: the writer appends to it, the follower carries it into the view.

mod anchor;
mod ends;
mod follower;
mod hints;
mod peers;
mod plan;
mod reckoning;
mod repeat;
mod request;
mod settlement;
mod upkeep;
mod writer;

use std::{sync::Arc, time::Duration};

use thiserror::Error;
use tokio::sync::mpsc;

pub use anchor::{Anchor, Anchors};
pub use follower::Follower;
pub use hints::{run_listener, run_notifier};
pub use peers::{Peers, run_presence};
pub use plan::Outcome;
pub use repeat::IdempotencyKey;
pub use upkeep::{remove_ended_tokens, run_upkeep};
pub use writer::Writer;

use crate::{
    domain::{Command, Refusal, Revision, Rights},
    telemetry::CommandOutcome,
};
use request::{Pending, Request};

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
        Self::itself("checker")
    }

    /// rollcall itself, cleaning up.
    pub fn upkeep() -> Self {
        Self::itself("upkeep")
    }

    /// rollcall itself, removing who was ill for too long.
    pub fn sweeper() -> Self {
        Self::itself("sweeper")
    }

    fn itself(part: &str) -> Self {
        let (actor, origin, rights) = (part.into(), part.into(), Rights::All);
        Self { actor, origin, request_id: None, idempotency: None, rights }
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
        let request = Request::of(1);
        self.hand_over(&request, [(caller, command)]);
        let answer = request.answers(ANSWER_WITHIN).await.next();
        self.counted(answer.unwrap_or(Err(WriteError::OutcomeUnknown)))
    }

    /// The same for many: each has an outcome of its own.
    pub async fn write_all(&self, commands: Vec<(Caller, Command)>) -> Vec<Result<Outcome, WriteError>> {
        let request = Request::of(commands.len());
        self.hand_over(&request, commands);
        request.answers(ANSWER_WITHIN).await.map(|answer| self.counted(answer)).collect()
    }

    /// What can be made ready by the caller is: the writer has its hands full.
    fn hand_over(&self, request: &Arc<Request>, commands: impl IntoIterator<Item = (Caller, Command)>) {
        for ((caller, mut command), slip) in commands.into_iter().zip(request.slips()) {
            let mut spec_text = None;
            if let Some((service, spec)) = command.specified() {
                self.follower.view().glimpse(|snapshot| snapshot.share(service, spec));
                spec_text = Some(plan::text_of(spec));
            }
            match self.commands.try_send(Pending::new(caller, command, spec_text, slip)) {
                Ok(()) => {}
                Err(mpsc::error::TrySendError::Full(pending)) => pending.reply(Err(WriteError::Overloaded)),
                Err(mpsc::error::TrySendError::Closed(pending)) => {
                    pending.reply(Err(WriteError::Unavailable));
                }
            }
        }
    }

    fn counted(&self, answer: Result<Outcome, WriteError>) -> Result<Outcome, WriteError> {
        let label = match &answer {
            Ok(Outcome { event: Some(_), .. }) => CommandOutcome::Committed,
            Ok(_) => CommandOutcome::Unchanged,
            Err(error) => error.label(),
        };
        self.follower.metrics().command(label);
        answer
    }

    pub fn follower(&self) -> &Arc<Follower> {
        &self.follower
    }
}

pub struct Queue(mpsc::Receiver<Pending>);
