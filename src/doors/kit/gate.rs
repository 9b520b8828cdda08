//! Nobody passes who has not shown who he is, and nobody does what he may not.
//!
//! Every route has a policy: without one it is not served, and the server does not start. Who somebody is comes before
//! everything else of a request, its path included: whoever is nobody learns nothing, not even what there is.

use std::{collections::HashMap, sync::Arc};

use axum::{
    extract::{FromRequestParts, MatchedPath, RawPathParams, Request, State},
    http::{Method, request::Parts},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use uuid::Uuid;

use super::{params::is_sound_path, peer::Peer, problem::Problem};
use crate::{
    app::{App, AppError, Credential, Identity, Memory, permit},
    domain::{Action, InstanceId, Resource, Violation},
};

/// Who may use a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Anybody, without showing anything.
    Open,
    /// Whoever may do this at all, to what has no name.
    Whole(Resource, Action),
    /// Whoever may do this to what the path names in this place.
    Named(Resource, Action, &'static str),
    /// Whoever may do this to the service of the instance in the path.
    OfInstance(Action),
    /// It concerns many things, or one that the body names: each is asked for by itself, further in.
    Each(Resource, Action),
}

/// The policies of all routes, by path and method.
#[derive(Clone, Debug, Default)]
pub struct Policies(HashMap<(String, Method), Policy>);

impl Policies {
    /// False where the route has one already.
    pub fn add(&mut self, path: &str, method: Method, policy: Policy) -> bool {
        self.0.insert((path.to_owned(), method), policy).is_none()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &Method, Policy)> {
        self.0.iter().map(|((path, method), policy)| (path.as_str(), method, *policy))
    }

    fn of(&self, request: &Parts) -> Option<Policy> {
        let path = request.extensions.get::<MatchedPath>()?;
        let method = if request.method == Method::HEAD { &Method::GET } else { &request.method };
        self.0.get(&(path.as_str().to_owned(), method.clone())).copied()
    }
}

#[derive(Clone)]
pub struct Gate {
    pub app: App,
    pub policies: Arc<Policies>,
}

/// The layer: everything else of a door lies behind it.
pub async fn guard(
    State(gate): State<Gate>,
    params: Result<RawPathParams, axum::extract::rejection::RawPathParamsRejection>,
    request: Request,
    next: Next,
) -> Response {
    let (mut head, body) = request.into_parts();
    match gate.admit(params.ok().as_ref(), &head).await {
        Ok(identity) => {
            head.extensions.insert(identity);
            next.run(Request::from_parts(head, body)).await
        }
        Err(problem) => problem.into_response(),
    }
}

impl Gate {
    async fn admit(&self, params: Option<&RawPathParams>, request: &Parts) -> Result<Arc<Identity>, Problem> {
        let policy = self.policies.of(request);
        let identity = match policy {
            Some(Policy::Open) => Identity::anybody().clone(),
            _ => self.identify(request)?,
        };
        if !is_sound_path(request.uri.path()) {
            let fault = Violation::new("path", "has escapes that are broken or not UTF-8");
            return Err(Problem::bad_parameter(vec![fault]));
        }
        let rights = &identity.rights;
        let named = |place: &str| {
            let value = params.and_then(|params| params.iter().find(|(name, _)| *name == place));
            value.map_or("", |(_, value)| value)
        };
        match policy {
            // what is not there, or does not know the method, has nothing to protect
            None | Some(Policy::Open | Policy::Each(..)) => {}
            Some(Policy::Whole(resource, action)) => permit(rights, resource, action, "")?,
            Some(Policy::Named(resource, action, place)) => {
                permit(rights, resource, action, &named(place).to_ascii_lowercase())?;
            }
            Some(Policy::OfInstance(action)) if rights.allow_all(Resource::Service, action) => {}
            Some(Policy::OfInstance(action)) => {
                self.admit_to_instance(&identity, action, named("id")).await?;
            }
        }
        Ok(identity)
    }

    fn identify(&self, request: &Parts) -> Result<Arc<Identity>, Problem> {
        let known = match request.extensions.get::<Arc<Peer>>() {
            Some(peer) => self.app.identify(peer.shows(&request.headers), &peer.memory),
            None => self.app.identify(Credential::default(), &Memory::default()),
        };
        known.map_err(|refused| {
            self.app.metrics().unauthenticated(refused.into());
            Problem::unauthenticated(refused)
        })
    }

    async fn admit_to_instance(&self, identity: &Identity, action: Action, id: &str) -> Result<(), Problem> {
        // a text that cannot be one is nobody's id, and nobody's is refused as unknown further in
        let Ok(id) = Uuid::try_parse(id) else { return Ok(()) };
        match self.app.service_of(InstanceId(id)).await? {
            Some(service) => Ok(permit(&identity.rights, Resource::Service, action, service.as_str())?),
            None => Ok(()),
        }
    }
}

/// Who asks, for those who decide of each thing by itself.
pub struct Who(pub Arc<Identity>);

impl<S: Sync> FromRequestParts<S> for Who {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        // nothing lies before the gate: without an identity there was no gate
        let identity = parts.extensions.get::<Arc<Identity>>().cloned();
        identity.map(Self).ok_or_else(|| Problem::internal(None))
    }
}

impl Who {
    pub fn may(&self, resource: Resource, action: Action, name: &str) -> bool {
        self.0.rights.allow(resource, action, name)
    }

    pub fn permit(&self, resource: Resource, action: Action, name: &str) -> Result<(), AppError> {
        permit(&self.0.rights, resource, action, name)
    }
}
