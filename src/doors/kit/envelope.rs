//! What every request of a door goes through: ids, the clock of its duration, the last net under panics, and the
//! writing of problems.
//!
//! Invariant: exactly one line in the log for a 5xx, and no answer without the request's id. It is one layer and
//! not five, for it is paid by reads that take a few microseconds in all.

use std::{
    any::Any,
    convert::Infallible,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::Arc,
    task::{self, Poll},
    time::Instant,
};

use axum::{
    extract::{MatchedPath, Request},
    http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header::CONTENT_TYPE},
    response::{IntoResponse as _, Response},
};
use futures_util::FutureExt as _;
use tower::{Layer, Service};

use super::{
    caller::Context,
    problem::Problem,
    request_id::{RequestId, TRACEPARENT, X_REQUEST_ID, traceparent},
};
use crate::telemetry::Metrics;

/// The layer, for the door of this name.
#[derive(Clone)]
pub struct Envelope {
    pub metrics: Metrics,
    pub door: &'static str,
    /// What every answer carries: refusals are given it here, the others have it already.
    pub stamp: Stamp,
}

pub type Stamp = Arc<dyn Fn(&mut HeaderMap) + Send + Sync>;

impl<S> Layer<S> for Envelope {
    type Service = Enveloped<S>;

    fn layer(&self, inner: S) -> Enveloped<S> {
        Enveloped { inner, metrics: self.metrics.clone(), door: self.door, stamp: self.stamp.clone() }
    }
}

#[derive(Clone)]
pub struct Enveloped<S> {
    inner: S,
    metrics: Metrics,
    door: &'static str,
    stamp: Stamp,
}

impl<S> Service<Request> for Enveloped<S>
where
    S: Service<Request, Response = Response, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut task::Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        let asked = Asked::by(&request);
        let context = Context { door: self.door, request_id: asked.request_id.clone() };
        request.extensions_mut().insert(context);
        let answer = self.inner.call(request);
        let (metrics, stamp) = (self.metrics.clone(), self.stamp.clone());
        Box::pin(async move {
            let response = match AssertUnwindSafe(answer).catch_unwind().await {
                Ok(Ok(response)) => response,
                Ok(Err(impossible)) => match impossible {},
                Err(panic) => Problem::internal(Some(Panicked::from(&*panic).into())).into_response(),
            };
            Ok(asked.close(&metrics, &stamp, response))
        })
    }
}

/// What is kept of a request while it is answered.
struct Asked {
    since: Instant,
    request_id: RequestId,
    traceparent: Option<HeaderValue>,
    route: Option<MatchedPath>,
    method: Method,
    uri: Uri,
}

impl Asked {
    fn by(request: &Request) -> Self {
        Self {
            since: Instant::now(),
            request_id: RequestId::of(request.headers()),
            traceparent: traceparent(request.headers()),
            route: request.extensions().get().cloned(),
            method: request.method().clone(),
            uri: request.uri().clone(),
        }
    }

    fn close(self, metrics: &Metrics, stamp: &Stamp, mut response: Response) -> Response {
        let problem = response.extensions_mut().remove::<Problem>().or_else(|| unexplained(&response));
        if let Some(problem) = problem {
            let (id, path) = (self.request_id.as_str(), self.uri.path());
            problem.log(id, self.method.as_str(), path);
            let given = std::mem::take(response.headers_mut());
            response = problem.answer(id, path);
            for (name, value) in &given {
                response.headers_mut().entry(name).or_insert_with(|| value.clone());
            }
            stamp(response.headers_mut());
        }
        response.headers_mut().insert(X_REQUEST_ID, self.request_id.header());
        if let Some(traceparent) = self.traceparent {
            response.headers_mut().insert(TRACEPARENT, traceparent);
        }
        let route = self.route.as_ref().map(MatchedPath::as_str);
        metrics.request(route, self.method.as_str(), response.status().as_u16(), self.since.elapsed());
        response
    }
}

/// The problem behind a bare status of the router's own.
fn unexplained(response: &Response) -> Option<Problem> {
    if response.headers().contains_key(CONTENT_TYPE) {
        return None;
    }
    match response.status() {
        StatusCode::NOT_FOUND => Some(Problem::no_such_route()),
        StatusCode::METHOD_NOT_ALLOWED => Some(Problem::method_not_allowed()),
        _ => None,
    }
}

#[derive(Debug, thiserror::Error)]
#[error("a handler panicked: {0}")]
struct Panicked(String);

impl From<&(dyn Any + Send)> for Panicked {
    fn from(panic: &(dyn Any + Send)) -> Self {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        Self(text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default())
    }
}

impl From<Panicked> for std::sync::Arc<dyn std::error::Error + Send + Sync> {
    fn from(panicked: Panicked) -> Self {
        Self::from(Box::new(panicked) as Box<dyn std::error::Error + Send + Sync>)
    }
}

#[cfg(test)]
mod tests {
    use axum::{Extension, Router, body::Body, http::Request as HttpRequest, routing::get};
    use serde_json::Value;
    use tower::ServiceExt as _;
    use uuid::Uuid;

    use super::*;
    use crate::{
        app::Identity,
        doors::kit::{CallerOf, slash::with_or_without_slash},
    };

    async fn panics() {
        panic!("the secret is marzipan");
    }

    async fn caller(CallerOf(caller): CallerOf) -> String {
        format!("{} {} {:?}", caller.actor, caller.origin, caller.request_id)
    }

    fn router(metrics: &Metrics) -> Router {
        with_or_without_slash(
            Router::new()
                .route("/panics", get(panics))
                .route("/caller/{name}", get(caller))
                .route("/refuses", get(async || Problem::invalid(Vec::new()).with_member("more", 1)))
                .fallback(async || Problem::no_such_route())
                .layer(Extension(Identity::anybody().clone()))
                .layer(Envelope { metrics: metrics.clone(), door: "test", stamp: Arc::new(|_| ()) }),
        )
    }

    async fn ask(metrics: &Metrics, request: HttpRequest<Body>) -> (Response, String) {
        let response = router(metrics).oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        (Response::from_parts(parts, Body::empty()), String::from_utf8(body.to_vec()).unwrap())
    }

    async fn get_path(path: &str) -> (StatusCode, Value) {
        let request = HttpRequest::get(path).body(Body::empty()).unwrap();
        let (response, body) = ask(&Metrics::new(), request).await;
        assert_eq!(response.headers()[CONTENT_TYPE], "application/problem+json");
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(response.headers()[X_REQUEST_ID].to_str().unwrap(), body["request_id"]);
        (response.status(), body)
    }

    #[tokio::test]
    async fn a_panic_is_an_error_that_tells_nothing() {
        let (status, body) = get_path("/panics").await;
        assert_eq!((status.as_u16(), &body["code"]), (500, &"internal_error".into()));
        assert!(!body.to_string().contains("marzipan"));
    }

    #[tokio::test]
    async fn refusals_are_written_with_their_path() {
        let (status, body) = get_path("/refuses/?a=b").await;
        assert_eq!(status.as_u16(), 400);
        assert_eq!((&body["instance"], &body["more"]), (&"/refuses".into(), &1.into()));
        assert_eq!(get_path("/nowhere/").await.1["code"], "no_such_route");
        assert_eq!(get_path("/").await.1["code"], "no_such_route");
    }

    #[tokio::test]
    async fn a_method_that_is_not_known_is_told_with_those_that_are() {
        let request = HttpRequest::delete("/refuses").body(Body::empty()).unwrap();
        let (response, body) = ask(&Metrics::new(), request).await;
        assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(response.headers()["allow"], "GET,HEAD");
        assert!(body.contains("method_not_allowed"));
    }

    #[tokio::test]
    async fn ids_are_taken_and_given_back() {
        let traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let request = HttpRequest::get("/caller/me")
            .header(X_REQUEST_ID, "r-1")
            .header(TRACEPARENT, traceparent)
            .body(Body::empty())
            .unwrap();
        let (response, body) = ask(&Metrics::new(), request).await;
        assert_eq!(response.headers()[X_REQUEST_ID], "r-1");
        assert_eq!(response.headers()[TRACEPARENT], traceparent);
        assert_eq!(body, "anonymous test Some(\"r-1\")");
        let request =
            HttpRequest::get("/caller/me").header(TRACEPARENT, "nonsense").body(Body::empty()).unwrap();
        let (response, _) = ask(&Metrics::new(), request).await;
        assert!(!response.headers().contains_key(TRACEPARENT));
        assert!(Uuid::parse_str(response.headers()[X_REQUEST_ID].to_str().unwrap()).is_ok());
    }

    #[tokio::test]
    async fn durations_are_counted_by_the_pattern_of_the_route() {
        let metrics = Metrics::new();
        for path in ["/caller/a", "/caller/b/", "/nowhere"] {
            ask(&metrics, HttpRequest::get(path).body(Body::empty()).unwrap()).await;
        }
        let output = metrics.render();
        for (route, status, count) in [("/caller/{name}", 200, 2), ("other", 404, 1)] {
            let line = format!(
                "http_request_duration_seconds_count{{route=\"{route}\",method=\"GET\",status=\"{status}\"}} {count}"
            );
            assert!(output.contains(&line), "{line}");
        }
    }
}
