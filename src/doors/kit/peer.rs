//! The other end of a connection.

use std::{net::SocketAddr, sync::Arc};

use axum::http::{HeaderMap, HeaderValue, header::AUTHORIZATION};

use crate::app::{Credential, Memory};

/// Made once a connection, by the listener; every request has it as an extension, in an `Arc`.
#[derive(Debug)]
pub struct Peer {
    pub address: SocketAddr,
    /// The name in the client's certificate, where it has shown one that was verified.
    pub certificate: Option<Arc<str>>,
    pub memory: Memory,
}

impl Peer {
    pub fn new(address: SocketAddr, certificate: Option<Arc<str>>) -> Self {
        Self { address, certificate, memory: Memory::default() }
    }

    /// What a request on this connection shows of its sender.
    pub fn shows<'a>(&'a self, headers: &'a HeaderMap) -> Credential<'a> {
        let authorization = headers.get(AUTHORIZATION).map(HeaderValue::as_bytes);
        Credential { authorization, certificate: self.certificate.as_deref() }
    }
}
