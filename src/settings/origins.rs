//! The web pages that may call the API from a browser, by where they come from.

/// As `Access-Control-Allow-Origin` knows them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origins {
    Any,
    /// Each as a browser writes it: scheme, host and, where it is not the scheme's own, port.
    These(Vec<String>),
}

impl Origins {
    pub(super) fn parse(text: &str) -> Option<Self> {
        if text.trim() == "*" {
            return Some(Self::Any);
        }
        text.split(',').map(|origin| origin_of(origin.trim())).collect::<Option<_>>().map(Self::These)
    }
}

/// A browser compares letter by letter: what it would never send is taken for a slip.
fn origin_of(text: &str) -> Option<String> {
    let url = url::Url::parse(text).ok()?;
    let is_whole = matches!(url.scheme(), "http" | "https")
        && url.path() == "/"
        && url.query().is_none()
        && url.fragment().is_none()
        && url.username().is_empty()
        && url.password().is_none()
        && !text.contains('*');
    is_whole.then(|| url.origin().ascii_serialization())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_written_as_browsers_write_them() {
        for (text, expected) in [
            ("*", Some(Origins::Any)),
            (" * ", Some(Origins::Any)),
            ("https://a.example", Some(Origins::These(vec!["https://a.example".to_owned()]))),
            ("HTTPS://A.example:443/", Some(Origins::These(vec!["https://a.example".to_owned()]))),
            (
                "http://localhost:3000 , https://[::1]:8443",
                Some(Origins::These(vec![
                    "http://localhost:3000".to_owned(),
                    "https://[::1]:8443".to_owned(),
                ])),
            ),
            ("", None),
            ("a.example", None),
            ("*, https://a.example", None),
            ("https://*.example", None),
            ("https://a.example/app", None),
            ("https://a.example?x", None),
            ("https://u:p@a.example", None),
            ("ftp://a.example", None),
            ("null", None),
            ("https://a.example,", None),
        ] {
            assert_eq!(Origins::parse(text), expected, "{text:?}");
        }
    }
}
