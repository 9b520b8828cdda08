//! Wake-up hints between replicas. A hint may be lost; the poll alone makes the followers right.

use sqlx::{PgConnection, postgres::PgListener, postgres::PgPoolOptions};

use super::{
    connect::Database,
    error::StoreError,
    lane::{STATEMENT_WITHIN, bounded},
};
use crate::domain::Revision;

const CHANNEL: &str = "rollcall";

/// Tells whoever listens that the log has grown. In a transaction of its own, which nobody waits for to be durable.
pub async fn notify(connection: &mut PgConnection, revision: Revision) -> Result<(), StoreError> {
    bounded(
        STATEMENT_WITHIN,
        sqlx::query!(
            "select set_config('synchronous_commit', 'off', false), pg_notify($1, $2)::text",
            CHANNEL,
            revision.to_string()
        )
        .fetch_one(connection),
    )
    .await?;
    Ok(())
}

/// Hears hints. Every error is a gap: the listener is dropped, and whoever makes the next one polls once after it.
pub struct Listener(PgListener);

impl Listener {
    pub async fn connect(database: &Database) -> Result<Self, StoreError> {
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(std::time::Duration::from_secs(2))
            .connect_lazy_with(database.options().clone());
        let listening = async {
            let mut listener = PgListener::connect_with(&pool).await?;
            listener.listen(CHANNEL).await?;
            Ok(listener)
        };
        Ok(Self(bounded(STATEMENT_WITHIN, listening).await?))
    }

    /// Waits for a hint, which tells of this revision. None is a gap.
    pub async fn heard(&mut self) -> Option<Revision> {
        let hint = self.0.try_recv().await.ok().flatten()?;
        // one that is not understood may tell of anything
        Some(hint.payload().parse().unwrap_or(Revision::MAX))
    }
}
