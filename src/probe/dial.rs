//! Connects to a target, if it may be asked at all.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use thiserror::Error;
use tokio::net::{TcpStream, lookup_host};

use crate::{
    domain::target::{allow_address, canonical},
    settings::Networks,
};

pub(super) struct Dialer {
    allowed: Networks,
    denied: Networks,
    database: Option<(String, u16)>,
}

#[derive(Debug, Error)]
pub(super) enum DialError {
    #[error("'{host}' cannot be looked up: {source}")]
    Unknown { host: String, source: io::Error },
    #[error("'{host}' has no address")]
    NoAddress { host: String },
    #[error("{0} may not be asked")]
    Forbidden(IpAddr),
    #[error("{address}: {source}")]
    Refused { address: SocketAddr, source: io::Error },
}

impl Dialer {
    pub fn new(allowed: Networks, denied: Networks, database: Option<(String, u16)>) -> Self {
        Self { allowed, denied, database }
    }

    /// Looks the host up once, and connects to the first of its addresses that may be asked and answers.
    pub async fn connect(&self, host: &str, port: u16) -> Result<TcpStream, DialError> {
        let unknown = |source| DialError::Unknown { host: host.to_owned(), source };
        let addresses: Vec<SocketAddr> = match host.parse::<IpAddr>() {
            Ok(ip) => vec![SocketAddr::new(ip, port)],
            Err(_) => lookup_host((host, port)).await.map_err(unknown)?.collect(),
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
                Err(source) => last = DialError::Refused { address, source },
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
        match lookup_host((host.as_str(), *port)).await {
            Ok(mut own) => own.any(|own| plain(own.ip()) == plain(address.ip())),
            // who cannot say where the database is asks nobody at its port
            Err(_) => true,
        }
    }
}
