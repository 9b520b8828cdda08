//! Headers that tell a browser what it must not do with an answer.
//!
//! Only what is of use: an answer in JSON is neither framed nor does it lead anywhere, so all that can be done wrong
//! with it is to take it for something else. Pages have more to fear.

use axum::http::{
    HeaderMap, HeaderValue,
    header::{
        CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, STRICT_TRANSPORT_SECURITY,
        X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
    },
};
use bytes::BufMut;

const NO_SNIFF: HeaderValue = HeaderValue::from_static("nosniff");
/// Two years, as the lists that browsers bring along ask for.
const ONLY_TLS: HeaderValue = HeaderValue::from_static("max-age=63072000");
/// Its own scripts and nobody else's; it writes styles into its own elements and has icons in its style sheet.
const OWN_PARTS: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
     font-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

/// What every answer carries.
#[derive(Clone, Copy, Debug)]
pub struct Security {
    /// Clients come by TLS, so they need never come without.
    pub over_tls: bool,
}

impl Security {
    #[inline]
    pub fn put_on(self, headers: &mut HeaderMap) {
        headers.insert(X_CONTENT_TYPE_OPTIONS, NO_SNIFF);
        if self.over_tls {
            headers.insert(STRICT_TRANSPORT_SECURITY, ONLY_TLS);
        }
    }

    /// The same in the bytes of a head.
    pub fn put_lines(self, head: &mut impl BufMut) {
        let only_tls = self.over_tls.then_some((STRICT_TRANSPORT_SECURITY, ONLY_TLS));
        for (name, value) in [(X_CONTENT_TYPE_OPTIONS, NO_SNIFF)].into_iter().chain(only_tls) {
            for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                head.put_slice(part);
            }
        }
    }
}

/// For a page that a person looks at.
pub fn guard_page(headers: &mut HeaderMap) {
    headers.insert(CONTENT_SECURITY_POLICY, OWN_PARTS);
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
}

/// For an answer that holds a secret: it is kept by nobody on the way.
pub fn keep_secret(headers: &mut HeaderMap) {
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_comes_by_tls_is_told_to_come_by_nothing_else() {
        for over_tls in [false, true] {
            let mut headers = HeaderMap::new();
            Security { over_tls }.put_on(&mut headers);
            let mut lines = Vec::new();
            Security { over_tls }.put_lines(&mut lines);
            let lines = String::from_utf8(lines).unwrap();
            let told = lines.lines().filter_map(|line| line.split_once(": "));
            assert!(told.clone().all(|(name, value)| headers.get(name).is_some_and(|given| given == value)));
            assert_eq!(told.count(), headers.len());
            assert_eq!(headers[X_CONTENT_TYPE_OPTIONS], "nosniff");
            assert_eq!(headers.contains_key(STRICT_TRANSPORT_SECURITY), over_tls);
        }
    }

    #[test]
    fn a_secret_is_not_stored() {
        let mut headers = HeaderMap::new();
        keep_secret(&mut headers);
        assert_eq!(headers[CACHE_CONTROL], "no-store");
    }
}
