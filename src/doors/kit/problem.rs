//! An error as its reader gets it: RFC 9457, with a stable code and every faulty field at once.
//!
//! A handler gives a `Problem`; the envelope adds what only it knows (the request's id, its path), writes the body
//! and logs a 5xx. Invariant: what is inside rollcall goes to the log, never to the client.

use std::{borrow::Cow, collections::BTreeMap, error::Error, sync::Arc, time::Duration};

use axum::{
    body::Body,
    http::{
        HeaderName, HeaderValue, StatusCode,
        header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
    },
    response::{IntoResponse, Response},
};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::{app::Refused, domain::Violation};

const MEDIA_TYPE: HeaderValue = HeaderValue::from_static("application/problem+json");

#[derive(Clone, Debug)]
pub struct Problem(Box<Inner>);

#[derive(Clone, Debug)]
struct Inner {
    status: StatusCode,
    code: &'static str,
    detail: Cow<'static, str>,
    violations: Vec<Violation>,
    members: BTreeMap<&'static str, Value>,
    headers: Vec<(HeaderName, HeaderValue)>,
    cause: Option<Arc<dyn Error + Send + Sync>>,
    unlogged: bool,
}

impl Problem {
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner {
            status,
            code,
            detail: detail.into(),
            violations: Vec::new(),
            members: BTreeMap::new(),
            headers: Vec::new(),
            cause: None,
            unlogged: false,
        }))
    }

    /// A body that could be read but breaks rules.
    pub fn invalid(violations: Vec<Violation>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request", "some fields are missing or invalid")
            .with_violations(violations)
    }

    /// A parameter, a path or a header that breaks a rule.
    pub fn bad_parameter(violations: Vec<Violation>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_parameter", "some parameters are missing or invalid")
            .with_violations(violations)
    }

    pub fn malformed_json(detail: String) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "malformed_json", detail)
    }

    pub fn no_such_route() -> Self {
        Self::new(StatusCode::NOT_FOUND, "no_such_route", "nothing is found at this path")
    }

    pub fn method_not_allowed() -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
            "this path does not know the method; the Allow header lists those that it does",
        )
    }

    /// Nobody is let in without showing who he is.
    pub fn unauthenticated(refused: Refused) -> Self {
        let (code, challenge) = match refused {
            Refused::Nothing => ("unauthenticated", "Bearer realm=\"rollcall\""),
            Refused::Malformed | Refused::Invalid => {
                ("invalid_token", "Bearer realm=\"rollcall\", error=\"invalid_token\"")
            }
        };
        Self::new(StatusCode::UNAUTHORIZED, code, refused.to_string())
            .with_header(WWW_AUTHENTICATE, HeaderValue::from_static(challenge))
    }

    pub fn forbidden(detail: String) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", detail)
    }

    /// For whom there is no place among the requests under way. It is not logged: who refuses counts, and tells of it
    /// now and then.
    pub fn overloaded() -> Self {
        let detail = "too many requests are under way; nothing was changed";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", detail)
            .with_header(RETRY_AFTER, HeaderValue::from_static("1"))
            .unlogged()
    }

    pub fn too_many_requests(wait: Duration) -> Self {
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        let detail = "more requests came from this address than it may make; nothing was changed";
        Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", detail)
            .with_header(RETRY_AFTER, HeaderValue::from(seconds.max(1)))
    }

    pub fn internal(cause: Option<Arc<dyn Error + Send + Sync>>) -> Self {
        let mut problem = Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal_error",
            "something went wrong inside; the log has it under this request_id",
        );
        problem.0.cause = cause;
        problem
    }

    #[must_use]
    pub fn with_violations(mut self, violations: Vec<Violation>) -> Self {
        self.0.violations = violations;
        self
    }

    /// Adds a member of this problem's own.
    #[must_use]
    pub fn with_member(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.0.members.insert(name, value.into());
        self
    }

    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.push((name, value));
        self
    }

    /// Keeps out of the log what is no failure, though its status looks like one.
    #[must_use]
    pub fn unlogged(mut self) -> Self {
        self.0.unlogged = true;
        self
    }

    pub fn status(&self) -> StatusCode {
        self.0.status
    }

    /// The problem's document.
    pub fn body<'a>(&'a self, request_id: &'a str, path: &'a str) -> ProblemBody<'a> {
        let Inner { status, code, detail, violations, members, .. } = &*self.0;
        ProblemBody {
            kind: format!("urn:rollcall:problem:{code}"),
            title: title(code),
            status: status.as_u16(),
            detail,
            instance: path,
            code,
            request_id,
            errors: violations
                .iter()
                .map(|violation| FieldError { field: &violation.field, message: &violation.message })
                .collect(),
            members,
        }
    }

    /// The whole answer, for the envelope to send.
    pub(super) fn answer(&self, request_id: &str, path: &str) -> Response {
        let body = serde_json::to_vec(&self.body(request_id, path)).unwrap_or_default();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = self.0.status;
        response.headers_mut().insert(CONTENT_TYPE, MEDIA_TYPE);
        for (name, value) in &self.0.headers {
            response.headers_mut().insert(name, value.clone());
        }
        response
    }

    /// Says in the log what the client is not told. Nothing for its own mistakes.
    pub(super) fn log(&self, request_id: &str, method: &str, path: &str) {
        let Inner { status, code, detail, cause, unlogged, .. } = &*self.0;
        if *unlogged {
            return;
        }
        let (status, chain) = (status.as_u16(), chain(cause.as_deref()));
        if status == 503 {
            tracing::warn!(
                status,
                code,
                request_id,
                method,
                path,
                cause = chain,
                "Request refused: {detail}"
            );
        } else if status >= 500 {
            tracing::error!(status, code, request_id, method, path, cause = chain, "Request failed");
        }
    }
}

impl IntoResponse for Problem {
    /// Carries the problem as it is to the envelope, which writes it.
    fn into_response(self) -> Response {
        let mut response = self.0.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

fn title(code: &str) -> String {
    let mut words = code.replace('_', " ");
    if let Some(first) = words.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    words
}

fn chain(cause: Option<&(dyn Error + Send + Sync + 'static)>) -> Option<String> {
    let mut next: Option<&dyn Error> = Some(cause?);
    let mut words = Vec::new();
    while let Some(error) = next {
        words.push(error.to_string());
        next = error.source();
    }
    Some(words.join(": "))
}

/// A problem as RFC 9457 has it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub struct ProblemBody<'a> {
    /// Names the kind of problem; it ends in the code.
    #[serde(rename = "type")]
    #[schema(example = "urn:rollcall:problem:invalid_request")]
    kind: String,
    title: String,
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// What happened this time, in a sentence.
    detail: &'a str,
    /// The path that was asked for.
    instance: &'a str,
    /// Stable, for programs.
    #[schema(example = "invalid_request")]
    code: &'a str,
    request_id: &'a str,
    /// Every field or parameter at fault, where the data was bad.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    errors: Vec<FieldError<'a>>,
    #[serde(flatten)]
    #[schema(value_type = Members)]
    members: &'a BTreeMap<&'static str, Value>,
}

/// Members that only some kinds of problem have.
#[derive(ToSchema)]
#[schema(as = ProblemMembers)]
#[expect(dead_code, reason = "describes the members to OpenAPI")]
struct Members {
    /// Where a precondition failed: the version there is, null where there is none.
    current_version: Option<i64>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct FieldError<'a> {
    /// The place, such as `port`, `metadata.tags.team` or, in a batch, `[3].port`.
    #[schema(example = "metadata.tags.team")]
    field: &'a str,
    message: &'a str,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_problem_has_all_members_of_the_contract() {
        let problem = Problem::invalid(vec![Violation::new("port", "is required")])
            .with_member("current_version", Value::Null);
        assert_eq!(
            serde_json::to_value(problem.body("r-1", "/api/v1/services")).unwrap(),
            json!({
                "type": "urn:rollcall:problem:invalid_request",
                "title": "Invalid request",
                "status": 400,
                "detail": "some fields are missing or invalid",
                "instance": "/api/v1/services",
                "code": "invalid_request",
                "request_id": "r-1",
                "errors": [{"field": "port", "message": "is required"}],
                "current_version": null,
            })
        );
    }

    #[test]
    fn who_comes_too_often_is_told_for_how_many_seconds() {
        for (millis, seconds) in [(0, "1"), (1, "1"), (1_000, "1"), (1_001, "2"), (59_500, "60")] {
            let answer = Problem::too_many_requests(Duration::from_millis(millis)).answer("r", "/");
            assert_eq!(
                (answer.status().as_u16(), &answer.headers()[RETRY_AFTER]),
                (429, &seconds.parse().unwrap())
            );
        }
    }

    #[test]
    fn what_is_inside_is_not_told() {
        let cause = std::io::Error::other("the secret is 42");
        let problem = Problem::internal(Some(Arc::new(cause)));
        assert!(!serde_json::to_string(&problem.body("r", "/")).unwrap().contains("42"));
        assert_eq!(chain(problem.0.cause.as_deref()).unwrap(), "the secret is 42");
        assert_eq!(chain(None), None);
    }
}
