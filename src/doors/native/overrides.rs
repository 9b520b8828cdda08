//! PUT and DELETE /api/v1/services/{id}/override: what an operator sets above the checks of an instance.

use axum::{extract::State, response::Response};
use chrono::{DateTime, SubsecRound as _, Utc};
use serde_json::Value;
use utoipa::ToSchema;

use super::{
    documented::{
        BodyProblems, IdempotencyParam, IfMatchParam, KeyReused, NoSuchInstance, PreconditionFailed,
        WriteProblems,
    },
    instance::changed,
    path::InPath,
    schemas::overridings,
    wire::InstanceReply,
};
use crate::{
    app::App,
    domain::{Fault, Overriding, Violation},
    doors::kit::{
        CallerOf, Fields, JSON, Preconditions, Problem, Sent,
        body::ONE,
        fields::{parsed, text},
    },
};

const LONGEST_REASON: usize = 1024;

/// What is to stand above the checks.
#[derive(ToSchema)]
#[schema(as = OverrideRequest, example = json!({"status": "maintenance", "reason": "disk is replaced"}))]
#[expect(dead_code, reason = "describes the body to OpenAPI; it is read field by field")]
pub struct OverrideBody {
    /// `maintenance`: it is not to be asked for anything, and shown as such. `drain`: it finishes what it has and gets
    /// nothing new, and is shown as stopping.
    #[schema(schema_with = overridings)]
    status: String,
    #[schema(max_length = 1024)]
    reason: Option<String>,
    /// When it ends by itself. In the future.
    until: Option<DateTime<Utc>>,
}

/// Sets an override
///
/// It stands above all checks: neither a verdict nor a registration undoes it.
#[utoipa::path(
    put, path = "/api/v1/services/{id}/override", tag = "health",
    params(
        ("id" = Uuid, Path, description = "The instance's id"),
        IfMatchParam, IdempotencyParam,
    ),
    request_body(content = OverrideBody, content_type = "application/json"),
    responses(
        (status = 200, description = "The instance as it is now", body = InstanceReply, headers(
            ("ETag" = String, description = "Its version"),
            ("X-Rollcall-Revision" = i64, description = "From which revision on readers see it"),
        )),
        WriteProblems, BodyProblems, NoSuchInstance, KeyReused, PreconditionFailed,
    ),
)]
pub async fn put_override(
    State(app): State<App>,
    InPath(id): InPath,
    CallerOf(mut caller): CallerOf,
    Preconditions(precondition): Preconditions,
    sent: Sent,
) -> Result<Response, Problem> {
    let body = sent.json(&mut caller, JSON, ONE).await?;
    let said = read(&body, app.now()).map_err(Problem::invalid)?;
    changed(&app.set_override(&caller, id, said, precondition).await?)
}

/// Ends an override
///
/// What the checks say holds again.
#[utoipa::path(
    delete, path = "/api/v1/services/{id}/override", tag = "health",
    params(
        ("id" = Uuid, Path, description = "The instance's id"),
        IfMatchParam, IdempotencyParam,
    ),
    responses(
        (status = 200, description = "The instance as it is now", body = InstanceReply, headers(
            ("ETag" = String, description = "Its version"),
            ("X-Rollcall-Revision" = i64, description = "From which revision on readers see it"),
        )),
        WriteProblems, NoSuchInstance, KeyReused, PreconditionFailed,
    ),
)]
pub async fn delete_override(
    State(app): State<App>,
    InPath(id): InPath,
    CallerOf(caller): CallerOf,
    Preconditions(precondition): Preconditions,
) -> Result<Response, Problem> {
    changed(&app.end_override(&caller, id, precondition).await?)
}

type Said = (Overriding, Option<String>, Option<DateTime<Utc>>);

fn read(body: &Value, now: DateTime<Utc>) -> Result<Said, Vec<Violation>> {
    let mut violations = Vec::new();
    let said = Fields::of(body, "", &mut violations).and_then(|mut fields| {
        let status = fields.required("status", parsed(overriding));
        let reason = fields.optional("reason", text(0, LONGEST_REASON));
        let until = fields.optional("until", parsed(|text| end(text, now)));
        Some((status?, reason, until))
    });
    said.filter(|_| violations.is_empty()).ok_or(violations)
}

fn overriding(text: &str) -> Result<Overriding, Fault> {
    let names = Overriding::ALL.map(Overriding::as_str).join(", ");
    Overriding::parse(text).ok_or_else(|| format!("must be one of {names}").into())
}

fn end(text: &str, now: DateTime<Utc>) -> Result<DateTime<Utc>, Fault> {
    let until = DateTime::parse_from_rfc3339(text)
        .map_err(|_| Fault::new("must be a time such as 2026-11-21T18:00:00Z"))?
        .with_timezone(&Utc)
        .trunc_subsecs(6);
    if until > now { Ok(until) } else { Err(Fault::new("must be in the future")) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_override_has_a_status_and_perhaps_an_end() {
        let now = DateTime::from_timestamp(1_000_000, 0).unwrap();
        let read = |body| read(&body, now);
        assert_eq!(read(json!({"status": "drain", "x": 1})), Ok((Overriding::Drain, None, None)));
        let (_, reason, until) = read(
            json!({"status": "maintenance", "reason": "disk", "until": "1970-01-12T15:46:41.1234567+02:00"}),
        )
        .unwrap_or_else(|violations| panic!("{violations:?}"));
        assert_eq!(reason.as_deref(), Some("disk"));
        assert_eq!(until.unwrap().timestamp_subsec_nanos(), 123_456_000);
        for (body, field) in [
            (json!({}), "status"),
            (json!({"status": "stopping"}), "status"),
            (json!({"status": "drain", "reason": "x".repeat(1025)}), "reason"),
            (json!({"status": "drain", "until": "soon"}), "until"),
            (json!({"status": "drain", "until": "1970-01-01T00:00:00Z"}), "until"),
            (json!([]), "body"),
        ] {
            assert_eq!(read(body).unwrap_err().first().unwrap().field, field);
        }
    }
}
