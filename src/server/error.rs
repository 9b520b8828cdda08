//! Why the process could not start, or did not end in order.

use std::net::SocketAddr;

use thiserror::Error;

use crate::{
    auth::{KeysError, TlsError},
    doors::native::Unguarded,
    store::{StoreError, private::PrivateError},
};

#[derive(Debug, Error)]
pub enum ServeError {
    #[error("cannot listen on {address} (ROLLCALL_LISTEN)")]
    Listen { address: SocketAddr, source: std::io::Error },
    #[error("the database cannot be used")]
    Store(#[from] StoreError),
    #[error("the PostgreSQL of its own cannot be used")]
    Private(#[from] PrivateError),
    #[error(transparent)]
    Routes(#[from] Unguarded),
    #[error("TLS cannot be spoken")]
    Tls(#[from] TlsError),
    #[error("tokens cannot be verified")]
    Keys(#[from] KeysError),
    #[error("signals cannot be listened for")]
    Signals(#[source] std::io::Error),
    #[error("a background task ended before its time; the log says which")]
    TaskEnded,
    #[error("not everything ended in time")]
    SlowStop,
    #[error("ended at once by a second signal")]
    Interrupted,
}
