//! Clients that work on few keys at once, and write down all they do.

mod board;
mod configs;
mod instances;
mod session;

use std::{sync::Arc, time::Duration};

use reqwest::Method;
use serde_json::Value;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub use board::{Board, is_cell};
pub use session::{PATIENT, Session};

use self::session::{Call, Change};
use crate::{
    history::{Clock, Condition, Consistency, History, Outcome, ReadResult, ReadTarget, Slot, Target, Verb},
    random::Random,
};

/// How often a write is sent at most, where it has a key.
const SENDINGS: usize = 5;
/// Clients above this number are not of the crowd: those of the nemesis and of the scenarios.
pub const FIRST_PROBE: u64 = 900;

/// Clients at work.
pub struct Crowd {
    tasks: JoinSet<History>,
    stop: CancellationToken,
}

/// Which clients there are, and whom they ask.
#[derive(Clone, Debug)]
pub struct Plan {
    pub clients: usize,
    pub seed: u64,
    /// The least time from one operation of a client to its next.
    pub pace: Duration,
    /// The numbers of the first client: histories of one run must not share any.
    pub first: u64,
    /// Each client asks one replica alone.
    pub loyal: bool,
}

impl Crowd {
    pub fn start(bases: &[String], clock: Clock, board: &Arc<Board>, plan: &Plan) -> Self {
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        for client in 0..plan.clients {
            let number = plan.first + client as u64;
            let mut worker = Worker {
                session: Session::new(bases, clock, number + 1),
                random: Random::of(plan.seed, &format!("client {number}")),
                board: Arc::clone(board),
                home: client % bases.len(),
                loyal: plan.loyal,
            };
            let (stop, pace) = (stop.clone(), plan.pace);
            tasks.spawn(async move {
                while !stop.is_cancelled() {
                    let next = tokio::time::Instant::now() + pace;
                    worker.step().await;
                    tokio::time::sleep_until(next).await;
                }
                worker.session.history
            });
        }
        Self { tasks, stop }
    }

    /// What they all did, once the last of them has its answer.
    pub async fn stop(mut self) -> History {
        self.stop.cancel();
        let mut whole = History::default();
        while let Some(history) = self.tasks.join_next().await {
            whole.absorb(history.expect("a client does not panic"));
        }
        whole
    }
}

struct Worker {
    session: Session,
    random: Random,
    board: Arc<Board>,
    /// The replica that this client asks most times.
    home: usize,
    loyal: bool,
}

impl Worker {
    async fn step(&mut self) {
        match self.random.below(100) {
            0..20 => self.register().await,
            20..23 => self.register_again().await,
            23..35 => self.replace().await,
            35..44 => self.report().await,
            44..48 => self.unregister().await,
            48..52 => self.register_many().await,
            52..62 => self.put_config().await,
            62..64 => self.delete_config().await,
            64..74 => self.count().await,
            74..84 => self.use_cell().await,
            84..92 => self.read_instance().await,
            92..96 => self.read_config().await,
            _ => self.read_service().await,
        }
    }

    /// The replica for one request.
    fn replica(&mut self) -> usize {
        if self.loyal || self.random.percent(80) { self.home } else { self.any_replica() }
    }

    fn any_replica(&mut self) -> usize {
        if self.loyal { self.home } else { self.random.below(self.session.replicas()) }
    }

    /// How fresh a read is to be.
    fn consistency(&mut self) -> Consistency {
        match self.random.below(10) {
            0..5 => Consistency::Default,
            5..8 => Consistency::Strong,
            _ => Consistency::AtLeast(self.board.newest()),
        }
    }

    /// Sends a write as this client does: sometimes in a hurry, sometimes under a key and again.
    async fn write(&mut self, mut call: Call, changes: Vec<Change>, body: Body) -> Vec<Outcome> {
        let tag = self.session.next_tag();
        call.body = body(tag);
        if self.random.percent(4) {
            call.within = Duration::from_millis(self.random.between(3, 400));
        }
        let mut route = vec![self.replica()];
        if self.random.percent(12) {
            call.key = Some(format!("key-{}", tag.request));
            for _ in 1..SENDINGS {
                route.push(self.any_replica());
            }
        }
        let outcomes = self.session.write(tag, &route, &call, changes).await;
        for outcome in &outcomes {
            if let Outcome::Done { revision, .. } = outcome {
                self.board.know_revision(*revision);
            }
        }
        let all_done = outcomes.iter().all(|outcome| matches!(outcome, Outcome::Done { .. }));
        if call.key.is_some() && all_done && self.random.percent(30) {
            // as when an answer was lost on its way and the client asks again
            call.within = PATIENT;
            let replica = self.any_replica();
            self.session.repeat(replica, tag, &call, &outcomes).await;
        }
        outcomes
    }
}

/// Makes the body of a write from its tag.
type Body = Box<dyn FnOnce(crate::history::Tag) -> Option<Value> + Send>;

fn call(method: Method, path: String, condition: Condition) -> Call {
    Call { method, path, body: None, condition, within: PATIENT, key: None }
}

/// Writes through one replica, to see whether it can: to a configuration of the prober's own.
pub async fn probe(session: &mut Session, replica: usize, within: Duration) -> Outcome {
    let tag = session.next_tag();
    let name: Arc<str> = format!("probe-{replica}").into();
    let mut call = call(Method::PUT, format!("/api/v1/config/{name}"), Condition::None);
    call.within = within;
    call.body = Some(serde_json::json!({ "tag": tag.text() }));
    let change = Change { target: Target::Config(name), verb: Verb::PutConfig, number: None };
    session.write(tag, &[replica], &call, vec![change]).await.remove(0)
}

/// Registers an instance through one replica.
pub async fn register(session: &mut Session, replica: usize, slot: &Slot) -> Outcome {
    let tag = session.next_tag();
    let mut call = call(Method::POST, "/api/v1/services/register".to_owned(), Condition::None);
    call.body = Some(instances::registration(slot, tag, ""));
    let change = Change { target: Target::Slot(slot.clone()), verb: Verb::Register, number: None };
    session.write(tag, &[replica], &call, vec![change]).await.remove(0)
}

pub async fn unregister(session: &mut Session, replica: usize, id: Uuid) -> Outcome {
    let tag = session.next_tag();
    let call = call(Method::DELETE, format!("/api/v1/services/{id}"), Condition::None);
    let change = Change { target: Target::Instance(id), verb: Verb::Unregister, number: None };
    session.write(tag, &[replica], &call, vec![change]).await.remove(0)
}

/// The revision that a replica shows.
pub async fn shown_revision(session: &mut Session, replica: usize, consistency: Consistency) -> Option<i64> {
    let target = ReadTarget::Service("nobody".into());
    let path = "/api/v1/services/discover/nobody";
    let look = |status: reqwest::StatusCode, _: &Value| status.is_success().then_some(ReadResult::Revision);
    session.read(replica, path, consistency, target, look).await?;
    session.history.reads.last().map(|read| read.revision)
}
