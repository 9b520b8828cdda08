//! How this door answers: as JSON, with the revision it read, as fresh as was asked for.

use std::sync::Arc;

use axum::{
    body::Body,
    http::{
        HeaderName, HeaderValue, StatusCode,
        header::{CONTENT_TYPE, ETAG},
    },
    response::{IntoResponse, Response},
};
use serde::Serialize;

use super::error::internal;
use crate::{
    app::{App, AppError, Consistency, Snapshot},
    domain::{Fault, Revision},
    doors::kit::{IfNoneMatch, Params, Problem, envelope::Stamp},
};

pub const X_ROLLCALL_REVISION: HeaderName = HeaderName::from_static("x-rollcall-revision");
pub const X_ROLLCALL_AGE: HeaderName = HeaderName::from_static("x-rollcall-age");
pub const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// How fresh a read has to be, by its parameters.
#[derive(Debug, Default)]
pub struct Freshness {
    strong: bool,
    at_least: Option<Revision>,
}

impl Freshness {
    /// For a read that cannot wait for a change yet.
    pub fn of(params: &mut Params) -> Result<Self, Problem> {
        params.not_supported(&["after", "wait"])?;
        Ok(Self::read(params))
    }

    pub fn read(params: &mut Params) -> Self {
        let strong = params.read("consistency", |value| match value {
            "strong" => Ok(true),
            "default" => Ok(false),
            _ => Err(Fault::new("must be default or strong")),
        });
        Self { strong: strong.unwrap_or_default(), at_least: params.number("min_revision", 0, Revision::MAX) }
    }

    pub async fn snapshot(&self, app: &App) -> Result<Arc<Snapshot>, AppError> {
        let snapshot =
            if self.strong { app.snapshot_at(Consistency::Strong).await? } else { app.snapshot()? };
        match self.at_least {
            Some(revision) if revision > snapshot.revision() => {
                app.snapshot_at(Consistency::AtLeast(revision)).await
            }
            _ => Ok(snapshot),
        }
    }
}

/// Marks a read's answer, a refusal too, with the revision it rests on and how old that may be.
pub fn read_at(app: &App, revision: Revision, answer: impl IntoResponse) -> Response {
    let mut response = answer.into_response();
    response.headers_mut().insert(X_ROLLCALL_REVISION, HeaderValue::from(revision));
    response.headers_mut().insert(X_ROLLCALL_AGE, HeaderValue::from(app.age_ms()));
    response
}

/// Marks a write's answer with the revision from which on readers see it.
pub fn written_at(revision: Revision, answer: impl IntoResponse) -> Response {
    let mut response = answer.into_response();
    response.headers_mut().insert(X_ROLLCALL_REVISION, HeaderValue::from(revision));
    response
}

/// Gives a refusal what every answer carries, as far as it is known.
pub fn stamp(app: App) -> Stamp {
    Arc::new(move |headers| {
        let Ok(snapshot) = app.snapshot() else { return };
        headers.entry(X_ROLLCALL_REVISION).or_insert_with(|| HeaderValue::from(snapshot.revision()));
        headers.entry(X_ROLLCALL_AGE).or_insert_with(|| HeaderValue::from(app.age_ms()));
    })
}

pub fn json(status: StatusCode, value: &impl Serialize) -> Result<Response, Problem> {
    Ok(json_bytes(status, serde_json::to_vec(value).map_err(internal)?))
}

pub fn json_bytes(status: StatusCode, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response
}

/// The answer under its tag, or 304 for a reader who has it.
pub fn unless_known(
    known: &IfNoneMatch,
    tag: HeaderValue,
    answer: impl FnOnce() -> Result<Response, Problem>,
) -> Result<Response, Problem> {
    let mut response = if known.has(&tag) { StatusCode::NOT_MODIFIED.into_response() } else { answer()? };
    response.headers_mut().insert(ETAG, tag);
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn freshness_is_read_from_the_parameters() {
        let of = |query: &str| {
            let mut params = Params::parse(query)?;
            let freshness = Freshness::of(&mut params)?;
            params.finish()?;
            Ok::<_, Problem>((freshness.strong, freshness.at_least))
        };
        assert_eq!(of("").unwrap(), (false, None));
        assert_eq!(of("consistency=strong&min_revision=7").unwrap(), (true, Some(7)));
        assert_eq!(of("consistency=default").unwrap(), (false, None));
        for bad in ["consistency=weak", "min_revision=-1", "min_revision=x", "after=3", "wait=3s"] {
            assert_eq!(of(bad).unwrap_err().status(), StatusCode::BAD_REQUEST, "{bad}");
        }
    }
}
