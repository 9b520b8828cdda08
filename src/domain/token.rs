//! A token: a secret that somebody was given, of which only a digest is kept, and what it allows.

use std::{fmt, sync::Arc};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

use super::{
    fault::{Fault, text_within},
    ids::{Revision, Version},
    policy::Policies,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TokenId(pub Uuid);

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a token is called in the audit. Several may have one name: the old and the new one while it is changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TokenName(Arc<str>);

impl TokenName {
    pub fn parse(text: &str) -> Result<Self, Fault> {
        let text = text_within(text, 1, 100)?;
        if text.chars().any(char::is_control) {
            return Err(Fault::new("must not contain control characters"));
        }
        Ok(Self(text.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// SHA-256 of a secret. As text it is 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest(pub [u8; 32]);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Not even this much of a secret belongs into a log.
impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digest")
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let mut digest = [0; 32];
        let pairs = text.as_bytes().chunks_exact(2).map(|pair| {
            let digits = std::str::from_utf8(pair).ok()?;
            // `from_str_radix` takes a sign too
            digits
                .bytes()
                .all(|byte| byte.is_ascii_hexdigit())
                .then(|| u8::from_str_radix(digits, 16).ok())?
        });
        if text.len() != 64 {
            return Err(serde::de::Error::custom("a digest has 64 hexadecimal digits"));
        }
        for (byte, read) in digest.iter_mut().zip(pairs) {
            *byte = read.ok_or_else(|| serde::de::Error::custom("a digest has hexadecimal digits only"))?;
        }
        Ok(Self(digest))
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Token {
    pub id: TokenId,
    pub name: TokenName,
    pub policies: Policies,
    pub digest: Digest,
    pub created_at: DateTime<Utc>,
    /// None for one that holds until it is revoked.
    pub expires_at: Option<DateTime<Utc>>,
    /// Who made it.
    pub actor: Arc<str>,
    pub version: Version,
    #[serde(skip)]
    pub revision: Revision,
}

impl Token {
    pub fn holds_at(&self, now: DateTime<Utc>) -> bool {
        self.expires_at.is_none_or(|end| now < end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_read_as_it_is_written_and_not_shown() {
        let digest = Digest(std::array::from_fn(|index| u8::try_from(index * 7).unwrap()));
        let text = serde_json::to_string(&digest).unwrap();
        assert_eq!(serde_json::from_str::<Digest>(&text).unwrap(), digest);
        assert_eq!(text.len(), 66);
        assert_eq!(format!("{digest:?}"), "Digest");
        for bad in ["\"\"", "1", &text.replace('0', "g"), &text[..64], &format!("\"+{}", &text[2..])] {
            assert!(serde_json::from_str::<Digest>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_name_is_a_line_of_text() {
        assert_eq!(TokenName::parse("Build server 7").unwrap().as_str(), "Build server 7");
        for bad in ["", "a\nb", "\0", &"x".repeat(101)] {
            assert!(TokenName::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_token_holds_until_its_end() {
        let at = |second| DateTime::from_timestamp(second, 0).unwrap();
        let token = |expires_at| Token {
            id: TokenId(Uuid::nil()),
            name: TokenName::parse("t").unwrap(),
            policies: Policies::default(),
            digest: Digest([0; 32]),
            created_at: at(0),
            expires_at,
            actor: "root".into(),
            version: 1,
            revision: 1,
        };
        assert!(token(None).holds_at(at(i64::from(i32::MAX))));
        assert!(token(Some(at(10))).holds_at(at(9)));
        assert!(!token(Some(at(10))).holds_at(at(10)));
    }
}
