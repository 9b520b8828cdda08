//! Carries liveness to the database and from the other replicas, once a second.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{Entry, Known, Liveness, Moment, Subject, merge};
use crate::{
    domain::InstanceId,
    store::{Connection, Database, Lane, StoreError, liveness},
    view::{Snapshot, View},
};

const EVERY: Duration = Duration::from_secs(1);
/// How often what is left of instances that have gone is looked for, counted in turns.
const CLEAN_EVERY: u64 = 60;
/// More than this a flush takes in turns, so that none lasts long.
const LARGEST_FLUSH: usize = 5000;

/// Flushes until it is stopped, and then once more.
pub struct Flusher {
    liveness: Arc<Liveness>,
    view: Arc<View>,
    replica: Uuid,
    database: Database,
    lane: Lane,
    /// The number of the last flush that was begun, and what it carries while its answer is out.
    number: i64,
    flying: Vec<(Subject, Known)>,
    /// Where this replica stands in the feed.
    seq: Option<i64>,
}

impl Flusher {
    pub fn new(liveness: Arc<Liveness>, view: Arc<View>, replica: Uuid, database: Database) -> Self {
        let lane = Lane::new(database.clone());
        Self { liveness, view, replica, database, lane, number: 0, flying: Vec::new(), seq: None }
    }

    pub async fn run(mut self, stop: CancellationToken) {
        let mut healthy = true;
        for turn in 1_u64.. {
            if turn % CLEAN_EVERY == 0 {
                self.liveness.keep_only(&self.view.snapshot());
            }
            let stopping = tokio::select! {
                () = stop.cancelled() => true,
                () = tokio::time::sleep(EVERY) => false,
            };
            let result = self.exchange().await;
            self.database.metrics().liveness_flushed(result.is_ok());
            match result {
                Ok(()) => healthy = true,
                Err(error) if healthy => {
                    healthy = false;
                    tracing::warn!(
                        error = crate::telemetry::chain(&error),
                        "liveness cannot be flushed for now"
                    );
                }
                Err(_) => {}
            }
            if stopping {
                return;
            }
        }
    }

    /// Flushes what is fresh and takes in what others flushed.
    pub async fn exchange(&mut self) -> Result<(), StoreError> {
        let mut connection = self.lane.take().await?;
        let mut own = Vec::new();
        if !self.flying.is_empty() {
            // after an unknown outcome the same flush is sent again, under the same number
            own.extend(self.flush(&mut connection).await?);
        }
        // what comes meanwhile has its turn in a second: under load there would always be some more
        for _ in 0..self.liveness.waiting().div_ceil(LARGEST_FLUSH) {
            self.flying = self.liveness.take_off(LARGEST_FLUSH);
            self.number += 1;
            own.extend(self.flush(&mut connection).await?);
        }
        let feed = liveness::follow(&mut connection, self.seq, &own).await?;
        self.liveness.take_in(feed.signs);
        self.seq = Some(feed.seq);
        self.lane.give_back(connection);
        Ok(())
    }
}

impl Flusher {
    /// Writes what is flying. Returns where it stands in the feed.
    async fn flush(&mut self, connection: &mut Connection) -> Result<Option<i64>, StoreError> {
        let place = liveness::flush(connection, self.replica, self.number, &self.flying).await?;
        self.liveness.land(self.flying.drain(..).map(|(subject, _)| subject));
        Ok(place)
    }
}

impl Liveness {
    /// Forgets what came in about instances after they had gone.
    fn keep_only(&self, snapshot: &Snapshot) {
        for mut shard in self.each_shard() {
            let is_there = |id: &InstanceId| snapshot.has_instance(*id);
            let has_check =
                |subject: &Subject| snapshot.find(subject.instance)?.spec.place_of(subject.check.as_ref()?);
            shard.plain.retain(|id, heard| *heard != Moment::NEVER || is_there(id));
            shard.instances.retain(|id, entry| entry.is_to_be_stored() || is_there(id));
            shard.checks.retain(|subject, entry| entry.is_to_be_stored() || has_check(subject).is_some());
        }
    }

    /// Moves at most `limit` fresh signs into a flush, in the order of their ids.
    pub(super) fn take_off(&self, limit: usize) -> Vec<(Subject, Known)> {
        let mut flying = Vec::new();
        for mut shard in self.each_shard() {
            let shard = &mut *shard;
            shard.gather();
            let room = limit - flying.len();
            let from = shard.dirty.len().saturating_sub(room);
            for subject in shard.dirty.split_off(from) {
                let Some(entry) = shard.entry_mut(&subject) else { continue };
                entry.flying = entry.fresh.take();
                if let Some(sign) = &entry.flying {
                    flying.push((subject, Known::clone(sign)));
                }
            }
        }
        flying.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        flying
    }

    /// The flush has been written.
    fn land(&self, subjects: impl Iterator<Item = Subject>) {
        for subject in subjects {
            if let Some(Entry { stored, flying, .. }) = self.shard(subject.instance).entry_mut(&subject)
                && let Some(sign) = flying.take()
            {
                let mut known = stored.known();
                merge(&mut known, &sign);
                *stored = known.into();
            }
        }
    }

    /// The database's own account, which holds all that was flushed.
    fn take_in(&self, signs: Vec<(Subject, Known)>) {
        for (subject, mut sign) in signs {
            let mut shard = self.shard(subject.instance);
            sign.output = sign.output.map(|output| shard.shared(&output));
            shard.entry_or_new(subject).stored = sign.into();
        }
    }
}
