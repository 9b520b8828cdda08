//! The way in. The question that a registry is asked all day is answered here, before the router: it costs little more
//! than what the network takes. Everything else goes through the router, which gives the same answer.

use std::{sync::Arc, time::Instant};

use axum::{
    Router,
    body::{Body, HttpBody},
    http::{
        HeaderValue, Method, Request, Response,
        header::{CONTENT_TYPE, ETAG, IF_NONE_MATCH, ORIGIN, VARY},
    },
};
use bytes::Bytes;
use http_body_util::{Either, Full};
use tower::ServiceExt as _;

use super::{
    Terms,
    answer::{JSON, X_ROLLCALL_AGE, X_ROLLCALL_REVISION},
    discover,
    guarded::Unguarded,
};
use crate::{
    app::App,
    doors::kit::{
        Admission, Peer, entity_tag,
        request_id::{RequestId, TRACEPARENT, X_REQUEST_ID, traceparent},
        security::Security,
        values,
    },
    telemetry::Durations,
};

/// What is ready is sent as it is; anything else may come as it likes.
pub type Answer = http::Response<Either<Full<Bytes>, Body>>;

/// How many headers an answer mostly has.
const HEADERS: usize = 6;

/// Cheap to clone.
#[derive(Clone)]
pub struct Front(Arc<Parts>);

struct Parts {
    app: App,
    router: Router,
    admission: Admission,
    security: Security,
    /// Answers are not the same for all web pages.
    cors: bool,
    /// Where the plain question is asked, and where such requests are counted.
    plain: [(&'static str, Durations); 2],
}

impl Front {
    pub fn new(app: App, terms: Terms) -> Result<Self, Unguarded> {
        let counted = |route| app.metrics().requests(Some(route), "GET", 200);
        let plain = [
            ("/discover/", counted("/discover/{name}")),
            ("/api/v1/services/discover/", counted("/api/v1/services/discover/{name}")),
        ];
        let (router, cors) = (super::router(app.clone(), &terms)?, terms.cors.is_some());
        let Terms { admission, security, .. } = terms;
        Ok(Self(Arc::new(Parts { app, router, admission, security, cors, plain })))
    }

    pub async fn answer<B>(&self, request: Request<B>, peer: Arc<Peer>) -> Answer
    where
        B: HttpBody<Data = Bytes, Error: Into<axum::BoxError>> + Send + 'static,
    {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(peer);
        match self.0.router.clone().oneshot(request).await {
            Ok(mut response) => {
                self.0.security.put_on(response.headers_mut());
                response.map(Either::Right)
            }
            Err(impossible) => match impossible {},
        }
    }

    /// The healthy instances of a service that is known by just this name, for one who has no condition and is known to
    /// be allowed to ask. None where the question is another one, or comes from a web page, or from one who asks too
    /// often: the router knows what to say to them.
    pub fn at_once<B>(&self, request: &Request<B>, peer: &Peer) -> Option<Answer> {
        let (uri, headers) = (request.uri(), request.headers());
        if *request.method() != Method::GET || uri.query().is_some() {
            return None;
        }
        let (name, durations) = self
            .0
            .plain
            .iter()
            .find_map(|(prefix, durations)| Some((uri.path().strip_prefix(prefix)?, durations)))?;
        if headers.contains_key(IF_NONE_MATCH) || (self.0.cors && headers.contains_key(ORIGIN)) {
            return None;
        }
        let since = Instant::now();
        let app = &self.0.app;
        let (body, tag, revision) = app.glimpse(|snapshot| {
            let view = snapshot.service(name)?;
            if !app.lets_read(peer.shows(headers), &peer.memory, snapshot, since, name) {
                return None;
            }
            Some((discover::plain(app, view), entity_tag(view.revision), snapshot.revision()))
        })?;
        if !self.0.admission.lets_look(peer) {
            return None;
        }
        let mut response = Response::new(Either::Left(Full::new(body)));
        let given = response.headers_mut();
        given.reserve(HEADERS);
        given.insert(CONTENT_TYPE, JSON);
        given.insert(ETAG, tag);
        given.insert(X_ROLLCALL_REVISION, values::number(revision));
        given.insert(X_ROLLCALL_AGE, values::number(app.age_ms_at(since).cast_signed()));
        given.insert(X_REQUEST_ID, RequestId::of(headers).header());
        if let Some(traceparent) = traceparent(headers) {
            given.insert(TRACEPARENT, traceparent);
        }
        self.0.security.put_on(given);
        if self.0.cors {
            given.insert(VARY, HeaderValue::from_name(ORIGIN));
        }
        durations.observe(since.elapsed());
        Some(response)
    }
}
