//! The other end of a connection.

use std::{net::SocketAddr, sync::Arc};

/// Made once a connection, by the listener; every request has it as an extension, in an `Arc`.
#[derive(Clone, Debug)]
pub struct Peer {
    pub address: SocketAddr,
    /// The name in the client's certificate, where it has shown one that was verified.
    pub certificate: Option<Arc<str>>,
}
