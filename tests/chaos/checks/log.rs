//! The log, as the API tells it, read with nothing of the product's own code.

use std::{collections::HashSet, sync::Arc, time::Duration};

use serde_json::Value;
use uuid::Uuid;

use crate::{
    cluster::wait_for,
    history::{Slot, Tag},
};

const PAGE: usize = 1000;
const PAGE_WITHIN: Duration = Duration::from_secs(30);

/// One event, without what only matters for the rows.
#[derive(Clone, Debug)]
pub struct Entry {
    pub revision: i64,
    pub epoch: i64,
    pub kind: Kind,
    pub service: Arc<str>,
    pub instance: Option<Uuid>,
    /// The request that made it, and which of its items.
    pub tag: Option<Tag>,
    /// What is written there now was made by this request.
    pub content: Option<Tag>,
    /// Of the row, from this event on.
    pub version: i64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    Registered(Slot),
    Updated,
    Unregistered(Slot),
    Health {
        status: String,
    },
    ConfigPut {
        number: Option<i64>,
    },
    ConfigDeleted,
    /// The log goes on after a loss, of which this tells the revisions, as far as they are known.
    EpochStarted {
        lost: Option<(i64, i64)>,
    },
    Other(String),
}

impl Entry {
    fn of(event: &Value, names: &mut HashSet<Arc<str>>) -> Option<Self> {
        let data = &event["data"];
        let mut name = |text: &str| match names.get(text) {
            Some(name) => Arc::clone(name),
            None => {
                let name: Arc<str> = text.into();
                names.insert(Arc::clone(&name));
                name
            }
        };
        let service = name(event["service"].as_str().unwrap_or_default());
        let slot = |key: &Value, name: &mut dyn FnMut(&str) -> Arc<str>| {
            let key = key["given"].as_str().or(key["address"].as_str()).unwrap_or_default();
            Slot { service: Arc::clone(&service), key: name(key) }
        };
        let kind = match event["kind"].as_str()? {
            "service_registered" => Kind::Registered(slot(&data["key"], &mut name)),
            "service_updated" => Kind::Updated,
            "service_unregistered" => Kind::Unregistered(slot(&data["key"], &mut name)),
            "status_change" | "failure_counted" => {
                Kind::Health { status: data["new_status"].as_str().unwrap_or_default().to_owned() }
            }
            "config_updated" => Kind::ConfigPut { number: data["content"]["number"].as_i64() },
            "config_deleted" => Kind::ConfigDeleted,
            "epoch_started" => {
                let from = data["lost_from"].as_i64().unwrap_or(0);
                let lost = data["lost_to"].as_i64().map(|to| (from, to));
                Kind::EpochStarted { lost }
            }
            other => Kind::Other(other.to_owned()),
        };
        let content =
            data["instance"]["metadata"]["other"]["tag"].as_str().or(data["content"]["tag"].as_str());
        let content = content.and_then(Tag::read);
        let request = event["request_id"].as_str().and_then(Tag::request_of);
        // a request that sends again what another wrote has items of its own all the same
        let item = |request| content.filter(|tag| tag.request == request).map_or(0, |tag| tag.item);
        Some(Self {
            revision: event["revision"].as_i64()?,
            epoch: event["epoch"].as_i64()?,
            kind,
            service,
            instance: event["instance"].as_str().and_then(|id| Uuid::parse_str(id).ok()),
            tag: request.map(|request| Tag { request, item: item(request) }),
            content,
            version: data["version"].as_i64().unwrap_or(0),
        })
    }
}

/// Walks through the whole log, page by page, and hands each event to `take` as it was told.
pub async fn walk(
    base: &str,
    mut take: impl FnMut(&Value, Entry) -> Result<(), String>,
) -> Result<(), String> {
    let http = reqwest::Client::builder().no_proxy().build().map_err(|error| error.to_string())?;
    let mut names = HashSet::new();
    let mut after = 0;
    loop {
        let url = format!("{base}/api/v1/events?after={after}&limit={PAGE}");
        // a connection that died silently before costs the first who meets it an answer
        let page = wait_for(PAGE_WITHIN, async || {
            let answer = http.get(&url).send().await.ok()?.error_for_status().ok()?;
            answer.json::<Value>().await.ok()
        });
        let page = page
            .await
            .ok_or_else(|| format!("the log cannot be read after {after} within {PAGE_WITHIN:?}"))?;
        let events = page["events"].as_array().ok_or_else(|| format!("no events in {page}"))?;
        for event in events {
            let entry = Entry::of(event, &mut names).ok_or_else(|| format!("not an event: {event}"))?;
            take(event, entry)?;
        }
        let next = page["next"].as_i64().ok_or("a page of events without `next`")?;
        if events.is_empty() || next <= after {
            return Ok(());
        }
        after = next;
    }
}

/// Revisions rise by one within an epoch, and a later epoch begins at a multiple of 10⁹ or right after it.
pub fn without_gap(entries: &[Entry]) -> Vec<String> {
    const SPAN: i64 = 1_000_000_000;
    let mut findings = Vec::new();
    if let Some(first) = entries.first().filter(|first| first.revision != 1) {
        findings.push(format!("the log begins at {}", first.revision));
    }
    for pair in entries.windows(2) {
        let [before, after] = pair else { continue };
        let good = if after.epoch == before.epoch {
            after.revision == before.revision + 1
        } else {
            after.epoch > before.epoch
                && after.revision > before.revision
                && after.revision.rem_euclid(SPAN) <= 1
                && after.revision / SPAN > before.revision / SPAN
        };
        if !good {
            let (from, to) = ((before.epoch, before.revision), (after.epoch, after.revision));
            findings.push(format!("after (epoch, revision) {from:?} comes {to:?}"));
        }
    }
    findings
}
