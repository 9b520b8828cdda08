//! Carries the log into the view.
//!
//! Everything that learns of events hands them over here: the follower's own polls, the writer's, and the writer's own
//! batches. What is already in the view is passed over, so it does not matter who is first. Nothing is awaited while
//! the place in the log is held: a poll that hangs delays only itself.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use chrono::{DateTime, TimeDelta, Utc};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{
    clock,
    domain::{Change, Event, Revision},
    liveness::Liveness,
    store::{Connection, Cursor, Database, Lane, Polled, StoreError, load, poll},
    telemetry::{Metrics, PollResult},
    view::{Snapshot, View},
};

const POLL_WHEN_BUSY: Duration = Duration::from_millis(20);
const POLL_WHEN_IDLE: Duration = Duration::from_millis(250);
/// How long after the last news the log counts as busy.
const BUSY_FOR: Duration = Duration::from_secs(1);
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_AT_MOST: Duration = Duration::from_millis(500);

pub struct Follower {
    view: Arc<View>,
    liveness: Arc<Liveness>,
    metrics: Metrics,
    place: Mutex<Place>,
    hint: Notify,
    started: Instant,
    /// Milliseconds after `started` at which the view was last known to be current, plus one; 0 = never.
    current_at: AtomicU64,
    /// How far the database's clock is ahead of this machine's, in microseconds.
    clock_ahead: AtomicI64,
}

/// Where the view stands in the log: None before the first load. A rebuild begins another past.
#[derive(Default)]
struct Place {
    cursor: Option<Cursor>,
    rebuilds: u64,
}

impl Follower {
    pub fn new(view: Arc<View>, liveness: Arc<Liveness>, metrics: Metrics) -> Self {
        Self {
            view,
            liveness,
            metrics,
            place: Mutex::default(),
            hint: Notify::new(),
            started: Instant::now(),
            current_at: AtomicU64::new(0),
            clock_ahead: AtomicI64::new(0),
        }
    }

    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    pub fn view(&self) -> &Arc<View> {
        &self.view
    }

    /// How long ago the view was last known to be current.
    pub fn age(&self) -> Option<Duration> {
        let at = self.current_at.load(Ordering::Acquire).checked_sub(1)?;
        Some(self.started.elapsed().saturating_sub(Duration::from_millis(at)))
    }

    /// The time by the database's clock.
    pub fn now(&self) -> DateTime<Utc> {
        clock::now() + TimeDelta::microseconds(self.clock_ahead.load(Ordering::Relaxed))
    }

    /// Something may have come to the log.
    pub fn wake(&self) {
        self.hint.notify_one();
    }

    /// Brings the view to the end of the log as it is now, and returns the database's time.
    pub async fn catch_up(&self, connection: &mut Connection) -> Result<DateTime<Utc>, StoreError> {
        loop {
            let asked = Instant::now();
            let (place, rebuilds) = {
                let place = self.lock();
                (place.cursor.clone(), place.rebuilds)
            };
            let Some(cursor) = place else {
                self.rebuild(connection, rebuilds).await?;
                continue;
            };
            let polled = match poll::poll(connection, &cursor).await {
                Ok(polled) => polled,
                Err(StoreError::Event(error)) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "the view is loaded from the tables"
                    );
                    self.rebuild(connection, rebuilds).await?;
                    continue;
                }
                Err(error) => {
                    self.metrics.polled(PollResult::Failed);
                    return Err(error);
                }
            };
            match polled {
                Polled::News { events, cursor, now, complete } => {
                    self.metrics.polled(if events.is_empty() {
                        PollResult::Nothing
                    } else {
                        PollResult::Events
                    });
                    self.take_in(&events, cursor, rebuilds);
                    self.clock_ahead
                        .store((now - clock::now()).num_microseconds().unwrap_or(0), Ordering::Relaxed);
                    if complete {
                        self.mark_current(asked);
                        return Ok(now);
                    }
                }
                Polled::Forked => {
                    tracing::error!(
                        revision = cursor.revision,
                        "the log is not the one that was followed: the view is loaded anew"
                    );
                    self.rebuild(connection, rebuilds).await?;
                }
            }
        }
    }

    /// The last revision that this replica has seen.
    pub fn known(&self) -> Revision {
        self.lock().cursor.as_ref().map_or(0, |cursor| cursor.revision)
    }

    /// Where the view stands, and what it shows there. None before the first load.
    pub fn position(&self) -> Option<(Cursor, Arc<Snapshot>)> {
        let place = self.lock();
        Some((place.cursor.clone()?, self.view.snapshot()))
    }

    /// The writer's own batch, when it was decided on what `before` names and nothing came between. False where the
    /// view stands elsewhere: then the log must be polled.
    pub fn take_own(&self, before: &Cursor, events: &[Event], after: Cursor) -> bool {
        let rebuilds = {
            let place = self.lock();
            match &place.cursor {
                Some(cursor) if cursor.revision >= after.revision && cursor.epoch == after.epoch => {
                    return true;
                }
                Some(cursor) if cursor == before => {}
                _ => return false,
            }
            place.rebuilds
        };
        self.take_in(events, after, rebuilds);
        true
    }

    fn take_in(&self, events: &[Event], cursor: Cursor, rebuilds: u64) {
        let mut place = self.lock();
        let stale = place.rebuilds != rebuilds
            || place.cursor.as_ref().is_none_or(|current| current.revision >= cursor.revision);
        if stale {
            return;
        }
        self.metrics.followed_to(cursor.revision);
        self.view.publish(Arc::new(self.view.snapshot().after(events, cursor.revision)));
        place.cursor = Some(cursor);
        drop(place);
        for event in events {
            if let Change::Unregistered { id, .. } = &event.change {
                self.liveness.forget(*id);
            }
        }
    }

    /// Loads the whole state, unless somebody else has done so since `rebuilds` was read.
    async fn rebuild(&self, connection: &mut Connection, rebuilds: u64) -> Result<(), StoreError> {
        let loaded = load::load(connection).await?;
        let mut place = self.lock();
        if place.rebuilds != rebuilds {
            return Ok(());
        }
        let old = self.view.snapshot();
        let cursor = loaded.cursor;
        let snapshot = Snapshot::loaded(cursor.epoch, cursor.revision, loaded.instances, loaded.configs);
        self.view.publish(Arc::new(snapshot.with_counts_of(&old)));
        if place.cursor.is_some() {
            self.metrics.rebuilt();
        }
        self.metrics.followed_to(cursor.revision);
        place.cursor = Some(cursor);
        place.rebuilds += 1;
        Ok(())
    }

    fn mark_current(&self, asked: Instant) {
        let at = asked.saturating_duration_since(self.started).as_millis();
        self.current_at.fetch_max(u64::try_from(at).unwrap_or(u64::MAX).saturating_add(1), Ordering::AcqRel);
    }

    fn lock(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Follows until it is stopped. Hints make it quick; the poll makes it right.
    pub async fn run(&self, database: Database, stop: CancellationToken) {
        let mut lane = Lane::new(database);
        let mut last_news = Instant::now();
        let mut retry = RETRY_FIRST;
        loop {
            let before = self.view.snapshot().revision();
            let pause = match self.poll_once(&mut lane).await {
                Ok(()) => {
                    if retry > RETRY_FIRST {
                        tracing::info!(revision = self.view.snapshot().revision(), "following the log again");
                    }
                    retry = RETRY_FIRST;
                    if self.view.snapshot().revision() > before {
                        last_news = Instant::now();
                    }
                    if last_news.elapsed() < BUSY_FOR { POLL_WHEN_BUSY } else { POLL_WHEN_IDLE }
                }
                Err(error) => {
                    if retry == RETRY_FIRST {
                        tracing::warn!(
                            error = &error as &dyn std::error::Error,
                            "the log cannot be followed for now"
                        );
                    }
                    let pause = retry;
                    retry = (retry * 2).min(RETRY_AT_MOST);
                    pause
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
                () = self.hint.notified(), if retry == RETRY_FIRST => {}
            }
        }
    }

    async fn poll_once(&self, lane: &mut Lane) -> Result<(), StoreError> {
        let mut connection = lane.take().await?;
        self.catch_up(&mut connection).await?;
        lane.give_back(connection);
        Ok(())
    }
}
