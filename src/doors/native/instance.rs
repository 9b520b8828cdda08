//! GET, PUT and DELETE /api/v1/services/{id}.

use std::sync::Arc;

use axum::{
    extract::State,
    http::{StatusCode, header::ETAG},
    response::{IntoResponse as _, Response},
};

use super::{
    answer::{Freshness, json, read_at, unless_known, written_at},
    bodies::RegistrationBody,
    documented::{
        BodyProblems, FreshnessParams, IdempotencyParam, IdentityChanged, IfMatchParam, KeyReused,
        KnownParam, NoSuchInstance, PreconditionFailed, ReadProblems, WriteProblems,
    },
    path::InPath,
    registration::{Names, Registration},
    wire::InstanceReply,
};
use crate::{
    app::{App, Shown, Snapshot, Written},
    domain::{Instance, InstanceId, Refusal, registry::UpdateInstance},
    doors::kit::{CallerOf, IfNoneMatch, JSON, Params, Preconditions, Problem, Sent, body::ONE, entity_tag},
};

/// One instance
#[utoipa::path(
    get, path = "/api/v1/services/{id}", tag = "registry",
    params(
        ("id" = Uuid, Path, description = "The instance's id"),
        KnownParam, FreshnessParams,
    ),
    responses(
        (status = 200, description = "The instance", body = InstanceReply, headers(
            ("ETag" = String, description = "Its version"),
            ("X-Rollcall-Revision" = i64, description = "The revision that the answer rests on"),
            ("X-Rollcall-Age" = i64, description = "How old that may be, in milliseconds"),
        )),
        (status = 304, description = "The reader has this version"),
        ReadProblems, NoSuchInstance,
    ),
)]
pub async fn get_instance(
    State(app): State<App>,
    InPath(id): InPath,
    mut params: Params,
    known: IfNoneMatch,
) -> Result<Response, Problem> {
    let freshness = Freshness::of(&mut params)?;
    params.finish()?;
    let snapshot = freshness.snapshot(&app).await?;
    let answer = found(&snapshot, id).map_err(Problem::from).and_then(|instance| {
        let tag = entity_tag(instance.version);
        unless_known(&known, tag, || json(StatusCode::OK, &InstanceReply::of(&app.shown(instance))))
    });
    Ok(read_at(&app, snapshot.revision(), answer))
}

/// Replaces what was said of an instance
///
/// What is not given takes its default again. Fields of an answer that is sent back are passed over.
#[utoipa::path(
    put, path = "/api/v1/services/{id}", tag = "registry",
    params(
        ("id" = Uuid, Path, description = "The instance's id"),
        IfMatchParam, IdempotencyParam,
    ),
    request_body(content = RegistrationBody, content_type = "application/json"),
    responses(
        (status = 200, description = "The instance as it is now", body = InstanceReply, headers(
            ("ETag" = String, description = "Its version"),
            ("X-Rollcall-Revision" = i64, description = "From which revision on readers see it"),
        )),
        WriteProblems, BodyProblems, NoSuchInstance, IdentityChanged, PreconditionFailed,
    ),
)]
pub async fn put_instance(
    State(app): State<App>,
    InPath(id): InPath,
    CallerOf(mut caller): CallerOf,
    Preconditions(precondition): Preconditions,
    sent: Sent,
) -> Result<Response, Problem> {
    let body = sent.json(&mut caller, JSON, ONE).await?;
    let registration = Registration::read(&body, Names::All).map_err(Problem::invalid)?;
    let Registration { service, key, spec, load } = registration;
    let written = app.update(&caller, UpdateInstance { id, service, key, spec, precondition }, load).await?;
    changed(&written)
}

/// Unregisters an instance
#[utoipa::path(
    delete, path = "/api/v1/services/{id}", tag = "registry",
    params(
        ("id" = Uuid, Path, description = "The instance's id"),
        IfMatchParam, IdempotencyParam,
    ),
    responses(
        (status = 204, description = "It is unregistered", headers(
            ("X-Rollcall-Revision" = i64, description = "From which revision on readers miss it"),
        )),
        WriteProblems, NoSuchInstance, KeyReused, PreconditionFailed,
    ),
)]
pub async fn delete_instance(
    State(app): State<App>,
    InPath(id): InPath,
    CallerOf(caller): CallerOf,
    Preconditions(precondition): Preconditions,
) -> Result<Response, Problem> {
    let written = app.unregister(&caller, id, precondition).await?;
    Ok(written_at(written.revision, StatusCode::NO_CONTENT.into_response()))
}

pub fn found(snapshot: &Snapshot, id: InstanceId) -> Result<Arc<Instance>, Refusal> {
    snapshot.find(id).cloned().ok_or(Refusal::NoSuchInstance)
}

/// The instance as a write left it.
pub fn changed(written: &Written<Shown>) -> Result<Response, Problem> {
    let mut response = json(StatusCode::OK, &InstanceReply::of(&written.value))?;
    response.headers_mut().insert(ETAG, entity_tag(written.value.instance.version));
    Ok(written_at(written.revision, response))
}
