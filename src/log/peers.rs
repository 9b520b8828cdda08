//! Which replicas are there. Each says so once a second, by the database's clock, and is told of the others.
//!
//! Who has not said so for a few seconds is taken to be gone. While the database is away the last answer holds: nobody
//! could do more than before.

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub use crate::store::replicas::Presence;
use crate::store::{Database, Lane, StoreError, replicas};

const EVERY: Duration = Duration::from_secs(1);

/// The replicas, this one among them. Nobody until it is known.
pub type Peers = watch::Receiver<Arc<Presence>>;

/// Says that this replica is there until it is stopped, and then that it is gone. `checks` is whether it asks instances
/// for their health, and `doubts` whether it doubts what it sees of them.
pub async fn run_presence(
    replica: Uuid,
    checks: bool,
    mut doubts: watch::Receiver<bool>,
    database: Database,
    told: watch::Sender<Arc<Presence>>,
    stop: CancellationToken,
) {
    let mut lane = Lane::new(database);
    let mut well = true;
    loop {
        let suspicious = *doubts.borrow_and_update();
        match say(&mut lane, replica, checks, suspicious).await {
            Ok(peers) => {
                well = true;
                told.send_if_modified(|known| {
                    let changed = **known != peers;
                    if changed {
                        *known = peers.into();
                    }
                    changed
                });
            }
            Err(error) if well => {
                well = false;
                tracing::warn!(
                    error = crate::telemetry::chain(&error),
                    "the other replicas do not hear of this one for now"
                );
            }
            Err(_) => {}
        }
        tokio::select! {
            () = stop.cancelled() => break,
            () = tokio::time::sleep(EVERY) => {}
            // the others are needed at once
            Ok(()) = doubts.changed() => {}
        }
    }
    if let Err(error) = leave(&mut lane, replica).await {
        tracing::debug!(error = crate::telemetry::chain(&error), "the other replicas find out by themselves");
    }
}

async fn say(lane: &mut Lane, replica: Uuid, checks: bool, suspicious: bool) -> Result<Presence, StoreError> {
    let mut connection = lane.take().await?;
    let peers = replicas::stay(&mut connection, replica, checks, suspicious).await?;
    lane.give_back(connection);
    Ok(peers)
}

async fn leave(lane: &mut Lane, replica: Uuid) -> Result<(), StoreError> {
    let mut connection = lane.take().await?;
    replicas::leave(&mut connection, replica).await?;
    lane.give_back(connection);
    Ok(())
}
