//! What clients do with configurations: plain ones, counters, and cells of a short history.

use std::sync::Arc;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::{Board, Worker, call, session::Change};
use crate::history::{Condition, Consistency, Outcome, ReadResult, ReadTarget, Seen, Tag, Target, Verb};

impl Worker {
    pub(super) async fn put_config(&mut self) {
        let name = Board::any_config(&mut self.random);
        let condition = self.condition(&name);
        self.put(name, condition, None).await;
    }

    pub(super) async fn delete_config(&mut self) {
        let name = Board::any_config(&mut self.random);
        self.delete(name).await;
    }

    pub(super) async fn read_config(&mut self) {
        let name = Board::any_config(&mut self.random);
        let consistency = self.consistency();
        self.read(name, consistency).await;
    }

    /// Adds one to a counter: reads it, and writes the next number if nobody else has meanwhile.
    pub(super) async fn count(&mut self) {
        let name = Board::any_counter(&mut self.random);
        let consistency = if self.random.percent(50) { Consistency::Default } else { Consistency::Strong };
        let Some(body) = self.read(Arc::clone(&name), consistency).await else { return };
        match (body["version"].as_i64(), body["content"]["number"].as_i64()) {
            (Some(version), Some(number)) => {
                self.put(name, Condition::Version(version), Some(number + 1)).await;
            }
            _ => self.put(name, Condition::Absent, Some(0)).await,
        }
    }

    /// One operation on a configuration whose whole history stays short.
    pub(super) async fn use_cell(&mut self) {
        let name = self.board.any_cell(&mut self.random);
        match self.random.below(10) {
            0..4 => drop(self.read(name, Consistency::Strong).await),
            4 => self.delete(name).await,
            _ => {
                let condition = self.condition(&name);
                self.put(name, condition, None).await;
            }
        }
    }

    fn condition(&mut self, name: &Arc<str>) -> Condition {
        match (self.random.below(10), self.board.config(name)) {
            (0..5, Some(version)) => Condition::Version(version),
            (0..5, None) | (5, _) => Condition::Absent,
            _ => Condition::None,
        }
    }

    async fn put(&mut self, name: Arc<str>, condition: Condition, number: Option<i64>) {
        let call = call(Method::PUT, format!("/api/v1/config/{name}"), condition);
        let change = Change { target: Target::Config(Arc::clone(&name)), verb: Verb::PutConfig, number };
        let body = Box::new(move |tag: Tag| {
            Some(match number {
                Some(number) => json!({ "tag": tag.text(), "number": number }),
                None => json!({ "tag": tag.text() }),
            })
        });
        let outcomes = self.write(call, vec![change], body).await;
        self.learn_config(&name, &outcomes[0]);
    }

    async fn delete(&mut self, name: Arc<str>) {
        let condition = match self.board.config(&name) {
            Some(version) if self.random.percent(50) => Condition::Version(version),
            _ => Condition::None,
        };
        let call = call(Method::DELETE, format!("/api/v1/config/{name}"), condition);
        let change =
            Change { target: Target::Config(Arc::clone(&name)), verb: Verb::DeleteConfig, number: None };
        let outcomes = self.write(call, vec![change], Box::new(|_| None)).await;
        self.learn_config(&name, &outcomes[0]);
    }

    async fn read(&mut self, name: Arc<str>, consistency: Consistency) -> Option<Value> {
        let replica = self.replica();
        let path = format!("/api/v1/config/{name}");
        let target = ReadTarget::Row(Target::Config(Arc::clone(&name)));
        let body = self.session.read(replica, &path, consistency, target, seen_config).await?;
        self.board.know_config(&name, body["version"].as_i64());
        Some(body)
    }

    fn learn_config(&self, name: &Arc<str>, outcome: &Outcome) {
        match *outcome {
            // one that was deleted has no version
            Outcome::Done { version, .. } => self.board.know_config(name, version),
            Outcome::Refused { current, .. } => self.board.know_config(name, current),
            _ => {}
        }
    }
}

fn seen_config(status: StatusCode, body: &Value) -> Option<ReadResult> {
    match status.as_u16() {
        200 => {
            let tag = body["content"]["tag"].as_str().and_then(Tag::read);
            Some(ReadResult::Row(Some(Seen { version: body["version"].as_i64()?, tag })))
        }
        404 => Some(ReadResult::Row(None)),
        _ => None,
    }
}
