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

/// Refuses addresses of the link itself (`169.254.0.0/16`, `fe80::/10`), where clouds keep their metadata services,
/// and addresses that are no single host.
pub fn allow_address(ip: IpAddr) -> Result<(), Fault> {
    const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
    let v4_forbidden = |ip: Ipv4Addr| ip.is_link_local() || ip.is_multicast() || ip.is_broadcast();
    let forbidden = match ip {
        IpAddr::V4(ip) => v4_forbidden(ip),
        IpAddr::V6(ip) => {
            ip.is_unicast_link_local()
                || ip.is_multicast()
                || ip == METADATA_V6
                || ip.to_ipv4_mapped().is_some_and(v4_forbidden)
        }
    };
    if forbidden { Err(format!("must not lead to the address {ip}").into()) } else { Ok(()) }
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
}
