//! What JSON Web Tokens are verified by.

use std::{fmt, path::PathBuf, sync::Arc};

use super::{SettingsError, layers::Layers, names as name, parse, value};

/// As long as what HS256 makes of it. A shorter one is easier to find than a signature is to forge.
const LONG_ENOUGH: usize = 32;

#[derive(Clone, Debug, Default)]
pub struct Jwt {
    pub secret: Option<Secret>,
    /// A JWKS file.
    pub keys: Option<PathBuf>,
    pub audience: Option<String>,
    pub issuer: Option<String>,
}

/// A text that no log ever shows.
#[derive(Clone)]
pub struct Secret(Arc<str>);

impl Secret {
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

pub fn resolve(layers: &Layers) -> Result<Jwt, SettingsError> {
    Ok(Jwt {
        secret: value(layers, &name::JWT_SECRET, |text| Some(Secret::new(text)))?,
        keys: value(layers, &name::JWT_KEYS, parse::path)?,
        audience: value(layers, &name::JWT_AUDIENCE, parse::text)?,
        issuer: value(layers, &name::JWT_ISSUER, parse::text)?,
    })
}

/// What somebody who set these should know.
pub fn warnings(jwt: &Jwt, auth: Option<bool>) -> impl Iterator<Item = String> {
    let secret = jwt.secret.as_ref();
    let length = secret.map(|secret| secret.reveal().len()).filter(|length| *length < LONG_ENOUGH);
    let short = length.map(|length| {
        format!(
            "ROLLCALL_JWT_SECRET has {length} bytes: one of less than {LONG_ENOUGH} can be found by trying"
        )
    });
    let set = [(secret.is_some(), name::JWT_SECRET.name), (jwt.keys.is_some(), name::JWT_KEYS.name)];
    let idle = set
        .into_iter()
        .filter(move |(set, _)| *set && auth != Some(true))
        .map(|(_, name)| format!("{name} is set, but ROLLCALL_AUTH is not on: nobody is asked for a token"));
    short.into_iter().chain(idle)
}
