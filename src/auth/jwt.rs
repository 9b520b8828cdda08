//! JSON Web Tokens: whether one may be believed, and what it says.
//!
//! Invariant: a key verifies by one algorithm, which is the key's. A token that names another one, or none, meets no
//! key. Everything else is looked at only after the signature, and a reason is for the log alone: who is refused learns
//! nothing of it.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use arc_swap::ArcSwap;
use chrono::{DateTime, TimeDelta, Utc};
use jsonwebtoken::{Algorithm, DecodingKey, Header, Validation};
use serde::Deserialize;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::{
    files::Files,
    jwks::{Jwks, JwksFault},
};
use crate::{settings::Jwt, telemetry::chain};

/// By how much the issuer's clock may be ahead of ours, or behind it.
pub const LEEWAY: TimeDelta = TimeDelta::seconds(5);
/// Whatever is longer is not looked at.
const LONGEST: usize = 8 * 1024;
const LONGEST_NAME: usize = 255;

/// What tokens are verified by. Clones are the same keys, and follow the same file.
#[derive(Clone)]
pub struct Keys(Arc<Inner>);

struct Inner {
    settings: Jwt,
    files: Files,
    ring: ArcSwap<Vec<Key>>,
    /// Rises after the keys have changed. It is looked at for every request.
    generation: AtomicU64,
}

struct Key {
    kid: Kid,
    decoding: DecodingKey,
    algorithm: Algorithm,
    validation: Validation,
}

/// Which tokens a key is meant for.
enum Kid {
    /// The secret has no name, so one that a token has for it is not compared.
    Any,
    /// Those that name it, and those that name none. A key without a name is not meant by those that name one.
    Of(Option<String>),
}

/// What a token says that may be believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    pub service_name: String,
    pub subject: Option<String>,
    /// As it says. It is believed for `LEEWAY` longer.
    pub expires_at: DateTime<Utc>,
}

/// Why a token is not believed.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    #[error("it is longer than {LONGEST} bytes")]
    Huge,
    #[error("its header cannot be read")]
    Header(#[source] jsonwebtoken::errors::Error),
    #[error("its header has an extension that must be understood (crit)")]
    Critical,
    #[error("there is no key for it")]
    NoKey,
    #[error("it is not signed by a known key, or cannot be read")]
    Token(#[source] jsonwebtoken::errors::Error),
    #[error("it does not say when it expires")]
    NoExpiry,
    #[error("one of its times is none")]
    NoTime,
    #[error("it has expired")]
    Expired,
    #[error("it is not yet valid")]
    NotYet,
    #[error("it is for another audience")]
    Audience,
    #[error("it is from another issuer")]
    Issuer,
    #[error("it names no service")]
    NoService,
}

#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    #[error("the file {} (ROLLCALL_JWT_KEYS) cannot be read", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("the file {} (ROLLCALL_JWT_KEYS) cannot be used", path.display())]
    Unusable { path: PathBuf, source: JwksFault },
}

impl Keys {
    pub async fn load(settings: Jwt) -> Result<Self, KeysError> {
        let files = Files::about_to_be_read(settings.keys.as_deref()).await;
        let ring = ArcSwap::from_pointee(read(&settings).await?);
        Ok(Self(Arc::new(Inner { settings, files, ring, generation: AtomicU64::new(1) })))
    }

    /// Whether no token at all can be believed.
    pub fn is_empty(&self) -> bool {
        self.0.ring.load().is_empty()
    }

    /// Rises when the keys change: what was concluded from older ones is worth nothing then.
    pub fn generation(&self) -> u64 {
        self.0.generation.load(Ordering::Acquire)
    }

    /// Whether the token may be believed at this time.
    pub fn verify(&self, token: &str, now: DateTime<Utc>) -> Result<Claims, Refused> {
        if token.len() > LONGEST {
            return Err(Refused::Huge);
        }
        let header = jsonwebtoken::decode_header(token).map_err(Refused::Header)?;
        if header.crit.is_some() {
            return Err(Refused::Critical);
        }
        let ring = self.0.ring.load();
        let mut refused = Refused::NoKey;
        for key in ring.iter().filter(|key| key.is_meant_by(&header)) {
            match jsonwebtoken::decode::<Stated>(token, &key.decoding, &key.validation) {
                Ok(decoded) => return self.judge(decoded.claims, now),
                Err(error) => refused = Refused::Token(error),
            }
        }
        Err(refused)
    }

    fn judge(&self, stated: Stated, now: DateTime<Utc>) -> Result<Claims, Refused> {
        let settings = &self.0.settings;
        let expires_at = stated.exp.ok_or(Refused::NoExpiry)?.time().ok_or(Refused::NoTime)?;
        if now.signed_duration_since(expires_at) >= LEEWAY {
            return Err(Refused::Expired);
        }
        if let Some(begin) = stated.nbf {
            let begin = begin.time().ok_or(Refused::NoTime)?;
            if begin.signed_duration_since(now) > LEEWAY {
                return Err(Refused::NotYet);
            }
        }
        if settings.audience.as_deref().is_some_and(|audience| !is_among(audience, &stated.aud)) {
            return Err(Refused::Audience);
        }
        if settings.issuer.as_deref().is_some_and(|issuer| stated.iss.as_str() != Some(issuer)) {
            return Err(Refused::Issuer);
        }
        let service_name = stated.service_name.filter(|name| is_a_name(name)).ok_or(Refused::NoService)?;
        Ok(Claims { service_name, subject: stated.sub, expires_at })
    }

    /// Reads the file again whenever it changes, until it is told to stop.
    pub async fn follow(self, stop: CancellationToken) {
        let mut files = self.0.files.clone();
        while stop.run_until_cancelled(files.change()).await.is_some() {
            self.read_again().await;
        }
    }

    async fn read_again(&self) {
        match read(&self.0.settings).await {
            Ok(keys) => {
                let count = keys.len();
                self.0.ring.store(Arc::new(keys));
                self.0.generation.fetch_add(1, Ordering::Release);
                tracing::info!(keys = count, "the keys of ROLLCALL_JWT_KEYS have changed");
            }
            Err(error) => tracing::warn!(error = chain(&error), "the old keys for tokens are kept"),
        }
    }
}

impl Key {
    fn new(kid: Kid, algorithm: Algorithm, decoding: DecodingKey) -> Self {
        let mut validation = Validation::new(algorithm);
        // Of the claims the library is to believe nothing: it would ask the machine's clock, and take a claim that it
        // cannot read for one that is not there.
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.validate_aud = false;
        Self { kid, decoding, algorithm, validation }
    }

    fn is_meant_by(&self, header: &Header) -> bool {
        let named = match (&self.kid, &header.kid) {
            (Kid::Any, _) | (_, None) => true,
            (Kid::Of(kid), named) => kid == named,
        };
        named && header.alg == self.algorithm
    }
}

async fn read(settings: &Jwt) -> Result<Vec<Key>, KeysError> {
    let mut keys = Vec::new();
    if let Some(secret) = &settings.secret {
        let secret = DecodingKey::from_secret(secret.reveal().as_bytes());
        keys.push(Key::new(Kid::Any, Algorithm::HS256, secret));
    }
    if let Some(path) = &settings.keys {
        let jwks = read_jwks(path).await?;
        for skipped in &jwks.skipped {
            tracing::warn!(file = %path.display(), skipped, "a key of ROLLCALL_JWT_KEYS is not used");
        }
        if jwks.keys.is_empty() {
            tracing::warn!(file = %path.display(), "ROLLCALL_JWT_KEYS has no key that tokens can be verified by");
        }
        keys.extend(jwks.keys.into_iter().map(|key| Key::new(Kid::Of(key.kid), key.algorithm, key.key)));
    }
    Ok(keys)
}

async fn read_jwks(path: &Path) -> Result<Jwks, KeysError> {
    let content = tokio::fs::read(path)
        .await
        .map_err(|source| KeysError::Unreadable { path: path.to_owned(), source })?;
    Jwks::parse(&content).map_err(|source| KeysError::Unusable { path: path.to_owned(), source })
}

/// What a token says, as far as it matters here.
#[derive(Deserialize)]
struct Stated {
    exp: Option<Seconds>,
    nbf: Option<Seconds>,
    // Where nobody asks for these, they may be anything.
    #[serde(default)]
    aud: Value,
    #[serde(default)]
    iss: Value,
    sub: Option<String>,
    service_name: Option<String>,
}

/// Since 1970; a fraction is allowed.
#[derive(Deserialize)]
#[serde(untagged)]
enum Seconds {
    Whole(i64),
    Broken(f64),
}

impl Seconds {
    fn time(&self) -> Option<DateTime<Utc>> {
        match *self {
            Self::Whole(seconds) => DateTime::from_timestamp(seconds, 0),
            Self::Broken(seconds) => {
                let since = std::time::Duration::try_from_secs_f64(seconds).ok()?;
                DateTime::UNIX_EPOCH.checked_add_signed(TimeDelta::from_std(since).ok()?)
            }
        }
    }
}

fn is_among(audience: &str, stated: &Value) -> bool {
    match stated {
        Value::String(one) => one == audience,
        Value::Array(all) => all.iter().any(|one| one.as_str() == Some(audience)),
        _ => false,
    }
}

/// It goes into the log of changes as it is.
fn is_a_name(text: &str) -> bool {
    !text.trim().is_empty() && text.chars().count() <= LONGEST_NAME && !text.chars().any(char::is_control)
}

#[cfg(test)]
#[path = "jwt_tests.rs"]
mod tests;
