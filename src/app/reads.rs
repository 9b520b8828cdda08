//! Reads from the view, as fresh as the reader asks for.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use tokio::sync::watch;

use super::{App, AppError};
use crate::{
    domain::Revision,
    store::{Patience, StoreError},
    view::Snapshot,
};

/// How long a read waits for its revision.
const REACH_WITHIN: Duration = Duration::from_secs(4);
pub(super) const LANE_PATIENCE: Duration = Duration::from_secs(2);

/// How fresh a read has to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Consistency {
    /// Whatever this replica has: its age is told with the answer.
    #[default]
    Default,
    /// No older than the request.
    Strong,
    /// At least this revision, such as a write's answer named it.
    AtLeast(Revision),
}

impl App {
    pub fn snapshot(&self) -> Result<Arc<Snapshot>, AppError> {
        let snapshot = self.0.view.snapshot();
        // an empty snapshot of epoch 0 is what the view holds before it is loaded
        if snapshot.epoch() == 0 { Err(AppError::NotReady) } else { Ok(snapshot) }
    }

    /// A look at the snapshot, if there is one, that is over at once.
    pub fn glimpse<T>(&self, look: impl FnOnce(&Snapshot) -> Option<T>) -> Option<T> {
        self.0.view.glimpse(|snapshot| if snapshot.epoch() == 0 { None } else { look(snapshot) })
    }

    /// Tells of every new snapshot.
    pub fn changes(&self) -> watch::Receiver<Option<Revision>> {
        self.0.view.watch()
    }

    pub async fn snapshot_at(&self, consistency: Consistency) -> Result<Arc<Snapshot>, AppError> {
        match consistency {
            Consistency::Default => {}
            Consistency::Strong => match tokio::time::timeout(REACH_WITHIN, self.catch_up_surely()).await {
                Ok(result) => result?,
                Err(_) => return Err(AppError::Unavailable),
            },
            Consistency::AtLeast(revision) => self.reach(revision).await?,
        }
        self.snapshot()
    }

    /// A connection that had ended while nobody used it says so at its next use only, or not at all.
    async fn catch_up_surely(&self) -> Result<(), StoreError> {
        match self.catch_up(Patience::USED).await {
            Err(StoreError::Broken(_) | StoreError::Timeout(_)) => {
                self.0.lanes.forget_idle();
                self.catch_up(Patience::FRESH).await
            }
            result => result,
        }
    }

    async fn catch_up(&self, mut patience: Patience) -> Result<(), StoreError> {
        let mut lane = self.0.lanes.take(LANE_PATIENCE).await?;
        self.0.log.follower().catch_up(&mut lane.connection, &mut patience).await?;
        lane.give_back();
        Ok(())
    }

    async fn reach(&self, wanted: Revision) -> Result<(), AppError> {
        let mut revision = self.0.view.watch();
        let reached = revision.wait_for(|revision| revision.is_some_and(|revision| revision >= wanted));
        self.0.log.follower().wake();
        match tokio::time::timeout(REACH_WITHIN, reached).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(AppError::RevisionNotReached),
        }
    }

    /// How long ago this replica last knew itself current.
    pub fn age_ms(&self) -> u64 {
        self.age_ms_at(Instant::now())
    }

    pub fn age_ms_at(&self, now: Instant) -> u64 {
        let age = self.0.log.follower().age_at(now);
        age.and_then(|age| u64::try_from(age.as_millis()).ok()).unwrap_or(u64::MAX)
    }

    /// The time by the database's clock.
    pub fn now(&self) -> DateTime<Utc> {
        self.0.log.follower().now()
    }

    /// The same at a moment, in microseconds, for whoever is asked all the time.
    pub(super) fn micros_at(&self, at: Instant) -> i64 {
        self.0.log.follower().clock().micros_at(at)
    }
}
