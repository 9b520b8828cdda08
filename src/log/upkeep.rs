//! What has to be done from time to time: remembering where this replica stands, ending overrides whose time is over,
//! forgetting old idempotency keys, and taking away tokens that ended.

use std::time::Duration;

use chrono::TimeDelta;
use tokio_util::sync::CancellationToken;

use super::{Caller, Log, WriteError, ends::Ends};
use crate::{
    domain::{Command, Refusal},
    store::{Database, Lane, StoreError, idempotency},
};

const EVERY: Duration = Duration::from_secs(1);
/// How often old idempotency keys and tokens are looked for, counted in turns.
const FORGET_EVERY: u64 = 60;
/// How long a token is still listed after its end.
const TOKENS_KEPT: TimeDelta = TimeDelta::days(1);
/// As `forget_idempotency_keys` has it.
const FORGOTTEN_AT_ONCE: i64 = 1000;

/// Runs until it is stopped, and then remembers once more.
pub async fn run_upkeep(log: Log, database: Database, stop: CancellationToken) {
    let follower = log.follower().clone();
    let mut lane = Lane::new(database);
    let mut written = None;
    let mut ends = Ends::default();
    for turn in 1_u64.. {
        let stopping = tokio::select! {
            () = stop.cancelled() => true,
            () = tokio::time::sleep(EVERY) => false,
        };
        let anchor = follower.anchor();
        if let Some(anchor) = anchor.filter(|anchor| Some(anchor) != written.as_ref()) {
            follower.anchors().write_marks(&anchor).await;
            written = Some(anchor);
        }
        if stopping {
            return;
        }
        ends.keep(&log).await;
        if turn % FORGET_EVERY == 0 {
            if let Err(error) = forget(&mut lane).await {
                tracing::warn!(
                    error = crate::telemetry::chain(&error),
                    "old idempotency keys were not forgotten"
                );
            }
            remove_ended_tokens(&log).await;
        }
    }
}

async fn forget(lane: &mut Lane) -> Result<(), StoreError> {
    let mut connection = lane.take().await?;
    while idempotency::forget_old(&mut connection).await? == FORGOTTEN_AT_ONCE {}
    lane.give_back(connection);
    Ok(())
}

/// Replicas may do so at the same time: whoever is first has done it.
pub async fn remove_ended_tokens(log: &Log) {
    let before = log.follower().now() - TOKENS_KEPT;
    let snapshot = log.follower().view().snapshot();
    let ended = snapshot.tokens().iter().filter(|token| !token.holds_at(before));
    let commands: Vec<_> = ended
        .take(usize::try_from(FORGOTTEN_AT_ONCE).unwrap_or(usize::MAX))
        .map(|token| (Caller::upkeep(), Command::RevokeToken { id: token.id }))
        .collect();
    if commands.is_empty() {
        return;
    }
    let results = log.write_all(commands).await.into_iter();
    let failures: Vec<_> = results
        .filter_map(Result::err)
        .filter(|error| !matches!(error, WriteError::Refused(Refusal::NoSuchToken)))
        .collect();
    if let Some(error) = failures.first() {
        let (error, tokens) = (crate::telemetry::chain(error), failures.len());
        tracing::warn!(error, tokens, "tokens that ended were not removed");
    }
}
