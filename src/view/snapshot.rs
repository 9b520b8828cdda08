//! The state at one revision, made for looking things up.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use imbl::OrdMap;

use super::ready::{Ready, Slot};
use crate::domain::{
    ConfigEntry, ConfigKey, Event, Instance, InstanceId, Key, Revision, Row, RowKey, ServiceName, State,
    evolve,
};

#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    epoch: i32,
    revision: Revision,
    services: OrdMap<ServiceName, Arc<ServiceView>>,
    instances: OrdMap<InstanceId, Arc<Instance>>,
    configs: OrdMap<ConfigKey, Arc<ConfigEntry>>,
}

/// A service: its instances, the revision of its last change, and what has been made of them for readers.
///
/// A service that was emptied stays, with its revision.
#[derive(Debug)]
pub struct ServiceView {
    pub name: ServiceName,
    pub revision: Revision,
    pub instances: OrdMap<Key, Arc<Instance>>,
    /// Counts go on from one snapshot to the next.
    pub discoveries: Arc<Discoveries>,
    ready: Ready,
}

/// How often a service was asked for.
#[derive(Debug, Default)]
pub struct Discoveries(AtomicU64);

impl Discoveries {
    pub fn count(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub fn total(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl ServiceView {
    fn new(name: ServiceName, revision: Revision) -> Self {
        Self {
            name,
            revision,
            instances: OrdMap::new(),
            discoveries: Arc::default(),
            ready: Ready::default(),
        }
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
    pub fn ready(&self, slot: Slot, make: impl FnOnce(&Self) -> Bytes) -> Bytes {
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
        let mut services: std::collections::BTreeMap<ServiceName, ServiceView> =
            std::collections::BTreeMap::new();
        for instance in instances {
            let instance = Arc::new(instance);
            snapshot.instances.insert(instance.id, instance.clone());
            services
                .entry(instance.service.clone())
                .or_insert_with(|| ServiceView::new(instance.service.clone(), revision))
                .instances
                .insert(instance.key.clone(), instance);
        }
        snapshot.services = services.into_iter().map(|(name, view)| (name, Arc::new(view))).collect();
        snapshot.configs = configs.into_iter().map(|entry| (entry.key.clone(), Arc::new(entry))).collect();
        snapshot
    }

    /// Takes over the counts of the snapshot that this one replaces after a rebuild.
    #[must_use]
    pub fn with_counts_of(mut self, old: &Self) -> Self {
        for (name, view) in &old.services {
            let counted = match self.services.get(name) {
                Some(new) => {
                    ServiceView { discoveries: view.discoveries.clone(), ..new.changed(new.revision, |_| ()) }
                }
                None => ServiceView {
                    discoveries: view.discoveries.clone(),
                    ..ServiceView::new(name.clone(), self.revision)
                },
            };
            self.services.insert(name.clone(), Arc::new(counted));
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
                let old = self.instances.get(&id).cloned();
                let new = evolve(old.clone().map(Row::Instance).as_ref(), event);
                match (old, new) {
                    (_, Some(Row::Instance(instance))) => {
                        self.instances.insert(id, instance.clone());
                        self.change_service(&instance.service.clone(), event.revision, |instances| {
                            instances.insert(instance.key.clone(), instance);
                        });
                    }
                    (Some(gone), _) => {
                        self.instances.remove(&id);
                        self.change_service(&gone.service, event.revision, |instances| {
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
        }
        self.revision = event.revision;
    }

    fn change_service(
        &mut self,
        name: &ServiceName,
        revision: Revision,
        change: impl FnOnce(&mut OrdMap<Key, Arc<Instance>>),
    ) {
        let changed = match self.services.get(name) {
            Some(view) => view.changed(revision, change),
            None => ServiceView::new(name.clone(), revision).changed(revision, change),
        };
        self.services.insert(name.clone(), Arc::new(changed));
    }

    /// A service by name, an emptied one too.
    pub fn service(&self, name: &str) -> Option<&Arc<ServiceView>> {
        self.services.get(name)
    }

    /// All services by name from `first` on, emptied ones too.
    pub fn services_from(&self, first: &str) -> impl Iterator<Item = &Arc<ServiceView>> {
        self.services
            .range::<_, str>((std::ops::Bound::Included(first), std::ops::Bound::Unbounded))
            .map(|(_, view)| view)
    }

    pub fn services(&self) -> impl Iterator<Item = &Arc<ServiceView>> {
        self.services.values()
    }

    pub fn instances(&self) -> &OrdMap<InstanceId, Arc<Instance>> {
        &self.instances
    }

    /// The rows of all configurations, deleted ones too.
    pub fn configs(&self) -> &OrdMap<ConfigKey, Arc<ConfigEntry>> {
        &self.configs
    }
}

impl State for Snapshot {
    fn instance(&self, id: InstanceId) -> Option<Arc<Instance>> {
        self.instances.get(&id).cloned()
    }

    fn instance_at(&self, service: &ServiceName, key: &Key) -> Option<Arc<Instance>> {
        self.services.get(service)?.instances.get(key).cloned()
    }

    fn config(&self, key: &ConfigKey) -> Option<Arc<ConfigEntry>> {
        self.configs.get(key).cloned()
    }
}
