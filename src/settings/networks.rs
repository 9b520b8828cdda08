//! Networks, as CIDR writes them: which addresses health checks may go to.

use std::net::IpAddr;

/// A list of networks; empty where nothing was said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks(Vec<Network>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Network {
    first: IpAddr,
    prefix: u32,
}

impl Networks {
    pub fn parse(text: &str) -> Option<Self> {
        text.split(',').map(|network| Network::parse(network.trim())).collect::<Option<_>>().map(Self)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether an address is in one of them. One of IPv4 that is written as IPv6 is one of IPv4.
    pub fn contain(&self, ip: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(ip.to_canonical()))
    }
}

impl Networks {
    /// Whether an address stands in them by itself, and not only as one of many.
    pub fn name(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        let whole = if ip.is_ipv4() { 32 } else { 128 };
        self.0.iter().any(|network| network.prefix == whole && network.contains(ip))
    }
}

impl Network {
    fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let first: IpAddr = address.parse().ok()?;
        let longest = if first.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            Some(digits) if digits.bytes().all(|c| c.is_ascii_digit()) => digits.parse().ok()?,
            Some(_) => return None,
            None => longest,
        };
        (prefix <= longest).then_some(Self { first, prefix })
    }

    fn contains(&self, ip: IpAddr) -> bool {
        // shifted by all of its bits a number is gone, which Rust leaves to say to us
        match (self.first, ip) {
            (IpAddr::V4(first), IpAddr::V4(ip)) => {
                (first.to_bits() ^ ip.to_bits()).checked_shr(32 - self.prefix).unwrap_or(0) == 0
            }
            (IpAddr::V6(first), IpAddr::V6(ip)) => {
                (first.to_bits() ^ ip.to_bits()).checked_shr(128 - self.prefix).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_in_a_network_or_not() {
        for (networks, ip, expected) in [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.0.0.0/8", "::ffff:10.1.2.3", true),
            ("10.0.0.7", "10.0.0.7", true),
            ("10.0.0.7", "10.0.0.6", false),
            ("0.0.0.0/0", "203.0.113.9", true),
            ("0.0.0.0/0", "::1", false),
            ("::/0", "2001:db8::1", true),
            ("2001:db8::/32 , 192.168.0.0/16", "192.168.3.4", true),
            ("2001:db8::/32", "2001:db9::", false),
        ] {
            let networks = Networks::parse(networks).unwrap();
            assert_eq!(networks.contain(ip.parse().unwrap()), expected, "{networks:?} {ip}");
        }
        for bad in ["", "10.0.0.0/33", "::/129", "10.0.0.0/", "10.0.0/8", "a", "10.0.0.0/+8", "10.0.0.0/8,"] {
            assert_eq!(Networks::parse(bad), None, "{bad}");
        }
        let both = Networks::parse("10.0.0.0/8,10.0.0.7").unwrap();
        assert!(both.name("10.0.0.7".parse().unwrap()) && !both.name("10.0.0.8".parse().unwrap()));
        assert!(Networks::default().is_empty() && !Networks::default().contain("::1".parse().unwrap()));
    }
}
