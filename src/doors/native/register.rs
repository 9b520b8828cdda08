//! POST /api/v1/services/register, and many at once.

use axum::{
    extract::State,
    http::{
        HeaderValue, StatusCode,
        header::{ETAG, LOCATION},
    },
    response::Response,
};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::{
    answer::{json, written_at},
    bodies::{BatchBody, RegistrationBody},
    documented::{
        BodyProblems, IdempotencyParam, IfMatchParam, IfNoneMatchParam, KeyReused, PreconditionFailed,
        WriteProblems,
    },
    registration::{Names, Registration},
    wire::InstanceReply,
};
use crate::{
    app::{App, Shown, Written},
    domain::{Precondition, Violation, registry::RegisterInstance},
    doors::kit::{
        CallerOf, JSON, Preconditions, Problem, Sent,
        body::{MANY, ONE},
        caller::Context,
        entity_tag,
        problem::ProblemBody,
    },
};

const MOST_AT_ONCE: usize = 1000;

/// Registers an instance
///
/// Its identity within the service is its key or, where none is given, host and port. Registering it again keeps
/// id and `registered_at`, takes what is new, and is a sign of life.
#[utoipa::path(
    post, path = "/api/v1/services/register", tag = "registry",
    params(
        IfMatchParam, IfNoneMatchParam, IdempotencyParam,
    ),
    request_body(content = RegistrationBody, content_type = "application/json"),
    responses(
        (status = 201, description = "The instance, new or known", body = InstanceReply, headers(
            ("ETag" = String, description = "Its version"),
            ("Location" = String, description = "Where it is found"),
            ("X-Rollcall-Revision" = i64, description = "From which revision on readers see it"),
        )),
        WriteProblems, BodyProblems, KeyReused, PreconditionFailed,
    ),
)]
pub async fn register(
    State(app): State<App>,
    CallerOf(mut caller): CallerOf,
    Preconditions(precondition): Preconditions,
    sent: Sent,
) -> Result<Response, Problem> {
    let body = sent.json(&mut caller, JSON, ONE).await?;
    let registration = Registration::read(&body, Names::Own).map_err(Problem::invalid)?;
    let (command, load) = command(&app, registration, precondition);
    let written = app.register(&caller, command, load).await?;
    let instance = &written.value.instance;
    let (version, place) = (instance.version, format!("/api/v1/services/{}", instance.id));
    let mut response = json(StatusCode::CREATED, &InstanceReply::of(&written.value))?;
    response.headers_mut().insert(ETAG, entity_tag(version));
    if let Ok(place) = HeaderValue::try_from(place) {
        response.headers_mut().insert(LOCATION, place);
    }
    Ok(written_at(written.revision, response))
}

/// Registers up to 1,000 instances
///
/// Each by itself: some may fail while others are registered, and a bad one among them does not make the answer a
/// 400. An Idempotency-Key holds for each by its place.
#[utoipa::path(
    post, path = "/api/v1/services/register/batch", tag = "registry",
    params(IdempotencyParam),
    request_body(content = inline(BatchBody), content_type = "application/json"),
    responses(
        (status = 200, description = "What became of each, in order", body = Vec<ItemReply>, headers(
            ("X-Rollcall-Revision" = i64, description = "From which revision on readers see them all; absent where none was registered"),
        )),
        WriteProblems, BodyProblems,
    ),
)]
pub async fn register_batch(
    State(app): State<App>,
    CallerOf(mut caller): CallerOf,
    context: Option<axum::Extension<Context>>,
    sent: Sent,
) -> Result<Response, Problem> {
    let body = sent.json(&mut caller, JSON, MANY).await?;
    let items = batch_items(&body)?;
    let (mut outcomes, mut commands) = (Vec::with_capacity(items.len()), Vec::with_capacity(items.len()));
    for (index, item) in items.iter().enumerate() {
        match Registration::read(item, Names::Own) {
            Ok(registration) => {
                let (command, load) = command(&app, registration, Precondition::None);
                commands.push((index, command, load));
            }
            Err(violations) => outcomes.push((index, Err(Problem::invalid(violations)))),
        }
    }
    let registered = app.register_all(&caller, commands).await;
    outcomes.extend(registered.into_iter().map(|(index, result)| (index, result.map_err(Problem::from))));
    outcomes.sort_by_key(|(index, _)| *index);
    let request_id = context.as_ref().map_or("", |context| context.request_id.as_str());
    let replies: Vec<_> =
        outcomes.iter().map(|(_, outcome)| ItemReply::of(outcome.as_ref(), request_id)).collect();
    let revision = outcomes.iter().flat_map(|(_, outcome)| outcome).map(|written| written.revision).max();
    let response = json(StatusCode::OK, &replies)?;
    Ok(match revision {
        Some(revision) => written_at(revision, response),
        None => response,
    })
}

fn batch_items(body: &Value) -> Result<&[Value], Problem> {
    let fault = match body {
        Value::Array(items) if items.len() <= MOST_AT_ONCE => return Ok(items),
        Value::Array(items) => format!("may have at most {MOST_AT_ONCE} registrations, has {}", items.len()),
        _ => "must be a list of registrations".to_owned(),
    };
    Err(Problem::invalid(vec![Violation::new("body", fault)]))
}

fn command(
    app: &App,
    registration: Registration,
    precondition: Precondition,
) -> (RegisterInstance, Option<f32>) {
    let Registration { service, key, spec, load } = registration;
    (RegisterInstance { new_id: app.new_instance_id(), service, key, spec, precondition }, load)
}

/// What became of one registration among many: `service` where the status is 201, else `problem`.
#[derive(Serialize, ToSchema)]
#[schema(as = BatchItem)]
pub struct ItemReply<'a> {
    #[schema(minimum = 201, maximum = 599)]
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = InstanceReply<'a>, required = false)]
    service: Option<InstanceReply<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = ProblemBody<'a>, required = false)]
    problem: Option<ProblemBody<'a>>,
}

impl<'a> ItemReply<'a> {
    fn of(outcome: Result<&'a Written<Shown>, &'a Problem>, request_id: &'a str) -> Self {
        match outcome {
            Ok(written) => Self {
                status: StatusCode::CREATED.as_u16(),
                service: Some(InstanceReply::of(&written.value)),
                problem: None,
            },
            Err(problem) => Self {
                status: problem.status().as_u16(),
                service: None,
                problem: Some(problem.body(request_id, "/api/v1/services/register/batch")),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_batch_is_a_list_of_at_most_a_thousand() {
        assert_eq!(batch_items(&json!([])).unwrap().len(), 0);
        assert_eq!(batch_items(&json!(vec![1; 1000])).unwrap().len(), 1000);
        assert!(batch_items(&json!(vec![1; 1001])).is_err());
        assert!(batch_items(&json!({})).is_err());
    }
}
