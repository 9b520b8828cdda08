//! Who stands behind a write, for the log.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, LazyLock},
};

use axum::{
    extract::{ConnectInfo, FromRequestParts},
    http::request::Parts,
};

use super::request_id::RequestId;
use crate::app::Caller;

/// What the envelope knows of a request, for those further in.
#[derive(Clone, Debug)]
pub struct Context {
    pub door: &'static str,
    pub request_id: RequestId,
}

/// The caller, made only where it is asked for: reads have no use for it.
pub struct CallerOf(pub Caller);

impl<S: Sync> FromRequestParts<S> for CallerOf {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        static ANYBODY: LazyLock<Arc<str>> = LazyLock::new(|| "anonymous".into());
        let context = parts.extensions.get::<Context>();
        let door = context.map_or("native", |context| context.door);
        let origin: Arc<str> = match parts.extensions.get::<ConnectInfo<SocketAddr>>() {
            Some(ConnectInfo(peer)) => format!("{door} {peer}").into(),
            None => door.into(),
        };
        let request_id = context.map(|context| context.request_id.as_str().into());
        Ok(Self(Caller { actor: ANYBODY.clone(), origin, request_id }))
    }
}
