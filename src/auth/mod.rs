//! Who somebody is: the operator by his root token, others by tokens that they were given, services by tokens that
//! somebody has signed for them, or by their certificates.
//!
//! What is shown is compared in constant time, or looked up by its digest. What it allows is for `domain` to say.

mod certificate;
mod clients;
mod files;
mod identity;
mod itself;
mod jwks;
mod jwt;
mod tls;
mod verified;

use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use chrono::{DateTime, Utc};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

pub use self::{
    identity::{Identity, Known},
    itself::towards_itself,
    jwks::JwksFault,
    jwt::{Claims, Keys, KeysError},
    tls::{Current, Tls, TlsError},
};
use verified::Verified;

use crate::{
    domain::{Digest, Rights, ServiceName, Token},
    telemetry::NotLetIn,
};

/// Why nobody is let in. The client learns no more than this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Refused {
    #[error("a token is needed: Authorization: Bearer …")]
    Nothing,
    #[error("the Authorization header must be: Bearer, and a token")]
    Malformed,
    #[error("the token is not, or no longer, valid")]
    Invalid,
}

impl From<Refused> for NotLetIn {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Nothing => Self::Nothing,
            Refused::Malformed => Self::Malformed,
            Refused::Invalid => Self::Invalid,
        }
    }
}

/// What a request shows of its sender.
#[derive(Clone, Copy, Debug, Default)]
pub struct Credential<'a> {
    pub authorization: Option<&'a [u8]>,
    /// The name in a certificate that was verified.
    pub certificate: Option<&'a str>,
}

/// Who may come in, and how that is known.
pub struct Auth {
    required: bool,
    root: Option<Digest>,
    verified: Verified,
}

impl Auth {
    pub fn new(required: bool, root_token: Option<&str>, keys: Keys) -> Self {
        let root = root_token.map(|token| digest(token.as_bytes()));
        Self { required, root, verified: Verified::by(keys) }
    }

    /// Whether anybody has to show anything.
    pub fn is_required(&self) -> bool {
        self.required
    }

    /// Rises with every change of the keys that tokens are signed with.
    pub fn generation(&self) -> u64 {
        self.verified.generation()
    }

    /// Who shows this. `find` looks among the tokens that were given.
    pub fn identify(
        &self,
        shown: Credential<'_>,
        find: impl FnOnce(&Digest) -> Option<Arc<Token>>,
        now: DateTime<Utc>,
    ) -> Result<Known, Refused> {
        let Some(authorization) = shown.authorization else {
            return shown.certificate.map_or(Err(Refused::Nothing), by_certificate);
        };
        let token = bearer(authorization).ok_or(Refused::Malformed)?;
        let digest = digest(token.as_bytes());
        if self.root.is_some_and(|root| verify_slices_are_equal(&root.0, &digest.0).is_ok()) {
            return Ok(Known { identity: Arc::new(Identity::root()), until: None });
        }
        if let Some(token) = find(&digest) {
            if !token.holds_at(now) {
                return Err(Refused::Invalid);
            }
            return Ok(Known { identity: Arc::new(Identity::of_token(&token)), until: token.expires_at });
        }
        self.verified.identify(token, digest, now).ok_or(Refused::Invalid)
    }
}

/// The token of `Bearer <token>`. The scheme is known in any case of its letters.
fn bearer(authorization: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(authorization).ok()?;
    let (scheme, token) = text.split_once(' ')?;
    let token = token.trim_matches(' ');
    let visible = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
    (scheme.eq_ignore_ascii_case("bearer") && visible).then_some(token)
}

fn by_certificate(name: &str) -> Result<Known, Refused> {
    let service = ServiceName::parse(name).map_err(|_| Refused::Invalid)?;
    let identity = Identity { actor: format!("tls:{service}").into(), rights: Rights::Own(service) };
    Ok(Known { identity: Arc::new(identity), until: None })
}

pub fn digest(secret: &[u8]) -> Digest {
    Digest(Sha256::digest(secret).into())
}
