//! What was asked of the registry, when, and what came of it.
//!
//! Times are microseconds of one monotonic clock. A write whose outcome nobody knows ends never.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use uuid::Uuid;

pub type Micros = u64;
/// The end of what never ended.
pub const NEVER: Micros = u64::MAX;

/// The clock of a run.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

impl Clock {
    pub fn start() -> Self {
        Self(Instant::now())
    }

    pub fn now(self) -> Micros {
        self.at(Instant::now())
    }

    pub fn at(self, instant: Instant) -> Micros {
        u64::try_from(instant.saturating_duration_since(self.0).as_micros()).unwrap_or(NEVER)
    }
}

/// Names one change that a client asked for: the request, and the place in it where it is one of many. It stands in
/// the request's id and in what is written, so it is found again in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag {
    pub request: u64,
    pub item: u32,
}

impl Tag {
    pub fn request_id(self) -> String {
        format!("op-{}", self.request)
    }

    pub fn text(self) -> String {
        format!("{}.{}", self.request, self.item)
    }

    pub fn read(text: &str) -> Option<Self> {
        let (request, item) = text.split_once('.')?;
        Some(Self { request: request.parse().ok()?, item: item.parse().ok()? })
    }

    pub fn request_of(request_id: &str) -> Option<u64> {
        request_id.strip_prefix("op-")?.parse().ok()
    }
}

/// The place of an instance: its service and its key there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot {
    pub service: Arc<str>,
    pub key: Arc<str>,
}

/// What an operation is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    Slot(Slot),
    Instance(Uuid),
    Config(Arc<str>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// With content of its own.
    Register,
    /// With content that is thought to be there already.
    RegisterAgain,
    Replace,
    Report {
        healthy: bool,
    },
    Unregister,
    PutConfig,
    DeleteConfig,
}

impl Verb {
    /// Whether it may be acknowledged without having changed anything.
    pub fn may_change_nothing(self) -> bool {
        matches!(self, Self::RegisterAgain | Self::Report { .. })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    None,
    /// If-Match.
    Version(i64),
    /// If-None-Match: *
    Absent,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Acknowledged.
    Done {
        revision: i64,
        version: Option<i64>,
        instance: Option<Uuid>,
    },
    /// Understood, and not done: 404, 409 or 412.
    Refused {
        status: u16,
        current: Option<i64>,
    },
    /// Not done, and the answer says so.
    Failed {
        code: String,
    },
    Unknown,
    /// An answer that nobody should get.
    Odd(String),
}

#[derive(Clone, Debug)]
pub struct Write {
    pub tag: Tag,
    pub replica: usize,
    pub invoked: Micros,
    pub completed: Micros,
    pub target: Target,
    pub verb: Verb,
    pub condition: Condition,
    /// The number that a counter has afterwards.
    pub number: Option<i64>,
    pub outcome: Outcome,
    /// How often it was sent, under one Idempotency-Key.
    pub sent: u32,
    /// What was told of it at a second asking, where that differs.
    pub told_otherwise: Option<String>,
}

impl Write {
    pub fn revision(&self) -> Option<i64> {
        match self.outcome {
            Outcome::Done { revision, .. } => Some(revision),
            _ => None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consistency {
    Default,
    Strong,
    AtLeast(i64),
}

/// What a read saw of one row.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seen {
    pub version: i64,
    pub tag: Option<Tag>,
}

#[derive(Clone, Debug)]
pub enum ReadResult {
    Row(Option<Seen>),
    /// All instances of a service.
    Service(BTreeMap<Uuid, Seen>),
    /// Only the revision was looked at.
    Revision,
}

#[derive(Clone, Debug)]
pub enum ReadTarget {
    Row(Target),
    Service(Arc<str>),
}

#[derive(Clone, Debug)]
pub struct Read {
    pub replica: usize,
    pub invoked: Micros,
    pub completed: Micros,
    pub target: ReadTarget,
    pub consistency: Consistency,
    pub revision: i64,
    pub result: ReadResult,
}

/// All that a scenario's clients did.
#[derive(Clone, Debug, Default)]
pub struct History {
    pub writes: Vec<Write>,
    pub reads: Vec<Read>,
    /// Reads that got no answer, which proves nothing.
    pub failed_reads: u64,
}

impl History {
    pub fn absorb(&mut self, other: Self) {
        self.writes.extend(other.writes);
        self.reads.extend(other.reads);
        self.failed_reads += other.failed_reads;
    }

    pub fn acknowledged(&self) -> usize {
        self.writes.iter().filter(|write| matches!(write.outcome, Outcome::Done { .. })).count()
    }
}
