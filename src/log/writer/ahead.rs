//! Decides on what is waiting while the batch before it is being written.
//!
//! That rests on the state that the batch will lead to. It is used if the poll that follows finds just that state, and
//! else decided anew.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::{LARGEST_BATCH, Writer};
use crate::{
    log::{
        Pending,
        plan::{Plan, plan},
    },
    store::Cursor,
    view::Snapshot,
};

/// So many waiting commands are worth it.
const BACKLOG: usize = LARGEST_BATCH / 2;

pub(super) struct Ahead {
    pub commands: Vec<Pending>,
    pub decided: Decided,
}

pub(super) struct Decided {
    pub state: Arc<Snapshot>,
    pub plan: Plan,
}

impl Ahead {
    pub fn decide(
        commands: Vec<Pending>,
        state: &Arc<Snapshot>,
        cursor: &Cursor,
        now: DateTime<Utc>,
    ) -> Option<Self> {
        if commands.is_empty() {
            return None;
        }
        let plan = plan(state, cursor, now, commands.iter().map(Pending::order));
        Some(Self { commands, decided: Decided { state: state.clone(), plan } })
    }
}

impl Writer {
    /// Commands that can be decided ahead, if there are many.
    pub(super) fn backlog(&mut self) -> Vec<Pending> {
        if self.again.len() + self.queue.len() < BACKLOG {
            return Vec::new();
        }
        let gathered = self.gathered();
        // what became of an earlier request under the same key is looked up first
        if gathered.iter().any(|pending| pending.key().is_some()) {
            self.put_back(gathered);
            return Vec::new();
        }
        gathered
    }
}
