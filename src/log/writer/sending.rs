//! Sends a batch until its outcome is known, and shows what was written before anybody is told.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{Last, Trouble, Writer, ahead::Ahead};
use crate::{
    domain::{Event, Refusal},
    log::{
        ANSWER_WITHIN, Pending, WriteError,
        plan::Draft,
        settlement::{Foreseen, Settlement, outcome_of},
    },
    store::{
        Appended, Batch, Connection, Cursor, GroupOutcome, StoreError,
        append::{Span, append, find},
    },
    view::Snapshot,
};

/// How long an orderly stop goes on asking for the outcome of a batch.
const GIVE_UP_AFTER: Duration = Duration::from_secs(5);

/// A command whose answer hangs on the outcome of its group.
pub(super) type Waiting = (Pending, i32, Draft);

/// So many events and commands are worth the way to another thread and back.
const LARGE: usize = 128;

impl Writer {
    /// Appends, shows and answers.
    pub(super) async fn write(
        &mut self,
        connection: Connection,
        batch: Arc<Batch>,
        snapshot: Arc<Snapshot>,
        waiting: Vec<Waiting>,
        now: DateTime<Utc>,
    ) -> Result<(), Trouble> {
        let began = Instant::now();
        // what it will come to is worked out while the database is at it, and what comes next decided on that
        let next = self.backlog();
        let foresee = foresee(batch.clone(), snapshot, next, now);
        let batch = &*batch;
        let ((connection, end), (foreseen, ahead)) =
            tokio::join!(self.append_surely(connection, batch), foresee);
        let as_foreseen = matches!(
            &end, End::Known { outcomes, span } if Foreseen::has_come(batch, outcomes, span.as_ref())
        );
        match ahead {
            Some(ahead) if !as_foreseen => self.put_back(ahead.commands),
            ahead => self.ahead = ahead,
        }
        self.follower.metrics().appended(waiting.len(), began.elapsed().as_secs_f64());
        let commands =
            |waiting: Vec<(Pending, _, _)>| waiting.into_iter().map(|(pending, ..)| pending).collect();
        let (outcomes, span) = match end {
            End::Known { outcomes, span } => (outcomes, span),
            End::Refused(error) if error.will_pass() => {
                return Err(Trouble::Unreachable(commands(waiting), error));
            }
            End::Refused(error) => {
                // who answers no is as well as before, and is asked again at once: for each half
                if let Some(connection) = connection {
                    self.lane.give_back(connection);
                }
                return Err(Trouble::Refused(commands(waiting), error));
            }
            End::Moved => {
                self.count_try(commands(waiting));
                return Ok(());
            }
            End::GivenUp => {
                for (pending, ..) in waiting {
                    pending.reply(Err(WriteError::OutcomeUnknown));
                }
                return Ok(());
            }
        };
        let (settlement, ready) = if as_foreseen {
            (foreseen.settlement, Some((foreseen.base, foreseen.next)))
        } else {
            (Settlement::of(batch, &outcomes, span.as_ref()), None)
        };
        match self.show(connection, &batch.cursor, &settlement.events, span.as_ref(), ready).await {
            // what others have written meanwhile is known by now, and must explain every conflict
            Ok(()) => {
                self.explain(batch, &outcomes, span.as_ref());
                self.last = span.filter(|_| as_foreseen).map(|span| Last {
                    at: Instant::now(),
                    end: span.end(),
                    now,
                });
            }
            Err(error) => {
                tracing::warn!(
                    error = crate::telemetry::chain(&error),
                    "a written batch could not be read back yet"
                );
                if !self.wait_to_show(span.as_ref()).await {
                    // The database that took it may have gone with it.
                    for (pending, ..) in waiting {
                        pending.reply(Err(WriteError::OutcomeUnknown));
                    }
                    return Ok(());
                }
            }
        }
        let mut lost = Vec::new();
        for (pending, group, answer) in waiting {
            match outcome_of(&outcomes, group) {
                GroupOutcome::Written => {
                    pending.reply(settlement.answer(answer, batch).map_err(WriteError::Refused));
                }
                GroupOutcome::Busy => self.rest(pending),
                GroupOutcome::Overtaken if pending.rests_on_silence() => {
                    pending.reply(Err(WriteError::Refused(Refusal::Overtaken)));
                }
                // what met one that was overtaken in its group is decided anew without it
                GroupOutcome::Conflict | GroupOutcome::Overtaken => lost.push(pending),
            }
        }
        self.count_try(lost);
        Ok(())
    }

    /// Sends the batch until its outcome is known: after a lost answer the same batch again, under its id, which the
    /// database knows if it has written it.
    pub(super) async fn append_surely(
        &mut self,
        connection: Connection,
        batch: &Batch,
    ) -> (Option<Connection>, End) {
        let mut connection = Some(connection);
        let mut lost: Option<Instant> = None;
        loop {
            if self.stop.is_cancelled() && lost.is_some_and(|since| since.elapsed() > GIVE_UP_AFTER) {
                return (None, End::GivenUp);
            }
            let opened = match connection.take() {
                Some(open) => Ok(open),
                None => self.connect().await,
            };
            let (Ok(mut open), Some(pen)) = (opened, self.pen) else {
                self.pause().await;
                continue;
            };
            match append(&mut open, pen, batch, self.is_careful()).await {
                Ok(Appended::Done { outcomes, written: span }) => {
                    if let Some(since) = lost {
                        tracing::info!(batch = %batch.id, after = ?since.elapsed(), "the outcome of a batch became known");
                    }
                    return (Some(open), End::Known { outcomes, span });
                }
                Ok(Appended::Forked) => return (Some(open), End::Moved),
                // another connection of this replica is newer: take a generation beyond it, and ask again
                Ok(Appended::Superseded) => self.pen = None,
                Err(error) if error.is_refusal() && lost.is_none() => {
                    return (Some(open), End::Refused(error));
                }
                // This attempt changed nothing; an earlier one may have.
                Err(error) if error.is_refusal() => match self.look_up(batch.id).await {
                    Ok((open, Some((outcomes, span)))) => return (Some(open), End::Known { outcomes, span }),
                    Ok((open, None)) => return (Some(open), End::Refused(error)),
                    Err(_) => self.pause().await,
                },
                Err(error) => {
                    self.pen = None;
                    if lost.is_none() {
                        lost = Some(Instant::now());
                        tracing::warn!(
                            error = crate::telemetry::chain(&error), batch = %batch.id,
                            "the outcome of a batch is unknown: it is asked for"
                        );
                    }
                    self.pause().await;
                }
            }
        }
    }

    /// Whether a batch was written by an earlier attempt, on a connection that no earlier attempt can outlive.
    async fn look_up(
        &mut self,
        batch: Uuid,
    ) -> Result<(Connection, Option<(Vec<GroupOutcome>, Option<Span>)>), StoreError> {
        self.pen = None;
        let mut connection = self.connect().await?;
        let found = match find(&mut connection, batch).await? {
            Some(Appended::Done { outcomes, written }) => Some((outcomes, written)),
            _ => None,
        };
        Ok((connection, found))
    }

    /// Carries a written batch into the view, before anybody is told of it.
    pub(super) async fn show(
        &mut self,
        connection: Option<Connection>,
        before: &Cursor,
        events: &[Event],
        span: Option<&Span>,
        ready: Option<(Arc<Snapshot>, Arc<Snapshot>)>,
    ) -> Result<(), StoreError> {
        let mut connection = match connection {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        let own = span.is_some_and(|span| {
            follows(before, span) && self.follower.take_own(before, events, span.end(), ready)
        });
        if !own {
            self.follower.catch_up(&mut connection, &mut self.lane.patience).await?;
        }
        if let Some(span) = span {
            self.written.send_replace(span.to);
        }
        self.lane.give_back(connection);
        Ok(())
    }

    /// An answer promises that this replica shows what was written. The follower goes on trying meanwhile. False when
    /// it does not come to that in time, or shows a log of another epoch.
    pub(super) async fn wait_to_show(&self, span: Option<&Span>) -> bool {
        let Some(Span { epoch, to, .. }) = span else { return true };
        let mut shown = self.follower.view().watch();
        let reached = shown.wait_for(|revision| revision.is_some_and(|revision| revision >= *to));
        self.follower.wake();
        let in_time = matches!(tokio::time::timeout(ANSWER_WITHIN, reached).await, Ok(Ok(_)));
        in_time && self.follower.view().snapshot().epoch() == *epoch
    }

    /// A conflict means that somebody else has written in between. Where nobody has, rows were changed past the log.
    /// One over an idempotency key needs no event.
    pub(super) fn explain(&mut self, batch: &Batch, outcomes: &[GroupOutcome], span: Option<&Span>) {
        let lost = |group: &i32| outcome_of(outcomes, *group) == GroupOutcome::Conflict;
        let keyed = |group: &i32| batch.keys.iter().any(|kept| kept.group == *group);
        for _ in (1..=batch.groups).filter(lost) {
            self.follower.metrics().conflict();
        }
        if outcomes.contains(&GroupOutcome::Conflict) {
            self.contended = Some(Instant::now());
        }
        let conflicts = (1..=batch.groups).filter(lost).filter(|group| !keyed(group)).count();
        let nobody_wrote = match span {
            Some(span) => follows(&batch.cursor, span),
            None => self.follower.position().is_some_and(|(cursor, _)| cursor == batch.cursor),
        };
        if conflicts > 0 && nobody_wrote {
            self.follower.metrics().unexplained_conflict();
            tracing::error!(conflicts, "rows have versions that the log does not explain");
        }
    }
}

/// What the batch will come to, and what is decided on that. Large ones are worked out on another thread: the batch has
/// more bytes than the socket takes at once, and the database would wait for the rest of them.
async fn foresee(
    batch: Arc<Batch>,
    snapshot: Arc<Snapshot>,
    next: Vec<Pending>,
    now: DateTime<Utc>,
) -> (Foreseen, Option<Ahead>) {
    let is_large = batch.events.len() + next.len() >= LARGE;
    let work = move || {
        let foreseen = Foreseen::of(&batch, snapshot);
        let ahead = Ahead::decide(next, &foreseen.next, &batch.cursor, now);
        (foreseen, ahead)
    };
    if !is_large {
        return work();
    }
    match tokio::task::spawn_blocking(work).await {
        Ok(foreseen) => foreseen,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// Whether a batch came to the log right after the state that it was decided on.
fn follows(before: &Cursor, span: &Span) -> bool {
    span.from == before.revision + 1 && span.epoch == before.epoch
}

/// How the sending of a batch ended.
pub(super) enum End {
    Known {
        outcomes: Vec<GroupOutcome>,
        span: Option<Span>,
    },
    /// Answered with an error: nothing was written.
    Refused(StoreError),
    /// The log is not where the batch was decided: nothing was written.
    Moved,
    /// The database is away and the process is to stop.
    GivenUp,
}
