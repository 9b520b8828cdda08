//! Use cases of configuration.

use std::sync::Arc;

use super::{App, AppError, Caller, Written};
use crate::domain::{Change, Command, ConfigEntry, ConfigKey, Content, Precondition, Refusal, Row};

impl App {
    /// The entry as it is now, and whether it was created by this.
    pub async fn put_config(
        &self,
        caller: &Caller,
        key: ConfigKey,
        content: Content,
        comment: Option<Arc<str>>,
        precondition: Precondition,
    ) -> Result<Written<(Arc<ConfigEntry>, bool)>, AppError> {
        let command = Command::PutConfig { key, content, comment, precondition };
        let outcome = self.0.log.write(caller.clone(), command).await?;
        let Some(Row::Config(entry)) = outcome.row else {
            return Err(Refusal::NoSuchConfig.into());
        };
        let changed = outcome.event.is_some();
        if changed {
            tracing::info!(
                service_name = entry.key.service.as_str(),
                environment = entry.key.environment.as_str(),
                version = entry.version,
                event_type = "configuration",
                "Configuration updated"
            );
        }
        let created = outcome.created;
        Ok(Written { revision: outcome.revision, changed, value: (entry, created) })
    }

    pub async fn delete_config(
        &self,
        caller: &Caller,
        key: ConfigKey,
        comment: Option<Arc<str>>,
        precondition: Precondition,
    ) -> Result<Written<()>, AppError> {
        let command = Command::DeleteConfig { key, comment, precondition };
        let outcome = self.0.log.write(caller.clone(), command).await?;
        if let Some(Change::ConfigDeleted { key, version, .. }) =
            outcome.event.as_ref().map(|event| &event.change)
        {
            tracing::info!(
                service_name = key.service.as_str(),
                environment = key.environment.as_str(),
                version,
                event_type = "configuration",
                "Configuration deleted"
            );
        }
        Ok(Written { revision: outcome.revision, changed: outcome.event.is_some(), value: () })
    }
}
