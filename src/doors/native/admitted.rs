//! What this door's requests are for, and so who is let in first.

use axum::http::Method;

use crate::doors::kit::admission::Class;

/// Probes are never limited: who takes a busy replica for a dead one makes it worse for the others.
pub fn class_of(method: &Method, route: Option<&str>) -> Option<Class> {
    let route = route.unwrap_or_default();
    if is_probe(route) {
        return None;
    }
    Some(match *method {
        Method::GET | Method::HEAD if route.contains("/discover") => Class::Discover,
        Method::POST if route.ends_with("/heartbeat") => Class::Heartbeat,
        Method::DELETE if route == "/api/v1/services/{id}" => Class::Deregister,
        Method::POST | Method::PUT | Method::PATCH | Method::DELETE => Class::Register,
        _ => Class::List,
    })
}

pub fn is_probe(route: &str) -> bool {
    matches!(route, "/" | "/metrics" | "/health" | "/health/live" | "/health/ready")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_has_its_class() {
        for (method, route, class) in [
            (Method::GET, Some("/"), None),
            (Method::GET, Some("/health/ready"), None),
            (Method::HEAD, Some("/metrics"), None),
            (Method::GET, Some("/discover/{name}"), Some(Class::Discover)),
            (Method::HEAD, Some("/api/v1/services/discover/{name}"), Some(Class::Discover)),
            (Method::GET, Some("/api/v1/discover"), Some(Class::Discover)),
            (Method::POST, Some("/api/v1/services/{id}/heartbeat"), Some(Class::Heartbeat)),
            (Method::GET, Some("/api/v1/services/{id}/heartbeat"), Some(Class::List)),
            (Method::DELETE, Some("/api/v1/services/{id}"), Some(Class::Deregister)),
            (Method::DELETE, Some("/api/v1/config/{service}"), Some(Class::Register)),
            (Method::POST, Some("/api/v1/services/register"), Some(Class::Register)),
            (Method::POST, Some("/api/v1/services/{id}/health"), Some(Class::Register)),
            (Method::PATCH, Some("/api/v1/services/{id}"), Some(Class::Register)),
            (Method::GET, Some("/api/v1/services"), Some(Class::List)),
            (Method::GET, Some("/api/v1/events"), Some(Class::List)),
            (Method::GET, None, Some(Class::List)),
            (Method::OPTIONS, Some("/api/v1/services"), Some(Class::List)),
        ] {
            assert_eq!(class_of(&method, route), class, "{method} {route:?}");
        }
    }
}
