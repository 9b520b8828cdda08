//! Where services stand, by their names.
//!
//! What a registry is asked all day begins here, and in a large one each step leads into cold memory: a table takes one
//! where a tree of maps takes several. It knows the services that there were when it was made. Those that have come
//! since are looked for elsewhere, until they are so many that it is made anew.

use std::hash::BuildHasher as _;

use foldhash::fast::RandomState;

/// So many newcomers are no reason to make it anew, and beyond them this part of those that it knows.
const NEWCOMERS: usize = 64;
const NEWCOMERS_PART: usize = 8;

#[derive(Debug, Default)]
pub struct Signpost {
    /// A power of two of them, at most half of them taken. The low bits of one that is taken are one more than where the
    /// service stands, the others are a part of its name's hash: small slots are more often at hand.
    slots: Box<[u32]>,
    places: u32,
    known: usize,
    hash: RandomState,
}

impl Signpost {
    /// For services in the order in which they stand.
    pub fn of<'n>(names: impl ExactSizeIterator<Item = &'n str>) -> Self {
        let (known, hash) = (names.len(), RandomState::default());
        let slots = vec![0; (known * 2).next_power_of_two()].into_boxed_slice();
        let places = slots.len().try_into().map_or(u32::MAX, |slots: u32| slots.saturating_sub(1));
        let mut made = Self { slots, places, known, hash };
        for (place, name) in (1..=made.places).zip(names) {
            let hashed = made.hash.hash_one(name);
            let taken = made.mark(hashed) | place;
            let free = probe(hashed, made.slots.len()).find(|slot| made.slots.get(*slot) == Some(&0));
            if let Some(slot) = free.and_then(|slot| made.slots.get_mut(slot)) {
                *slot = taken;
            }
        }
        made
    }

    /// Where a service stands; `is` says whether it is the one of this name that stands there.
    pub fn find(&self, name: &str, is: impl Fn(usize) -> bool) -> Option<usize> {
        let hashed = self.hash.hash_one(name);
        let mark = self.mark(hashed);
        let slots = probe(hashed, self.slots.len()).filter_map(|slot| self.slots.get(slot));
        for slot in slots {
            let place = usize::try_from(slot & self.places).ok()?.checked_sub(1)?;
            if slot & !self.places == mark && is(place) {
                return Some(place);
            }
        }
        None
    }

    fn mark(&self, hashed: u64) -> u32 {
        (hashed >> 32) as u32 & !self.places
    }

    /// Whether it knows all of so many services.
    pub fn knows_all(&self, services: usize) -> bool {
        self.known >= services
    }

    /// Whether it is time to make it anew for so many services.
    pub fn is_outgrown_by(&self, services: usize) -> bool {
        services > self.known + NEWCOMERS + self.known / NEWCOMERS_PART
    }
}

/// All slots of a table, beginning with the one where a hash belongs.
#[expect(clippy::cast_possible_truncation, reason = "which bits of a hash are taken does not matter")]
fn probe(hashed: u64, slots: usize) -> impl Iterator<Item = usize> {
    (0..slots).map(move |step| (hashed as usize).wrapping_add(step) & (slots - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|number| format!("service-{number}")).collect()
    }

    #[test]
    fn all_that_it_was_made_for_are_found_and_nobody_else() {
        for count in [0, 1, 2, 3, 63, 64, 65, 1000] {
            let names = names(count);
            let signpost = Signpost::of(names.iter().map(String::as_str));
            for (place, name) in names.iter().enumerate() {
                assert_eq!(signpost.find(name, |at| names[at] == *name), Some(place), "{count}");
            }
            for stranger in ["", "service", "service-", "service-1000"] {
                assert_eq!(signpost.find(stranger, |at| names[at] == stranger), None, "{count}");
            }
            assert!(signpost.knows_all(count) && !signpost.knows_all(count + 1));
        }
    }

    #[test]
    fn what_stands_there_has_the_last_word() {
        let signpost = Signpost::of(["a"].into_iter());
        assert_eq!(signpost.find("a", |_| false), None);
        assert_eq!(Signpost::default().find("a", |_| true), None);
    }

    #[test]
    fn it_is_made_anew_when_an_eighth_has_come() {
        for (known, services, outgrown) in
            [(0, 64, false), (0, 65, true), (800, 964, false), (800, 965, true)]
        {
            let names = names(known);
            let signpost = Signpost::of(names.iter().map(String::as_str));
            assert_eq!(signpost.is_outgrown_by(services), outgrown, "{services} after {known}");
        }
    }
}
