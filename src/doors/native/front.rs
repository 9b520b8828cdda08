//! The way in. What a registry hears all day is answered here, before the router: the plain discovery, and the sign of life
//! that changes nothing. It costs little more than what the network takes. Everything else goes through the router,
//! which gives the same answer.

use std::{sync::Arc, time::Instant};

use axum::{
    Router,
    body::{Body, HttpBody},
    http::{
        HeaderMap, HeaderValue, Method, Request, Response, StatusCode,
        header::{CONTENT_TYPE, ETAG, IF_NONE_MATCH, ORIGIN, VARY},
    },
};
use bytes::Bytes;
use http_body_util::{Either, Full};
use tower::ServiceExt as _;
use uuid::Uuid;

use super::{
    Terms,
    answer::{JSON, X_ROLLCALL_AGE, X_ROLLCALL_REVISION},
    discover,
    guarded::Unguarded,
};
use crate::{
    app::{App, Credential},
    domain::{Action, InstanceId, Revision},
    doors::kit::{
        Admission, Peer, entity_tag,
        request_id::{RequestId, TRACEPARENT, X_REQUEST_ID, traceparent},
        security::Security,
        values,
    },
    telemetry::{Class, Durations},
};

/// What is ready is sent as it is; anything else may come as it likes.
pub type Answer = http::Response<Either<Full<Bytes>, Body>>;

/// How many headers an answer mostly has.
const HEADERS: usize = 6;
const INSTANCES: &str = "/api/v1/services/";
const HEARTBEAT: &str = "/heartbeat";

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
    heartbeats: Durations,
}

/// A request, as far as it matters here.
pub(super) struct Asked<'a> {
    pub verb: Verb,
    pub path: &'a str,
    pub shown: Credential<'a>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Verb {
    Get,
    Post,
}

impl Verb {
    pub fn of(method: &[u8]) -> Option<Self> {
        match method {
            b"GET" => Some(Self::Get),
            b"POST" => Some(Self::Post),
            _ => None,
        }
    }
}

/// What is answered.
pub(super) struct Found<'a> {
    pub body: &'a Bytes,
    pub revision: Revision,
    /// Of which service it tells; without one there is nothing to tell.
    pub service: Option<Read>,
}

pub(super) struct Read {
    pub revision: Revision,
    pub age_ms: u64,
}

impl Front {
    /// What of the headers of all answers depends on the settings: whether clients come by TLS, and whether web pages do.
    pub(super) fn terms(&self) -> (Security, bool) {
        (self.0.security, self.0.cors)
    }

    pub fn new(app: App, terms: Terms) -> Result<Self, Unguarded> {
        let counted = |route| app.metrics().requests(Some(route), "GET", 200);
        let heartbeats = app.metrics().requests(Some("/api/v1/services/{id}/heartbeat"), "POST", 204);
        let plain = [
            ("/discover/", counted("/discover/{name}")),
            ("/api/v1/services/discover/", counted("/api/v1/services/discover/{name}")),
        ];
        let (router, cors) = (super::router(app.clone(), &terms)?, terms.cors.is_some());
        let Terms { admission, security, .. } = terms;
        Ok(Self(Arc::new(Parts { app, router, admission, security, cors, plain, heartbeats })))
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

    /// The answer to a request without a body that needs no more than a look. None where it is another one, or comes from
    /// a web page, or from one who is not known to be allowed to ask, or who asks too often: the router knows what to
    /// say to them.
    pub fn at_once<B>(&self, request: &Request<B>, peer: &Peer) -> Option<Answer> {
        let (uri, headers) = (request.uri(), request.headers());
        let has_condition = headers.contains_key(IF_NONE_MATCH) && *request.method() == Method::GET;
        if uri.query().is_some() || has_condition || (self.0.cors && headers.contains_key(ORIGIN)) {
            return None;
        }
        let verb = Verb::of(request.method().as_str().as_bytes())?;
        let asked = Asked { verb, path: uri.path(), shown: peer.shows(headers) };
        self.look(&asked, peer, |found| self.respond(found, headers))
    }

    fn respond(&self, found: Found<'_>, headers: &HeaderMap) -> Answer {
        let Found { body, revision: at, service } = found;
        let mut response = Response::new(Either::Left(Full::new(body.clone())));
        let given = response.headers_mut();
        given.reserve(HEADERS);
        match service {
            Some(Read { revision, age_ms }) => {
                given.insert(CONTENT_TYPE, JSON);
                given.insert(ETAG, entity_tag(revision));
                given.insert(X_ROLLCALL_AGE, values::number(age_ms.cast_signed()));
            }
            None => *response.status_mut() = StatusCode::NO_CONTENT,
        }
        let given = response.headers_mut();
        given.insert(X_ROLLCALL_REVISION, values::lasting(at));
        self.seal(given, headers);
        response
    }

    /// Whether this connection knows from now on who shows this, and did not before.
    pub(super) fn gets_to_know(&self, shown: Credential<'_>, peer: &Peer) -> bool {
        let app = &self.0.app;
        !app.remembers(shown, &peer.memory) && app.identify(shown, &peer.memory).is_ok()
    }

    /// Makes what is answered to a request that needs no more than a look. The look lasts as long as that takes, so that what
    /// is found need not be owned.
    pub(super) fn look<T>(
        &self,
        asked: &Asked<'_>,
        peer: &Peer,
        answer: impl FnOnce(Found<'_>) -> T,
    ) -> Option<T> {
        match asked.verb {
            Verb::Get => self.discovery(asked, peer, answer),
            Verb::Post => self.heartbeat(asked, peer, answer),
        }
    }

    /// The healthy instances of a service that is known by just this name, for one who has no condition.
    fn discovery<T>(&self, asked: &Asked<'_>, peer: &Peer, answer: impl FnOnce(Found<'_>) -> T) -> Option<T> {
        let plain = self.0.plain.iter();
        let (name, durations) = plain
            .into_iter()
            .find_map(|(prefix, durations)| Some((asked.path.strip_prefix(prefix)?, durations)))?;
        let since = Instant::now();
        let app = &self.0.app;
        let answer = app.glimpse(|snapshot| {
            let view = snapshot.service(name)?;
            let may = app.lets(Action::Read, asked.shown, &peer.memory, snapshot, since, name);
            if !may || !self.0.admission.lets_look(peer, Class::Discover) {
                return None;
            }
            let service = Some(Read { revision: view.revision, age_ms: app.age_ms_at(since) });
            let body = discover::plain(app, view);
            let answer = answer(Found { body, revision: snapshot.revision(), service });
            // last, so that what is sent does not wait for it
            view.discoveries.count();
            Some(answer)
        })?;
        durations.observe(since.elapsed());
        Some(answer)
    }

    /// A sign of life that is noted, of an instance for which nothing follows from it.
    fn heartbeat<T>(&self, asked: &Asked<'_>, peer: &Peer, answer: impl FnOnce(Found<'_>) -> T) -> Option<T> {
        let id = asked.path.strip_prefix(INSTANCES)?.strip_suffix(HEARTBEAT)?;
        let id = InstanceId(Uuid::try_parse(id).ok()?);
        let since = Instant::now();
        let app = &self.0.app;
        let again = if self.0.admission.is_rated() { None } else { app.heard_again(id, since) };
        let noted = || {
            app.glimpse(|snapshot| {
                let instance = snapshot.find(id)?;
                let service = instance.service.as_str();
                let may = app.lets(Action::Write, asked.shown, &peer.memory, snapshot, since, service);
                let is_let_in = || self.0.admission.lets_look(peer, Class::Heartbeat);
                let is_heard = may && app.heard_of(instance, snapshot.revision(), is_let_in);
                is_heard.then(|| snapshot.revision())
            })
        };
        let revision = again.or_else(noted)?;
        let answer = answer(Found { body: &Bytes::new(), revision, service: None });
        self.0.heartbeats.observe(since.elapsed());
        Some(answer)
    }

    /// What every answer carries.
    fn seal(&self, given: &mut HeaderMap, headers: &HeaderMap) {
        given.insert(X_REQUEST_ID, RequestId::of(headers).header());
        if let Some(traceparent) = traceparent(headers) {
            given.insert(TRACEPARENT, traceparent);
        }
        self.0.security.put_on(given);
        if self.0.cors {
            given.insert(VARY, HeaderValue::from_name(ORIGIN));
        }
    }
}
