//! Turns a handful of commands into one batch, pure.
//!
//! Each command is decided on the state as the commands before it leave it. Commands that change one row become one
//! group, which is written as a whole or not at all. A command that rests on a row which another group of the batch
//! changes waits for the next batch: a group must not depend on another's fate.

mod overlay;

use std::{collections::BTreeSet, sync::Arc};

use chrono::{DateTime, Utc};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::{Caller, repeat::Answer};
use crate::{
    domain::{
        Change, CheckId, Command, Event, Expire, Key, Refusal, Revision, Row, RowKey, Spec, State, decide,
        evolve, registry::RegisterInstance,
    },
    store::{
        Batch, Cursor,
        append::{
            ConfigChange, Guard, InstanceChange, KeptAnswer, NewEvent, Silence, SweepPass, TokenChange,
        },
    },
    view::Snapshot,
};
use overlay::{Overlay, Rest, Touched};

/// What became of a command.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The event that it made; None where there was nothing to change.
    pub event: Option<Event>,
    /// The row that it was about, as the command left it.
    pub row: Option<Row>,
    /// The revision from which on readers see this.
    pub revision: Revision,
    /// Whether the row was not there before.
    pub created: bool,
    /// Whether this is the answer to an earlier request under the same key.
    pub recalled: bool,
}

/// What is known of a command before the batch is sent.
#[derive(Debug)]
pub(super) enum Verdict {
    /// Nothing is written: the answer rests on the polled state alone.
    Settled(Result<Outcome, Refusal>),
    /// The answer holds if the group is written.
    With { group: i32, answer: Draft },
    /// It must be decided on the outcome of this batch.
    Later,
}

/// An answer whose revisions are not known yet. Events are numbered from 1 in the batch.
#[derive(Debug)]
pub(super) struct Draft {
    pub result: Result<(), Refusal>,
    pub created: bool,
    pub event: Option<i32>,
    pub row: Option<Row>,
    /// The last event about the row, when it is one of this batch.
    pub row_event: Option<i32>,
}

#[derive(Debug)]
pub(super) struct Plan {
    /// None where no command changes anything.
    pub batch: Option<Batch>,
    pub verdicts: Vec<Verdict>,
}

impl Plan {
    /// Whether all that is answered hangs on what is written.
    pub fn is_only_changes(&self) -> bool {
        self.batch.is_some() && !self.verdicts.iter().any(|verdict| matches!(verdict, Verdict::Settled(_)))
    }

    /// The plan for the place that its state turned out to have in the log.
    pub fn at(self, cursor: &Cursor) -> Self {
        let batch = self.batch.map(|batch| Batch { cursor: cursor.clone(), ..batch });
        Self { batch, ..self }
    }
}

/// A command that is to be decided on.
#[derive(Clone, Copy)]
pub(super) struct Order<'a> {
    pub command: &'a Command,
    pub caller: &'a Caller,
    /// The specification in it as JSON, where it has been made already.
    pub spec_text: Option<&'a Arc<RawValue>>,
}

pub(super) fn plan<'a>(
    snapshot: &Snapshot,
    cursor: &Cursor,
    now: DateTime<Utc>,
    orders: impl IntoIterator<Item = Order<'a>>,
) -> Plan {
    let mut planner = Planner::new(snapshot, now);
    let verdicts = orders.into_iter().map(|order| planner.decide(order)).collect();
    Plan { batch: planner.into_batch(cursor.clone()), verdicts }
}

struct Planner<'a> {
    overlay: Overlay<'a>,
    /// What the commands rest on that wait for the next batch: whoever rests on the same comes after them.
    deferred: BTreeSet<Rest>,
    now: DateTime<Utc>,
    groups: i32,
    events: Vec<NewEvent>,
    guards: Vec<Guard>,
    silences: Vec<Silence>,
    keys: Vec<KeptAnswer>,
}

impl<'a> Planner<'a> {
    fn new(base: &'a Snapshot, now: DateTime<Utc>) -> Self {
        Self {
            overlay: Overlay::new(base),
            deferred: BTreeSet::new(),
            now,
            groups: 0,
            events: Vec::new(),
            guards: Vec::new(),
            silences: Vec::new(),
            keys: Vec::new(),
        }
    }

    fn decide(&mut self, order: Order<'_>) -> Verdict {
        let Order { command, caller, .. } = order;
        self.overlay.begin();
        if let Command::Expire(_) = command {
            self.overlay.rest_on(Rest::Sweep);
        }
        let decision = decide(&self.overlay, command);
        let mut owners = self.overlay.owners().into_iter();
        let owner = owners.next();
        let overtakes = self.overlay.rests().iter().any(|rest| self.deferred.contains(rest));
        if overtakes
            || owners.next().is_some()
            || self.ends_a_new_row(&decision)
            || self.repeats(caller)
            || self.is_of_another_pass(command)
        {
            self.deferred.extend(self.overlay.rests().iter().cloned());
            if let Command::RegisterInstance(RegisterInstance { new_id, .. }) = command {
                self.deferred.insert(Rest::Row(RowKey::Instance(*new_id)));
            }
            return Verdict::Later;
        }
        match (decision, owner) {
            (Ok(Some(change)), owner) => {
                let group = owner.unwrap_or_else(|| self.next_group());
                self.write(group, change, order)
            }
            (Ok(None), owner) if caller.idempotency.is_some() => self.remember(owner, command, caller),
            (Ok(None), None) => {
                let row = self.subject(command);
                let revision = self.overlay.base.revision();
                Verdict::Settled(Ok(Outcome { event: None, row, revision, created: false, recalled: false }))
            }
            (Ok(None), Some(group)) => {
                let row = self.subject(command);
                let row_event =
                    row.as_ref().and_then(|row| self.overlay.touched.get(&key_of(row))).map(|t| t.last_event);
                Verdict::With {
                    group,
                    answer: Draft { result: Ok(()), created: false, event: None, row, row_event },
                }
            }
            (Err(refusal), None) => Verdict::Settled(Err(refusal)),
            (Err(refusal), Some(group)) => Verdict::With {
                group,
                answer: Draft {
                    result: Err(refusal),
                    created: false,
                    event: None,
                    row: None,
                    row_event: None,
                },
            },
        }
    }

    /// A row that comes and goes within one batch would never meet the table's rule of one row an identity.
    fn ends_a_new_row(&self, decision: &Result<Option<Change>, Refusal>) -> bool {
        let Ok(Some(change @ (Change::Unregistered { .. } | Change::TokenRevoked { .. }))) = decision else {
            return false;
        };
        self.overlay.touched.get(&change.row()).is_some_and(|touched| touched.before == 0)
    }

    fn is_of_another_pass(&self, command: &Command) -> bool {
        let Command::Expire(Expire { pass, .. }) = command else { return false };
        self.overlay.sweep.is_some_and(|sweep| sweep.pass != *pass)
    }

    /// Whether a request under the same key is part of this batch already.
    fn repeats(&self, caller: &Caller) -> bool {
        caller.idempotency.as_ref().is_some_and(|own| self.keys.iter().any(|kept| kept.key == own.key))
    }

    /// The row that a command is about, as it is now.
    fn subject(&self, command: &Command) -> Option<Row> {
        match command {
            Command::RegisterInstance(command) => {
                let key = command
                    .key
                    .clone()
                    .unwrap_or_else(|| Key::address(&command.spec.host, command.spec.port));
                self.overlay.instance_at(&command.service, &key).map(Row::Instance)
            }
            Command::UpdateInstance(command) => self.overlay.row(&RowKey::Instance(command.id)),
            Command::ReportHealth(command) => self.overlay.row(&RowKey::Instance(command.id)),
            Command::UnregisterInstance { id, .. }
            | Command::Expire(Expire { id, .. })
            | Command::SetOverride { id, .. }
            | Command::EndOverride { id, .. }
            | Command::RaiseAlert { id, .. } => self.overlay.row(&RowKey::Instance(*id)),
            Command::PutConfig { key, .. } | Command::DeleteConfig { key, .. } => {
                self.overlay.row(&RowKey::Config(key.clone()))
            }
            Command::CreateToken(command) => self.overlay.row(&RowKey::Token(command.id)),
            Command::RevokeToken { id } => self.overlay.row(&RowKey::Token(*id)),
        }
    }

    /// A request that found all as it asked, to be remembered under its key: a group without an event, which rests on
    /// the rows that were read.
    fn remember(&mut self, owner: Option<i32>, command: &Command, caller: &Caller) -> Verdict {
        let group = owner.unwrap_or_else(|| self.next_group());
        let row = self.subject(command);
        let row_event =
            row.as_ref().and_then(|row| self.overlay.touched.get(&key_of(row))).map(|t| t.last_event);
        self.guard_what_was_read(group, None);
        let answer = Draft { result: Ok(()), created: false, event: None, row, row_event };
        self.keep(group, &answer, caller);
        Verdict::With { group, answer }
    }

    fn next_group(&mut self) -> i32 {
        self.groups += 1;
        self.groups
    }

    fn keep(&mut self, group: i32, draft: &Draft, caller: &Caller) {
        if let Some(own) = &caller.idempotency {
            let answer = Answer { row: draft.row.as_ref(), created: draft.created };
            self.keys.push(KeptAnswer {
                group,
                event: draft.row_event.unwrap_or(0),
                changed: draft.event.is_some(),
                key: own.key.clone(),
                fingerprint: own.fingerprint,
                answer: serde_json::to_string(&answer).unwrap_or_default(),
            });
        }
    }

    fn write(
        &mut self,
        group: i32,
        change: Change,
        Order { command, caller, spec_text }: Order<'_>,
    ) -> Verdict {
        let spec_text = spec_text.filter(|_| command.specifies(change.spec()));
        // made of texts, numbers and JSON that was parsed: there is nothing in it that JSON cannot hold
        let data = change.data(spec_text.map(|text| &**text)).unwrap_or_default();
        let ordinal = i32::try_from(self.events.len()).unwrap_or(i32::MAX).saturating_add(1);
        let key = change.row();
        let old = self.overlay.row(&key);
        let event = Event { revision: 0, time: self.now, actor: caller.actor.clone(), change };
        let row = evolve(old.as_ref(), &event);
        self.note_identity(group, &event.change);
        self.guard_what_was_read(group, Some(&key));
        if let Command::Expire(Expire { pass, .. }) = command {
            self.overlay.sweep = Some(SweepPass { group, pass: *pass });
        }
        let silence = |(instance, check, until): (_, &CheckId, _)| Silence {
            group,
            instance,
            check: check.clone(),
            until,
        };
        self.silences.extend(command.silence().map(silence));
        let before = old.as_ref().map_or(0, Row::version);
        let created = match &old {
            Some(Row::Config(entry)) => entry.content.is_none(),
            Some(Row::Instance(_) | Row::Token(_)) => false,
            None => true,
        };
        let touched = self.overlay.touched.entry(key).or_insert(Touched {
            group,
            before,
            row: None,
            spec_text: None,
            last_event: 0,
        });
        touched.row.clone_from(&row);
        if event.change.spec().is_some() {
            touched.spec_text = spec_text.cloned();
        }
        touched.last_event = ordinal;
        let answer = Draft { result: Ok(()), created, event: Some(ordinal), row, row_event: Some(ordinal) };
        self.keep(group, &answer, caller);
        self.events.push(NewEvent {
            group,
            change: event.change,
            data,
            actor: caller.actor.clone(),
            origin: caller.origin.clone(),
            request_id: caller.request_id.clone(),
        });
        Verdict::With { group, answer }
    }

    fn note_identity(&mut self, group: i32, change: &Change) {
        match change {
            Change::Registered { id, service, key, .. } => {
                self.overlay.identities.insert((service.clone(), key.clone()), (group, Some(*id)));
            }
            Change::Unregistered { service, key, .. } => {
                self.overlay.identities.insert((service.clone(), key.clone()), (group, None));
            }
            Change::Updated { .. }
            | Change::HealthChanged(_)
            | Change::Overridden(_)
            | Change::AlertRaised(_)
            | Change::ConfigPut { .. }
            | Change::ConfigDeleted { .. }
            | Change::TokenCreated(_)
            | Change::TokenRevoked { .. } => {}
        }
    }

    /// Rows that the decision rests on and does not change are guarded by their versions. That an identity is free
    /// needs no guard: the table has it once.
    fn guard_what_was_read(&mut self, group: i32, changed: Option<&RowKey>) {
        for rest in self.overlay.rests().iter() {
            let Rest::Row(key) = rest else { continue };
            if Some(key) == changed || self.overlay.touched.contains_key(key) {
                continue;
            }
            let version = self.overlay.base_row(key).map_or(0, |row| row.version());
            self.guards.push(Guard { group, row: key.clone(), version });
        }
    }

    fn into_batch(self, cursor: Cursor) -> Option<Batch> {
        if self.events.is_empty() && self.keys.is_empty() {
            return None;
        }
        let mut instances = Vec::new();
        let (mut configs, mut tokens) = (Vec::new(), Vec::new());
        for (key, Touched { group, before, row, spec_text, last_event }) in self.overlay.touched {
            match (key, row) {
                (RowKey::Instance(id), Some(Row::Instance(row))) => {
                    let text = spec_text.unwrap_or_else(|| text_of(&row.spec));
                    instances.push(InstanceChange {
                        group,
                        id,
                        before,
                        event: last_event,
                        row: Some((row, text)),
                    });
                }
                (RowKey::Instance(id), _) => {
                    instances.push(InstanceChange { group, id, before, event: last_event, row: None });
                }
                (RowKey::Config(_), Some(Row::Config(row))) => {
                    configs.push(ConfigChange { group, before, event: last_event, row });
                }
                (RowKey::Config(_), _) => {}
                (RowKey::Token(id), row) => {
                    let row = if let Some(Row::Token(token)) = row { Some(token) } else { None };
                    tokens.push(TokenChange { group, id, before, event: last_event, row });
                }
            }
        }
        Some(Batch {
            id: Uuid::now_v7(),
            cursor,
            now: self.now,
            groups: self.groups,
            instances,
            configs,
            tokens,
            guards: self.guards,
            silences: self.silences,
            sweep: self.overlay.sweep,
            events: self.events,
            keys: self.keys,
        })
    }
}

/// Maps with text keys and finite numbers: there is nothing in a specification that JSON cannot hold.
pub(super) fn text_of(spec: &Spec) -> Arc<RawValue> {
    serde_json::value::to_raw_value(spec).unwrap_or_else(|_| RawValue::NULL.to_owned()).into()
}

fn key_of(row: &Row) -> RowKey {
    match row {
        Row::Instance(instance) => RowKey::Instance(instance.id),
        Row::Config(entry) => RowKey::Config(entry.key.clone()),
        Row::Token(token) => RowKey::Token(token.id),
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
