//! What stands in a path: an instance's id, a service's name.

use axum::{
    extract::{FromRequestParts, Path},
    http::request::Parts,
};
use uuid::Uuid;

use crate::{
    domain::{Fault, InstanceId, Refusal, ServiceName, Violation},
    doors::kit::Problem,
};

/// The only parameter of a path, as text.
pub struct Segment(pub String);

impl<S: Send + Sync> FromRequestParts<S> for Segment {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Path::<String>::from_request_parts(parts, state).await {
            Ok(Path(text)) => Ok(Self(text)),
            Err(rejection) => Err(Problem::bad_parameter(vec![Violation::new("path", rejection)])),
        }
    }
}

/// An instance's id. A text that cannot be one is nobody's id.
pub struct InPath(pub InstanceId);

impl<S: Send + Sync> FromRequestParts<S> for InPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Segment(text) = Segment::from_request_parts(parts, state).await?;
        let id = Uuid::try_parse(&text).map_err(|_| Refusal::NoSuchInstance)?;
        Ok(Self(InstanceId(id)))
    }
}

/// A name that is asked for, as it would be stored. No service can have a reserved one, but to ask for it is no
/// mistake.
pub fn asked_name(text: &str) -> Result<String, Fault> {
    match ServiceName::parse(text) {
        Ok(name) => Ok(name.as_str().to_owned()),
        // what is a name as soon as it is longer was refused for being reserved
        Err(_) if !text.is_empty() && ServiceName::parse(&format!("{text}-")).is_ok() => {
            Ok(text.to_ascii_lowercase())
        }
        Err(fault) => Err(fault),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_name_that_could_be_one_may_be_asked_for() {
        for (text, name) in [
            ("Orders", Some("orders")),
            ("a.b:c", Some("a.b:c")),
            ("Watch", Some("watch")),
            ("names", Some("names")),
            ("", None),
            ("a b", None),
            ("ä", None),
        ] {
            assert_eq!(asked_name(text).ok().as_deref(), name, "{text}");
        }
        assert!(asked_name(&"a".repeat(100)).is_ok());
        assert!(asked_name(&"a".repeat(101)).is_err());
    }
}
