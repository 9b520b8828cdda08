//! A batch as `rollcall.append` takes it: a column an array, and the rows of a table side by side in its columns.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{
    append::{ConfigChange, Guard, InstanceChange, KeptAnswer, NewEvent, Silence, TokenChange},
    state::StateText,
};
use crate::domain::{Content, Instance, RowKey, ServiceName};

#[derive(Default)]
pub struct InstanceColumns<'a> {
    pub group: Vec<i32>,
    pub id: Vec<Uuid>,
    pub before: Vec<i64>,
    pub after: Vec<i64>,
    pub event: Vec<i32>,
    pub service: Vec<&'a str>,
    pub key: Vec<&'a str>,
    pub key_given: Vec<bool>,
    pub status: Vec<&'a str>,
    pub failures: Vec<i32>,
    pub changes: Vec<i32>,
    pub spec: Vec<&'a str>,
    pub registered: Vec<DateTime<Utc>>,
    /// None where no row had any before and none has now.
    pub state: Option<Vec<Option<String>>>,
}

impl<'a> InstanceColumns<'a> {
    pub fn of(changes: &'a [InstanceChange]) -> Self {
        let mut columns = Self::default();
        for change in changes {
            columns.group.push(change.group);
            columns.id.push(change.id.0);
            columns.before.push(change.before);
            columns.event.push(change.event);
            match &change.row {
                Some((row, spec)) => columns.push_row(row, spec.get()),
                None => columns.push_removal(),
            }
        }
        let state = |change: &InstanceChange| StateText::of(&change.row.as_ref()?.0);
        if changes.iter().any(|change| change.before > 0 || state(change).is_some()) {
            columns.state = Some(changes.iter().map(state).collect());
        }
        columns
    }

    fn push_row(&mut self, row: &'a Instance, spec: &'a str) {
        self.after.push(row.version);
        self.service.push(row.service.as_str());
        self.key.push(row.key.as_str());
        self.key_given.push(row.key.is_given());
        self.status.push(row.status().as_str());
        self.failures.push(row.health.failures().into());
        self.changes.push(row.health.changes().cast_signed());
        self.spec.push(spec);
        self.registered.push(row.registered_at);
    }

    /// A removal needs its id and its version only; the arrays must have one length all the same.
    fn push_removal(&mut self) {
        self.after.push(0);
        self.service.push("");
        self.key.push("");
        self.key_given.push(false);
        self.status.push("");
        self.failures.push(0);
        self.changes.push(0);
        self.spec.push("");
        self.registered.push(DateTime::UNIX_EPOCH);
    }
}

#[derive(Default)]
pub struct ConfigColumns<'a> {
    pub group: Vec<i32>,
    pub id: Vec<Uuid>,
    pub before: Vec<i64>,
    pub after: Vec<i64>,
    pub event: Vec<i32>,
    pub service: Vec<&'a str>,
    pub environment: Vec<&'a str>,
    pub content: Vec<Option<&'a str>>,
    pub comment: Vec<Option<&'a str>>,
    pub actor: Vec<&'a str>,
    pub created: Vec<DateTime<Utc>>,
}

impl<'a> ConfigColumns<'a> {
    pub fn of(changes: &'a [ConfigChange]) -> Self {
        let mut columns = Self::default();
        for ConfigChange { group, before, event, row } in changes {
            columns.group.push(*group);
            columns.id.push(row.key.id());
            columns.before.push(*before);
            columns.after.push(row.version);
            columns.event.push(*event);
            columns.service.push(row.key.service.as_str());
            columns.environment.push(row.key.environment.as_str());
            columns.content.push(row.content.as_ref().map(Content::text));
            columns.comment.push(row.comment.as_deref());
            columns.actor.push(&row.actor);
            columns.created.push(row.created_at);
        }
        columns
    }
}

#[derive(Default)]
pub struct GuardColumns {
    pub group: Vec<i32>,
    pub table: Vec<&'static str>,
    pub id: Vec<Uuid>,
    pub version: Vec<i64>,
}

impl GuardColumns {
    pub fn of(guards: &[Guard]) -> Self {
        let mut columns = Self::default();
        for guard in guards {
            let (table, id) = match &guard.row {
                RowKey::Instance(id) => ("instances", id.0),
                RowKey::Config(key) => ("config_entries", key.id()),
                RowKey::Token(id) => ("tokens", id.0),
            };
            columns.group.push(guard.group);
            columns.table.push(table);
            columns.id.push(id);
            columns.version.push(guard.version);
        }
        columns
    }
}

#[derive(Default)]
pub struct SilenceColumns<'a> {
    pub group: Vec<i32>,
    pub instance: Vec<Uuid>,
    pub check: Vec<&'a str>,
    pub until: Vec<DateTime<Utc>>,
}

impl<'a> SilenceColumns<'a> {
    pub fn of(silences: &'a [Silence]) -> Self {
        let mut columns = Self::default();
        for Silence { group, instance, check, until } in silences {
            columns.group.push(*group);
            columns.instance.push(instance.0);
            columns.check.push(check.as_str());
            columns.until.push(*until);
        }
        columns
    }
}

#[derive(Default)]
pub struct EventColumns<'a> {
    pub group: Vec<i32>,
    pub kind: Vec<&'a str>,
    pub service: Vec<Option<&'a str>>,
    pub instance: Vec<Option<Uuid>>,
    pub actor: Vec<&'a str>,
    pub origin: Vec<&'a str>,
    pub request: Vec<Option<&'a str>>,
    pub data: Vec<&'a str>,
}

impl<'a> EventColumns<'a> {
    pub fn of(events: &'a [NewEvent]) -> Self {
        let mut columns = Self::default();
        for event in events {
            columns.group.push(event.group);
            columns.kind.push(event.change.kind());
            columns.service.push(event.change.service().map(ServiceName::as_str));
            columns.instance.push(event.change.instance().map(|id| id.0));
            columns.actor.push(&event.actor);
            columns.origin.push(&event.origin);
            columns.request.push(event.request_id.as_deref());
            columns.data.push(&event.data);
        }
        columns
    }
}

#[derive(Default)]
pub struct KeyColumns<'a> {
    pub group: Vec<i32>,
    pub event: Vec<i32>,
    pub changed: Vec<bool>,
    pub key: Vec<&'a str>,
    pub fingerprint: Vec<&'a [u8]>,
    pub answer: Vec<&'a str>,
}

impl<'a> KeyColumns<'a> {
    pub fn of(keys: &'a [KeptAnswer]) -> Self {
        let mut columns = Self::default();
        for kept in keys {
            columns.group.push(kept.group);
            columns.event.push(kept.event);
            columns.changed.push(kept.changed);
            columns.key.push(&kept.key);
            columns.fingerprint.push(&kept.fingerprint);
            columns.answer.push(&kept.answer);
        }
        columns
    }
}

#[derive(Default)]
pub struct TokenColumns<'a> {
    pub group: Vec<i32>,
    pub id: Vec<Uuid>,
    pub before: Vec<i64>,
    pub after: Vec<i64>,
    pub event: Vec<i32>,
    pub name: Vec<&'a str>,
    pub policies: Vec<String>,
    pub digest: Vec<&'a [u8]>,
    pub expires: Vec<Option<DateTime<Utc>>>,
    pub actor: Vec<&'a str>,
}

impl<'a> TokenColumns<'a> {
    pub fn of(changes: &'a [TokenChange]) -> Self {
        let mut columns = Self::default();
        for TokenChange { group, id, before, event, row } in changes {
            columns.group.push(*group);
            columns.id.push(id.0);
            columns.before.push(*before);
            columns.event.push(*event);
            let row = row.as_deref();
            columns.after.push(row.map_or(0, |token| token.version));
            columns.name.push(row.map_or("", |token| token.name.as_str()));
            // texts and words: there is nothing in a policy that JSON cannot hold
            let policies = row.map(|token| serde_json::to_string(&token.policies).unwrap_or_default());
            columns.policies.push(policies.unwrap_or_default());
            columns.digest.push(row.map_or(&[], |token| &token.digest.0));
            columns.expires.push(row.and_then(|token| token.expires_at));
            columns.actor.push(row.map_or("", |token| &token.actor));
        }
        columns
    }
}
