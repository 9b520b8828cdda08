//! Names and numbers that identify things. A value of one of these types has been parsed; nobody checks it again.
//!
//! Short ones lie where they are used (`SmolStr`): a look-up among a hundred thousand compares without a step aside.

use std::{borrow::Borrow, fmt, net::IpAddr, net::Ipv4Addr, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;
use uuid::Uuid;

use super::fault::{Fault, text_within};

/// Counts the changes of one row, from 1.
pub type Version = i64;
/// Numbers the events of the log.
pub type Revision = i64;

/// Words that stand in the place of a service's name in paths.
const RESERVED_NAMES: [&str; 5] = ["register", "discover", "names", "batch", "watch"];

/// A service's name: 1 to 100 of `[a-z0-9._:-]`. Doors may allow less.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct ServiceName(SmolStr);

impl ServiceName {
    pub fn parse(text: &str) -> Result<Self, Fault> {
        let length = text.chars().count();
        if length == 0 || length > 100 {
            return Err(format!("must have 1 to 100 characters, has {length}").into());
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | ':' | '-');
        if let Some(odd) = text.chars().find(|c| !allowed(*c)) {
            return Err(
                format!("may have ASCII letters, digits, '-', '_', '.' and ':' only, has {odd:?}").into()
            );
        }
        let name = text.to_ascii_lowercase();
        if RESERVED_NAMES.contains(&name.as_str()) {
            return Err(format!("'{name}' is reserved").into());
        }
        Ok(Self(name.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for ServiceName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for ServiceName {
    type Error = Fault;

    fn try_from(text: String) -> Result<Self, Fault> {
        Self::parse(&text)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct InstanceId(pub Uuid);

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What tells the instances of one service apart: a key that the client chose, or the address it listens on.
/// The two kinds never match each other, even where their texts are the same.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Key {
    Address(SmolStr),
    Given(SmolStr),
}

impl Key {
    pub fn given(text: &str) -> Result<Self, Fault> {
        let text = text_within(text, 1, 255)?;
        if text.chars().any(char::is_control) {
            return Err(Fault::new("must not contain control characters"));
        }
        Ok(Self::Given(text.into()))
    }

    pub fn address(host: &Host, port: u16) -> Self {
        Self::Address(host.with_port(port).into())
    }

    /// The key as it was stored: its text, and whether the client chose it.
    pub fn stored(text: &str, given: bool) -> Self {
        if given { Self::Given(text.into()) } else { Self::Address(text.into()) }
    }

    pub fn as_str(&self) -> &str {
        match self {
            Self::Address(text) | Self::Given(text) => text,
        }
    }

    pub fn is_given(&self) -> bool {
        matches!(self, Self::Given(_))
    }
}

/// A host name or an IP address, without brackets and port.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct Host(SmolStr);

impl Host {
    pub fn parse(text: &str) -> Result<Self, Fault> {
        let text = text_within(text, 1, 255)?;
        let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
        if bare.contains(':') || bare.len() < text.len() {
            return match bare.parse::<std::net::Ipv6Addr>() {
                Ok(_) => Ok(Self(bare.into())),
                Err(_) => Err(Fault::new("must be a host name or an IP address, without a port")),
            };
        }
        if !is_host_name(bare) {
            return Err(Fault::new("must be a host name or an IP address"));
        }
        Ok(Self(bare.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The same, to be kept: what is long is shared.
    pub fn text(&self) -> SmolStr {
        self.0.clone()
    }

    pub fn ip(&self) -> Option<IpAddr> {
        self.0.parse().ok()
    }

    pub fn with_port(&self, port: u16) -> String {
        if self.0.contains(':') { format!("[{}]:{port}", self.0) } else { format!("{}:{port}", self.0) }
    }
}

impl TryFrom<String> for Host {
    type Error = Fault;

    fn try_from(text: String) -> Result<Self, Fault> {
        Self::parse(&text)
    }
}

/// Labels of letters, digits, '-' and '_'. Where the last label is a number the whole must be an IPv4 address, as in
/// URLs: `1.2.3.400` names nothing, and `0xa9fea9fe` is no other way to write an address.
fn is_host_name(text: &str) -> bool {
    let text = text.strip_suffix('.').unwrap_or(text);
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let is_number = |label: &str| {
        let hexadecimal = label.strip_prefix("0x").or_else(|| label.strip_prefix("0X"));
        let all = |digits: &str, radix| digits.chars().all(|c| c.is_digit(radix));
        hexadecimal.map_or_else(|| all(label, 10), |digits| all(digits, 16))
    };
    let ends_in_number = text.rsplit('.').next().is_some_and(is_number);
    text.split('.').all(label) && (!ends_in_number || Ipv4Addr::from_str(text).is_ok())
}

/// The environment that a configuration is for. `_default` is what the others inherit from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct Environment(Arc<str>);

impl Environment {
    pub const DEFAULT: &'static str = "_default";

    pub fn parse(text: &str) -> Result<Self, Fault> {
        let length = text.chars().count();
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if length == 0 || length > 100 || !text.chars().all(allowed) {
            return Err(Fault::new("must have 1 to 100 ASCII letters, digits, '-', '_' or '.'"));
        }
        Ok(Self(text.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Environment {
    fn default() -> Self {
        Self(Self::DEFAULT.into())
    }
}

impl TryFrom<String> for Environment {
    type Error = Fault;

    fn try_from(text: String) -> Result<Self, Fault> {
        Self::parse(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_kept_in_lower_case_within_their_alphabet() {
        let long = "a".repeat(100);
        for (text, expected) in [
            ("Orders", Some("orders")),
            ("a", Some("a")),
            ("a.b:c-d_e9", Some("a.b:c-d_e9")),
            (long.as_str(), Some(long.as_str())),
            ("", None),
            ("a b", None),
            ("ä", None),
            ("a/b", None),
            ("Register", None),
            ("watch", None),
        ] {
            assert_eq!(ServiceName::parse(text).ok().as_ref().map(ServiceName::as_str), expected, "{text}");
        }
        assert!(ServiceName::parse(&"a".repeat(101)).is_err());
    }

    #[test]
    fn a_host_is_a_name_or_an_address() {
        for (text, expected) in [
            ("localhost", Some("localhost")),
            ("a_b.example.com.", Some("a_b.example.com.")),
            ("10.0.0.1", Some("10.0.0.1")),
            ("::1", Some("::1")),
            ("[2001:db8::1]", Some("2001:db8::1")),
            ("", None),
            ("256.1.1.1", None),
            ("1.2.3", None),
            ("0xa9fea9fe", None),
            ("0xa9.254.0251.0XFE", None),
            ("0x", None),
            ("0xgood", Some("0xgood")),
            ("a:80", None),
            ("[localhost]", None),
            ("a b", None),
            ("a/b", None),
            ("-a", None),
            ("a..b", None),
            ("user@host", None),
        ] {
            assert_eq!(Host::parse(text).ok().as_ref().map(Host::as_str), expected, "{text}");
        }
        assert!(Host::parse(&"a.".repeat(128)).is_err());
    }

    #[test]
    fn a_given_key_never_matches_an_address() {
        let host = Host::parse("10.0.0.1").unwrap();
        assert_ne!(Key::address(&host, 80), Key::given("10.0.0.1:80").unwrap());
        assert_eq!(Key::address(&Host::parse("::1").unwrap(), 80).as_str(), "[::1]:80");
        assert_eq!(Key::stored("10.0.0.1:80", false), Key::address(&host, 80));
        assert_eq!(Key::stored("a", true), Key::given("a").unwrap());
        assert!(Key::given("").is_err());
        assert!(Key::given("a\0b").is_err());
        assert!(Key::given("a\nb").is_err());
    }

    #[test]
    fn an_environment_has_a_narrow_alphabet() {
        assert_eq!(Environment::default().as_str(), "_default");
        assert_eq!(Environment::parse("eu-1.prod").unwrap().as_str(), "eu-1.prod");
        for text in ["", "a b", "a/b", &"a".repeat(101)] {
            assert!(Environment::parse(text).is_err(), "{text}");
        }
    }
}
