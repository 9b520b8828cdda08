//! What a batch came to, and the answers to its commands.

use std::sync::Arc;

use super::{
    plan::{Draft, Outcome},
    repeat::at_revision,
};
use crate::{
    domain::{Event, Refusal, Revision},
    store::{Batch, GroupOutcome, append::Span},
    view::Snapshot,
};

/// What a batch came to: the events of the written groups with their revisions, for the view and the answers.
pub(super) struct Settlement {
    revisions: Vec<Option<Revision>>,
    pub events: Vec<Event>,
}

/// What a batch comes to if it is written whole, right after the state that it was decided on. That is nearly always so,
/// and can be worked out while the database is at it.
pub(super) struct Foreseen {
    pub settlement: Settlement,
    pub base: Arc<Snapshot>,
    pub next: Arc<Snapshot>,
}

impl Foreseen {
    pub fn of(batch: &Batch, base: Arc<Snapshot>) -> Self {
        let (from, groups) = (batch.cursor.revision + 1, usize::try_from(batch.groups).unwrap_or_default());
        let settlement = Settlement::from_revision(batch, &vec![GroupOutcome::Written; groups], Some(from));
        let last = settlement.events.last().map_or(base.revision(), |event| event.revision);
        let next = Arc::new(base.after(&settlement.events, last));
        Self { settlement, base, next }
    }

    /// Whether the batch was written just so.
    pub fn has_come(batch: &Batch, outcomes: &[GroupOutcome], written: Option<&Span>) -> bool {
        let all = outcomes.iter().all(|outcome| *outcome == GroupOutcome::Written);
        let after = |span: &Span| span.from == batch.cursor.revision + 1 && span.epoch == batch.cursor.epoch;
        all && written.is_some_and(after)
    }
}

impl Settlement {
    pub fn of(batch: &Batch, outcomes: &[GroupOutcome], written: Option<&Span>) -> Self {
        Self::from_revision(batch, outcomes, written.map(|span| span.from))
    }

    fn from_revision(batch: &Batch, outcomes: &[GroupOutcome], from: Option<Revision>) -> Self {
        let mut next = from.unwrap_or_default();
        let mut revisions = Vec::with_capacity(batch.events.len());
        let mut events = Vec::with_capacity(batch.events.len());
        for event in &batch.events {
            if from.is_none() || outcome_of(outcomes, event.group) != GroupOutcome::Written {
                revisions.push(None);
                continue;
            }
            revisions.push(Some(next));
            events.push(Event {
                revision: next,
                time: batch.now,
                actor: event.actor.clone(),
                change: event.change.clone(),
            });
            next += 1;
        }
        Self { revisions, events }
    }

    fn revision_of(&self, ordinal: Option<i32>) -> Option<Revision> {
        let index = usize::try_from(ordinal?).ok()?.checked_sub(1)?;
        self.revisions.get(index).copied().flatten()
    }

    /// The answer to a command whose group was written.
    pub fn answer(&self, draft: Draft, batch: &Batch) -> Result<Outcome, Refusal> {
        draft.result?;
        let row_revision = self.revision_of(draft.row_event);
        let row = draft.row.map(|row| at_revision(row, row_revision));
        let event = draft.event.and_then(|ordinal| {
            let revision = self.revision_of(Some(ordinal))?;
            let index = usize::try_from(ordinal).ok()?.checked_sub(1)?;
            let new = batch.events.get(index)?;
            Some(Event { revision, time: batch.now, actor: new.actor.clone(), change: new.change.clone() })
        });
        let revision =
            event.as_ref().map(|event| event.revision).or(row_revision).unwrap_or(batch.cursor.revision);
        Ok(Outcome { event, row, revision, created: draft.created, recalled: false })
    }
}

pub(super) fn outcome_of(outcomes: &[GroupOutcome], group: i32) -> GroupOutcome {
    let index = usize::try_from(group).ok().and_then(|group| group.checked_sub(1));
    index.and_then(|index| outcomes.get(index)).copied().unwrap_or(GroupOutcome::Conflict)
}
