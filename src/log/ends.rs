//! Ends the overrides whose time is over.

use std::{collections::HashMap, sync::Arc};

use chrono::{DateTime, Utc};

use super::{Caller, Log, WriteError};
use crate::{
    domain::{Command, Instance, InstanceId, Precondition, Refusal, State as _},
    view::{Difference, Snapshot},
};

/// More than this at a time would keep others waiting.
const MOST_AT_ONCE: usize = 500;

/// The overrides that end by themselves, followed by the difference of two snapshots.
#[derive(Default)]
pub struct Ends {
    followed: Arc<Snapshot>,
    ends: HashMap<InstanceId, DateTime<Utc>>,
}

impl Ends {
    /// Replicas may do so at the same time: whoever is first has done it.
    pub async fn keep(&mut self, log: &Log) {
        self.follow(&log.follower().view().snapshot());
        let now = log.follower().now();
        let over = self.ends.iter().filter(|(_, until)| **until <= now).map(|(id, _)| *id);
        let commands: Vec<_> =
            over.take(MOST_AT_ONCE).filter_map(|id| Some((Caller::upkeep(), self.end_of(id)?))).collect();
        if commands.is_empty() {
            return;
        }
        let results = log.write_all(commands).await;
        // one that changed meanwhile has its turn with the next look
        let failed = results.into_iter().filter_map(Result::err).find(|error| {
            !matches!(
                error,
                WriteError::Refused(Refusal::NoSuchInstance | Refusal::PreconditionFailed { .. })
            )
        });
        if let Some(error) = failed {
            tracing::warn!(
                error = crate::telemetry::chain(&error),
                "overrides whose time is over were not ended"
            );
        }
    }

    fn end_of(&self, id: InstanceId) -> Option<Command> {
        let version = self.followed.instance(id)?.version;
        Some(Command::EndOverride { id, precondition: Precondition::Version(vec![version]) })
    }

    fn follow(&mut self, snapshot: &Arc<Snapshot>) {
        let old = std::mem::replace(&mut self.followed, snapshot.clone());
        if Arc::ptr_eq(&old, snapshot) {
            return;
        }
        snapshot.differences_to(&old, |difference| match difference {
            Difference::Added(instance) | Difference::Changed(instance) => self.note(instance),
            Difference::Gone(id) => drop(self.ends.remove(&id)),
        });
    }

    fn note(&mut self, instance: &Instance) {
        match instance.overridden.as_ref().and_then(|above| above.until) {
            Some(until) => drop(self.ends.insert(instance.id, until)),
            None => drop(self.ends.remove(&instance.id)),
        }
    }
}
