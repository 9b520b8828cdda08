//! What the server shows of itself over TLS, and what it asks of its clients.

use std::path::PathBuf;

use super::{SettingsError, layers::Layers, names as name, names::Setting, parse, required, value};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// `None`: clients are not asked for a certificate.
    pub clients: Option<Clients>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clients {
    pub authorities: PathBuf,
    /// Whether a client without a certificate is turned away.
    pub required: bool,
}

/// Half of it is an error: whoever set it relies on the whole.
pub fn resolve(layers: &Layers) -> Result<Option<Tls>, SettingsError> {
    let certificate = value(layers, &name::TLS_CERT, parse::path)?;
    let key = value(layers, &name::TLS_KEY, parse::path)?;
    let authorities = value(layers, &name::TLS_CLIENT_CA, parse::path)?;
    let required = required(layers, &name::TLS_CLIENT_AUTH, parse::required)?;
    let clients = match authorities {
        Some(authorities) => Some(Clients { authorities, required }),
        None if required => return Err(lone(layers, &name::TLS_CLIENT_AUTH, &name::TLS_CLIENT_CA)),
        None => None,
    };
    match (certificate, key) {
        (Some(certificate), Some(key)) => Ok(Some(Tls { certificate, key, clients })),
        (Some(_), None) => Err(lone(layers, &name::TLS_CERT, &name::TLS_KEY)),
        (None, Some(_)) => Err(lone(layers, &name::TLS_KEY, &name::TLS_CERT)),
        (None, None) if clients.is_some() => Err(lone(layers, &name::TLS_CLIENT_CA, &name::TLS_CERT)),
        (None, None) => Ok(None),
    }
}

fn lone(layers: &Layers, set: &Setting, needed: &Setting) -> SettingsError {
    let origin = layers.get(set).map_or(super::Origin::Default, |(_, origin)| origin.clone());
    SettingsError::Lone { name: set.name, origin, needed: needed.name }
}
