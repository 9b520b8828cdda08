//! How an instance fared: its events, folded into the times that it spent in each state.

use std::{collections::VecDeque, sync::Arc};

use chrono::{DateTime, Utc};

use super::{
    check::CheckId,
    event::{Change, Event, HealthChanged},
    health::{Cause, Status},
    ids::Revision,
    overriding::Override,
};

/// A time in one state, from the event that began it.
#[derive(Clone, Debug, PartialEq)]
pub struct Period {
    pub status: Status,
    pub from: DateTime<Utc>,
    /// None while it lasts.
    pub to: Option<DateTime<Utc>>,
    pub began_with: Beginning,
    pub actor: Arc<str>,
    pub revision: Revision,
}

/// What began it.
#[derive(Clone, Debug, PartialEq)]
pub enum Beginning {
    Registered,
    Updated,
    Result { cause: Cause, check: Option<CheckId>, output: Option<Arc<str>> },
    OverrideSet { reason: Option<String> },
    OverrideEnded,
}

/// The newest periods of one instance.
#[derive(Clone, Debug)]
pub struct History {
    periods: VecDeque<Period>,
    most: usize,
    /// What its checks come to, whatever stands above them.
    beneath: Status,
    is_overridden: bool,
}

impl History {
    /// Keeps so many periods at most.
    pub fn of_newest(most: usize) -> Self {
        Self { periods: VecDeque::new(), most, beneath: Status::Unknown, is_overridden: false }
    }

    pub fn into_periods(self) -> impl Iterator<Item = Period> {
        self.periods.into_iter()
    }

    /// Takes in the next event.
    pub fn take(&mut self, event: Event) {
        match event.change {
            Change::Registered { ref health, .. } => {
                self.beneath = health.status();
                self.begin(event, self.beneath, Beginning::Registered);
            }
            Change::Updated { ref health, .. } => {
                self.beneath = health.status();
                self.turn(event, Beginning::Updated);
            }
            Change::HealthChanged(HealthChanged { ref new, cause, ref check, ref output, .. }) => {
                self.beneath = new.status();
                let result = Beginning::Result { cause, check: check.clone(), output: output.clone() };
                self.turn(event, result);
            }
            Change::Overridden(ref change) => {
                self.is_overridden = change.overriding.is_some();
                let reason = |above: &Arc<Override>| Beginning::OverrideSet { reason: above.reason.clone() };
                let began_with = change.overriding.as_ref().map_or(Beginning::OverrideEnded, reason);
                let status = change.new;
                self.enter(event, status, began_with);
            }
            Change::Unregistered { .. } => self.end(event.time),
            // nothing that an instance is shown as
            Change::AlertRaised(_)
            | Change::ConfigPut { .. }
            | Change::ConfigDeleted { .. }
            | Change::TokenCreated(_)
            | Change::TokenRevoked { .. } => {}
        }
    }

    /// What an override hides is no change.
    fn turn(&mut self, event: Event, began_with: Beginning) {
        if !self.is_overridden {
            self.enter(event, self.beneath, began_with);
        }
    }

    fn enter(&mut self, event: Event, status: Status, began_with: Beginning) {
        if self.periods.back().is_none_or(|last| last.to.is_some() || last.status != status) {
            self.begin(event, status, began_with);
        }
    }

    fn begin(&mut self, event: Event, status: Status, began_with: Beginning) {
        self.end(event.time);
        let Event { time, actor, revision, .. } = event;
        self.periods.push_back(Period { status, from: time, to: None, began_with, actor, revision });
        if self.periods.len() > self.most {
            self.periods.pop_front();
        }
    }

    fn end(&mut self, at: DateTime<Utc>) {
        if let Some(last) = self.periods.back_mut() {
            last.to.get_or_insert(at);
        }
    }
}

#[cfg(test)]
#[path = "history_tests.rs"]
mod tests;
