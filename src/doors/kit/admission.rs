//! Who is let in when there is too much to do.
//!
//! All doors share one budget of requests under way. Heartbeats may use all of it, each other class less, so that no
//! flood of one class shuts out those above it: a registry that takes no heartbeats loses instances that are well, one
//! that lists nothing is only a nuisance. Beside it each client may have a rate.
//!
//! Invariant: whoever is refused is refused before its body is read, and nothing was done. What is ready, and probes,
//! need no place at all.

use std::{
    convert::Infallible,
    future::ready,
    net::IpAddr,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{self, Poll},
    time::Instant,
};

use axum::{
    extract::{MatchedPath, Request},
    http::Method,
    response::{IntoResponse as _, Response},
};
use tower::{Layer, Service};

use super::{peer::Peer, problem::Problem, rates::Rates};
pub use crate::telemetry::Class;
use crate::{
    settings::Limits,
    telemetry::{Metrics, Refused, Told},
};

/// Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Admission(Arc<Inner>);

struct Inner {
    most: usize,
    under_way: AtomicUsize,
    rates: Option<Rates>,
    metrics: Metrics,
    told: Mutex<Told>,
}

impl Admission {
    pub fn within(limits: &Limits, metrics: Metrics) -> Self {
        Self(Arc::new(Inner {
            most: limits.requests,
            under_way: AtomicUsize::new(0),
            rates: limits.rate.map(Rates::new),
            metrics,
            told: Mutex::default(),
        }))
    }

    /// Whether this client may have what needs no place. Free where no rate is set.
    #[inline]
    pub fn lets_look(&self, peer: &Peer, class: Class) -> bool {
        match &self.0.rates {
            None => true,
            Some(rates) => rates.take(peer.address.ip(), Instant::now(), class == Class::Heartbeat).is_ok(),
        }
    }

    /// Whether there is a rate that a client must keep to.
    pub fn is_rated(&self) -> bool {
        self.0.rates.is_some()
    }

    /// Gives a request its place, and tells those of it who read the body.
    fn admit(&self, class: Class, peer: Option<&Peer>, request: &mut Request) -> Result<Arc<Place>, Problem> {
        match self.let_in(class, peer.map(|peer| peer.address.ip())) {
            Ok(place) => {
                let place = Arc::new(place);
                request.extensions_mut().insert(place.clone());
                Ok(place)
            }
            Err(problem) => {
                peer.inspect(|peer| peer.refusals.note(class));
                Err(problem)
            }
        }
    }

    fn let_in(&self, class: Class, client: Option<IpAddr>) -> Result<Place, Problem> {
        if let (Some(rates), Some(client)) = (&self.0.rates, client)
            && let Err(wait) = rates.take(client, Instant::now(), class == Class::Heartbeat)
        {
            self.0.metrics.request_refused(class, Refused::TooOften);
            return Err(Problem::too_many_requests(wait));
        }
        if !self.enter(class) {
            return Err(self.overloaded(class));
        }
        Ok(Place { admission: self.clone(), class, held: AtomicBool::new(true) })
    }

    fn enter(&self, class: Class) -> bool {
        let most = self.0.most * eighths(class);
        let one_more = |under_way: usize| (under_way * 8 < most).then_some(under_way + 1);
        let entered = self.0.under_way.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_ok();
        if entered {
            self.0.metrics.request_let_in();
        }
        entered
    }

    fn leave(&self) {
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
        self.0.metrics.request_let_out();
    }

    fn overloaded(&self, class: Class) -> Problem {
        self.0.metrics.request_refused(class, Refused::Overloaded);
        if let Some(times) = self.0.told.lock().unwrap_or_else(PoisonError::into_inner).again() {
            tracing::warn!(?class, times, "requests are refused: too many are under way");
        }
        Problem::overloaded()
    }
}

/// How much of the budget may be in use for one more of a class to be let in.
fn eighths(class: Class) -> usize {
    match class {
        Class::List => 4,
        Class::Register => 5,
        Class::Discover => 6,
        Class::Deregister => 7,
        Class::Heartbeat => 8,
    }
}

/// A place among the requests under way, until it is dropped.
pub struct Place {
    admission: Admission,
    class: Class,
    held: AtomicBool,
}

impl Place {
    async fn until<T>(self: Arc<Self>, answer: impl Future<Output = T>) -> T {
        let answer = answer.await;
        // others that know the place may still be there
        self.leave();
        answer
    }

    /// Gives the place to others while its request has to wait for its client.
    pub fn leave(&self) {
        if self.held.swap(false, Ordering::Relaxed) {
            self.admission.leave();
        }
    }

    /// Takes a place again. False where there is none.
    pub fn come_back(&self) -> bool {
        if self.held.load(Ordering::Relaxed) {
            return true;
        }
        let entered = self.admission.enter(self.class);
        self.held.store(entered, Ordering::Relaxed);
        if !entered {
            // counted and told; the words are the caller's
            drop(self.admission.overloaded(self.class));
        }
        entered
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.leave();
    }
}

/// What a request is for, by its method and the pattern of its route; none where it needs no place.
pub type ClassOf = fn(&Method, Option<&str>) -> Option<Class>;

/// The layer. It goes within the envelope, which writes the refusals, and around all that looks at a request.
#[derive(Clone)]
pub struct Admit {
    pub admission: Admission,
    pub class_of: ClassOf,
}

impl<S> Layer<S> for Admit {
    type Service = Admitting<S>;

    fn layer(&self, inner: S) -> Admitting<S> {
        Admitting { inner, admit: self.clone() }
    }
}

#[derive(Clone)]
pub struct Admitting<S> {
    inner: S,
    admit: Admit,
}

impl<S> Service<Request> for Admitting<S>
where
    S: Service<Request, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut task::Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        let route = request.extensions().get().map(MatchedPath::as_str);
        let Some(class) = (self.admit.class_of)(request.method(), route) else {
            return Box::pin(self.inner.call(request));
        };
        let peer: Option<Arc<Peer>> = request.extensions().get().cloned();
        let admission = self.admit.admission.clone();
        if let Some(until) = peer.as_ref().and_then(|peer| peer.refusals.rest(class)) {
            let mut inner = self.inner.clone();
            return Box::pin(async move {
                tokio::time::sleep_until(until).await;
                match admission.admit(class, peer.as_deref(), &mut request) {
                    Ok(place) => place.until(inner.call(request)).await,
                    Err(problem) => Ok(problem.into_response()),
                }
            });
        }
        match admission.admit(class, peer.as_deref(), &mut request) {
            Ok(place) => Box::pin(place.until(self.inner.call(request))),
            Err(problem) => Box::pin(ready(Ok(problem.into_response()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::{
        Router,
        body::Body,
        http::{StatusCode, header::RETRY_AFTER},
        routing::any,
    };
    use tokio::{sync::Semaphore, time::Duration};
    use tower::ServiceExt as _;

    use super::*;
    use crate::{
        doors::kit::{Envelope, Sent, body::ONE},
        settings::Rate,
    };

    fn admission(requests: usize, rate: Option<Rate>) -> (Admission, Metrics) {
        let metrics = Metrics::new();
        (Admission::within(&Limits { requests, rate, ..Limits::default() }, metrics.clone()), metrics)
    }

    fn peer() -> Arc<Peer> {
        let address = "10.0.0.1:1".parse().unwrap();
        Arc::new(Peer::new(address, None))
    }

    /// The class by the name of the path.
    fn class_of(_: &Method, route: Option<&str>) -> Option<Class> {
        match route? {
            "/list" => Some(Class::List),
            "/register" => Some(Class::Register),
            "/heartbeat" => Some(Class::Heartbeat),
            _ => None,
        }
    }

    /// A door whose requests are under way until they get a permit.
    fn door(admission: &Admission, metrics: &Metrics, end: &Arc<Semaphore>) -> Router {
        let wait = {
            let end = end.clone();
            async move |sent: Sent| {
                let body = sent.json_if_any(&["application/json"], ONE).await;
                end.acquire().await.unwrap().forget();
                body.map_or_else(Problem::into_response, |_| StatusCode::OK.into_response())
            }
        };
        Router::new()
            .route("/{class}", any(async || StatusCode::OK))
            .route("/list", any(wait.clone()))
            .route("/register", any(wait.clone()))
            .route("/heartbeat", any(wait))
            .layer(Admit { admission: admission.clone(), class_of })
            .layer(Envelope { metrics: metrics.clone(), door: "test", stamp: Arc::new(|_| ()) })
    }

    fn request(path: &str, peer: &Arc<Peer>, body: Body) -> Request {
        let request = Request::post(path).header("content-type", "application/json").extension(peer.clone());
        request.body(body).unwrap()
    }

    #[test]
    fn each_class_may_use_more_of_the_budget_than_those_below_it() {
        for most in [1, 2, 7, 8, 100, 1024] {
            let (admission, _) = admission(most, None);
            let mut before = 0;
            for class in Class::ALL {
                while admission.enter(class) {}
                let under_way = admission.0.under_way.load(Ordering::Relaxed);
                assert!(under_way >= before && under_way >= most * eighths(class) / 8, "{class:?} of {most}");
                before = under_way;
            }
            assert_eq!(before, most);
        }
    }

    #[tokio::test]
    async fn what_is_above_its_share_is_refused_and_counted_and_the_rest_goes_on() {
        let (admission, metrics) = admission(8, None);
        let end = Arc::new(Semaphore::new(0));
        let door = door(&admission, &metrics, &end);
        let ask = |path| door.clone().oneshot(request(path, &peer(), Body::empty()));
        let mut under_way = tokio::task::JoinSet::new();
        for (path, places) in [("/list", 4), ("/register", 5), ("/heartbeat", 8)] {
            while admission.0.under_way.load(Ordering::Relaxed) < places {
                under_way.spawn(ask(path));
                tokio::task::yield_now().await;
            }
            let refused = ask(path).await.unwrap();
            assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE, "{path}");
            assert_eq!(refused.headers()[RETRY_AFTER], "1");
            assert_eq!(ask("/probe").await.unwrap().status(), StatusCode::OK);
        }
        let told = metrics.render();
        assert!(told.contains("rollcall_http_requests_under_way 8\n"));
        for class in ["list", "register", "heartbeat"] {
            let line = format!("requests_refused_total{{class=\"{class}\",reason=\"overloaded\"}} 1\n");
            assert!(told.contains(&line), "{line}");
        }
        end.add_permits(8);
        while let Some(answer) = under_way.join_next().await {
            assert_eq!(answer.unwrap().unwrap().status(), StatusCode::OK);
        }
        assert!(metrics.render().contains("rollcall_http_requests_under_way 0\n"));
    }

    #[tokio::test]
    async fn a_body_that_is_waited_for_takes_nobodys_place() {
        let (admission, metrics) = admission(1, None);
        let end = Arc::new(Semaphore::new(0));
        let door = door(&admission, &metrics, &end);
        let mut slow = Vec::new();
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..2 {
            let (sender, receiver) = tokio::sync::mpsc::channel::<&str>(1);
            let frames = futures_util::stream::unfold(receiver, async |mut receiver| {
                receiver.recv().await.map(|frame| (Ok::<_, Infallible>(frame), receiver))
            });
            tasks.spawn(door.clone().oneshot(request("/register", &peer(), Body::from_stream(frames))));
            sender.send("{").await.unwrap();
            slow.push(sender);
        }
        // both have begun, and wait
        while admission.0.under_way.load(Ordering::Relaxed) > 0 || slow.iter().any(|s| s.capacity() == 0) {
            tokio::task::yield_now().await;
        }
        // the first that is whole has the only place, the other comes too late
        for sender in slow {
            sender.send("}").await.unwrap();
        }
        end.add_permits(2);
        let mut ended = Vec::new();
        while let Some(answer) = tasks.join_next().await {
            ended.push(answer.unwrap().unwrap().status().as_u16());
        }
        ended.sort_unstable();
        assert!(ended == [200, 200] || ended == [200, 503], "{ended:?}");
        assert!(metrics.render().contains("rollcall_http_requests_under_way 0\n"));
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_again_at_once_is_heard_later() {
        let (admission, metrics) = admission(1, None);
        let end = Arc::new(Semaphore::new(0));
        let door = door(&admission, &metrics, &end);
        let peer = peer();
        let ask = |path| door.clone().oneshot(request(path, &peer, Body::empty()));
        assert!(admission.enter(Class::List));
        assert_eq!(ask("/list").await.unwrap().status(), StatusCode::SERVICE_UNAVAILABLE);
        admission.leave();
        end.add_permits(9);
        let asked = tokio::time::Instant::now();
        assert_eq!(ask("/heartbeat").await.unwrap().status(), StatusCode::OK);
        assert_eq!(asked.elapsed(), Duration::ZERO);
        assert_eq!(ask("/list").await.unwrap().status(), StatusCode::OK);
        assert!(asked.elapsed() >= Duration::from_secs(1));
    }

    #[tokio::test]
    async fn a_client_above_its_rate_is_told_when_to_come_again() {
        let (admission, metrics) = admission(8, Some(Rate { per_second: 1, burst: 1 }));
        let end = Arc::new(Semaphore::new(9));
        let door = door(&admission, &metrics, &end);
        let ask = |path| door.clone().oneshot(request(path, &peer(), Body::empty()));
        assert_eq!(ask("/list").await.unwrap().status(), StatusCode::OK);
        let refused = ask("/list").await.unwrap();
        assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(refused.headers()[RETRY_AFTER], "1");
        assert!(!admission.lets_look(&peer(), Class::Discover));
        assert_eq!(ask("/heartbeat").await.unwrap().status(), StatusCode::OK);
        assert_eq!(ask("/probe").await.unwrap().status(), StatusCode::OK);
        assert!(metrics.render().contains("requests_refused_total{class=\"list\",reason=\"rate\"} 1\n"));
    }
}
