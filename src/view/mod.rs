//! What readers see: one immutable snapshot of the registry, swapped as a whole.
//!
//! A snapshot is the state at one revision. It shares all that did not change with the one before it, so that a
//! change costs what changed, however large the rest is. A reader takes no lock and copies no instance.

mod ready;
mod shelf;
mod signpost;
mod snapshot;
mod tokens;

use std::sync::{
    Arc,
    atomic::{
        AtomicI64,
        Ordering::{Acquire, Release},
    },
};

use arc_swap::ArcSwap;
use tokio::sync::watch;

use crate::domain::Revision;

pub use ready::Slot;
pub use snapshot::{Difference, Discoveries, ServiceView, Snapshot};
pub use tokens::Tokens;

/// Where the newest snapshot is found.
pub struct View {
    current: ArcSwap<Snapshot>,
    /// None until the first snapshot has been loaded.
    revision: watch::Sender<Option<Revision>>,
    /// The same for whoever wants to know no more.
    newest: AtomicI64,
}

impl Default for View {
    fn default() -> Self {
        Self {
            current: ArcSwap::from_pointee(Snapshot::default()),
            revision: watch::Sender::new(None),
            newest: AtomicI64::new(0),
        }
    }
}

impl View {
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// A look at the current snapshot that is over at once. Cheaper than `snapshot`: nobody becomes its owner.
    pub fn glimpse<T>(&self, look: impl FnOnce(&Snapshot) -> T) -> T {
        look(&self.current.load())
    }

    /// The revision of the current snapshot.
    pub fn newest(&self) -> Revision {
        self.newest.load(Acquire)
    }

    pub fn is_loaded(&self) -> bool {
        self.revision.borrow().is_some()
    }

    pub fn publish(&self, snapshot: Arc<Snapshot>) {
        let revision = snapshot.revision();
        self.current.store(snapshot);
        self.newest.store(revision, Release);
        self.revision.send_replace(Some(revision));
    }

    /// Tells of every publication from now on.
    pub fn watch(&self) -> watch::Receiver<Option<Revision>> {
        self.revision.subscribe()
    }
}
