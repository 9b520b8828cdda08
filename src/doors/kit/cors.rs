//! Web pages that call the API from a browser: only those that the operator names.
//!
//! Credentials that a browser adds by itself (cookies, certificates) are never asked for, so that `*` gives no page what
//! its reader may do elsewhere: who calls has to have a token.

use std::time::Duration;

use axum::http::{
    HeaderName, HeaderValue, Method,
    header::{
        AUTHORIZATION, CONTENT_TYPE, ETAG, IF_MATCH, IF_NONE_MATCH, LINK, LOCATION, ORIGIN, RETRY_AFTER,
        WWW_AUTHENTICATE,
    },
};
use tower_http::cors::{Any, CorsLayer};

use super::request_id::{TRACEPARENT, X_REQUEST_ID};
use crate::settings::Origins;

/// For how long a browser need not ask again.
const KNOWN_FOR: Duration = Duration::from_hours(1);

const ASKED: [HeaderName; 7] = [
    AUTHORIZATION,
    CONTENT_TYPE,
    IF_MATCH,
    IF_NONE_MATCH,
    HeaderName::from_static("idempotency-key"),
    X_REQUEST_ID,
    TRACEPARENT,
];
const SHOWN: [HeaderName; 9] = [
    ETAG,
    LINK,
    LOCATION,
    RETRY_AFTER,
    WWW_AUTHENTICATE,
    X_REQUEST_ID,
    HeaderName::from_static("x-rollcall-revision"),
    HeaderName::from_static("x-rollcall-age"),
    HeaderName::from_static("x-rollcall-panic"),
];

/// The layer. It goes around everything else: a browser asks beforehand, without a token, and wants to read refusals.
pub fn cors(origins: &Origins) -> CorsLayer {
    let layer = CorsLayer::new()
        .allow_methods([Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
        .allow_headers(ASKED)
        .expose_headers(SHOWN)
        .max_age(KNOWN_FOR)
        .vary([ORIGIN]);
    match origins {
        Origins::Any => layer.allow_origin(Any),
        Origins::These(origins) => {
            let known = origins.iter().filter_map(|origin| HeaderValue::try_from(origin).ok());
            layer.allow_origin(known.collect::<Vec<_>>())
        }
    }
}
