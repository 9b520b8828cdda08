//! The keys that the clients work on, and what they believe of them.
//!
//! Few keys and many clients, so that they meet. What is believed may be old, which makes for refusals, and those
//! are checked too.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use serde_json::Value;
use uuid::Uuid;

use crate::{history::Slot, random::Random};

const SERVICES: usize = 8;
const SLOTS: usize = 10;
const CONFIGS: usize = 24;
const COUNTERS: usize = 6;
const CELLS: usize = 4;
/// After so many operations a cell is left alone: its history stays small enough for a checker that searches.
const CELL_OPERATIONS: u64 = 90;

#[derive(Clone, Debug)]
pub struct KnownInstance {
    pub id: Uuid,
    pub version: i64,
    /// What was sent to register it.
    pub body: Value,
}

#[derive(Default)]
pub struct Board {
    instances: Mutex<HashMap<Slot, KnownInstance>>,
    /// Versions; None where there is none.
    configs: Mutex<HashMap<Arc<str>, Option<i64>>>,
    cell_operations: [AtomicU64; CELLS],
    newest: AtomicU64,
    acknowledged: AtomicUsize,
}

impl Board {
    pub fn any_slot(random: &mut Random) -> Slot {
        // some services are busier than others
        let service = random.below(SERVICES).min(random.below(SERVICES));
        let slot = random.below(SLOTS);
        Slot { service: format!("service-{service}").into(), key: format!("key-{slot}").into() }
    }

    pub fn any_service(random: &mut Random) -> Arc<str> {
        format!("service-{}", random.below(SERVICES)).into()
    }

    pub fn any_config(random: &mut Random) -> Arc<str> {
        format!("config-{}", random.below(CONFIGS)).into()
    }

    pub fn any_counter(random: &mut Random) -> Arc<str> {
        format!("counter-{}", random.below(COUNTERS)).into()
    }

    pub fn any_cell(&self, random: &mut Random) -> Arc<str> {
        let cell = random.below(CELLS);
        let operations = self.cell_operations[cell].fetch_add(1, Ordering::Relaxed);
        format!("cell-{cell}-{}", operations / CELL_OPERATIONS).into()
    }

    pub fn instance(&self, slot: &Slot) -> Option<KnownInstance> {
        lock(&self.instances).get(slot).cloned()
    }

    pub fn know_instance(&self, slot: &Slot, known: Option<KnownInstance>) {
        let mut instances = lock(&self.instances);
        match known {
            Some(known) => drop(instances.insert(slot.clone(), known)),
            None => drop(instances.remove(slot)),
        }
    }

    pub fn know_version(&self, slot: &Slot, version: i64) {
        if let Some(known) = lock(&self.instances).get_mut(slot) {
            known.version = version;
        }
    }

    pub fn config(&self, name: &Arc<str>) -> Option<i64> {
        lock(&self.configs).get(name).copied().flatten()
    }

    pub fn know_config(&self, name: &Arc<str>, version: Option<i64>) {
        lock(&self.configs).insert(Arc::clone(name), version);
    }

    /// The newest revision that any client was told of.
    pub fn newest(&self) -> i64 {
        i64::try_from(self.newest.load(Ordering::Relaxed)).unwrap_or(0)
    }

    /// How many writes have been acknowledged.
    pub fn acknowledged(&self) -> usize {
        self.acknowledged.load(Ordering::Relaxed)
    }

    pub fn know_revision(&self, revision: i64) {
        self.acknowledged.fetch_add(1, Ordering::Relaxed);
        self.newest.fetch_max(u64::try_from(revision).unwrap_or(0), Ordering::Relaxed);
    }
}

/// Whether the history of this configuration is kept small.
pub fn is_cell(name: &str) -> bool {
    name.starts_with("cell-")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
