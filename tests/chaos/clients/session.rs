//! One client: sends requests over HTTP and writes down what came of each.

use std::{sync::Arc, time::Duration};

use reqwest::{Method, StatusCode};
use serde_json::Value;
use uuid::Uuid;

use crate::history::{
    Clock, Condition, Consistency, History, NEVER, Outcome, Read, ReadResult, ReadTarget, Tag, Target, Verb,
    Write,
};

/// Longer than a replica takes for any answer.
pub const PATIENT: Duration = Duration::from_secs(7);
/// Requests of one client before those of the next.
const REQUESTS: u64 = 1_000_000_000;

pub struct Session {
    http: reqwest::Client,
    bases: Arc<[String]>,
    clock: Clock,
    next: u64,
    pub history: History,
}

/// A write before it is sent.
#[derive(Clone, Debug)]
pub struct Call {
    pub method: Method,
    pub path: String,
    pub body: Option<Value>,
    pub condition: Condition,
    pub within: Duration,
    pub key: Option<String>,
}

/// What the call changes, item by item.
#[derive(Clone, Debug)]
pub struct Change {
    pub target: Target,
    pub verb: Verb,
    pub number: Option<i64>,
}

/// An answer, or why there is none.
pub enum Answer {
    Came {
        status: StatusCode,
        revision: Option<i64>,
        body: Value,
    },
    /// It never left.
    NotSent,
    Lost,
}

impl Session {
    pub fn new(bases: &[String], clock: Clock, client: u64) -> Self {
        let http = reqwest::Client::builder().no_proxy().build().expect("a client");
        Self { http, bases: bases.into(), clock, next: client * REQUESTS, history: History::default() }
    }

    pub fn replicas(&self) -> usize {
        self.bases.len()
    }

    /// The tag of the next write.
    pub fn next_tag(&mut self) -> Tag {
        self.next += 1;
        Tag { request: self.next, item: 0 }
    }

    /// The tag that the next write will have.
    pub fn coming_tag(&self) -> Tag {
        Tag { request: self.next + 1, item: 0 }
    }

    pub async fn send(&self, replica: usize, call: &Call, request_id: Option<&str>) -> Answer {
        let url = format!("{}{}", self.bases[replica], call.path);
        let mut request = self.http.request(call.method.clone(), url).timeout(call.within);
        request = match call.condition {
            Condition::None => request,
            Condition::Version(version) => request.header("if-match", format!("\"{version}\"")),
            Condition::Absent => request.header("if-none-match", "*"),
        };
        if let Some(id) = request_id {
            request = request.header("x-request-id", id);
        }
        if let Some(key) = &call.key {
            request = request.header("idempotency-key", key);
        }
        if let Some(body) = &call.body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) if error.is_connect() || error.is_builder() => return Answer::NotSent,
            Err(_) => return Answer::Lost,
        };
        let status = response.status();
        let revision = response.headers().get("x-rollcall-revision");
        let revision = revision.and_then(|value| value.to_str().ok()).and_then(|text| text.parse().ok());
        match response.bytes().await {
            Ok(bytes) => {
                let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
                Answer::Came { status, revision, body }
            }
            Err(_) => Answer::Lost,
        }
    }

    /// Sends a write, again under its key for as long as that is worth something, and notes what came of each
    /// item. Gives the items' outcomes.
    pub async fn write(
        &mut self,
        tag: Tag,
        route: &[usize],
        call: &Call,
        changes: Vec<Change>,
    ) -> Vec<Outcome> {
        let invoked = self.clock.now();
        let request_id = tag.request_id();
        let mut outcomes = vec![Outcome::Unknown; changes.len()];
        let (mut sent, mut may_be_done, mut replica) = (0, false, route[0]);
        for next in route {
            replica = *next;
            sent += 1;
            let answer = self.send(replica, call, Some(&request_id)).await;
            outcomes = outcomes_of(&answer, &changes);
            let settled = outcomes
                .iter()
                .all(|outcome| matches!(outcome, Outcome::Done { .. } | Outcome::Refused { .. }));
            if settled || call.key.is_none() {
                break;
            }
            may_be_done |= outcomes.iter().any(|one| matches!(one, Outcome::Unknown | Outcome::Odd(_)));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let completed = self.clock.now();
        for ((item, change), outcome) in (0..).zip(changes).zip(&mut outcomes) {
            if may_be_done && matches!(outcome, Outcome::Refused { .. } | Outcome::Failed { .. }) {
                // an earlier sending may have been carried out, or may yet be
                *outcome = Outcome::Unknown;
            }
            let ended = !matches!(outcome, Outcome::Unknown | Outcome::Odd(_));
            self.history.writes.push(Write {
                tag: Tag { item, ..tag },
                replica,
                invoked,
                completed: if ended { completed } else { NEVER },
                target: change.target,
                verb: change.verb,
                condition: call.condition,
                number: change.number,
                outcome: outcome.clone(),
                sent,
                told_otherwise: None,
            });
        }
        outcomes
    }

    /// Sends an acknowledged write once more under its key: it must be told the same, and change nothing.
    pub async fn repeat(&mut self, replica: usize, tag: Tag, call: &Call, before: &[Outcome]) {
        let answer = self.send(replica, call, Some(&tag.request_id())).await;
        let Answer::Came { .. } = &answer else { return };
        let changes: Vec<Change> = self.noted(before.len()).iter().map(change_of).collect();
        let told = outcomes_of(&answer, &changes);
        let first = self.history.writes.len() - before.len();
        for ((write, told), before) in self.history.writes[first..].iter_mut().zip(told).zip(before) {
            let differs = match (&told, before) {
                (Outcome::Failed { .. } | Outcome::Unknown, _) => false,
                // what changed nothing may tell of any later state, as long as the row is the same
                (
                    Outcome::Done { version, instance, .. },
                    Outcome::Done { version: first, instance: one, .. },
                ) if write.verb.may_change_nothing() => (version, instance) != (first, one),
                (told, before) => told != before,
            };
            write.sent += 1;
            if differs {
                write.told_otherwise = Some(format!("{before:?}, and at a second asking {told:?}"));
            }
        }
    }

    /// The newest writes of the history.
    fn noted(&self, count: usize) -> &[Write] {
        &self.history.writes[self.history.writes.len() - count..]
    }

    /// Reads, and notes what was seen. `look` finds in the body what is compared with the log.
    pub async fn read(
        &mut self,
        replica: usize,
        path: &str,
        consistency: Consistency,
        target: ReadTarget,
        look: impl Fn(StatusCode, &Value) -> Option<ReadResult>,
    ) -> Option<Value> {
        let joint = if path.contains('?') { '&' } else { '?' };
        let path = match consistency {
            Consistency::Default => path.to_owned(),
            Consistency::Strong => format!("{path}{joint}consistency=strong"),
            Consistency::AtLeast(revision) => format!("{path}{joint}min_revision={revision}"),
        };
        let call = Call {
            method: Method::GET,
            path,
            body: None,
            condition: Condition::None,
            within: PATIENT,
            key: None,
        };
        let invoked = self.clock.now();
        let answer = self.send(replica, &call, None).await;
        let completed = self.clock.now();
        if let Answer::Came { status, revision: Some(revision), body } = answer
            && let Some(result) = look(status, &body)
        {
            self.history.reads.push(Read {
                replica,
                invoked,
                completed,
                target,
                consistency,
                revision,
                result,
            });
            return Some(body);
        }
        self.history.failed_reads += 1;
        None
    }
}

fn change_of(write: &Write) -> Change {
    Change { target: write.target.clone(), verb: write.verb, number: write.number }
}

fn outcomes_of(answer: &Answer, changes: &[Change]) -> Vec<Outcome> {
    let all = |outcome: Outcome| vec![outcome; changes.len()];
    match answer {
        Answer::NotSent => all(Outcome::Failed { code: "not_sent".to_owned() }),
        Answer::Lost => all(Outcome::Unknown),
        Answer::Came { status, body: Value::Array(items), .. } if status.is_success() => {
            if items.len() != changes.len() {
                return all(Outcome::Odd(format!("{} answers for {} items", items.len(), changes.len())));
            }
            items.iter().map(item_outcome).collect()
        }
        Answer::Came { status, revision, body } => all(outcome_of(status.as_u16(), *revision, body)),
    }
}

/// One of many that were registered together.
fn item_outcome(item: &Value) -> Outcome {
    let status = item["status"].as_u64().and_then(|status| u16::try_from(status).ok()).unwrap_or(0);
    let body = if status == 201 { &item["service"] } else { &item["problem"] };
    outcome_of(status, body["revision"].as_i64(), body)
}

fn outcome_of(status: u16, revision: Option<i64>, body: &Value) -> Outcome {
    let code = body["code"].as_str().unwrap_or_default();
    match (status, revision) {
        (200 | 201 | 204, Some(revision)) => Outcome::Done {
            revision,
            version: body["version"].as_i64(),
            instance: body["id"].as_str().and_then(|id| Uuid::parse_str(id).ok()),
        },
        (404 | 412, _) => Outcome::Refused { status, current: body["current_version"].as_i64() },
        (503, _) if code == "outcome_unknown" => Outcome::Unknown,
        (503, _)
            if [
                "store_unavailable",
                "storage_full",
                "overloaded",
                "too_many_conflicts",
                "row_busy",
                "not_ready",
            ]
            .contains(&code) =>
        {
            Outcome::Failed { code: code.to_owned() }
        }
        _ => Outcome::Odd(format!("{status} {code} {}", body["detail"].as_str().unwrap_or_default())),
    }
}
