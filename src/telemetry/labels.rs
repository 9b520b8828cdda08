//! Label values that come from outside, kept to a bounded number.
//!
//! Each value of a label is a series that a monitoring system keeps for months, and names can be registered by
//! anybody, so the first come get a label of their own and the rest share `other`. Reading takes no lock;
//! only a name never seen before does, and there is room for a thousand.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

use arc_swap::ArcSwap;

const MOST_SERVICES: usize = 1_000;
const OTHER: &str = "other";

/// The service names that are labels. Clones share one set.
#[derive(Clone, Debug)]
pub struct ServiceLabels(Arc<Bounded>);

impl ServiceLabels {
    pub(super) fn new() -> Self {
        Self(Arc::new(Bounded::new(MOST_SERVICES)))
    }

    /// The label of a service that exists; its name takes a place if there is one left.
    pub fn of(&self, service: &str) -> Arc<str> {
        self.0.of(service)
    }

    /// The label of a name that may be anybody's invention, such as one that was asked for and not found: it
    /// takes no place.
    pub fn if_known(&self, service: &str) -> Arc<str> {
        self.0.known(service).unwrap_or_else(|| self.0.other())
    }
}

/// A set of at most so many texts, and one that stands for all the others.
#[derive(Debug)]
pub(super) struct Bounded {
    known: ArcSwap<HashSet<Arc<str>>>,
    growing: Mutex<()>,
    most: usize,
    other: Arc<str>,
}

impl Bounded {
    pub(super) fn new(most: usize) -> Self {
        Self { known: ArcSwap::default(), growing: Mutex::new(()), most, other: Arc::from(OTHER) }
    }

    pub(super) fn other(&self) -> Arc<str> {
        Arc::clone(&self.other)
    }

    fn known(&self, text: &str) -> Option<Arc<str>> {
        self.known.load().get(text).cloned()
    }

    pub(super) fn of(&self, text: &str) -> Arc<str> {
        let known = self.known.load();
        if let Some(label) = known.get(text) {
            return Arc::clone(label);
        }
        if known.len() >= self.most {
            return self.other();
        }
        drop(known);
        self.add(text)
    }

    fn add(&self, text: &str) -> Arc<str> {
        let _one_at_a_time = self.growing.lock().unwrap_or_else(PoisonError::into_inner);
        let known = self.known.load();
        if let Some(label) = known.get(text) {
            return Arc::clone(label);
        }
        if known.len() >= self.most {
            return self.other();
        }
        let label: Arc<str> = Arc::from(text);
        let mut grown = HashSet::clone(&known);
        grown.insert(Arc::clone(&label));
        self.known.store(Arc::new(grown));
        label
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_so_many_names_become_labels() {
        let labels = ServiceLabels::new();
        for number in 0..MOST_SERVICES {
            let name = format!("service-{number}");
            assert_eq!(&*labels.of(&name), name);
        }
        assert_eq!(&*labels.of("one-too-many"), OTHER);
        assert_eq!(&*labels.of("service-0"), "service-0");
        assert_eq!(&*labels.of("service-999"), "service-999");
    }

    #[test]
    fn a_name_that_was_only_asked_for_takes_no_place() {
        let labels = ServiceLabels::new();
        assert_eq!(&*labels.if_known("a"), OTHER);
        assert_eq!(&*labels.of("a"), "a");
        assert_eq!(&*labels.if_known("a"), "a");
    }

    #[test]
    fn many_threads_at_once_do_not_exceed_the_bound() {
        let labels = Bounded::new(50);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| (0..200).for_each(|number| drop(labels.of(&number.to_string()))));
            }
        });
        let kept = (0..200).filter(|number| &*labels.of(&number.to_string()) != OTHER).count();
        assert_eq!(kept, 50);
    }
}
