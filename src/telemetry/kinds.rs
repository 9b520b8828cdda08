//! What there is to count: each a list that is known beforehand.

/// What became of a command that reached the writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandOutcome {
    /// It changed something, and the change is in the database.
    Committed,
    /// It had nothing to change.
    Unchanged,
    /// The rules refused it, or its caller's version was not the current one.
    Refused,
    /// It lost too many races and was given up.
    Conflict,
    /// The database did not take it.
    Failed,
    /// Nobody could say in time whether it was committed.
    Unknown,
}

impl CommandOutcome {
    pub(super) const ALL: [Self; 6] =
        [Self::Committed, Self::Unchanged, Self::Refused, Self::Conflict, Self::Failed, Self::Unknown];

    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Committed => "committed",
            Self::Unchanged => "unchanged",
            Self::Refused => "refused",
            Self::Conflict => "conflict",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
        }
    }
}

/// Why a connection was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// There are as many as there may be.
    Everywhere,
    /// Its address has as many as it may have.
    AtItsAddress,
}

impl Full {
    pub(super) const ALL: [Self; 2] = [Self::Everywhere, Self::AtItsAddress];

    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Everywhere => "total",
            Self::AtItsAddress => "address",
        }
    }
}

/// What a request is for: whoever asks for less gets his turn last when there is too much to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Whatever reads much, and what is no route.
    List,
    /// Writes but for the others named here.
    Register,
    /// Discovery that needs more than a look: with conditions, or no older than the request.
    Discover,
    Deregister,
    Heartbeat,
}

impl Class {
    /// From the first to be refused to the last.
    pub const ALL: [Self; 5] =
        [Self::List, Self::Register, Self::Discover, Self::Deregister, Self::Heartbeat];

    pub(super) fn label(self) -> &'static str {
        match self {
            Self::List => "list",
            Self::Register => "register",
            Self::Discover => "discover",
            Self::Deregister => "deregister",
            Self::Heartbeat => "heartbeat",
        }
    }
}

/// Why a request was refused before it was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// As many are under way as there may be of its class.
    Overloaded,
    /// Its client asks too often.
    TooOften,
}

impl Refused {
    pub(super) const ALL: [Self; 2] = [Self::Overloaded, Self::TooOften];

    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Overloaded => "overloaded",
            Self::TooOften => "rate",
        }
    }
}

/// What a connection did not do in time, so that it was ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overdue {
    /// Send the whole head of a request.
    Head,
    /// Send another request.
    Next,
    /// Read its answer.
    Answer,
}

impl Overdue {
    pub(super) const ALL: [Self; 3] = [Self::Head, Self::Next, Self::Answer];

    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Head => "head",
            Self::Next => "idle",
            Self::Answer => "answer",
        }
    }
}

/// Why a request was answered 401.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotLetIn {
    /// It showed nothing.
    Nothing,
    /// It showed something else than a Bearer token.
    Malformed,
    /// What it showed is not, or no longer, valid.
    Invalid,
}

impl NotLetIn {
    pub(super) const ALL: [Self; 3] = [Self::Nothing, Self::Malformed, Self::Invalid];

    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Malformed => "malformed",
            Self::Invalid => "invalid",
        }
    }
}

/// What holds something back, because it may be rollcall itself that is not well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Guard {
    /// This replica is silent towards most of its targets: what it sees of them is not believed.
    Suspicion,
    /// It may not have heard what instances said: nothing lapses.
    Leases,
    /// Too many would go at once, or nobody knows who is well again: what is ill for too long is not removed.
    Removals,
}

impl Guard {
    pub const ALL: [Self; 3] = [Self::Suspicion, Self::Leases, Self::Removals];

    pub fn label(self) -> &'static str {
        match self {
            Self::Suspicion => "suspicion",
            Self::Leases => "leases",
            Self::Removals => "removals",
        }
    }
}

/// What a poll of the log found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PollResult {
    Events,
    Nothing,
    Failed,
}

impl PollResult {
    pub(super) const ALL: [Self; 3] = [Self::Events, Self::Nothing, Self::Failed];

    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Nothing => "nothing",
            Self::Failed => "failed",
        }
    }
}
