//! A path with and one without a trailing slash are the same.

use axum::{
    Router,
    extract::Request,
    http::{Uri, uri::PathAndQuery},
};
use tower::ServiceExt as _;

/// The router, with every path also known by its form with a slash at the end. Only a path that no route matches
/// is looked at twice, so that the others pay nothing.
pub fn with_or_without_slash(router: Router) -> Router {
    let without = router.clone();
    router.fallback(move |mut request: Request| {
        if let Some(uri) = without_slash(request.uri()) {
            *request.uri_mut() = uri;
        }
        without.clone().oneshot(request)
    })
}

fn without_slash(uri: &Uri) -> Option<Uri> {
    let shorter = uri.path().strip_suffix('/').filter(|path| !path.is_empty() && *path != "/")?;
    let text = match uri.query() {
        Some(query) => format!("{shorter}?{query}"),
        None => shorter.to_owned(),
    };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(text).ok()?);
    Uri::from_parts(parts).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_slash_at_the_end_is_taken_off() {
        for (from, to) in [
            ("/a/", Some("/a")),
            ("/a/b/?c=d/", Some("/a/b?c=d/")),
            ("http://host:1/a/", Some("http://host:1/a")),
            ("/a//", Some("/a/")),
            ("/a", None),
            ("/", None),
            ("/?a=b", None),
        ] {
            let uri = without_slash(&Uri::from_static(from)).map(|uri| uri.to_string());
            assert_eq!(uri.as_deref(), to, "{from}");
        }
    }
}
