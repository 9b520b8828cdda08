//! Loads the rows and the place in the log that they belong to, as one snapshot of the database.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures_util::TryStreamExt as _;
use serde::Deserialize;
use serde_json::value::RawValue;
use sqlx::{Connection, PgConnection};

use super::{error::StoreError, lane::bounded, poll::Cursor, state::StateText};
use crate::domain::{
    CheckState, ConfigEntry, ConfigKey, Content, Digest, Environment, Fault, Instance, InstanceId, Key,
    Metadata, Revision, ServiceName, Spec, Status, Token, TokenId, TokenName,
};

/// A registry of a hundred thousand loads in under a second; this is for the day when the database is busy as well.
const LOAD_WITHIN: Duration = Duration::from_mins(1);

#[derive(Debug)]
pub struct Loaded {
    /// Which log this is, wherever it was restored to.
    pub log: uuid::Uuid,
    /// What the epoch begins after.
    pub floor: Revision,
    pub cursor: Cursor,
    pub instances: Vec<Instance>,
    pub configs: Vec<ConfigEntry>,
    pub tokens: Vec<Token>,
}

pub async fn load(connection: &mut PgConnection) -> Result<Loaded, StoreError> {
    bounded(LOAD_WITHIN, async { Ok(load_in_one_snapshot(connection).await) }).await?
}

async fn load_in_one_snapshot(connection: &mut PgConnection) -> Result<Loaded, StoreError> {
    let mut snapshot = connection.begin_with("begin isolation level repeatable read read only").await?;
    // whole tables are read fastest as they lie
    sqlx::query!("select set_config('statement_timeout', '60s', true), set_config('enable_seqscan', 'on', true) as scan")
        .fetch_one(&mut *snapshot)
        .await?;
    let head = sqlx::query!(
        r#"
        select h.log_id, h.floor, h.epoch, top.rev_to as "revision?", top.hash as "hash?"
        from rollcall.log_head h
        left join lateral (select b.rev_to, b.hash from rollcall.batches b order by b.rev_to desc limit 1) top on true
        "#
    )
    .fetch_optional(&mut *snapshot)
    .await?
    .ok_or(StoreError::NotMigrated)?;
    let mut rows = sqlx::query_as!(
        InstanceRow,
        "select id, service, key, key_given, version, revision, status, failures, health_changes, spec, \
         state, registered_at, updated_at from rollcall.instances"
    )
    .fetch(&mut *snapshot);
    // One by one, so that no second copy of everything is left behind in memory.
    let (mut instances, mut known) = (Vec::new(), HashMap::new());
    let mut unreadable = None;
    while let Some(row) = rows.try_next().await? {
        match row.into_instance(&mut known) {
            Ok(instance) => instances.push(instance),
            Err(error) => unreadable = unreadable.or(Some(error)),
        }
    }
    drop(rows);
    let configs = sqlx::query_as!(
        ConfigRow,
        "select service, environment, version, revision, content, comment, actor, created_at, updated_at \
         from rollcall.config_entries"
    )
    .fetch_all(&mut *snapshot)
    .await?;
    let tokens = sqlx::query_as!(
        TokenRow,
        "select id, version, revision, name, policies, digest, actor, created_at, expires_at from rollcall.tokens"
    )
    .fetch_all(&mut *snapshot)
    .await?;
    snapshot.commit().await?;
    if let Some(error) = unreadable {
        return Err(error);
    }
    Ok(Loaded {
        log: head.log_id,
        floor: head.floor,
        cursor: Cursor { epoch: head.epoch, revision: head.revision.unwrap_or(0), hash: head.hash },
        instances,
        configs: configs.into_iter().map(ConfigEntry::try_from).collect::<Result<_, _>>()?,
        tokens: tokens.into_iter().map(Token::try_from).collect::<Result<_, _>>()?,
    })
}

struct InstanceRow {
    id: uuid::Uuid,
    service: String,
    key: String,
    key_given: bool,
    version: i64,
    revision: i64,
    status: String,
    failures: i32,
    health_changes: i32,
    spec: String,
    state: Option<String>,
    registered_at: chrono::DateTime<chrono::Utc>,
    updated_at: chrono::DateTime<chrono::Utc>,
}

fn unreadable(table: &'static str, column: &'static str, reason: impl std::fmt::Display) -> StoreError {
    StoreError::Unreadable { table, column, reason: reason.to_string() }
}

/// Metadata by its text: most instances say what others have said.
type KnownMetadata = HashMap<Box<str>, Arc<Metadata>>;

#[derive(Deserialize)]
struct MetadataText<'a> {
    #[serde(borrow)]
    metadata: &'a RawValue,
}

impl InstanceRow {
    fn into_instance(self, known: &mut KnownMetadata) -> Result<Instance, StoreError> {
        let row = self;
        let odd = |column: &'static str, reason: String| unreadable("instances", column, reason);
        let mut spec: Spec =
            serde_json::from_str(&row.spec).map_err(|error| odd("spec", error.to_string()))?;
        let MetadataText { metadata } =
            serde_json::from_str(&row.spec).map_err(|error| odd("spec", error.to_string()))?;
        match known.get(metadata.get()) {
            Some(metadata) => spec.metadata = metadata.clone(),
            None => drop(known.insert(metadata.get().into(), spec.metadata.clone())),
        }
        let state = StateText::read(row.state.as_deref()).map_err(|error| odd("state", error.to_string()))?;
        let (health, overridden, alert) = state.over(CheckState {
            status: Status::parse(&row.status).ok_or_else(|| odd("status", row.status.clone()))?,
            failures: u16::try_from(row.failures).map_err(|error| odd("failures", error.to_string()))?,
            successes: 0,
            changes: row.health_changes.cast_unsigned(),
        });
        Ok(Instance {
            id: InstanceId(row.id),
            service: ServiceName::parse(&row.service).map_err(|fault| odd("service", fault.to_string()))?,
            key: Key::stored(&row.key, row.key_given),
            spec: Arc::new(spec),
            health,
            overridden,
            alert,
            registered_at: row.registered_at,
            updated_at: row.updated_at,
            version: row.version,
            revision: row.revision,
        })
    }
}

struct ConfigRow {
    service: String,
    environment: String,
    version: i64,
    revision: i64,
    content: Option<String>,
    comment: Option<String>,
    actor: String,
    created_at: chrono::DateTime<chrono::Utc>,
    updated_at: chrono::DateTime<chrono::Utc>,
}

impl TryFrom<ConfigRow> for ConfigEntry {
    type Error = StoreError;

    fn try_from(row: ConfigRow) -> Result<Self, StoreError> {
        let odd = |column: &'static str| move |fault: Fault| unreadable("config_entries", column, fault);
        Ok(Self {
            key: ConfigKey {
                service: ServiceName::parse(&row.service).map_err(odd("service"))?,
                environment: Environment::parse(&row.environment).map_err(odd("environment"))?,
            },
            content: row.content.map(|text| Content::parse(&text)).transpose().map_err(odd("content"))?,
            comment: row.comment.map(Into::into),
            actor: row.actor.into(),
            created_at: row.created_at,
            updated_at: row.updated_at,
            version: row.version,
            revision: row.revision,
        })
    }
}

struct TokenRow {
    id: uuid::Uuid,
    version: i64,
    revision: i64,
    name: String,
    policies: String,
    digest: Vec<u8>,
    actor: String,
    created_at: chrono::DateTime<chrono::Utc>,
    expires_at: Option<chrono::DateTime<chrono::Utc>>,
}

impl TryFrom<TokenRow> for Token {
    type Error = StoreError;

    fn try_from(row: TokenRow) -> Result<Self, StoreError> {
        let digest = row.digest.try_into().map_err(|_| unreadable("tokens", "digest", "has not 32 bytes"))?;
        Ok(Self {
            id: TokenId(row.id),
            name: TokenName::parse(&row.name).map_err(|fault| unreadable("tokens", "name", fault))?,
            policies: serde_json::from_str(&row.policies)
                .map_err(|error| unreadable("tokens", "policies", error))?,
            digest: Digest(digest),
            created_at: row.created_at,
            expires_at: row.expires_at,
            actor: row.actor.into(),
            version: row.version,
            revision: row.revision,
        })
    }
}
