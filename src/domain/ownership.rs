//! Which of several replicas does what only one of them should: rendezvous hashing.
//!
//! Each replica has a weight for each thing, and the heaviest has it. All come to the same answer without a word to each
//! other, and when one goes only what was its own goes to others.

use uuid::Uuid;

/// The one of the replicas that has a thing; None where there is nobody.
pub fn owner(replicas: &[Uuid], thing: Uuid, part: &str) -> Option<Uuid> {
    let thing = part.bytes().fold(fold(thing), |sum, byte| mix(sum ^ u64::from(byte)));
    replicas.iter().copied().max_by_key(|replica| (mix(thing ^ fold(*replica)), *replica))
}

fn fold(id: Uuid) -> u64 {
    let (high, low) = id.as_u64_pair();
    mix(high ^ mix(low))
}

/// The finish of splitmix64. No hasher of the standard library: what it comes to must be the same in every release.
fn mix(mut bits: u64) -> u64 {
    bits = bits.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u128) -> Uuid {
        // as those of version 7 are: much the same at the beginning
        Uuid::from_u128(0x01a1_fe4d_8e87_7000_8000_0000_0000_0000 | (n << 40) | n)
    }

    #[test]
    fn things_are_shared_out_evenly_whatever_the_order() {
        let replicas: Vec<_> = (1..=3).map(id).collect();
        let reversed: Vec<_> = replicas.iter().rev().copied().collect();
        let mut counts = [0; 3];
        for thing in (0..3000).map(id) {
            let found = owner(&replicas, thing, "http").unwrap();
            assert_eq!(owner(&reversed, thing, "http"), Some(found));
            counts[replicas.iter().position(|replica| *replica == found).unwrap()] += 1;
        }
        assert!(counts.iter().all(|count| (900..=1100).contains(count)), "{counts:?}");
        assert_eq!(owner(&[], id(1), ""), None);
    }

    #[test]
    fn only_what_a_replica_had_goes_to_others() {
        let replicas: Vec<_> = (1..=4).map(id).collect();
        let (gone, left) = replicas.split_first().unwrap();
        for thing in (0..1000).map(id) {
            let before = owner(&replicas, thing, "tcp").unwrap();
            let after = owner(left, thing, "tcp").unwrap();
            assert!(before == after || before == *gone);
        }
    }

    #[test]
    fn the_checks_of_an_instance_are_shared_out_too() {
        let replicas = [id(1), id(2)];
        let of = |part: &str| owner(&replicas, id(7), part).unwrap();
        assert!((0..64).any(|n| of(&n.to_string()) != of("http")));
    }
}
