//! Who somebody is: tokens, keys, certificates.

mod certificate;
mod clients;
mod files;
mod itself;
mod jwks;
mod jwt;
mod tls;

pub use self::{
    itself::towards_itself,
    jwks::JwksFault,
    jwt::{Claims, Keys, KeysError, LEEWAY, Refused},
    tls::{Current, Tls, TlsError},
};
