//! Which faults there are, and in which order they come.

use std::time::Duration;

use crate::random::Random;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    KillDatabase,
    CrashDatabase,
    RestartDatabase,
    FreezeDatabase,
    FillDisk,
    Delay,
    Slow,
    Cut,
    Hold,
    BlackHole,
    HalfOpen,
    WithholdSync,
    Refuse,
    SilenceConnections,
    TerminateBackends,
    ExhaustConnections,
    HoldRows,
    KillReplica,
    FreezeReplica,
    RestartReplica,
}

pub const KINDS: [Kind; 20] = [
    Kind::KillDatabase,
    Kind::CrashDatabase,
    Kind::RestartDatabase,
    Kind::FreezeDatabase,
    Kind::FillDisk,
    Kind::Delay,
    Kind::Slow,
    Kind::Cut,
    Kind::Hold,
    Kind::BlackHole,
    Kind::HalfOpen,
    Kind::WithholdSync,
    Kind::Refuse,
    Kind::SilenceConnections,
    Kind::TerminateBackends,
    Kind::ExhaustConnections,
    Kind::HoldRows,
    Kind::KillReplica,
    Kind::FreezeReplica,
    Kind::RestartReplica,
];

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::KillDatabase => "kill -9 of the database",
            Self::CrashDatabase => "immediate shutdown of the database",
            Self::RestartDatabase => "restart of the database",
            Self::FreezeDatabase => "freeze of the database",
            Self::FillDisk => "full disk",
            Self::Delay => "delay",
            Self::Slow => "slow link",
            Self::Cut => "cut connections",
            Self::Hold => "partition, packets late",
            Self::BlackHole => "partition, packets lost",
            Self::HalfOpen => "half-open partition",
            Self::WithholdSync => "partition at the worst byte",
            Self::Refuse => "connections refused",
            Self::SilenceConnections => "connections silently dead",
            Self::TerminateBackends => "backends terminated",
            Self::ExhaustConnections => "connections exhausted",
            Self::HoldRows => "idle transaction that holds rows",
            Self::KillReplica => "kill -9 of a replica",
            Self::FreezeReplica => "freeze of a replica",
            Self::RestartReplica => "restart of a replica",
        }
    }

    /// As the command line has it.
    pub fn word(self) -> String {
        let mut word = String::new();
        for letter in format!("{self:?}").chars() {
            if letter.is_uppercase() && !word.is_empty() {
                word.push('-');
            }
            word.push(letter.to_ascii_lowercase());
        }
        word
    }
}

/// One fault, all of it decided beforehand.
#[derive(Clone, Debug)]
pub struct Fault {
    pub kind: Kind,
    /// None: all of them.
    pub replica: Option<usize>,
    pub lasts: Duration,
    /// The peace after it.
    pub pause: Duration,
    /// A number for whatever the kind needs to decide.
    pub dice: u64,
}

/// Faults without an end: each kind once in a random order, then again.
pub fn schedule(seed: u64, kinds: Vec<Kind>, replicas: usize, long: bool) -> impl Iterator<Item = Fault> {
    let mut random = Random::of(seed, "nemesis");
    let mut round: Vec<Kind> = Vec::new();
    std::iter::from_fn(move || {
        if round.is_empty() {
            round.clone_from(&kinds);
            random.shuffle(&mut round);
        }
        let kind = round.pop()?;
        let replica = if random.percent(35) { None } else { Some(random.below(replicas)) };
        let lasts = match random.below(10) {
            0 if long => random.between(4000, 8000),
            1..4 => random.between(0, 120),
            _ => random.between(200, if long { 2500 } else { 900 }),
        };
        let pause = random.between(100, if long { 900 } else { 400 });
        let (lasts, pause) = (Duration::from_millis(lasts), Duration::from_millis(pause));
        Some(Fault { kind, replica, lasts, pause, dice: random.number() })
    })
}
