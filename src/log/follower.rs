//! Carries the log into the view.
//!
//! Everything that learns of events hands them over here: the follower's own polls, the writer's, and the writer's own
//! batches. What is already in the view is passed over, so it does not matter who is first. Nothing is awaited while
//! the place in the log is held: a poll that hangs delays only itself.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    anchor::{Anchor, Anchors},
    reckoning::Reckoning,
};
use crate::{
    domain::{Change, Event, Revision},
    liveness::Liveness,
    store::{
        Connection, Cursor, Database, Lane, Patience, Polled, StoreError,
        epoch::{self, Mark},
        load, poll,
    },
    telemetry::{Metrics, PollResult},
    view::{Snapshot, View},
};

const POLL_WHEN_BUSY: Duration = Duration::from_millis(20);
const POLL_WHEN_IDLE: Duration = Duration::from_millis(250);
/// How long after the last news the log counts as busy.
const BUSY_FOR: Duration = Duration::from_secs(1);
/// How often the log is asked again for events that are not to be seen yet, and how long after.
const MOST_GAPS: u32 = 3;
const GAP_PAUSE: Duration = Duration::from_millis(10);
/// How many batches are remembered.
const TRAIL: i64 = 1024;
const MOST_MARKS: usize = 1024;
/// How many of them are kept over a restart.
const MARKS_KEPT: usize = 64;
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_AT_MOST: Duration = Duration::from_millis(500);

pub struct Follower {
    view: Arc<View>,
    liveness: Arc<Liveness>,
    metrics: Metrics,
    replica: Uuid,
    place: Mutex<Place>,
    /// From before the start, until it has been compared with the log.
    anchor: Mutex<Option<Anchor>>,
    anchors: Anchors,
    hint: Notify,
    clock: Reckoning,
    started: Instant,
    /// Milliseconds after `started` at which the view was last known to be current, plus one; 0 = never.
    current_at: AtomicU64,
}

/// Where the view stands in the log: None before the first load. A rebuild begins another past.
#[derive(Default)]
struct Place {
    cursor: Option<Cursor>,
    /// The log that is followed.
    log: Option<Uuid>,
    rebuilds: u64,
    /// The last batches, for the day when the log turns out to have another past.
    trail: VecDeque<Mark>,
}

impl Place {
    fn note(&mut self, cursor: Cursor) {
        if let Some(hash) = &cursor.hash {
            if self.trail.len() >= MOST_MARKS {
                self.trail.pop_front();
            }
            self.trail.push_back((cursor.revision, hash.clone()));
        }
        self.cursor = Some(cursor);
    }
}

impl Follower {
    pub fn new(
        view: Arc<View>,
        liveness: Arc<Liveness>,
        metrics: Metrics,
        replica: Uuid,
        anchors: Anchors,
    ) -> Self {
        Self {
            view,
            liveness,
            metrics,
            replica,
            place: Mutex::default(),
            anchor: Mutex::new(anchors.read()),
            anchors,
            hint: Notify::new(),
            clock: Reckoning::begin(),
            started: Instant::now(),
            current_at: AtomicU64::new(0),
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
        self.age_at(Instant::now())
    }

    pub fn age_at(&self, now: Instant) -> Option<Duration> {
        let at = self.current_at.load(Ordering::Acquire).checked_sub(1)?;
        Some(now.saturating_duration_since(self.started).saturating_sub(Duration::from_millis(at)))
    }

    /// The time by the database's clock.
    pub fn clock(&self) -> &Reckoning {
        &self.clock
    }

    /// The same; it does not go back.
    pub fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    /// Something may have come to the log.
    pub fn wake(&self) {
        self.hint.notify_one();
    }

    /// Brings the view to the end of the log as it is now, and returns the database's time.
    pub async fn catch_up(
        &self,
        connection: &mut Connection,
        patience: &mut Patience,
    ) -> Result<DateTime<Utc>, StoreError> {
        let mut gaps = 0;
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
            let asked_after = cursor.revision;
            let polled = match poll::poll(connection, &cursor, patience.within()).await {
                Ok(polled) => polled,
                Err(StoreError::Event(error)) => {
                    tracing::warn!(
                        error = crate::telemetry::chain(&error),
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
            patience.learn(asked.elapsed());
            match polled {
                Polled::News { events, cursor, now, complete } => {
                    self.metrics.polled(if events.is_empty() {
                        PollResult::Nothing
                    } else {
                        PollResult::Events
                    });
                    let reached = cursor.revision;
                    self.take_in(&events, cursor, rebuilds, None);
                    if !events.is_empty() {
                        let marks = epoch::marks(connection, asked_after, reached, TRAIL, *patience).await?;
                        self.remember(marks, rebuilds);
                    }
                    self.clock.compare(now, asked.elapsed());
                    if complete {
                        self.mark_current(asked);
                        return Ok(now);
                    }
                }
                Polled::Gap if gaps < MOST_GAPS => {
                    gaps += 1;
                    tokio::time::sleep(GAP_PAUSE).await;
                }
                Polled::Gap => {
                    gaps = 0;
                    tracing::error!(
                        after = asked_after,
                        "the log lacks events: somebody has deleted them; the view is loaded from the tables"
                    );
                    self.rebuild(connection, rebuilds).await?;
                }
                Polled::OtherEpoch { floor } => {
                    let marks = self.marks();
                    self.meet_another_past(connection, cursor.epoch, &marks, cursor.revision > floor).await?;
                    self.rebuild(connection, rebuilds).await?;
                }
                Polled::Unknown => {
                    self.meet_another_past(connection, cursor.epoch, &self.marks(), true).await?;
                    self.rebuild(connection, rebuilds).await?;
                }
            }
        }
    }

    /// The last revision that this replica has seen.
    pub fn known(&self) -> Revision {
        let anchored = self.anchor_lock().as_ref().map_or(0, Anchor::revision);
        self.lock().cursor.as_ref().map_or(anchored, |cursor| cursor.revision)
    }

    /// What to keep over a restart.
    pub fn anchor(&self) -> Option<Anchor> {
        let place = self.lock();
        let marks: Vec<Mark> = place.trail.iter().rev().take(MARKS_KEPT).rev().cloned().collect();
        let epoch = place.cursor.as_ref()?.epoch;
        if marks.is_empty() { None } else { Some(Anchor { log: place.log?, epoch, marks }) }
    }

    /// Where the view stands, and what it shows there. None before the first load.
    pub fn position(&self) -> Option<(Cursor, Arc<Snapshot>)> {
        let place = self.lock();
        Some((place.cursor.clone()?, self.view.snapshot()))
    }

    /// The writer's own batch, when it was decided on what `before` names and nothing came between. False where the
    /// view stands elsewhere: then the log must be polled.
    pub fn take_own(
        &self,
        before: &Cursor,
        events: &[Event],
        after: Cursor,
        ready: Option<(Arc<Snapshot>, Arc<Snapshot>)>,
    ) -> bool {
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
        self.take_in(events, after, rebuilds, ready);
        true
    }

    /// `ready` is the state after these events, if it was worked out already, and the one before them.
    fn take_in(
        &self,
        events: &[Event],
        cursor: Cursor,
        rebuilds: u64,
        ready: Option<(Arc<Snapshot>, Arc<Snapshot>)>,
    ) {
        let mut place = self.lock();
        let stale = place.rebuilds != rebuilds
            || place.cursor.as_ref().is_none_or(|current| current.revision >= cursor.revision);
        if stale {
            return;
        }
        self.metrics.followed_to(cursor.revision);
        self.note_last(place.log, &cursor);
        let current = self.view.snapshot();
        let next = match ready {
            Some((base, next)) if Arc::ptr_eq(&base, &current) => next,
            _ => Arc::new(current.after(events, cursor.revision)),
        };
        self.view.publish(next);
        place.note(cursor);
        drop(place);
        for event in events {
            match &event.change {
                Change::Unregistered { id, .. } => self.liveness.forget(*id),
                Change::Updated { id, .. } => self.liveness.changed(*id),
                _ => {}
            }
        }
    }

    /// Loads the whole state, unless somebody else has done so since `rebuilds` was read.
    async fn rebuild(&self, connection: &mut Connection, rebuilds: u64) -> Result<(), StoreError> {
        let loaded = self.load_and_compare(connection).await?;
        let marks = epoch::marks(connection, 0, loaded.cursor.revision, TRAIL, Patience::FRESH).await?;
        let mut place = self.lock();
        let newer =
            |known: &Cursor| known.epoch == loaded.cursor.epoch && known.revision > loaded.cursor.revision;
        // somebody else did so, or has shown what came to the log since
        if place.rebuilds != rebuilds || place.cursor.as_ref().is_some_and(newer) {
            return Ok(());
        }
        let old = self.view.snapshot();
        let cursor = loaded.cursor;
        let snapshot = Snapshot::loaded(cursor.epoch, cursor.revision, loaded.instances, loaded.configs)
            .with_tokens(loaded.tokens);
        self.view.publish(Arc::new(snapshot.with_counts_of(&old)));
        self.liveness.all_changed();
        if place.cursor.is_some() {
            self.metrics.rebuilt();
        }
        self.metrics.followed_to(cursor.revision);
        self.note_last(Some(loaded.log), &cursor);
        place.log = Some(loaded.log);
        place.trail = marks.into();
        place.cursor = Some(cursor);
        place.rebuilds += 1;
        Ok(())
    }

    /// Loads the state, having made sure that the log knows what this replica knew before it was started.
    async fn load_and_compare(&self, connection: &mut Connection) -> Result<load::Loaded, StoreError> {
        if epoch::meet_server(connection, self.replica, self.known()).await? {
            tracing::warn!(
                "the database server is another one, or was promoted: the log begins another epoch"
            );
        }
        // Read before the state is loaded: where another task has just settled the matter and forgotten the anchor, what
        // is loaded afterwards is of the new epoch.
        let anchor = self.anchor_lock().clone();
        let loaded = load::load(connection).await?;
        let Some(anchor) = anchor else { return Ok(loaded) };
        if anchor.log != loaded.log {
            tracing::warn!(known = %anchor.log, found = %loaded.log, "the database holds another log than at the last run");
        } else if epoch::ancestor(connection, &anchor.marks).await? != Some(anchor.revision()) {
            // what was known may be of an older epoch than the log's: raised already, if as high
            let raise = anchor.revision() > loaded.floor;
            self.meet_another_past(connection, loaded.cursor.epoch, &anchor.marks, raise).await?;
            *self.anchor_lock() = None;
            return load::load(connection).await;
        }
        *self.anchor_lock() = None;
        Ok(loaded)
    }

    /// The log lacks what this replica has seen: a standby took over that did not have it, or a copy was restored.
    /// What is missing is told, and where nobody has done so yet, the epoch is raised above it.
    async fn meet_another_past(
        &self,
        connection: &mut Connection,
        epoch: i32,
        marks: &[Mark],
        raise: bool,
    ) -> Result<(), StoreError> {
        let known = marks.last().map_or(0, |(revision, _)| *revision);
        let ancestor = epoch::ancestor(connection, marks).await?;
        let raised = raise && epoch::raise(connection, epoch, known, ancestor, self.replica).await?;
        match ancestor {
            Some(ancestor) if ancestor == known => {
                tracing::warn!(revision = known, raised, "the log has begun another epoch");
            }
            _ => tracing::error!(
                lost_from = ancestor.map(|ancestor| ancestor + 1),
                lost_to = known,
                raised,
                "the database has lost changes that this replica had seen: it is another one, or an older copy"
            ),
        }
        Ok(())
    }

    fn marks(&self) -> Vec<Mark> {
        self.lock().trail.iter().cloned().collect()
    }

    /// Keeps the batches that came in one answer, for the day when the log turns out to have another past.
    fn remember(&self, marks: Vec<Mark>, rebuilds: u64) {
        let mut place = self.lock();
        if place.rebuilds == rebuilds {
            let mut trail: BTreeMap<Revision, Vec<u8>> = place.trail.drain(..).chain(marks).collect();
            while trail.len() > MOST_MARKS {
                trail.pop_first();
            }
            place.trail = trail.into_iter().collect();
        }
    }

    fn mark_current(&self, asked: Instant) {
        let at = asked.saturating_duration_since(self.started).as_millis();
        self.current_at.fetch_max(u64::try_from(at).unwrap_or(u64::MAX).saturating_add(1), Ordering::AcqRel);
    }

    /// Keeps where this replica stands, before anybody is told of what it shows now.
    fn note_last(&self, log: Option<Uuid>, cursor: &Cursor) {
        if let (Some(log), Some(hash)) = (log, &cursor.hash) {
            self.anchors.note_last(log, cursor.epoch, cursor.revision, hash);
        }
    }

    pub fn anchors(&self) -> &Anchors {
        &self.anchors
    }

    fn anchor_lock(&self) -> MutexGuard<'_, Option<Anchor>> {
        self.anchor.lock().unwrap_or_else(PoisonError::into_inner)
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
                            error = crate::telemetry::chain(&error),
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
        self.catch_up(&mut connection, &mut lane.patience).await?;
        lane.give_back(connection);
        Ok(())
    }
}
