//! What the log makes of the registry: the rows at its end, and what each row was at every revision.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use serde_json::{Value, json};
use uuid::Uuid;

use super::log::{Entry, Kind};
use crate::history::{Slot, Tag, Target};

/// A row at some time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    pub version: i64,
    /// Who wrote what stands in it.
    pub content: Option<Tag>,
    /// Of an instance.
    pub status: Option<String>,
    /// Of a counter.
    pub number: Option<i64>,
}

/// The states of one row, each with the revision from which on it held. None while there is no row.
#[derive(Clone, Debug, Default)]
pub struct Timeline(Vec<(i64, Option<State>)>);

impl Timeline {
    pub fn at(&self, revision: i64) -> Option<&State> {
        let until = self.0.partition_point(|(from, _)| *from <= revision);
        self.0[..until].last().and_then(|(_, state)| state.as_ref())
    }

    pub fn before(&self, revision: i64) -> Option<&State> {
        self.at(revision - 1)
    }

    /// All states that held at some revision from `first` to `last`.
    pub fn within(&self, first: i64, last: i64) -> impl Iterator<Item = Option<&State>> {
        let from = self.0.partition_point(|(from, _)| *from <= first).saturating_sub(1);
        let before_the_first = match self.0.first() {
            Some((from, _)) if *from <= first => None,
            _ => Some(None),
        };
        let later = self.0[from..].iter().take_while(move |(from, _)| *from <= last);
        before_the_first.into_iter().chain(later.map(|(_, state)| state.as_ref()))
    }
}

/// The rows as the whole log leaves them, in the words of the API and of the tables.
#[derive(Debug, Default)]
pub struct Fold {
    pub entries: Vec<Entry>,
    pub instances: BTreeMap<Uuid, Value>,
    /// Deleted ones too, whose content is null.
    pub configs: BTreeMap<(Arc<str>, String), Value>,
    pub findings: Vec<String>,
    timelines: HashMap<Target, Timeline>,
    /// Which instance is in a slot, from which revision on.
    slots: HashMap<Slot, Vec<(i64, Option<Uuid>)>>,
    services: HashMap<Arc<str>, BTreeSet<Uuid>>,
    nothing: Timeline,
}

impl Fold {
    pub async fn of(base: &str) -> Result<Self, String> {
        let mut fold = Self::default();
        super::log::walk(base, |event, entry| {
            fold.apply(event, entry);
            Ok(())
        })
        .await?;
        Ok(fold)
    }

    pub fn head(&self) -> i64 {
        self.entries.last().map_or(0, |entry| entry.revision)
    }

    pub fn timeline(&self, target: &Target) -> &Timeline {
        self.timelines.get(target).unwrap_or(&self.nothing)
    }

    /// The timeline of the row that a target means at a revision.
    pub fn row_of(&self, target: &Target, revision: i64) -> &Timeline {
        match target {
            Target::Slot(slot) => match self.instance_in(slot, revision) {
                Some(id) => self.timeline(&Target::Instance(id)),
                None => &self.nothing,
            },
            other => self.timeline(other),
        }
    }

    pub fn instance_in(&self, slot: &Slot, revision: i64) -> Option<Uuid> {
        let times = self.slots.get(slot)?;
        let until = times.partition_point(|(from, _)| *from <= revision);
        times[..until].last().and_then(|(_, id)| *id)
    }

    /// All instances that were in a slot at some revision from `first` to `last`; None for an empty slot.
    pub fn instances_in(&self, slot: &Slot, first: i64, last: i64) -> Vec<Option<Uuid>> {
        let mut found = vec![self.instance_in(slot, first)];
        let times = self.slots.get(slot).into_iter().flatten();
        found.extend(times.filter(|(from, _)| *from > first && *from <= last).map(|(_, id)| *id));
        found
    }

    /// Every instance that a service ever had.
    pub fn instances_of(&self, service: &str) -> impl Iterator<Item = Uuid> {
        self.services.get(service).into_iter().flatten().copied()
    }

    fn apply(&mut self, event: &Value, entry: Entry) {
        let state = match (&entry.kind, entry.instance) {
            (Kind::ConfigPut { .. } | Kind::ConfigDeleted, _) => Some(self.apply_config(event, &entry)),
            (Kind::EpochStarted { .. } | Kind::Other(_), _) => None,
            (_, Some(id)) => Some(self.apply_instance(event, &entry, id)),
            (_, None) => {
                self.findings.push(format!("revision {}: an event without its instance", entry.revision));
                None
            }
        };
        if let Some((target, state)) = state {
            self.timelines.entry(target).or_default().0.push((entry.revision, state));
        }
        self.entries.push(entry);
    }

    fn apply_instance(&mut self, event: &Value, entry: &Entry, id: Uuid) -> (Target, Option<State>) {
        let (data, time) = (&event["data"], &event["time"]);
        let old = self.instances.remove(&id);
        if let Kind::Registered(slot) = &entry.kind {
            if old.is_some() || self.instance_in(slot, entry.revision).is_some() {
                self.findings.push(format!("revision {}: {slot:?} is registered already", entry.revision));
            }
            self.slots.entry(slot.clone()).or_default().push((entry.revision, Some(id)));
            self.services.entry(Arc::clone(&entry.service)).or_default().insert(id);
        } else if old.is_none() {
            self.findings
                .push(format!("revision {}: a change of an instance that is not there", entry.revision));
        }
        let mut row = old.unwrap_or_else(
            || json!({ "id": id, "service": &*entry.service, "key": data["key"], "registered_at": time }),
        );
        if let Kind::Unregistered(slot) = &entry.kind {
            self.slots.entry(slot.clone()).or_default().push((entry.revision, None));
            return (Target::Instance(id), None);
        }
        row["version"] = entry.version.into();
        row["revision"] = entry.revision.into();
        row["updated_at"] = time.clone();
        for (field, name) in
            [("instance", "spec"), ("status", "status"), ("failures", "failures"), ("changes", "changes")]
        {
            if !data[field].is_null() {
                row[name] = data[field].clone();
            }
        }
        if let Kind::Health { status } = &entry.kind {
            row["status"] = status.as_str().into();
        }
        let tag = row["spec"]["metadata"]["other"]["tag"].as_str().and_then(Tag::read);
        let state = State {
            version: entry.version,
            content: tag,
            status: row["status"].as_str().map(str::to_owned),
            number: None,
        };
        self.instances.insert(id, row);
        (Target::Instance(id), Some(state))
    }

    fn apply_config(&mut self, event: &Value, entry: &Entry) -> (Target, Option<State>) {
        let (data, time) = (&event["data"], &event["time"]);
        let environment = data["environment"].as_str().unwrap_or_default().to_owned();
        let key = (Arc::clone(&entry.service), environment);
        let old = self.configs.get(&key);
        let version = old.map_or(0, |row| row["version"].as_i64().unwrap_or(0));
        if entry.version != version + 1 {
            self.findings.push(format!(
                "revision {}: {} goes from version {version} to {}",
                entry.revision, entry.service, entry.version
            ));
        }
        let live = old.is_some_and(|row| !row["content"].is_null());
        let created_at = if live || entry.kind == Kind::ConfigDeleted {
            old.map_or(Value::Null, |row| row["created_at"].clone())
        } else {
            time.clone()
        };
        let row = json!({
            "service": &*entry.service, "environment": key.1, "version": entry.version,
            "revision": entry.revision, "content": data["content"], "comment": data["comment"],
            "actor": event["actor"], "created_at": created_at, "updated_at": time,
        });
        self.configs.insert(key, row);
        let target = Target::Config(Arc::clone(&entry.service));
        let Kind::ConfigPut { number } = entry.kind else { return (target, None) };
        let state = State { version: entry.version, content: entry.content, status: None, number };
        (target, Some(state))
    }
}
