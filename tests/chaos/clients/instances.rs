//! What clients do with instances.

use std::collections::BTreeMap;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Board, Worker, board::KnownInstance, call, session::Change};
use crate::history::{Condition, Outcome, ReadResult, ReadTarget, Seen, Slot, Tag, Target, Verb};

const MOST_AT_ONCE: u64 = 24;

impl Worker {
    pub(super) async fn register(&mut self) {
        let slot = Board::any_slot(&mut self.random);
        let condition = match (self.random.below(10), self.board.instance(&slot)) {
            (0, Some(known)) => Condition::Version(known.version),
            (1, _) => Condition::Absent,
            _ => Condition::None,
        };
        let padding = self.padding();
        let change = Change { target: Target::Slot(slot.clone()), verb: Verb::Register, number: None };
        let made_of = slot.clone();
        let call = call(Method::POST, "/api/v1/services/register".to_owned(), condition);
        let body = Box::new(move |tag| Some(registration(&made_of, tag, &padding)));
        let outcomes = self.write(call, vec![change], body).await;
        let body = registration(&slot, self.last_tag(), "");
        self.learn(&slot, &outcomes[0], body);
    }

    pub(super) async fn register_again(&mut self) {
        let slot = Board::any_slot(&mut self.random);
        let Some(known) = self.board.instance(&slot) else { return };
        let change = Change { target: Target::Slot(slot.clone()), verb: Verb::RegisterAgain, number: None };
        let call = call(Method::POST, "/api/v1/services/register".to_owned(), Condition::None);
        let sent = known.body.clone();
        let outcomes = self.write(call, vec![change], Box::new(move |_| Some(sent))).await;
        self.learn(&slot, &outcomes[0], known.body);
    }

    pub(super) async fn register_many(&mut self) {
        let count = self.random.between(2, MOST_AT_ONCE);
        let slots: Vec<Slot> = (0..count).map(|_| Board::any_slot(&mut self.random)).collect();
        let change =
            |slot: &Slot| Change { target: Target::Slot(slot.clone()), verb: Verb::Register, number: None };
        let changes = slots.iter().map(change).collect();
        let made_of = slots.clone();
        let body = Box::new(move |tag: Tag| {
            let items = (0..).zip(&made_of).map(|(item, slot)| registration(slot, Tag { item, ..tag }, ""));
            Some(items.collect())
        });
        let call = call(Method::POST, "/api/v1/services/register/batch".to_owned(), Condition::None);
        let outcomes = self.write(call, changes, body).await;
        for (item, (slot, outcome)) in (0..).zip(slots.iter().zip(&outcomes)) {
            let body = registration(slot, Tag { item, ..self.last_tag() }, "");
            self.learn(slot, outcome, body);
        }
    }

    pub(super) async fn replace(&mut self) {
        let slot = Board::any_slot(&mut self.random);
        let Some(known) = self.board.instance(&slot) else { return self.register().await };
        let condition =
            if self.random.percent(70) { Condition::Version(known.version) } else { Condition::None };
        let change = Change { target: Target::Instance(known.id), verb: Verb::Replace, number: None };
        let padding = self.padding();
        let made_of = slot.clone();
        let call = call(Method::PUT, format!("/api/v1/services/{}", known.id), condition);
        let body = Box::new(move |tag| Some(registration(&made_of, tag, &padding)));
        let outcomes = self.write(call, vec![change], body).await;
        let body = registration(&slot, self.last_tag(), "");
        self.learn(&slot, &outcomes[0], body);
    }

    pub(super) async fn report(&mut self) {
        let slot = Board::any_slot(&mut self.random);
        let Some(known) = self.board.instance(&slot) else { return self.register().await };
        let healthy = self.random.percent(50);
        let change =
            Change { target: Target::Instance(known.id), verb: Verb::Report { healthy }, number: None };
        let path = format!("/api/v1/services/{}/health?healthy={healthy}", known.id);
        let call = call(Method::POST, path, Condition::None);
        let outcomes = self.write(call, vec![change], Box::new(|_| None)).await;
        self.learn(&slot, &outcomes[0], known.body);
    }

    pub(super) async fn unregister(&mut self) {
        let slot = Board::any_slot(&mut self.random);
        let Some(known) = self.board.instance(&slot) else { return self.register().await };
        let condition =
            if self.random.percent(50) { Condition::Version(known.version) } else { Condition::None };
        let change = Change { target: Target::Instance(known.id), verb: Verb::Unregister, number: None };
        let call = call(Method::DELETE, format!("/api/v1/services/{}", known.id), condition);
        let outcomes = self.write(call, vec![change], Box::new(|_| None)).await;
        match &outcomes[0] {
            Outcome::Done { .. } => self.board.know_instance(&slot, None),
            outcome => self.learn(&slot, outcome, known.body),
        }
    }

    pub(super) async fn read_instance(&mut self) {
        let slot = Board::any_slot(&mut self.random);
        let Some(known) = self.board.instance(&slot) else { return };
        let (replica, consistency) = (self.replica(), self.consistency());
        let path = format!("/api/v1/services/{}", known.id);
        let target = ReadTarget::Row(Target::Instance(known.id));
        let body = self.session.read(replica, &path, consistency, target, seen_instance).await;
        if let Some(version) = body.and_then(|body| body["version"].as_i64()) {
            self.board.know_version(&slot, version);
        }
    }

    pub(super) async fn read_service(&mut self) {
        let service = Board::any_service(&mut self.random);
        let (replica, consistency) = (self.replica(), self.consistency());
        let path = format!("/api/v1/services?name={service}");
        self.session.read(replica, &path, consistency, ReadTarget::Service(service), seen_service).await;
    }

    /// What an answer says of the instance in a slot.
    fn learn(&self, slot: &Slot, outcome: &Outcome, body: Value) {
        match *outcome {
            Outcome::Done { version: Some(version), instance: Some(id), .. } => {
                self.board.know_instance(slot, Some(KnownInstance { id, version, body }));
            }
            Outcome::Refused { status: 404, .. } => self.board.know_instance(slot, None),
            Outcome::Refused { current: Some(version), .. } => self.board.know_version(slot, version),
            _ => {}
        }
    }

    fn last_tag(&self) -> Tag {
        let last = self.session.history.writes.last().expect("something was written");
        Tag { item: 0, ..last.tag }
    }

    /// Some rows are larger than others.
    fn padding(&mut self) -> String {
        let length = if self.random.percent(10) { self.random.between(500, 4000) } else { 0 };
        "x".repeat(usize::try_from(length).unwrap_or(0))
    }
}

/// An instance that nobody checks: its health is what clients say of it.
pub(super) fn registration(slot: &Slot, tag: Tag, padding: &str) -> Value {
    let mut body = json!({
        "name": &*slot.service, "key": &*slot.key, "type": "api", "host": "127.0.0.1", "port": 80, "checks": [],
        "metadata": { "tag": tag.text() },
    });
    if !padding.is_empty() {
        body["metadata"]["padding"] = padding.into();
    }
    body
}

fn seen(instance: &Value) -> Option<Seen> {
    let tag = instance["metadata"]["tag"].as_str().and_then(Tag::read);
    Some(Seen { version: instance["version"].as_i64()?, tag })
}

fn seen_instance(status: StatusCode, body: &Value) -> Option<ReadResult> {
    match status.as_u16() {
        200 => Some(ReadResult::Row(Some(seen(body)?))),
        404 => Some(ReadResult::Row(None)),
        _ => None,
    }
}

fn seen_service(status: StatusCode, body: &Value) -> Option<ReadResult> {
    let items = body.as_array().filter(|_| status == 200)?;
    let one = |item: &Value| Some((Uuid::parse_str(item["id"].as_str()?).ok()?, seen(item)?));
    items.iter().map(one).collect::<Option<BTreeMap<_, _>>>().map(ReadResult::Service)
}
