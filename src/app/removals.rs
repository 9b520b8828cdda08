//! What becomes of instances that have been ill for longer than their checks allow.

use super::{App, AppError, Caller, reads::LANE_PATIENCE};
use crate::{
    domain::{Command, Expire, ServiceName},
    store::{Patience, StoreError, sweep},
};

pub use crate::store::sweep::Sweep;

impl App {
    /// Says that somebody looks for what is to be removed, and learns how far removals have come, over all replicas.
    pub async fn look_around(&self) -> Result<Sweep, AppError> {
        Ok(match self.row_of_sweep(Patience::USED).await {
            // the connection had ended while nobody used it
            Err(StoreError::Broken(_) | StoreError::Timeout(_)) => {
                self.0.lanes.forget_idle();
                self.row_of_sweep(Patience::FRESH).await?
            }
            result => result?,
        })
    }

    async fn row_of_sweep(&self, patience: Patience) -> Result<Sweep, StoreError> {
        let mut lane = self.0.lanes.take(LANE_PATIENCE).await?;
        let row = sweep::look_around(&mut lane.connection, patience).await?;
        lane.give_back();
        Ok(row)
    }

    /// Removes instances in one pass. One that has changed meanwhile stays, and none goes if another pass came first.
    pub async fn remove_ill(&self, due: Vec<Expire>) -> Result<(), AppError> {
        let commands = due.into_iter().map(|expire| (Caller::sweeper(), Command::Expire(expire))).collect();
        let mut failed = None;
        for result in self.0.log.write_all(commands).await {
            match result.map_err(AppError::from) {
                Ok(outcome) => {
                    if let Some(event) = &outcome.event {
                        tracing::warn!(
                            service_name = event.change.service().map(ServiceName::as_str),
                            service_id = event.change.instance().map(tracing::field::display),
                            event_type = "removal",
                            "Service was ill for too long and is removed"
                        );
                    }
                }
                // its turn comes again if it is still due
                Err(AppError::Refused(_)) => {}
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(()), Err)
    }
}
