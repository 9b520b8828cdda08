//! The other end of a connection.

use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
use tokio::time::Instant;

use crate::{
    app::{Credential, Memory},
    telemetry::Class,
};

/// Made once a connection, by the listener; every request has it as an extension, in an `Arc`.
#[derive(Debug)]
pub struct Peer {
    pub address: SocketAddr,
    /// The name in the client's certificate, where it has shown one that was verified.
    pub certificate: Option<Arc<str>>,
    pub memory: Memory,
    pub refusals: Refusals,
}

impl Peer {
    pub fn new(address: SocketAddr, certificate: Option<Arc<str>>) -> Self {
        Self { address, certificate, memory: Memory::default(), refusals: Refusals::default() }
    }

    /// What a request on this connection shows of its sender.
    pub fn shows<'a>(&'a self, headers: &'a HeaderMap) -> Credential<'a> {
        let authorization = headers.get(AUTHORIZATION).map(HeaderValue::as_bytes);
        Credential { authorization, certificate: self.certificate.as_deref() }
    }
}

/// Who counts as one client. One customer of IPv6 has at least a /64, all of whose addresses it can use.
pub fn network_of(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
    }
}

/// What a connection was last refused. A refusal is cheap, but not free: who asks again at once, over thousands of
/// connections, would have the server do nothing but refuse. So the next of its requests that are of no higher class
/// is not listened to before the time that Retry-After has said. Who waits for it notices nothing of this.
#[derive(Debug, Default)]
pub struct Refusals(Mutex<Option<(Class, Instant)>>);

impl Refusals {
    /// The least that Retry-After can say.
    const REST: Duration = Duration::from_secs(1);

    pub fn note(&self, class: Class) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((class, Instant::now() + Self::REST));
    }

    /// Until when a request of this class has to wait, if it has to.
    pub fn rest(&self, class: Class) -> Option<Instant> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (refused, until) = (*last)?;
        if Instant::now() >= until {
            *last = None;
            return None;
        }
        (class <= refused).then_some(until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_of_ipv6_is_one_client() {
        let network = |address: &str| network_of(address.parse().unwrap());
        for (one, other, same) in [
            ("2001:db8::1", "2001:db8::ffff:1", true),
            ("2001:db8::1", "2001:db8:0:1::1", false),
            ("::ffff:10.0.0.1", "10.0.0.1", true),
            ("::ffff:10.0.0.1", "::ffff:10.0.0.2", false),
        ] {
            assert_eq!(network(one) == network(other), same, "{one} {other}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_was_refused_rests_unless_it_has_something_more_urgent() {
        let refusals = Refusals::default();
        assert_eq!(refusals.rest(Class::List), None);
        refusals.note(Class::Register);
        let until = Instant::now() + Refusals::REST;
        for class in Class::ALL {
            let rests = class <= Class::Register;
            assert_eq!(refusals.rest(class), rests.then_some(until), "{class:?}");
        }
        tokio::time::advance(Refusals::REST).await;
        assert_eq!(refusals.rest(Class::List), None);
    }
}
