//! The state at one revision, made for looking things up.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use imbl::{OrdMap, ordmap::DiffItem};

use super::{
    ready::{Ready, Slot},
    shelf::{Shelf, fetch},
    signpost::Signpost,
    tokens::Tokens,
};
use crate::domain::{
    ConfigEntry, ConfigKey, Event, Instance, InstanceId, Key, Metadata, Revision, Row, RowKey, ServiceName,
    Spec, State, Token, TokenId, evolve,
};

/// A change of an instance touches its service alone. Names and places change only when a service or an instance comes
/// or goes: what is copied at a change decides what it costs to publish.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    epoch: i32,
    revision: Revision,
    services: Shelf<Arc<ServiceView>>,
    /// Where each service stands, by its name: one to look most of them up, one of all in order.
    signpost: Arc<Signpost>,
    names: OrdMap<ServiceName, usize>,
    /// In order: ids of new instances follow each other, so that many of them at once change the same few nodes.
    places: OrdMap<InstanceId, Place>,
    configs: OrdMap<ConfigKey, Arc<ConfigEntry>>,
    tokens: Arc<Tokens>,
    /// Of the last service that came: the next one may have the same.
    metadata: Option<Arc<Metadata>>,
    /// For the next service that comes.
    counts: Discoveries,
    /// The same in all snapshots that came from one load: in these, a service keeps its number.
    descent: Arc<()>,
}

/// Where an instance is found.
#[derive(Clone, Debug)]
struct Place {
    service: usize,
    key: Key,
}

/// What became of an instance between two snapshots.
#[derive(Clone, Copy, Debug)]
pub enum Difference<'s> {
    Added(&'s Arc<Instance>),
    Changed(&'s Arc<Instance>),
    Gone(InstanceId),
}

/// A service: its instances, the revision of its last change, and what has been made of them for readers.
///
/// A service that was emptied stays, with its revision.
///
/// What a reader needs stands first and together.
#[derive(Debug)]
#[repr(C)]
pub struct ServiceView {
    pub name: ServiceName,
    pub revision: Revision,
    /// Counts go on from one snapshot to the next.
    pub discoveries: Discoveries,
    ready: Ready,
    pub instances: OrdMap<Key, Arc<Instance>>,
}

/// How often a service was asked for. The counts of many services lie side by side, so that counting seldom leads into
/// cold memory.
#[derive(Clone, Debug)]
pub struct Discoveries {
    counts: Arc<[AtomicU64; COUNTS]>,
    place: usize,
}

const COUNTS: usize = 64;

/// How many instances of a service lie in one node of the map, which is copied when one of them changes.
const COPIED_TOGETHER: usize = 16;

impl Default for Discoveries {
    fn default() -> Self {
        Self { counts: Arc::new([const { AtomicU64::new(0) }; COUNTS]), place: 0 }
    }
}

impl Discoveries {
    /// The count beside this one, if there is room for it.
    fn next(&self) -> Self {
        match self.place + 1 {
            COUNTS => Self::default(),
            place => Self { counts: self.counts.clone(), place },
        }
    }

    pub fn count(&self) {
        if let Some(count) = self.counts.get(self.place) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub fn total(&self) -> u64 {
        self.counts.get(self.place).map_or(0, |count| count.load(Ordering::Relaxed))
    }
}

impl ServiceView {
    fn new(name: ServiceName, revision: Revision, discoveries: Discoveries) -> Self {
        Self { revision, discoveries, ready: Ready::default(), name, instances: OrdMap::new() }
    }

    /// An instance of a service with so few of them that all are copied when one changes: they are fetched first, and then
    /// it is cheaper to look at each than to look for one.
    fn one_of_few(&self, id: InstanceId) -> Option<&Arc<Instance>> {
        if self.instances.len() > COPIED_TOGETHER {
            return None;
        }
        self.ready.fetch();
        fetch(
            self.instances
                .values()
                .map(|instance| Arc::strong_count(instance) + usize::from(instance.id == id)),
        );
        self.instances.values().find(|instance| instance.id == id)
    }

    fn changed(&self, revision: Revision, change: impl FnOnce(&mut OrdMap<Key, Arc<Instance>>)) -> Self {
        let mut instances = self.instances.clone();
        change(&mut instances);
        Self {
            name: self.name.clone(),
            revision,
            instances,
            discoveries: self.discoveries.clone(),
            ready: Ready::default(),
        }
    }

    /// The answer kept under `slot`, made at the first asking since the service changed.
    pub fn ready(&self, slot: Slot, make: impl FnOnce(&Self) -> Bytes) -> &Bytes {
        self.ready.get_or_make(slot, || make(self))
    }
}

impl Snapshot {
    /// The state that was loaded from the tables. Nothing is known of when each service last changed, so all count
    /// as changed at the revision of the load: an answer from before it is never taken for a newer one.
    pub fn loaded(
        epoch: i32,
        revision: Revision,
        instances: Vec<Instance>,
        configs: Vec<ConfigEntry>,
    ) -> Self {
        let mut snapshot = Self { epoch, revision, ..Self::default() };
        let mut services: BTreeMap<ServiceName, OrdMap<Key, Arc<Instance>>> = BTreeMap::new();
        for mut instance in instances {
            let siblings = services.entry(instance.service.clone()).or_default();
            if let Some((_, sibling)) = siblings.get_min() {
                share(&mut instance, sibling);
            }
            siblings.insert(instance.key.clone(), Arc::new(instance));
        }
        for (name, instances) in services {
            let service = snapshot.number_of(&name);
            for (key, instance) in &instances {
                snapshot.places.insert(instance.id, Place { service, key: key.clone() });
            }
            let empty = snapshot.services.get(service).map(|view| view.discoveries.clone());
            let empty = ServiceView::new(name, revision, empty.unwrap_or_default());
            snapshot.services.set(service, Arc::new(ServiceView { instances, ..empty }));
        }
        snapshot.configs = configs.into_iter().map(|entry| (entry.key.clone(), Arc::new(entry))).collect();
        snapshot
    }

    #[must_use]
    pub fn with_tokens(mut self, tokens: Vec<Token>) -> Self {
        self.tokens = Arc::new(tokens.into_iter().map(Arc::new).collect());
        self
    }

    /// Takes over the counts of the snapshot that this one replaces after a rebuild.
    #[must_use]
    pub fn with_counts_of(mut self, old: &Self) -> Self {
        self.counts = old.counts.clone();
        for view in old.services.iter() {
            let service = self.number_of(&view.name);
            if let Some(new) = self.services.get(service) {
                let counted = ServiceView {
                    discoveries: view.discoveries.clone(),
                    ..new.changed(new.revision, |_| ())
                };
                self.services.set(service, Arc::new(counted));
            }
        }
        self
    }

    pub fn epoch(&self) -> i32 {
        self.epoch
    }

    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The state after `events`, of which those it has already seen are passed over, at `revision`.
    #[must_use]
    pub fn after(&self, events: &[Event], revision: Revision) -> Self {
        let mut next = self.clone();
        for event in events.iter().filter(|event| event.revision > self.revision) {
            next.apply(event);
        }
        next.revision = next.revision.max(revision);
        next
    }

    fn apply(&mut self, event: &Event) {
        match event.change.row() {
            RowKey::Instance(id) => {
                let (service, old) = self.to_be_changed(id, event.change.service());
                let new = evolve(old.clone().map(Row::Instance).as_ref(), event);
                match (old, new) {
                    (old, Some(Row::Instance(mut instance))) => {
                        let service = service.unwrap_or_else(|| self.number_of(&instance.service));
                        if old.is_none() {
                            self.places.insert(id, Place { service, key: instance.key.clone() });
                        }
                        if !old.is_some_and(|old| Arc::ptr_eq(&old.spec, &instance.spec)) {
                            self.share_with_others(service, Arc::make_mut(&mut instance));
                        }
                        self.change_service(service, event.revision, |instances| {
                            instances.insert(instance.key.clone(), instance);
                        });
                    }
                    (Some(gone), _) => {
                        let service = service.unwrap_or_else(|| self.number_of(&gone.service));
                        self.places.remove(&id);
                        self.change_service(service, event.revision, |instances| {
                            instances.remove(&gone.key);
                        });
                    }
                    (None, _) => {}
                }
            }
            RowKey::Config(key) => {
                let old = self.configs.get(&key).cloned().map(Row::Config);
                if let Some(Row::Config(entry)) = evolve(old.as_ref(), event) {
                    self.configs.insert(key, entry);
                }
            }
            RowKey::Token(id) => {
                let old = self.tokens.get(id).cloned().map(Row::Token);
                let tokens = Arc::make_mut(&mut self.tokens);
                match evolve(old.as_ref(), event) {
                    Some(Row::Token(token)) => tokens.insert(token),
                    _ => tokens.remove(id),
                }
            }
        }
        self.revision = event.revision;
    }

    /// Where a service stands of which an instance is about to change, and that instance.
    fn to_be_changed(
        &self,
        id: InstanceId,
        service: Option<&ServiceName>,
    ) -> (Option<usize>, Option<Arc<Instance>>) {
        let service = service.and_then(|name| self.number(name.as_str()));
        let view = service.and_then(|service| self.services.get_to_change(service));
        if let Some(instance) = view.and_then(|view| view.one_of_few(id)) {
            return (service, Some(instance.clone()));
        }
        match self.places.get(&id) {
            Some(place) => (Some(place.service), self.find(id).cloned()),
            None => (service, None),
        }
    }

    fn change_service(
        &mut self,
        service: usize,
        revision: Revision,
        change: impl FnOnce(&mut OrdMap<Key, Arc<Instance>>),
    ) {
        if let Some(view) = self.services.get(service) {
            let changed = view.changed(revision, change);
            self.services.set(service, Arc::new(changed));
        }
    }

    /// Where the service of this name stands, which has a place from now on.
    fn number_of(&mut self, name: &ServiceName) -> usize {
        if let Some(number) = self.number(name.as_str()) {
            return number;
        }
        let next = self.counts.next();
        let discoveries = std::mem::replace(&mut self.counts, next);
        let view = ServiceView::new(name.clone(), self.revision, discoveries);
        let number = self.services.push(Arc::new(view));
        self.names.insert(name.clone(), number);
        if self.signpost.is_outgrown_by(self.services.len()) {
            let names = (0..self.services.len())
                .map(|at| self.services.get(at).map_or("", |view| view.name.as_str()));
            self.signpost = Arc::new(Signpost::of(names));
        }
        number
    }

    fn number(&self, name: &str) -> Option<usize> {
        let is_there = |at| self.services.get(at).is_some_and(|view| view.name.as_str() == name);
        match self.signpost.find(name, is_there) {
            None if !self.signpost.knows_all(self.services.len()) => self.names.get(name).copied(),
            found => found,
        }
    }

    /// A service by name, an emptied one too.
    pub fn service(&self, name: &str) -> Option<&Arc<ServiceView>> {
        self.services.get(self.number(name)?)
    }

    /// Lets a specification share what the instances of its service have in common, as it will when it is one of them.
    /// While nobody else has it, that costs least.
    pub fn share(&self, service: &ServiceName, spec: &mut Arc<Spec>) {
        let number = self.number(service.as_str());
        let common = number.and_then(|number| self.sibling(number)).map(|sibling| &sibling.spec.metadata);
        if let Some(common) = common.or(self.metadata.as_ref()) {
            share_metadata(spec, common);
        }
    }

    fn share_with_others(&mut self, service: usize, instance: &mut Instance) {
        if let Some(sibling) = self.sibling(service) {
            return share(instance, sibling);
        }
        if let Some(common) = &self.metadata {
            share_metadata(&mut instance.spec, common);
        }
        self.metadata = Some(instance.spec.metadata.clone());
    }

    /// One of the instances of a service.
    fn sibling(&self, service: usize) -> Option<&Arc<Instance>> {
        self.services.get(service)?.instances.get_min().map(|(_, instance)| instance)
    }

    /// All services by name from `first` on, emptied ones too.
    pub fn services_from(&self, first: &str) -> impl Iterator<Item = &Arc<ServiceView>> {
        self.names
            .range::<_, str>((std::ops::Bound::Included(first), std::ops::Bound::Unbounded))
            .filter_map(|(_, number)| self.services.get(*number))
    }

    pub fn services(&self) -> impl Iterator<Item = &Arc<ServiceView>> {
        self.services_from("")
    }

    /// All instances, by id. Made when it is asked for: not for what is done often.
    pub fn instances(&self) -> BTreeMap<InstanceId, Arc<Instance>> {
        let all = self.services.iter().flat_map(|view| view.instances.values());
        all.map(|instance| (instance.id, instance.clone())).collect()
    }

    pub fn has_instance(&self, id: InstanceId) -> bool {
        self.places.contains_key(&id)
    }

    /// Tells of each instance that is not what it was in `old`.
    pub fn differences_to<'s>(&'s self, old: &'s Self, mut tell: impl FnMut(Difference<'s>)) {
        if !Arc::ptr_eq(&self.descent, &old.descent) {
            old.places
                .keys()
                .filter(|id| !self.has_instance(**id))
                .for_each(|id| tell(Difference::Gone(*id)));
            for new in self.services.iter().flat_map(|view| view.instances.values()) {
                match old.find(new.id) {
                    None => tell(Difference::Added(new)),
                    Some(old) if old != new => tell(Difference::Changed(new)),
                    Some(_) => {}
                }
            }
            return;
        }
        self.services.changes_since(&old.services, |old, new| {
            let Some(old) = old else {
                return new.instances.values().for_each(|instance| tell(Difference::Added(instance)));
            };
            for item in old.instances.diff(&new.instances) {
                match item {
                    DiffItem::Add(_, new) => tell(Difference::Added(new)),
                    DiffItem::Remove(_, old) => tell(Difference::Gone(old.id)),
                    DiffItem::Update { old: (_, old), new: (_, new) } if old.id == new.id => {
                        tell(Difference::Changed(new));
                    }
                    DiffItem::Update { old: (_, old), new: (_, new) } => {
                        tell(Difference::Gone(old.id));
                        tell(Difference::Added(new));
                    }
                }
            }
        });
    }

    pub fn find(&self, id: InstanceId) -> Option<&Arc<Instance>> {
        let Place { service, key } = self.places.get(&id)?;
        self.services.get(*service)?.instances.get(key)
    }

    /// The rows of all configurations, deleted ones too.
    pub fn configs(&self) -> &OrdMap<ConfigKey, Arc<ConfigEntry>> {
        &self.configs
    }

    /// Another one as soon as any of them has come or gone.
    pub fn tokens(&self) -> &Arc<Tokens> {
        &self.tokens
    }
}

/// What the instances of a service often have in common is kept once.
fn share(instance: &mut Instance, sibling: &Instance) {
    instance.service = sibling.service.clone();
    share_metadata(&mut instance.spec, &sibling.spec.metadata);
}

fn share_metadata(spec: &mut Arc<Spec>, common: &Arc<Metadata>) {
    if !Arc::ptr_eq(&spec.metadata, common) && spec.metadata.is_same_as(common) {
        Arc::make_mut(spec).metadata = common.clone();
    }
}

impl State for Snapshot {
    fn instance(&self, id: InstanceId) -> Option<Arc<Instance>> {
        self.find(id).cloned()
    }

    fn instance_at(&self, service: &ServiceName, key: &Key) -> Option<Arc<Instance>> {
        self.service(service.as_str())?.instances.get(key).cloned()
    }

    fn config(&self, key: &ConfigKey) -> Option<Arc<ConfigEntry>> {
        self.configs.get(key).cloned()
    }

    fn token(&self, id: TokenId) -> Option<Arc<Token>> {
        self.tokens.get(id).cloned()
    }
}

#[cfg(test)]
#[path = "snapshot_tests.rs"]
mod tests;
