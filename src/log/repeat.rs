//! Requests that carry an idempotency key, so that they are carried out once however often they come.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{WriteError, plan::Outcome};
use crate::{
    domain::{Revision, Row},
    store::{StoreError, idempotency::Kept},
};

/// A client's key, and what it was used for. The same key for something else is a mistake of the client's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyKey {
    pub key: Arc<str>,
    pub fingerprint: [u8; 32],
}

impl IdempotencyKey {
    pub fn new(key: &str, method: &str, target: &str) -> Self {
        let mut this = Self { key: key.into(), fingerprint: [0; 32] };
        this.cover(method.as_bytes());
        this.cover(target.as_bytes());
        this
    }

    /// Makes some more bytes part of what the key stands for.
    pub fn cover(&mut self, bytes: &[u8]) {
        self.fingerprint = Sha256::new().chain_update(self.fingerprint).chain_update(bytes).finalize().into();
    }

    /// The key of one item of a request that has many.
    #[must_use]
    pub fn of_item(&self, index: usize) -> Self {
        Self { key: format!("{}#{index}", self.key).into(), ..self.clone() }
    }

    /// The answer that was given before.
    pub fn recall(&self, kept: Result<&Kept, &StoreError>) -> Result<Outcome, WriteError> {
        let unreadable = |error: &StoreError| {
            tracing::error!(error = crate::telemetry::chain(error), "a kept answer cannot be read");
            WriteError::Rejected
        };
        let kept = kept.map_err(unreadable)?;
        if kept.fingerprint != self.fingerprint {
            return Err(WriteError::KeyReused);
        }
        let revision = kept.revision;
        let Answer { row, created } = read(&kept.answer).map_err(|error| unreadable(&error))?;
        // what a request found as it asked is no newer than it was
        let row = if kept.event.is_some() { row.map(|row| at_revision(row, Some(revision))) } else { row };
        Ok(Outcome { event: kept.event.clone(), row, revision, created, recalled: true })
    }
}

/// What is kept of an answer.
#[derive(Serialize, Deserialize)]
pub(super) struct Answer<R = Option<Row>> {
    pub row: R,
    pub created: bool,
}

fn read(answer: &str) -> Result<Answer, StoreError> {
    serde_json::from_str(answer).map_err(|error| StoreError::Unreadable {
        table: "idempotency_keys",
        column: "answer",
        reason: error.to_string(),
    })
}

/// A row whose revision has become known.
pub(super) fn at_revision(row: Row, revision: Option<Revision>) -> Row {
    let Some(revision) = revision else { return row };
    match row {
        Row::Instance(mut instance) => {
            Arc::make_mut(&mut instance).revision = revision;
            Row::Instance(instance)
        }
        Row::Config(mut entry) => {
            Arc::make_mut(&mut entry).revision = revision;
            Row::Config(entry)
        }
        Row::Token(mut token) => {
            Arc::make_mut(&mut token).revision = revision;
            Row::Token(token)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_covers_all_that_was_asked() {
        let one = IdempotencyKey::new("k", "POST", "/a");
        assert_eq!(one, IdempotencyKey::new("k", "POST", "/a"));
        assert_ne!(one.fingerprint, IdempotencyKey::new("k", "PUT", "/a").fingerprint);
        assert_ne!(one.fingerprint, IdempotencyKey::new("k", "POST", "/b").fingerprint);
        let mut body = one.clone();
        body.cover(b"{}");
        assert_ne!(one.fingerprint, body.fingerprint);
        assert_eq!((&*one.of_item(3).key, one.of_item(3).fingerprint), ("k#3", one.fingerprint));
    }
}
