//! What operators set above the checks.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::{App, AppError, Caller, Shown, Written};
use crate::domain::{Command, InstanceId, Override, Overriding, Precondition, ServiceName};

impl App {
    /// Sets it, or replaces what was set.
    pub async fn set_override(
        &self,
        caller: &Caller,
        id: InstanceId,
        (status, reason, until): (Overriding, Option<String>, Option<DateTime<Utc>>),
        precondition: Precondition,
    ) -> Result<Written<Shown>, AppError> {
        let overriding = Override { status, reason, by: caller.actor.clone(), until };
        self.change_override(caller, Command::SetOverride { id, overriding, precondition }).await
    }

    pub async fn end_override(
        &self,
        caller: &Caller,
        id: InstanceId,
        precondition: Precondition,
    ) -> Result<Written<Shown>, AppError> {
        self.change_override(caller, Command::EndOverride { id, precondition }).await
    }

    async fn change_override(&self, caller: &Caller, command: Command) -> Result<Written<Shown>, AppError> {
        let outcome = self.0.log.write(caller.clone(), command).await?;
        if let Some(event) = &outcome.event {
            tracing::info!(
                service_name = event.change.service().map(ServiceName::as_str),
                service_id = event.change.instance().map(tracing::field::display),
                actor = &*Arc::clone(&caller.actor),
                event_type = event.change.kind(),
                "Override changed"
            );
        }
        self.found_row(outcome)
    }
}
