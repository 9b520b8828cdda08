//! What has to be done from time to time: remembering where this replica stands, and forgetting old keys.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use super::follower::Follower;
use crate::store::{Database, Lane, StoreError, idempotency};

const EVERY: Duration = Duration::from_secs(1);
/// How often old idempotency keys are looked for, counted in turns.
const FORGET_EVERY: u64 = 60;
/// As `forget_idempotency_keys` has it.
const FORGOTTEN_AT_ONCE: i64 = 1000;

/// Runs until it is stopped, and then remembers once more.
pub async fn run_upkeep(follower: Arc<Follower>, database: Database, stop: CancellationToken) {
    let mut lane = Lane::new(database);
    let mut written = None;
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
        if turn % FORGET_EVERY == 0
            && let Err(error) = forget(&mut lane).await
        {
            tracing::warn!(
                error = crate::telemetry::chain(&error),
                "old idempotency keys were not forgotten"
            );
        }
    }
}

async fn forget(lane: &mut Lane) -> Result<(), StoreError> {
    let mut connection = lane.take().await?;
    while idempotency::forget_old(&mut connection).await? == FORGOTTEN_AT_ONCE {}
    lane.give_back(connection);
    Ok(())
}
