//! Who may connect: so many in all, and so many from each address.
//!
//! A gateway speaks for many from one address, so an address may have most of the seats. It may not have all: whoever
//! opens connections and says nothing stops nobody else.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    doors::kit::peer::network_of,
    settings::Limits,
    telemetry::{Full, Metrics},
};

/// Beyond that a replica more helps more than a connection more.
const MOST: usize = 16_384;
/// File descriptors for everything else: the database, probes, files.
const FOR_OTHERS: u64 = 500;

pub struct Seats {
    all: usize,
    per_address: usize,
    taken: Mutex<Taken>,
    metrics: Metrics,
}

#[derive(Default)]
struct Taken {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
}

impl Seats {
    /// As many as are set, else what the number of file descriptors allows.
    pub fn within(limits: &Limits, descriptors: u64, metrics: Metrics) -> Arc<Self> {
        let room = descriptors.saturating_sub(FOR_OTHERS).max(descriptors / 2);
        let room = usize::try_from(room).unwrap_or(usize::MAX);
        let all = limits.connections.unwrap_or(room.min(MOST));
        if all > room {
            tracing::warn!(
                connections = all,
                descriptors,
                "ROLLCALL_MAX_CONNECTIONS is more than the limit on open files has room for"
            );
        }
        let per_address = limits.connections_per_address.unwrap_or(all - all / 4);
        Arc::new(Self { all, per_address, taken: Mutex::default(), metrics })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection's place among the others, until it is dropped.
pub struct Seat {
    seats: Arc<Seats>,
    address: IpAddr,
}

impl Seat {
    pub fn take(seats: &Arc<Seats>, peer: IpAddr) -> Result<Self, Full> {
        let address = network_of(peer);
        let mut taken = seats.taken();
        if taken.all >= seats.all {
            return Err(Full::Everywhere);
        }
        let here = taken.by_address.entry(address).or_default();
        if *here >= seats.per_address {
            return Err(Full::AtItsAddress);
        }
        *here += 1;
        taken.all += 1;
        seats.metrics.connections(taken.all);
        Ok(Self { seats: seats.clone(), address })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.taken();
        if let Some(here) = taken.by_address.get_mut(&self.address) {
            *here -= 1;
            // Every address that ever connected would else stay.
            if *here == 0 {
                taken.by_address.remove(&self.address);
            }
        }
        taken.all -= 1;
        self.seats.metrics.connections(taken.all);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seats(all: Option<usize>, per_address: Option<usize>, descriptors: u64) -> Arc<Seats> {
        let limits = Limits { connections: all, connections_per_address: per_address, ..Limits::default() };
        Seats::within(&limits, descriptors, Metrics::new())
    }

    fn from(address: &str) -> IpAddr {
        address.parse().unwrap()
    }

    #[test]
    fn the_number_follows_the_file_descriptors() {
        for (descriptors, all, per_address) in [
            (256, 128, 96),
            (1_024, 524, 393),
            (10_000, 9_500, 7_125),
            (1 << 20, 16_384, 12_288),
            (u64::MAX, 16_384, 12_288),
            (2, 1, 1),
        ] {
            let seats = seats(None, None, descriptors);
            assert_eq!((seats.all, seats.per_address), (all, per_address), "{descriptors}");
        }
        assert_eq!(seats(Some(20_000), None, 1_024).all, 20_000);
        assert_eq!(seats(Some(8), Some(8), 1_024).per_address, 8);
    }

    #[test]
    fn an_address_cannot_take_all_seats_and_a_seat_is_given_back() {
        let seats = seats(Some(4), None, 1_024);
        let (one, other) = (from("10.0.0.1"), from("10.0.0.2"));
        let mut taken: Vec<_> = (0..3).map(|_| Seat::take(&seats, one).ok().unwrap()).collect();
        assert_eq!(Seat::take(&seats, one).err(), Some(Full::AtItsAddress));
        let last = Seat::take(&seats, other).ok().unwrap();
        assert_eq!(Seat::take(&seats, from("10.0.0.3")).err(), Some(Full::Everywhere));
        assert!(seats.metrics.render().contains("rollcall_http_connections 4\n"));
        taken.pop();
        taken.push(Seat::take(&seats, one).ok().unwrap());
        drop((taken, last));
        assert_eq!(seats.taken().all, 0);
        assert!(seats.taken().by_address.is_empty());
        assert!(seats.metrics.render().contains("rollcall_http_connections 0\n"));
    }
}
