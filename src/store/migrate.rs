//! Brings the database to the shape this version needs. Forward only; many replicas may try at once, one does it.

use sqlx::migrate::Migrator;

use super::{
    connect::Database,
    error::StoreError,
    lane::{STATEMENT_WITHIN, bounded},
};

static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

/// A newer release may have migrated further: what it added does not disturb this one.
fn migrations() -> Migrator {
    let mut migrations = Migrator { migrations: MIGRATIONS.migrations.clone(), ..Migrator::DEFAULT };
    migrations.set_ignore_missing(true);
    migrations
}

/// Applies what is missing, and says how much that was.
pub async fn migrate(database: &Database) -> Result<usize, StoreError> {
    let before = pending(database).await?;
    if before == 0 {
        return Ok(0);
    }
    let mut connection = database.connect_as_owner().await?;
    migrations().run_direct(None, &mut connection, false).await.map_err(StoreError::Migrate)?;
    Ok(before)
}

/// How many migrations the database lacks.
pub async fn pending(database: &Database) -> Result<usize, StoreError> {
    let mut connection = database.connect_as_owner().await?;
    let has_table = bounded(
        STATEMENT_WITHIN,
        sqlx::query_scalar!(r#"select to_regclass('_sqlx_migrations') is not null as "has_table!""#)
            .fetch_one(&mut connection),
    )
    .await?;
    if !has_table {
        return Ok(MIGRATIONS.iter().count());
    }
    let applied: Vec<i64> = bounded(
        STATEMENT_WITHIN,
        sqlx::query_scalar("select version from _sqlx_migrations where success").fetch_all(&mut connection),
    )
    .await?;
    Ok(MIGRATIONS.iter().filter(|migration| !applied.contains(&migration.version)).count())
}
