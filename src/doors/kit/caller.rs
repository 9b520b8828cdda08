//! Who stands behind a write, for the log.

use std::sync::Arc;

use axum::{extract::FromRequestParts, http::request::Parts};

use super::{gate::Who, peer::Peer, problem::Problem, request_id::RequestId};
use crate::{
    app::{Caller, IdempotencyKey, Identity},
    domain::Violation,
};

const LONGEST_KEY: usize = 255;

/// What the envelope knows of a request, for those further in.
#[derive(Clone, Debug)]
pub struct Context {
    pub door: &'static str,
    pub request_id: RequestId,
}

/// The caller, made only where it is asked for: reads have no use for it.
pub struct CallerOf(pub Caller);

impl<S: Sync> FromRequestParts<S> for CallerOf {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Who(identity) = Who::from_request_parts(parts, state).await?;
        let context = parts.extensions.get::<Context>();
        let door = context.map_or("unknown", |context| context.door);
        let origin: Arc<str> = match parts.extensions.get::<Arc<Peer>>() {
            Some(peer) => format!("{door} {}", peer.address).into(),
            None => door.into(),
        };
        let request_id = context.map(|context| context.request_id.as_str().into());
        let mut idempotency = idempotency_key(parts)?;
        if let Some(key) = &mut idempotency {
            // what one has done is no answer to another
            key.cover(identity.actor.as_bytes());
        }
        let Identity { actor, rights } = &*identity;
        Ok(Self(Caller { actor: actor.clone(), origin, request_id, idempotency, rights: rights.clone() }))
    }
}

/// A key of the client's choice, under which a request is carried out once.
fn idempotency_key(parts: &Parts) -> Result<Option<IdempotencyKey>, Problem> {
    const NAME: &str = "Idempotency-Key";
    let mut given = parts.headers.get_all(NAME).iter();
    let Some(value) = given.next() else { return Ok(None) };
    // a tab would pass as text
    let text = value.to_str().ok().filter(|text| !text.contains('\t')).unwrap_or_default();
    if given.next().is_some() || text.is_empty() || text.len() > LONGEST_KEY {
        let message = format!("must be given once, with 1 to {LONGEST_KEY} visible ASCII characters");
        return Err(Problem::invalid(vec![Violation::new(NAME, message)]));
    }
    let target = parts.uri.path_and_query().map_or("", |target| target.as_str());
    Ok(Some(IdempotencyKey::new(text, parts.method.as_str(), target)))
}
