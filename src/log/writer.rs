//! The one task that appends.
//!
//! While one append is under way the next commands gather; there is no timer. A batch begins with a poll, so that
//! every decision, the refusals too, rests on a state no older than the requests in it. In a row of batches that are
//! nothing but changes there is no need of that: they are written only where the state is what they rest on.

mod ahead;
mod sending;

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    IdempotencyKey, PATIENCE, Pending, Queue, WriteError,
    follower::Follower,
    plan::{Plan, Verdict, plan},
};
use crate::{
    domain::Revision,
    store::{
        Connection, Cursor, Database, Lane, Patience, StoreError,
        append::{Writer as Pen, open_writer},
        idempotency,
    },
};
use ahead::{Ahead, Decided};

/// Commands in one batch: a request with as many registrations as it may have fits into one.
const LARGEST_BATCH: usize = 1024;
/// Bytes of specifications and configurations in one batch, but for the last: it must arrive within the patience for its
/// answer, over a slow link too.
const HEAVIEST_BATCH: usize = 4 * 1024 * 1024;
const MOST_TRIES: u32 = 8;
const RETRY_FIRST: Duration = Duration::from_millis(20);
const RETRY_AT_MOST: Duration = Duration::from_millis(500);
/// How long a row that a stranger holds is left alone.
const BUSY_PAUSE: Duration = Duration::from_millis(100);
/// So soon after a batch of its own the writer trusts what it knows of the log, and its connection.
const IN_A_ROW: Duration = Duration::from_millis(200);
/// How much the reckoned time may be behind what the database told last.
const CLOCK_OFF: TimeDelta = TimeDelta::milliseconds(100);
/// How long after a conflict others are taken to write the same as this replica.
const CAREFUL_FOR: Duration = Duration::from_secs(5);
/// How long an orderly stop works on what had been accepted.
const DRAIN_WITHIN: Duration = Duration::from_secs(10);

pub struct Writer {
    queue: mpsc::Receiver<Pending>,
    follower: Arc<Follower>,
    lane: Lane,
    database: Database,
    replica: Uuid,
    /// The generation of the connection in the lane.
    pen: Option<Pen>,
    /// To be tried again before what is in the queue.
    again: VecDeque<Pending>,
    /// Rows held by strangers, and when to try them next.
    resting: Vec<(Instant, Pending)>,
    /// What comes next, decided already.
    ahead: Option<Ahead>,
    /// The batch before, where the next one need not begin with a poll.
    last: Option<Last>,
    /// When somebody else was last found to have written the same.
    contended: Option<Instant>,
    written: watch::Sender<Revision>,
    retry: Duration,
    stop: CancellationToken,
}

impl Writer {
    pub fn new(
        queue: Queue,
        follower: Arc<Follower>,
        database: Database,
        replica: Uuid,
        stop: CancellationToken,
    ) -> Self {
        Self {
            queue: queue.0,
            follower,
            lane: Lane::new(database.clone()),
            database,
            replica,
            pen: None,
            again: VecDeque::new(),
            resting: Vec::new(),
            ahead: None,
            last: None,
            contended: None,
            written: watch::Sender::new(0),
            retry: RETRY_FIRST,
            stop,
        }
    }

    /// Tells of the newest revision that this writer has written.
    pub fn written(&self) -> watch::Receiver<Revision> {
        self.written.subscribe()
    }

    /// Writes until it is stopped, and then what had been accepted before.
    pub async fn run(mut self) {
        self.warm_up().await;
        while self.gather_one().await {
            self.batch().await;
        }
        self.queue.close();
        let deadline = Instant::now() + DRAIN_WITHIN;
        while Instant::now() < deadline {
            while let Ok(pending) = self.queue.try_recv() {
                self.again.push_back(pending);
            }
            self.wake_resting();
            match (self.again.is_empty() && self.ahead.is_none(), self.resting.is_empty()) {
                (true, true) => return,
                (true, false) => tokio::time::sleep(BUSY_PAUSE).await,
                (false, _) => self.batch().await,
            }
        }
    }

    /// Connects before the first command comes. Where the server turns out to be another one than before, this is
    /// what notices.
    async fn warm_up(&mut self) {
        while !self.stop.is_cancelled() && self.queue.is_empty() {
            match self.connect().await {
                Ok(connection) => {
                    // it may be long until it is used
                    self.lane.patience = Patience::USED;
                    return self.lane.give_back(connection);
                }
                Err(_) => self.pause().await,
            }
        }
    }

    /// Waits until there is something to do. False when it is time to stop.
    async fn gather_one(&mut self) -> bool {
        loop {
            if self.stop.is_cancelled() {
                return false;
            }
            self.wake_resting();
            if !self.again.is_empty() || self.ahead.is_some() {
                return true;
            }
            let next_rest = self.resting.iter().map(|(at, _)| *at).min();
            let rested = async {
                match next_rest {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.stop.cancelled() => return false,
                () = rested => {}
                pending = self.queue.recv() => match pending {
                    Some(pending) => self.again.push_back(pending),
                    None => return false,
                },
            }
        }
    }

    fn wake_resting(&mut self) {
        let now = Instant::now();
        for (_, pending) in self.resting.extract_if(.., |(at, _)| *at <= now) {
            self.again.push_back(pending);
        }
    }

    /// Takes what has gathered and settles it: every command is answered or put back to be tried again.
    async fn batch(&mut self) {
        let first = match self.ahead.take() {
            Some(Ahead { commands, decided }) => (commands, Some(decided)),
            None => (self.gathered(), None),
        };
        self.follower.metrics().queue_length(self.queue.len() + self.again.len());
        // A batch that the database refuses is halved until the guilty command stands alone.
        let mut parts = vec![first];
        while let Some((part, decided)) = parts.pop() {
            // what comes after this batch comes after all of its parts
            if let Some(Ahead { commands, .. }) = self.ahead.take() {
                self.put_back(commands);
            }
            if part.is_empty() {
                continue;
            }
            match self.settle(part, decided).await {
                Ok(()) => self.retry = RETRY_FIRST,
                Err(Trouble::Unreachable(part, error)) => self.wait_for_database(part, &error).await,
                Err(Trouble::Refused(mut part, error)) => {
                    self.database.metrics().query_failed();
                    if part.len() == 1 {
                        tracing::error!(
                            error = crate::telemetry::chain(&error),
                            "a change was refused by the database"
                        );
                        part.drain(..).for_each(|pending| pending.reply(Err(WriteError::Rejected)));
                    } else {
                        for pending in &part {
                            pending.put_back();
                        }
                        let second = part.split_off(part.len() / 2);
                        parts.push((second, None));
                        parts.push((part, None));
                    }
                }
            }
        }
    }

    /// As many of the waiting commands as one batch may have.
    fn gathered(&mut self) -> Vec<Pending> {
        while self.again.len() < LARGEST_BATCH {
            match self.queue.try_recv() {
                Ok(pending) => self.again.push_back(pending),
                Err(_) => break,
            }
        }
        let mut weight = 0;
        let fits = |pending: &&Pending| {
            let fits = weight < HEAVIEST_BATCH;
            weight += pending.weight();
            fits
        };
        let take = self.again.iter().take(LARGEST_BATCH).take_while(fits).count();
        self.again.drain(..take).collect()
    }

    /// Polls, decides, appends, answers.
    async fn settle(&mut self, commands: Vec<Pending>, decided: Option<Decided>) -> Result<(), Trouble> {
        let mut connection = match self.connect().await {
            Ok(connection) => connection,
            Err(error) => return Err(Trouble::Unreachable(commands, error)),
        };
        let in_a_row = self.now_in_a_row(&commands, decided.as_ref());
        let mut now = match in_a_row {
            Some(now) => now,
            None => match self.follower.catch_up(&mut connection, &mut self.lane.patience).await {
                Ok(now) => now,
                Err(error) => return Err(Trouble::Unreachable(commands, error)),
            },
        };
        let mut commands = match self.answer_repeated(&mut connection, commands).await {
            Ok(commands) => commands,
            Err((commands, error)) => return Err(Trouble::Unreachable(commands, error)),
        };
        // From here on a caller that gives up does not know what becomes of its command.
        commands.retain(Pending::take);
        // What the follower may have taken in since is newer still, which does no harm.
        let Some((mut cursor, mut snapshot)) = self.follower.position() else {
            self.put_back(commands);
            return Ok(());
        };
        // what was decided ahead holds for the state that was foreseen, and for all of its commands
        let decided = decided.filter(|decided| {
            Arc::ptr_eq(&decided.state, &snapshot) && decided.plan.verdicts.len() == commands.len()
        });
        let mut planned = match decided {
            Some(decided) => decided.plan.at(&cursor),
            None => plan(&snapshot, &cursor, now, commands.iter().map(Pending::order)),
        };
        let is_only_changes = planned.is_only_changes();
        if in_a_row.is_some() && !is_only_changes {
            now = match self.follower.catch_up(&mut connection, &mut self.lane.patience).await {
                Ok(now) => now,
                Err(error) => return Err(Trouble::Unreachable(commands, error)),
            };
            let Some(position) = self.follower.position() else {
                self.put_back(commands);
                return Ok(());
            };
            (cursor, snapshot) = position;
            planned = plan(&snapshot, &cursor, now, commands.iter().map(Pending::order));
        }
        let Plan { batch, verdicts } = planned;
        let (mut waiting, mut later) = (Vec::new(), Vec::new());
        for (pending, verdict) in commands.drain(..).zip(verdicts) {
            match verdict {
                Verdict::Settled(result) => pending.reply(result.map_err(WriteError::Refused)),
                Verdict::Later => later.push(pending),
                Verdict::With { group, answer } => waiting.push((pending, group, answer)),
            }
        }
        self.put_back(later);
        let Some(batch) = batch else {
            self.lane.give_back(connection);
            return Ok(());
        };
        self.write(connection, Arc::new(batch), snapshot, waiting, now).await?;
        if !is_only_changes {
            // as the next ones most likely are not
            self.last = None;
        }
        Ok(())
    }

    /// The time, where these commands need no poll: nobody else has written since this writer's last batch, as far as is
    /// known. That may be wrong and does no harm to what is written, for the append finds out. What is answered from
    /// the known state alone does need one.
    fn now_in_a_row(&mut self, commands: &[Pending], decided: Option<&Decided>) -> Option<DateTime<Utc>> {
        let last = self.last.take().filter(|last| last.at.elapsed() < IN_A_ROW)?;
        let (cursor, _) = self.follower.position()?;
        let repeats = commands.iter().any(|pending| pending.key().is_some());
        let settles = decided.is_some_and(|decided| !decided.plan.is_only_changes());
        let fits = cursor == last.end && !repeats && !settles && !self.is_careful();
        let now = self.follower.clock().at(Instant::now());
        // what it is off by is no step back
        let now = if last.now - now < CLOCK_OFF { now.max(last.now) } else { now };
        fits.then_some(now)
    }

    /// Whether others are taken to write the same as this replica.
    fn is_careful(&self) -> bool {
        self.contended.is_some_and(|since| since.elapsed() < CAREFUL_FOR)
    }

    /// Answers the requests that were carried out before, under their idempotency keys, and gives back the others.
    async fn answer_repeated(
        &mut self,
        connection: &mut Connection,
        commands: Vec<Pending>,
    ) -> Result<Vec<Pending>, (Vec<Pending>, StoreError)> {
        let keys: Vec<&str> = commands.iter().filter_map(Pending::key).map(|own| &*own.key).collect();
        if keys.is_empty() {
            return Ok(commands);
        }
        let kept = match idempotency::find(connection, &keys, self.lane.patience).await {
            Ok(kept) => kept,
            Err(error) => return Err((commands, error)),
        };
        let mut others = Vec::with_capacity(commands.len());
        for pending in commands {
            let known = pending.key().and_then(|own| Some((own, kept.get(&*own.key)?)));
            match known.map(|(own, kept)| own.recall(kept.as_ref())) {
                Some(answer) => pending.reply(answer),
                None => others.push(pending),
            }
        }
        Ok(others)
    }

    /// The writer's connection, in the newest generation.
    async fn connect(&mut self) -> Result<Connection, StoreError> {
        if !self.lane.is_connected() {
            self.pen = None;
        }
        let mut connection = self.lane.take().await?;
        if self.pen.is_none() {
            self.pen = Some(open_writer(&mut connection, self.replica, self.follower.known()).await?);
        }
        Ok(connection)
    }

    async fn wait_for_database(&mut self, commands: Vec<Pending>, error: &StoreError) {
        self.pen = None;
        if self.retry == RETRY_FIRST {
            tracing::warn!(error = crate::telemetry::chain(error), "changes cannot be written for now");
        }
        self.put_back(commands);
        self.drop_impatient();
        self.pause().await;
        // those that came meanwhile have their patience too
        while let Ok(pending) = self.queue.try_recv() {
            self.again.push_back(pending);
        }
        self.drop_impatient();
    }

    async fn pause(&mut self) {
        tokio::time::sleep(self.retry).await;
        self.retry = (self.retry * 2).min(RETRY_AT_MOST);
    }

    fn drop_impatient(&mut self) {
        let (late, patient): (VecDeque<_>, VecDeque<_>) =
            self.again.drain(..).partition(|pending| pending.since.elapsed() >= PATIENCE);
        self.again = patient;
        for pending in late {
            pending.reply(Err(WriteError::Unavailable));
        }
    }

    /// To be decided anew before anything that came later.
    fn put_back(&mut self, commands: Vec<Pending>) {
        for pending in commands.into_iter().rev() {
            pending.put_back();
            self.again.push_front(pending);
        }
    }

    fn count_try(&mut self, commands: Vec<Pending>) {
        for mut pending in commands.into_iter().rev() {
            pending.tries += 1;
            if pending.tries >= MOST_TRIES {
                tracing::error!(tries = pending.tries, "a change lost every race");
                pending.reply(Err(WriteError::TooManyConflicts));
            } else {
                self.put_back(vec![pending]);
            }
        }
    }

    fn rest(&mut self, pending: Pending) {
        if pending.since.elapsed() >= PATIENCE {
            tracing::warn!("a row has been locked for long by a session that does not write through the log");
            pending.reply(Err(WriteError::RowBusy));
        } else {
            pending.put_back();
            self.resting.push((Instant::now() + BUSY_PAUSE, pending));
        }
    }
}

/// A batch that was written whole, right after the state that it was decided on.
struct Last {
    at: Instant,
    end: Cursor,
    /// By the database's clock.
    now: DateTime<Utc>,
}

enum Trouble {
    /// Nothing was sent.
    Unreachable(Vec<Pending>, StoreError),
    /// The database answered with an error: nothing was written.
    Refused(Vec<Pending>, StoreError),
}

impl Pending {
    fn key(&self) -> Option<&IdempotencyKey> {
        self.caller.idempotency.as_ref()
    }
}
