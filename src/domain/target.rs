//! Where a health poll goes, and where it may not go.
//!
//! What can be told from the text alone is told at registration: other schemes, user info, and literal addresses
//! that belong to the machine's own link or its cloud's metadata service.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};
use url::{Host as UrlHost, Url};

use super::{
    fault::{Fault, text_within},
    ids::Host,
};

/// What the registrant gave as its health endpoint: a path on its own address, or a whole URL.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Endpoint(Box<str>);

impl Endpoint {
    pub const DEFAULT: &'static str = "/health";

    pub fn parse(text: &str) -> Result<Self, Fault> {
        let text = text_within(text, 1, 2048)?;
        if text.chars().any(|c| c.is_control() || c == ' ') {
            return Err(Fault::new("must not contain spaces or control characters"));
        }
        if !text.starts_with('/') {
            let url = Url::parse(text).map_err(|_| {
                Fault::new("must be a path that begins with '/', or a whole http or https URL")
            })?;
            allow_url(&url)?;
        } else if text.starts_with("//") {
            return Err(Fault::new("must not begin with '//'"));
        }
        Ok(Self(text.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The host of a whole URL.
    pub fn host(&self) -> Option<String> {
        if self.is_path() {
            return None;
        }
        Url::parse(&self.0).ok()?.host_str().map(str::to_owned)
    }

    pub fn is_path(&self) -> bool {
        self.0.starts_with('/')
    }

    pub fn url(&self, host: &Host, port: u16) -> String {
        if self.is_path() { format!("http://{}{}", host.with_port(port), self.0) } else { self.0.to_string() }
    }
}

impl Default for Endpoint {
    fn default() -> Self {
        Self(Self::DEFAULT.into())
    }
}

impl TryFrom<String> for Endpoint {
    type Error = Fault;

    fn try_from(text: String) -> Result<Self, Fault> {
        Self::parse(&text)
    }
}

impl From<Endpoint> for String {
    fn from(endpoint: Endpoint) -> Self {
        endpoint.0.into()
    }
}

/// Where an HTTP check goes: a path on the instance's own address, or a whole URL. Told apart by their names on the wire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    Path(Endpoint),
    Url(Endpoint),
}

impl Place {
    pub fn of(endpoint: Endpoint) -> Self {
        if endpoint.is_path() { Self::Path(endpoint) } else { Self::Url(endpoint) }
    }

    pub fn endpoint(&self) -> &Endpoint {
        let (Self::Path(endpoint) | Self::Url(endpoint)) = self;
        endpoint
    }
}

/// A host and a port, where a check goes to another address than the instance's own: `host:port`, with or without
/// `tcp://` or `grpc://` before it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Address {
    pub host: Host,
    pub port: u16,
}

impl Address {
    pub fn parse(text: &str) -> Result<Self, Fault> {
        const HELP: Fault = Fault::new("must be host:port, with the port from 1 to 65535");
        let text = text_within(text, 1, 512)?;
        let bare = match text.split_once("://") {
            Some(("tcp" | "grpc", rest)) => rest.strip_suffix('/').unwrap_or(rest),
            Some(_) => return Err(Fault::new("may use the schemes tcp and grpc only")),
            None => text,
        };
        if bare.contains('@') {
            return Err(Fault::new("must not carry a user name or password"));
        }
        let (host, port) = bare.rsplit_once(':').ok_or(HELP)?;
        let port: u16 = port.parse().ok().filter(|_| port.bytes().all(|c| c.is_ascii_digit())).ok_or(HELP)?;
        let host = match host.strip_prefix('[').map(|host| host.strip_suffix(']')) {
            Some(inner) => inner.ok_or(HELP)?,
            None if host.contains(':') => return Err(HELP),
            None => host,
        };
        let host = Host::parse(host)?;
        if port == 0 {
            return Err(HELP);
        }
        host.ip().map_or(Ok(()), allow_address)?;
        Ok(Self { host, port })
    }
}

impl TryFrom<String> for Address {
    type Error = Fault;

    fn try_from(text: String) -> Result<Self, Fault> {
        Self::parse(&text)
    }
}

impl From<Address> for String {
    fn from(address: Address) -> Self {
        address.host.with_port(address.port)
    }
}

fn allow_url(url: &Url) -> Result<(), Fault> {
    if !matches!(url.scheme(), "http" | "https") {
        return Err(Fault::new("may use the schemes http and https only"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Fault::new("must not carry a user name or password"));
    }
    match url.host() {
        Some(UrlHost::Ipv4(ip)) => allow_address(IpAddr::V4(ip)),
        Some(UrlHost::Ipv6(ip)) => allow_address(IpAddr::V6(ip)),
        Some(UrlHost::Domain(_)) => Ok(()),
        None => Err(Fault::new("must name a host")),
    }
}

/// Refuses addresses of the link itself (`169.254.0.0/16`, `fe80::/10`), where clouds keep their metadata services, the
/// other addresses of such services, and those that are no single host.
pub fn allow_address(ip: IpAddr) -> Result<(), Fault> {
    const METADATA_V4: [Ipv4Addr; 3] =
        [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(168, 63, 129, 16), Ipv4Addr::new(192, 0, 0, 192)];
    let v4_forbidden = |ip: Ipv4Addr| {
        ip.is_link_local() || ip.is_multicast() || ip.is_broadcast() || METADATA_V4.contains(&ip)
    };
    let forbidden = match ip {
        IpAddr::V4(ip) => v4_forbidden(ip),
        IpAddr::V6(ip) => {
            ip.is_unicast_link_local()
                || ip.is_multicast()
                || matches!(ip.segments(), [0xfd00, 0xec2, ..] | [0xfd20, 0xce, ..])
                || within(ip).is_some_and(v4_forbidden)
        }
    };
    if forbidden { Err(format!("must not lead to the address {ip}").into()) } else { Ok(()) }
}

/// An address as the one that it leads to.
pub fn canonical(ip: IpAddr) -> IpAddr {
    match ip {
        // the machine's own is no address of IPv4 in another form
        IpAddr::V6(v6) if !v6.is_loopback() && !v6.is_unspecified() => within(v6).map_or(ip, IpAddr::V4),
        ip => ip,
    }
}

/// The address of IPv4 that one of IPv6 leads to: mapped, compatible, by NAT64 or by 6to4.
fn within(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let of = |high: u16, low: u16| Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low));
    match ip.segments() {
        [0, 0, 0, 0, 0, 0xffff | 0, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x2002, high, low, ..] => Some(of(high, low)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_a_path_or_an_http_url() {
        let host = Host::parse("::1").unwrap();
        for (text, url) in [
            ("/health", "http://[::1]:80/health"),
            ("/a?b=c", "http://[::1]:80/a?b=c"),
            ("https://other:8443/ok", "https://other:8443/ok"),
        ] {
            assert_eq!(Endpoint::parse(text).unwrap().url(&host, 80), url);
        }
        assert_eq!(String::from(Endpoint::default()), "/health");
        for text in [
            "",
            "health",
            "//other/health",
            "ftp://a/b",
            "file:///etc/passwd",
            "gopher://a",
            "http://user@a/",
            "http://:secret@a/",
            "http://169.254.169.254/latest",
            "http://2852039166/",
            "http://0251.0376.0251.0376/",
            "http://[::ffff:169.254.169.254]/",
            "http://[fe80::1]/",
            "http://[fd00:ec2::254]/",
            "http://224.0.0.1/",
            "/a b",
            "/a\nb",
            "http://",
        ] {
            assert!(Endpoint::parse(text).is_err(), "{text}");
        }
        assert!(Endpoint::try_from("/x".to_owned()).is_ok());
    }

    #[test]
    fn an_address_is_a_host_and_a_port() {
        for (text, whole) in [
            ("db:5432", "db:5432"),
            ("tcp://10.0.0.1:80", "10.0.0.1:80"),
            ("grpc://a.example:9000/", "a.example:9000"),
            ("[::1]:80", "[::1]:80"),
        ] {
            assert_eq!(String::from(Address::parse(text).unwrap()), whole);
        }
        for text in [
            "",
            "db",
            "db:",
            ":80",
            "db:0",
            "db:65536",
            "db:+80",
            "db:80:80",
            "::1:80",
            "[::1:80",
            "u@db:80",
            "http://db:80",
            "tcp://u:p@db:80",
            "169.254.169.254:80",
            "[fe80::1]:80",
            "2852039166:80",
            "0xa9fea9fe:80",
            "[::ffff:169.254.169.254]:80",
        ] {
            assert!(Address::parse(text).is_err(), "{text}");
        }
        assert!(Address::try_from("a:1".to_owned()).is_ok());
    }

    #[test]
    fn a_place_is_named_by_what_it_is() {
        let place = |text: &str| Place::of(Endpoint::parse(text).unwrap());
        assert_eq!(serde_json::to_string(&place("/ok")).unwrap(), r#"{"path":"/ok"}"#);
        assert_eq!(serde_json::to_string(&place("http://a/ok")).unwrap(), r#"{"url":"http://a/ok"}"#);
        assert_eq!(place("/ok").endpoint().as_str(), "/ok");
    }
}
