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
    task::{self, Poll},
    time::Instant,
};

use axum::{
    extract::{MatchedPath, Request},
    http::{HeaderValue, Method, StatusCode, Uri, header::CONTENT_TYPE},
    response::{IntoResponse as _, Response},
};
use futures_util::FutureExt as _;
use tower::{Layer, Service};

use super::{
    caller::Context,
    params::is_sound_path,
    problem::Problem,
    request_id::{RequestId, TRACEPARENT, X_REQUEST_ID, traceparent},
};
use crate::{app::App, domain::Violation};

/// The layer, for the door of this name.
#[derive(Clone)]
pub struct Envelope {
    pub app: App,
    pub door: &'static str,
}

impl<S> Layer<S> for Envelope {
    type Service = Enveloped<S>;

    fn layer(&self, inner: S) -> Enveloped<S> {
        Enveloped { inner, app: self.app.clone(), door: self.door }
    }
}

#[derive(Clone)]
pub struct Enveloped<S> {
    inner: S,
    app: App,
    door: &'static str,
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
        if !is_sound_path(request.uri().path()) {
            let fault = Violation::new("path", "has escapes that are broken or not UTF-8");
            let response = Problem::bad_parameter(vec![fault]).into_response();
            let response = asked.close(&self.app, response);
            return Box::pin(std::future::ready(Ok(response)));
        }
        let context = Context { door: self.door, request_id: asked.request_id.clone() };
        request.extensions_mut().insert(context);
        let answer = self.inner.call(request);
        let app = self.app.clone();
        Box::pin(async move {
            let response = match AssertUnwindSafe(answer).catch_unwind().await {
                Ok(Ok(response)) => response,
                Ok(Err(impossible)) => match impossible {},
                Err(panic) => Problem::internal(Some(Panicked::from(&*panic).into())).into_response(),
            };
            Ok(asked.close(&app, response))
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

    fn close(self, app: &App, mut response: Response) -> Response {
        let problem = response.extensions_mut().remove::<Problem>().or_else(|| unexplained(&response));
        if let Some(problem) = problem {
            let (id, path) = (self.request_id.as_str(), self.uri.path());
            problem.log(id, self.method.as_str(), path);
            let given = std::mem::take(response.headers_mut());
            response = problem.answer(id, path);
            for (name, value) in &given {
                response.headers_mut().entry(name).or_insert_with(|| value.clone());
            }
        }
        response.headers_mut().insert(X_REQUEST_ID, self.request_id.header());
        if let Some(traceparent) = self.traceparent {
            response.headers_mut().insert(TRACEPARENT, traceparent);
        }
        let route = self.route.as_ref().map(MatchedPath::as_str);
        let seconds = self.since.elapsed().as_secs_f64();
        app.metrics().request(route, self.method.as_str(), response.status().as_u16(), seconds);
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
