//! Connects to a target, if it may be asked at all.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use futures_util::{FutureExt as _, future::BoxFuture};
use thiserror::Error;
use tokio::net::{TcpStream, lookup_host};

use crate::{
    domain::target::{allow_address, canonical},
    settings::Networks,
};

pub(super) struct Dialer {
    /// How the addresses of a host are found.
    lookup: Lookup,
    allowed: Networks,
    denied: Networks,
    database: Option<(String, u16)>,
}

type Lookup = Box<dyn Fn(String, u16) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> + Send + Sync>;

#[derive(Debug, Error)]
pub(super) enum DialError {
    #[error("'{host}' cannot be looked up: {source}")]
    Unknown { host: String, source: io::Error },
    #[error("'{host}' has no address")]
    NoAddress { host: String },
    #[error("{0} may not be asked")]
    Forbidden(IpAddr),
    /// Who names an address knows it: many that say the same are kept once.
    #[error(transparent)]
    Refused(io::Error),
    #[error("{address}: {source}")]
    RefusedAt { address: SocketAddr, source: io::Error },
}

impl Dialer {
    pub fn new(allowed: Networks, denied: Networks, database: Option<(String, u16)>) -> Self {
        let lookup = |host: String, port| {
            async move { Ok(lookup_host((host.as_str(), port)).await?.collect()) }.boxed()
        };
        Self { lookup: Box::new(lookup), allowed, denied, database }
    }

    /// Looks the host up once, and connects to the first of its addresses that may be asked and answers.
    pub async fn connect(&self, host: &str, port: u16) -> Result<TcpStream, DialError> {
        let unknown = |source| DialError::Unknown { host: host.to_owned(), source };
        let literal = host.parse::<IpAddr>().ok();
        let addresses: Vec<SocketAddr> = match literal {
            Some(ip) => vec![SocketAddr::new(ip, port)],
            None => (self.lookup)(host.to_owned(), port).await.map_err(unknown)?,
        };
        let mut last = DialError::NoAddress { host: host.to_owned() };
        for address in addresses {
            if !self.allows(address).await {
                // a name that leads astray even once is not followed at all
                return Err(DialError::Forbidden(address.ip()));
            }
            match TcpStream::connect(address).await {
                Ok(stream) => {
                    // a target that is slow to answer is no reason to fail
                    let _best_effort = stream.set_nodelay(true);
                    return Ok(stream);
                }
                Err(source) if literal.is_some() => return Err(DialError::Refused(source)),
                Err(source) => last = DialError::RefusedAt { address, source },
            }
        }
        Err(last)
    }

    async fn allows(&self, address: SocketAddr) -> bool {
        let ip = canonical(address.ip());
        if self.denied.contain(ip) || (allow_address(ip).is_err() && !self.allowed.name(ip)) {
            return false;
        }
        if !self.allowed.is_empty() && !self.allowed.contain(ip) {
            return false;
        }
        !self.is_database(SocketAddr::new(ip, address.port())).await
    }

    async fn is_database(&self, address: SocketAddr) -> bool {
        let Some((host, port)) = &self.database else { return false };
        if address.port() != *port {
            return false;
        }
        // both names of this machine's own address lead to the same place
        let plain = |ip: IpAddr| match ip.to_canonical() {
            ip if ip.is_unspecified() || ip.is_loopback() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            ip => ip,
        };
        match (self.lookup)(host.clone(), *port).await {
            Ok(own) => own.iter().any(|own| plain(own.ip()) == plain(address.ip())),
            // who cannot say where the database is asks nobody at its port
            Err(_) => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    };

    use tokio::{net::TcpListener, task::JoinSet};

    use super::*;

    /// Two servers at one port of two addresses: one that may be asked, and a trap.
    struct Servers {
        port: u16,
        good: Arc<AtomicUsize>,
        trapped: Arc<AtomicUsize>,
        serving: JoinSet<()>,
    }

    impl Servers {
        async fn start() -> Self {
            let (good, trap) = loop {
                let good = TcpListener::bind("127.0.0.1:0").await.unwrap();
                let port = good.local_addr().unwrap().port();
                if let Ok(trap) = TcpListener::bind(("127.0.0.2", port)).await {
                    break (good, trap);
                }
            };
            let port = good.local_addr().unwrap().port();
            let mut serving = JoinSet::new();
            let mut count = |listener: TcpListener| {
                let hits = Arc::new(AtomicUsize::new(0));
                let own = hits.clone();
                serving.spawn(async move {
                    while listener.accept().await.is_ok() {
                        own.fetch_add(1, Relaxed);
                    }
                });
                hits
            };
            let (good, trapped) = (count(good), count(trap));
            Self { port, good, trapped, serving }
        }
    }

    /// What a name leads to when it is looked up for this time. The turns have bars between them.
    fn answer(answers: &str, turn: usize) -> Vec<IpAddr> {
        let answers: Vec<&str> = answers.split('|').collect();
        answers[turn % answers.len()].split(',').map(|ip| ip.parse().unwrap()).collect()
    }

    /// A dialer that may not go to the trap, and a name that leads elsewhere each time it is looked up.
    fn dialer(answers: &'static str) -> (Dialer, Arc<AtomicUsize>) {
        let asked = Arc::new(AtomicUsize::new(0));
        let denied = Networks::parse("127.0.0.2/32").unwrap();
        let times = asked.clone();
        let lookup = move |_: String, port| {
            let found = answer(answers, times.fetch_add(1, Relaxed)).into_iter();
            let found = found.map(|ip| SocketAddr::new(ip, port)).collect();
            futures_util::future::ready(Ok(found)).boxed()
        };
        let dialer = Dialer { lookup: Box::new(lookup), ..Dialer::new(Networks::default(), denied, None) };
        (dialer, asked)
    }

    #[tokio::test]
    async fn a_name_that_changes_is_looked_up_once_and_leads_to_what_was_looked_at() {
        let mut servers = Servers::start().await;
        for answers in [
            "127.0.0.1|127.0.0.2",
            "127.0.0.2|127.0.0.1",
            "127.0.0.1,127.0.0.2|127.0.0.2,127.0.0.1",
            "169.254.169.254|127.0.0.1",
            "::ffff:127.0.0.2|::ffff:169.254.169.254|127.0.0.1",
        ] {
            let (dialer, asked) = dialer(answers);
            for turn in 0..12 {
                let before = servers.good.load(Relaxed);
                let connected = dialer.connect("rebound.example", servers.port).await;
                assert_eq!(asked.load(Relaxed), turn + 1, "looked up once a connection");
                let may = answer(answers, turn)[0] == Ipv4Addr::LOCALHOST;
                assert_eq!(connected.is_ok(), may, "{answers:?} {turn} {connected:?}");
                if let Ok(stream) = connected {
                    // it is the one that was looked at
                    assert_eq!(stream.peer_addr().unwrap().ip(), Ipv4Addr::LOCALHOST);
                    stream.writable().await.unwrap();
                    while servers.good.load(Relaxed) == before {
                        tokio::task::yield_now().await;
                    }
                }
            }
        }
        assert_eq!(servers.trapped.load(Relaxed), 0);
        servers.serving.shutdown().await;
    }

    #[tokio::test]
    async fn who_is_not_there_is_named_where_a_name_led_to_him() {
        let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let (dialer, _) = dialer("127.0.0.1");
        let said =
            |host| dialer.connect(host, gone.port()).map(|connected| connected.unwrap_err().to_string());
        let (literal, named) = (said("127.0.0.1").await, said("gone.example").await);
        assert_eq!(named, format!("{gone}: {literal}"));
        assert!(literal.starts_with("Connection refused"), "{literal}");
    }
}
