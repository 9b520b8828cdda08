//! The rows of the tables, and what each replica shows, against what the log makes of them.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde_json::{Value, json};
use sqlx::{PgConnection, Row};
use uuid::Uuid;

use super::fold::Fold;
use crate::cluster::wait_for;

const LIST_WITHIN: Duration = Duration::from_secs(30);
const TIME: &str = "YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"";

/// The tables are what the log says.
pub async fn tables(connection: &mut PgConnection, fold: &Fold) -> Result<Vec<String>, String> {
    let mut findings = differences("the table has", &fold.instances, &instances(connection).await?);
    let folded = fold.configs.iter().map(|(key, row)| (key.clone(), row.clone())).collect();
    findings.extend(differences("the table has", &folded, &configs(connection).await?));
    findings.extend(config_versions(connection, fold).await?);
    Ok(findings)
}

/// What a replica shows, when asked for its newest, is what the log says.
pub async fn replica(base: &str, fold: &Fold) -> Result<Vec<String>, String> {
    let http = reqwest::Client::builder().no_proxy().build().map_err(|error| error.to_string())?;
    let once = async |path: &str| {
        let url = format!("{base}{path}?consistency=strong");
        let answer = http.get(&url).send().await.and_then(reqwest::Response::error_for_status);
        let answer = answer.map_err(|error| error.to_string())?;
        let revision = answer.headers().get("x-rollcall-revision").and_then(|text| text.to_str().ok());
        let revision: i64 = revision.and_then(|text| text.parse().ok()).ok_or("no revision")?;
        let body: Vec<Value> = answer.json().await.map_err(|error| error.to_string())?;
        Ok::<_, String>((revision, body))
    };
    // a connection that died silently before costs the first who meet it their time
    let list = async |path: &str| {
        let asked = wait_for(LIST_WITHIN, async || once(path).await.ok()).await;
        asked.ok_or_else(|| format!("{base}{path} cannot be read within {LIST_WITHIN:?}"))
    };
    let mut findings = Vec::new();
    let (revision, shown) = list("/api/v1/services").await?;
    let by_id = |row: Value| Some((Uuid::parse_str(row["id"].as_str()?).ok()?, row));
    let shown: BTreeMap<Uuid, Value> = shown.iter().map(essence_of_shown).filter_map(by_id).collect();
    let folded: BTreeMap<Uuid, Value> =
        fold.instances.values().map(essence_of_row).filter_map(by_id).collect();
    findings.extend(differences("it shows", &folded, &shown));
    let (config_revision, shown) = list("/api/v1/config").await?;
    let by_key = |row: &Value| {
        let text = |field: &str| row[field].as_str().unwrap_or_default().to_owned();
        ((Arc::<str>::from(text("service")), text("environment")), row.clone())
    };
    let live = fold.configs.values().filter(|row| !row["content"].is_null());
    let folded = live.map(by_key).collect();
    findings.extend(differences("it shows", &folded, &shown.iter().map(by_key).collect()));
    for revision in [revision, config_revision] {
        if revision != fold.head() {
            findings.push(format!("it is at {revision}, and the log at {}", fold.head()));
        }
    }
    Ok(findings.into_iter().map(|finding| format!("{base}: {finding}")).collect())
}

fn differences<K: Ord + std::fmt::Debug>(
    what: &str,
    folded: &BTreeMap<K, Value>,
    found: &BTreeMap<K, Value>,
) -> Vec<String> {
    let mut findings = Vec::new();
    for (key, row) in folded {
        if found.get(key) != Some(row) {
            let other = found.get(key).map_or("nothing".to_owned(), Value::to_string);
            findings.push(format!("{key:?}: {what} {other}, and the log makes {row}"));
        }
    }
    for (key, row) in found.iter().filter(|(key, _)| !folded.contains_key(key)) {
        findings.push(format!("{key:?}: {what} {row}, and the log makes nothing"));
    }
    findings
}

async fn instances(connection: &mut PgConnection) -> Result<BTreeMap<Uuid, Value>, String> {
    let rows = sqlx::query(
        "select id::text as id, service, key, key_given, version, revision, status, failures, health_changes, spec, \
         to_char(registered_at at time zone 'UTC', $1) as registered_at, \
         to_char(updated_at at time zone 'UTC', $1) as updated_at from rollcall.instances",
    )
    .bind(TIME)
    .fetch_all(connection)
    .await
    .map_err(|error| error.to_string())?;
    let mut found = BTreeMap::new();
    for row in rows {
        let text = |column: &str| row.get::<String, _>(column);
        let id = Uuid::parse_str(&text("id")).map_err(|error| error.to_string())?;
        let kind = if row.get("key_given") { "given" } else { "address" };
        let spec: Value = serde_json::from_str(&text("spec")).map_err(|error| error.to_string())?;
        let value = json!({
            "id": id, "service": text("service"), "key": { kind: text("key") },
            "version": row.get::<i64, _>("version"), "revision": row.get::<i64, _>("revision"),
            "status": text("status"), "failures": row.get::<i32, _>("failures"),
            "changes": row.get::<i32, _>("health_changes"), "spec": spec,
            "registered_at": text("registered_at"), "updated_at": text("updated_at"),
        });
        found.insert(id, value);
    }
    Ok(found)
}

type ConfigKey = (Arc<str>, String);

async fn configs(connection: &mut PgConnection) -> Result<BTreeMap<ConfigKey, Value>, String> {
    let rows = sqlx::query(
        "select service, environment, version, revision, content, comment, actor, \
         to_char(created_at at time zone 'UTC', $1) as created_at, \
         to_char(updated_at at time zone 'UTC', $1) as updated_at from rollcall.config_entries",
    )
    .bind(TIME)
    .fetch_all(connection)
    .await
    .map_err(|error| error.to_string())?;
    let one = |row: &sqlx::postgres::PgRow| {
        let text = |column: &str| row.get::<String, _>(column);
        let content = row.get::<Option<String>, _>("content");
        let content = content.map_or(Value::Null, |text| serde_json::from_str(&text).unwrap_or(Value::Null));
        let value = json!({
            "service": text("service"), "environment": text("environment"),
            "version": row.get::<i64, _>("version"), "revision": row.get::<i64, _>("revision"),
            "content": content, "comment": row.get::<Option<String>, _>("comment"), "actor": text("actor"),
            "created_at": text("created_at"), "updated_at": text("updated_at"),
        });
        ((text("service").into(), text("environment")), value)
    };
    Ok(rows.iter().map(one).collect())
}

/// Every version that a configuration ever had is kept.
async fn config_versions(connection: &mut PgConnection, fold: &Fold) -> Result<Vec<String>, String> {
    let rows = sqlx::query(
        "select e.service, v.version, v.revision from rollcall.config_versions v \
         join rollcall.config_entries e on e.id = v.id order by v.revision",
    )
    .fetch_all(connection)
    .await
    .map_err(|error| error.to_string())?;
    let kept: Vec<(String, i64, i64)> =
        rows.iter().map(|row| (row.get("service"), row.get("version"), row.get("revision"))).collect();
    let of_config = |entry: &&super::log::Entry| {
        matches!(entry.kind, super::log::Kind::ConfigPut { .. } | super::log::Kind::ConfigDeleted)
    };
    let entries = fold.entries.iter().filter(of_config);
    let folded: Vec<_> =
        entries.map(|entry| (entry.service.to_string(), entry.version, entry.revision)).collect();
    if kept == folded {
        return Ok(Vec::new());
    }
    let first = kept.iter().zip(&folded).find(|(kept, folded)| kept != folded);
    Ok(vec![format!(
        "the table of versions has {} rows and the log {} changes; the first that differ: {first:?}",
        kept.len(),
        folded.len()
    )])
}

/// What a row and an answer have in common.
fn essence_of_row(row: &Value) -> Value {
    let key = &row["key"];
    let key = if key["given"].is_null() { &key["address"] } else { &key["given"] };
    let (spec, other) = (&row["spec"], &row["spec"]["metadata"]["other"]);
    json!({
        "id": row["id"], "name": row["service"], "key": key, "version": row["version"],
        "revision": row["revision"], "status": row["status"], "registered_at": row["registered_at"],
        "updated_at": row["updated_at"], "type": spec["type"], "host": spec["host"], "port": spec["port"],
        "weight": spec["weight"], "tag": other["tag"], "padding": other["padding"],
    })
}

fn essence_of_shown(shown: &Value) -> Value {
    let metadata = &shown["metadata"];
    let mut essence = json!({ "tag": metadata["tag"], "padding": metadata["padding"] });
    for field in [
        "id",
        "name",
        "key",
        "version",
        "revision",
        "status",
        "registered_at",
        "updated_at",
        "type",
        "host",
        "port",
        "weight",
    ] {
        essence[field] = shown[field].clone();
    }
    essence
}
