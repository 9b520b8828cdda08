//! How often each client asks: so often a second, with some of it at once.
//!
//! All that is kept of a client is when it will have its whole burst again. Who has it is as good as unknown and is
//! forgotten, so the table holds those who ask just now. Invariant: it never holds more than `MOST`.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::peer::network_of;
use crate::settings::Rate;

/// Clients that are known at a time. Those who come on top share one share: to get there somebody must have very many
/// addresses and ask over all of them all the time.
const MOST: usize = 65_536;
/// Parts of the table with a lock each, so that clients seldom wait for each other.
const SHARDS: usize = 16;
const MOST_IN_SHARD: usize = MOST / SHARDS;
const FIRST_SWEEP: usize = 128;
const STRANGERS: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

#[derive(Debug)]
pub struct Rates {
    /// In how much time a client may ask once.
    interval: Duration,
    /// How much of this it may have used ahead.
    burst: Duration,
    shards: [Mutex<Shard>; SHARDS],
}

#[derive(Debug)]
struct Shard {
    whole_again: HashMap<IpAddr, Instant>,
    /// At how many the next new one has those forgotten who can be.
    sweep_at: usize,
    /// There was nobody to forget: before that it is not tried again.
    full_until: Option<Instant>,
}

impl Rates {
    pub fn new(rate: Rate) -> Self {
        let interval = Duration::from_secs(1) / rate.per_second.max(1);
        let shard =
            |_| Mutex::new(Shard { whole_again: HashMap::new(), sweep_at: FIRST_SWEEP, full_until: None });
        Self {
            interval,
            burst: interval.saturating_mul(rate.burst.max(1)),
            shards: std::array::from_fn(shard),
        }
    }

    /// Takes one of the requests that a client may make now; else says in how long there is one. Some may use twice the
    /// burst: when a client has asked for all that it may ask for, its heartbeats still come through.
    pub fn take(&self, client: IpAddr, now: Instant, twice_the_burst: bool) -> Result<(), Duration> {
        let client = network_of(client);
        let Some(shard) = self.shards.get(shard_of(client)) else { return Ok(()) };
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        let client = shard.make_room(client, now, self.interval);
        let whole_again = shard.whole_again.get(&client).map_or(now, |whole_again| now.max(*whole_again));
        let used = whole_again - now + self.interval;
        let allowed = if twice_the_burst { self.burst.saturating_mul(2) } else { self.burst };
        if let Some(wait) = used.checked_sub(allowed).filter(|wait| !wait.is_zero()) {
            return Err(wait);
        }
        shard.whole_again.insert(client, whole_again + self.interval);
        Ok(())
    }
}

impl Shard {
    /// The client by which to count: itself, where there is room for it.
    fn make_room(&mut self, client: IpAddr, now: Instant, interval: Duration) -> IpAddr {
        if self.whole_again.len() < self.sweep_at || self.whole_again.contains_key(&client) {
            return client;
        }
        if self.full_until.is_some_and(|until| now < until) {
            return STRANGERS;
        }
        self.whole_again.retain(|_, whole_again| *whole_again > now);
        let kept = self.whole_again.len();
        self.sweep_at = (kept * 2).clamp(FIRST_SWEEP, MOST_IN_SHARD - 1);
        self.full_until = (kept >= self.sweep_at).then(|| now + interval);
        if self.full_until.is_some() { STRANGERS } else { client }
    }
}

fn shard_of(client: IpAddr) -> usize {
    let bits = match client {
        IpAddr::V4(address) => u64::from(address.to_bits()),
        IpAddr::V6(address) => u64::try_from(address.to_bits() >> 64).unwrap_or_default(),
    };
    // the upper bits of a product depend on all of its factor's
    usize::try_from(bits.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 60).unwrap_or_default() % SHARDS
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn rates(per_second: u32, burst: u32) -> Rates {
        Rates::new(Rate { per_second, burst })
    }

    fn client(number: u32) -> IpAddr {
        Ipv4Addr::from_bits(number).into()
    }

    fn known(rates: &Rates) -> usize {
        rates.shards.iter().map(|shard| shard.lock().unwrap().whole_again.len()).sum()
    }

    #[test]
    fn a_burst_comes_through_and_then_the_rate() {
        let (rates, one, start) = (rates(4, 3), client(1), Instant::now());
        for _ in 0..3 {
            assert_eq!(rates.take(one, start, false), Ok(()));
        }
        assert_eq!(rates.take(one, start, false), Err(SECOND / 4));
        // a refusal costs nothing
        assert_eq!(rates.take(one, start, false), Err(SECOND / 4));
        assert_eq!(rates.take(client(2), start, false), Ok(()));
        assert_eq!(rates.take(one, start + SECOND / 8, false), Err(SECOND / 8));
        assert_eq!(rates.take(one, start + SECOND / 4, false), Ok(()));
        assert_eq!(rates.take(one, start + SECOND / 4, false), Err(SECOND / 4));
        for _ in 0..3 {
            assert_eq!(rates.take(one, start + SECOND * 9, false), Ok(()));
        }
        assert!(rates.take(one, start + SECOND * 9, false).is_err());
    }

    #[test]
    fn heartbeats_may_use_a_burst_more() {
        let (rates, one, now) = (rates(1, 2), client(1), Instant::now());
        for (heartbeat, taken) in
            [(false, true), (false, true), (false, false), (true, true), (true, true), (true, false)]
        {
            assert_eq!(rates.take(one, now, heartbeat).is_ok(), taken);
        }
        assert_eq!(rates.take(one, now, false), Err(SECOND * 3));
        assert_eq!(rates.take(one, now, true), Err(SECOND));
    }

    #[test]
    fn the_table_keeps_those_who_ask_now_and_never_too_many() {
        let (rates, start) = (rates(1, 2), Instant::now());
        for number in 0..200_000 {
            let _ = rates.take(client(number), start, false);
        }
        assert!(known(&rates) <= MOST, "{}", known(&rates));
        // those for whom there was no room have one share together
        assert!(rates.take(client(1_000_000), start, false).is_err());
        let later = start + SECOND * 3;
        for number in 0..10_000 {
            assert_eq!(rates.take(client(1_000_000 + number), later, false), Ok(()));
        }
        assert!(known(&rates) < 30_000, "{}", known(&rates));
    }

    proptest! {
        #[test]
        fn no_client_gets_more_than_its_burst_and_its_rate(
            per_second in 1_u32..50,
            burst in 1_u32..50,
            pauses in prop::collection::vec(0_u64..400, 1..200),
        ) {
            let (rates, start) = (rates(per_second, burst), Instant::now());
            let (mut now, mut taken) = (start, 0_u32);
            for pause in pauses {
                now += Duration::from_millis(pause);
                if let Err(wait) = rates.take(client(7), now, false) {
                    // what was said is true
                    prop_assert!(wait > Duration::ZERO && wait <= SECOND);
                    now += wait;
                    prop_assert_eq!(rates.take(client(7), now, false), Ok(()));
                }
                taken += 1;
            }
            let most = f64::from(burst) + (now - start).as_secs_f64() * f64::from(per_second) + 1e-3;
            prop_assert!(f64::from(taken) <= most, "{} of {}", taken, most);
        }
    }
}
