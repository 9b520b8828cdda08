//! A set of public keys as a file: RFC 7517, as far as tokens are verified by it.
//!
//! Each key gets its one algorithm here, once and for all. What a token says of its algorithm is compared with it and
//! never followed.

use jsonwebtoken::{Algorithm, DecodingKey};
use serde::{Deserialize, de::IgnoredAny};

/// Of the coordinates of a point of P-256, in base64url without padding: 32 bytes.
const COORDINATE: usize = 43;
/// What the library verifies by; less would be refused at every token.
const SHORTEST_RSA_BITS: usize = 2048;

pub struct PublicKey {
    pub kid: Option<String>,
    pub algorithm: Algorithm,
    pub key: DecodingKey,
}

/// The keys that can be used, and what is said about those that cannot.
pub struct Jwks {
    pub keys: Vec<PublicKey>,
    pub skipped: Vec<String>,
}

/// It names the key and what is wrong with it, and never shows what is in it: there may be a secret in it.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum JwksFault {
    #[error("it is no JWKS, which is JSON such as {{\"keys\":[…]}}: line {line}, column {column}")]
    NoJwks { line: usize, column: usize },
    #[error(
        "{key} is a symmetric one (kty oct): this file takes public keys, a secret goes into ROLLCALL_JWT_SECRET"
    )]
    Symmetric { key: String },
    #[error("{key} is a private one: whoever reads the file could sign with it; it takes public keys only")]
    Private { key: String },
    #[error("{key} has no usable {field:?}")]
    Malformed { key: String, field: &'static str },
}

#[derive(Deserialize)]
struct Set {
    keys: Vec<Jwk>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    // Whatever only a private key or a secret has.
    d: Option<IgnoredAny>,
    p: Option<IgnoredAny>,
    q: Option<IgnoredAny>,
    dp: Option<IgnoredAny>,
    dq: Option<IgnoredAny>,
    qi: Option<IgnoredAny>,
    oth: Option<IgnoredAny>,
    k: Option<IgnoredAny>,
}

impl Jwks {
    pub fn parse(content: &[u8]) -> Result<Self, JwksFault> {
        // The library's own text may quote what it found.
        let set: Set = serde_json::from_slice(content)
            .map_err(|error| JwksFault::NoJwks { line: error.line(), column: error.column() })?;
        let (mut keys, mut skipped) = (Vec::new(), Vec::new());
        for (index, jwk) in set.keys.into_iter().enumerate() {
            let key = match &jwk.kid {
                Some(kid) => format!("key {} ({kid:?})", index + 1),
                None => format!("key {}", index + 1),
            };
            match jwk.read(&key)? {
                Ok(public) => keys.push(public),
                Err(reason) => skipped.push(format!("{key} {reason}")),
            }
        }
        Ok(Self { keys, skipped })
    }
}

impl Jwk {
    /// The key; else why it is of no use here, which is no fault of the file.
    fn read(self, name: &str) -> Result<Result<PublicKey, String>, JwksFault> {
        if self.kty == "oct" || self.k.is_some() {
            return Err(JwksFault::Symmetric { key: name.to_owned() });
        }
        if self.is_private() {
            return Err(JwksFault::Private { key: name.to_owned() });
        }
        if self.purpose.as_ref().is_some_and(|purpose| purpose != "sig")
            || self.key_ops.as_ref().is_some_and(|uses| !uses.iter().any(|purpose| purpose == "verify"))
        {
            return Ok(Err("is not for signatures".to_owned()));
        }
        let algorithm = match (self.kty.as_str(), self.crv.as_deref()) {
            ("RSA", _) => Algorithm::RS256,
            ("EC", Some("P-256")) => Algorithm::ES256,
            (kind, Some(curve)) => return Ok(Err(format!("is of the unknown kind {kind:?}, {curve:?}"))),
            (kind, None) => return Ok(Err(format!("is of the unknown kind {kind:?}"))),
        };
        if let Some(alg) = self.alg.as_ref().filter(|alg| alg.parse() != Ok(algorithm)) {
            return Ok(Err(format!("is for the unknown algorithm {alg:?}")));
        }
        let malformed = |field| JwksFault::Malformed { key: name.to_owned(), field };
        let key = if algorithm == Algorithm::RS256 {
            let n = self.n.filter(|n| !n.is_empty()).ok_or_else(|| malformed("n"))?;
            let e = self.e.filter(|e| !e.is_empty()).ok_or_else(|| malformed("e"))?;
            // Of six bits to a letter.
            if n.len() * 6 < SHORTEST_RSA_BITS {
                return Ok(Err(format!("has less than {SHORTEST_RSA_BITS} bits")));
            }
            DecodingKey::from_rsa_components(&n, &e).map_err(|_| malformed("n or e"))?
        } else {
            let x = self.x.filter(|x| x.len() == COORDINATE).ok_or_else(|| malformed("x"))?;
            let y = self.y.filter(|y| y.len() == COORDINATE).ok_or_else(|| malformed("y"))?;
            DecodingKey::from_ec_components(&x, &y).map_err(|_| malformed("x or y"))?
        };
        Ok(Ok(PublicKey { kid: self.kid, algorithm, key }))
    }

    fn is_private(&self) -> bool {
        [&self.d, &self.p, &self.q, &self.dp, &self.dq, &self.qi, &self.oth].into_iter().any(Option::is_some)
    }
}
