//! Answers that are serialised once and given to all who ask until the service changes.

use std::sync::OnceLock;

use bytes::Bytes;

use super::shelf::fetch;

const SLOTS: usize = 4;

/// Names a kind of ready answer. Each door that keeps one has a constant of its own (see doors/mod.rs); the view
/// knows no door.
#[derive(Clone, Copy, Debug)]
pub struct Slot(usize);

impl Slot {
    pub const fn new(number: usize) -> Self {
        assert!(number < SLOTS, "there are not that many slots");
        Self(number)
    }
}

#[derive(Debug, Default)]
pub(super) struct Ready([OnceLock<Bytes>; SLOTS]);

impl Ready {
    pub fn get_or_make(&self, slot: Slot, make: impl FnOnce() -> Bytes) -> &Bytes {
        let [first, ..] = &self.0;
        // there is no other slot than those
        self.0.get(slot.0).unwrap_or(first).get_or_init(make)
    }

    /// Looks at all of it, which is soon to be dropped.
    pub fn fetch(&self) {
        fetch(self.0.iter().map(|place| usize::from(place.get().is_some())));
    }
}
