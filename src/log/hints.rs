//! Sends and hears hints that the log has grown. None of them is needed: the follower's poll is what makes it right.

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{follower::Follower, peers::Peers};
use crate::{
    domain::Revision,
    store::{Database, Lane, StoreError, hint},
};

const RETRY_AFTER: Duration = Duration::from_millis(500);

/// Tells the other replicas of the newest revision that this one wrote. Revisions written while a hint is on its way
/// share the next one. Where there are no others a hint would only cost: one that came a moment ago, and is not known
/// yet, has its poll.
pub async fn run_notifier(
    database: Database,
    peers: Peers,
    mut written: watch::Receiver<Revision>,
    stop: CancellationToken,
) {
    let mut lane = Lane::new(database);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            // the writer has ended: there is nothing more to tell
            changed = written.changed() => if changed.is_err() { return stop.cancelled().await },
        }
        let revision = *written.borrow_and_update();
        if peers.borrow().others == 0 {
            continue;
        }
        if let Err(error) = send(&mut lane, revision).await {
            tracing::debug!(error = crate::telemetry::chain(&error), "a hint was not sent");
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(RETRY_AFTER) => {}
            }
        }
    }
}

async fn send(lane: &mut Lane, revision: Revision) -> Result<(), StoreError> {
    let mut connection = lane.take().await?;
    hint::notify(&mut connection, revision).await?;
    lane.give_back(connection);
    Ok(())
}

/// Wakes the follower at each hint, and after each time that hints may have been missed.
pub async fn run_listener(database: Database, follower: Arc<Follower>, stop: CancellationToken) {
    loop {
        let heard_until_gap = async {
            let mut listener = hint::Listener::connect(&database).await?;
            follower.wake();
            while let Some(revision) = listener.heard().await {
                // what this replica wrote itself it shows already
                if revision > follower.view().snapshot().revision() {
                    follower.wake();
                }
            }
            Ok::<_, StoreError>(())
        };
        tokio::select! {
            () = stop.cancelled() => return,
            result = heard_until_gap => if let Err(error) = result {
                tracing::debug!(error = crate::telemetry::chain(&error), "hints cannot be heard for now");
            },
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(RETRY_AFTER) => {}
        }
    }
}
