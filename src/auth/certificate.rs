//! What is read in a certificate: a client's name, and when it expires.
//!
//! Nothing is verified here: the chain was, by the one who accepted the connection.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer as _};

/// As long as a name may be in DNS; whatever is longer is no name of a service.
const LONGEST: usize = 255;

/// The last part of a SPIFFE id, else a DNS name, else the common name. The first that can be a name.
pub fn name_in(certificate: &[u8]) -> Option<Arc<str>> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let alternatives = certificate.subject_alternative_name().ok().flatten();
    let alternatives = alternatives.map(|names| names.value.general_names.as_slice()).unwrap_or_default();
    let workloads = alternatives.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => workload(uri),
        _ => None,
    });
    let hosts = alternatives.iter().filter_map(|name| match name {
        GeneralName::DNSName(host) => Some(*host),
        _ => None,
    });
    let subject = certificate.subject().iter_common_name().filter_map(|name| name.as_str().ok());
    workloads.chain(hosts).chain(subject).find(|name| is_a_name(name)).map(Arc::from)
}

pub fn expires_at(certificate: &[u8]) -> Option<DateTime<Utc>> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    DateTime::from_timestamp(certificate.validity().not_after.timestamp(), 0)
}

/// `spiffe://domain/ns/x/sa/orders` is `orders`.
fn workload(uri: &str) -> Option<&str> {
    let (_domain, path) = uri.strip_prefix("spiffe://")?.split_once('/')?;
    path.rsplit('/').next()
}

/// It goes into the log of changes as it is.
fn is_a_name(text: &str) -> bool {
    !text.trim().is_empty() && text.len() <= LONGEST && !text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    fn named(uris: &[&str], hosts: &[&str], subject: &str) -> Option<String> {
        let mut params = CertificateParams::default();
        params.distinguished_name.remove(DnType::CommonName);
        if !subject.is_empty() {
            params.distinguished_name.push(DnType::CommonName, subject);
        }
        let hosts = hosts.iter().map(|host| SanType::DnsName((*host).try_into().unwrap()));
        let uris = uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap()));
        params.subject_alt_names = hosts.chain(uris).collect();
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        name_in(certificate.der()).map(|name| name.to_string())
    }

    #[test]
    fn the_name_is_that_of_the_workload_else_of_the_host_else_of_the_subject() {
        let orders = Some("orders");
        for (uris, hosts, subject, name) in [
            (&["spiffe://example.org/orders"][..], &["host.example"][..], "subject", orders),
            (&["spiffe://example.org/ns/shop/sa/orders"], &["host.example"], "subject", orders),
            (&["https://example.org/x", "spiffe://example.org/orders"], &["host.example"], "", orders),
            (&["https://example.org/x"], &["orders"], "subject", orders),
            (&["spiffe://example.org"], &["orders"], "subject", orders),
            (&["spiffe://example.org/"], &["orders"], "subject", orders),
            (&["spiffe://example.org/a/"], &["orders"], "subject", orders),
            (&["SPIFFE.example.org/a"], &["orders", "other"], "subject", orders),
            (&[], &["orders"], "subject", orders),
            (&[], &[], "orders", orders),
            (&[], &[], "or\nders", None),
            (&[], &[], " ", None),
            (&[], &[], "", None),
        ] {
            assert_eq!(named(uris, hosts, subject).as_deref(), name, "{uris:?} {hosts:?} {subject:?}");
        }
    }

    #[test]
    fn the_end_is_that_of_the_certificate() {
        let mut params = CertificateParams::default();
        params.not_after = rcgen::date_time_ymd(2031, 5, 6);
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let end = expires_at(certificate.der()).unwrap();
        assert_eq!(end.to_rfc3339(), "2031-05-06T00:00:00+00:00");
    }

    #[test]
    fn what_is_no_certificate_has_no_name() {
        for bytes in [&b""[..], b"x", &[0x30, 0x82, 0xff, 0xff], &[0x30; 4096]] {
            assert_eq!((name_in(bytes), expires_at(bytes)), (None, None));
        }
    }
}
