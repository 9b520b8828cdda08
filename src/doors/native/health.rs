//! How an instance fares: signs of life, reports, and what is known.

use std::sync::Arc;

use axum::{
    extract::State,
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use serde_json::Value;
use utoipa::{IntoParams, openapi::Object};

use super::{
    answer::{Freshness, json, read_at, written_at},
    bodies::HeartbeatBody,
    documented::{
        BodyProblems, FreshnessParams, IdempotencyParam, KeyReused, NoSuchInstance, ReadProblems,
        WriteProblems,
    },
    instance::changed,
    path::InPath,
    schemas::words,
    wire::{HealthReply, InstanceReply},
};
use crate::{
    app::App,
    domain::{CheckId, Fault, Seen, Violation, registry::About},
    doors::kit::{CallerOf, Fields, JSON, Params, Problem, Sent, body::ONE, fields::share},
};

const LONGEST_OUTPUT: usize = 4096;

/// A sign of life
///
/// 404 tells the client to register again.
#[utoipa::path(
    post, path = "/api/v1/services/{id}/heartbeat", tag = "health",
    params(("id" = Uuid, Path, description = "The instance's id")),
    request_body(content = Option<HeartbeatBody>, content_type = "application/json"),
    responses(
        (status = 204, description = "Noted", headers(
            ("X-Rollcall-Revision" = i64, description = "The revision that this replica has reached"),
        )),
        WriteProblems, BodyProblems, NoSuchInstance,
    ),
)]
pub async fn heartbeat(
    State(app): State<App>,
    InPath(id): InPath,
    CallerOf(caller): CallerOf,
    sent: Sent,
) -> Result<Response, Problem> {
    let load = match sent.json_if_any(JSON, ONE).await? {
        Some(body) => read_load(&body).map_err(Problem::invalid)?,
        None => None,
    };
    app.heartbeat(&caller, id, load).await?;
    let revision = app.snapshot()?.revision();
    Ok(written_at(revision, StatusCode::NO_CONTENT.into_response()))
}

fn read_load(body: &Value) -> Result<Option<f32>, Vec<Violation>> {
    let mut violations = Vec::new();
    let load = Fields::of(body, "", &mut violations).and_then(|mut fields| fields.optional("load", share));
    if violations.is_empty() { Ok(load) } else { Err(violations) }
}

/// Reports how an instance fares
///
/// It counts as a result of the instance's check, and as a sign of life: the newest result wins. Healthy sets the
/// failures to 0; ill counts one more, by default degraded from the first on and unhealthy from the third.
#[utoipa::path(
    post, path = "/api/v1/services/{id}/health", tag = "health",
    params(
        ("id" = Uuid, Path, description = "The instance's id"),
        ReportParams, IdempotencyParam,
    ),
    responses(
        (status = 200, description = "The instance as it is now", body = InstanceReply, headers(
            ("ETag" = String, description = "Its version"),
            ("X-Rollcall-Revision" = i64, description = "From which revision on readers see it"),
        )),
        WriteProblems, NoSuchInstance, KeyReused,
    ),
)]
pub async fn report_health(
    State(app): State<App>,
    InPath(id): InPath,
    CallerOf(caller): CallerOf,
    mut params: Params,
) -> Result<Response, Problem> {
    let Report { about, seen, output } = read_report(&mut params)?;
    changed(&app.report_health(&caller, id, about, seen, output).await?)
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes parameters to OpenAPI")]
struct ReportParams {
    /// What is reported. One of this and `status` is needed.
    #[param(required = false)]
    healthy: bool,
    /// The same with a third word: `warn` is alive, and not well.
    #[param(required = false, schema_with = reports)]
    status: String,
    /// The id of the check that it is a result of; the first, where nothing is said.
    #[param(
        required = false,
        min_length = 1,
        max_length = 100,
        pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]+$"
    )]
    check: String,
    /// Why; 4 KiB of UTF-8 at most.
    #[param(max_length = 4096, required = false)]
    output: String,
}

#[derive(Debug)]
struct Report {
    about: About,
    seen: Seen,
    output: Option<Arc<str>>,
}

const REPORTS: [(&str, Seen); 3] =
    [("pass", Seen::Passing), ("warn", Seen::Warning), ("fail", Seen::Failing)];

fn reports() -> Object {
    words(REPORTS.map(|(word, _)| word))
}

fn read_report(params: &mut Params) -> Result<Report, Problem> {
    let healthy = params.flag("healthy").map(|well| if well { Seen::Passing } else { Seen::Failing });
    let status = params.read("status", |text| {
        let seen = REPORTS.into_iter().find(|(word, _)| *word == text);
        seen.map(|(_, seen)| seen).ok_or(Fault::new("must be one of pass, warn, fail"))
    });
    let about = params.read("check", |text| CheckId::parse(text).map(About::Check));
    let output = params.read("output", |text| {
        if text.len() > LONGEST_OUTPUT {
            return Err(format!("may have at most {LONGEST_OUTPUT} bytes, has {}", text.len()).into());
        }
        Ok(Arc::from(text))
    });
    params.finish()?;
    let bad = |message: &str| Problem::bad_parameter(vec![Violation::new("healthy", message)]);
    let seen = match (healthy, status) {
        (Some(healthy), Some(status)) if healthy != status => {
            return Err(bad("says otherwise than 'status'"));
        }
        (Some(seen), _) | (None, Some(seen)) => seen,
        (None, None) => return Err(bad("is required: true or false")),
    };
    Ok(Report { about: about.unwrap_or(About::First), seen, output })
}

/// How one instance fares
#[utoipa::path(
    get, path = "/api/v1/services/{id}/health", tag = "health",
    params(("id" = Uuid, Path, description = "The instance's id"), FreshnessParams),
    responses(
        (status = 200, description = "Its health, check by check", body = HealthReply, headers(
            ("X-Rollcall-Revision" = i64, description = "The revision that the answer rests on"),
            ("X-Rollcall-Age" = i64, description = "How old that may be, in milliseconds"),
        )),
        ReadProblems, NoSuchInstance,
    ),
)]
pub async fn get_health(
    State(app): State<App>,
    InPath(id): InPath,
    mut params: Params,
) -> Result<Response, Problem> {
    let freshness = Freshness::of(&mut params)?;
    params.finish()?;
    let snapshot = freshness.snapshot(&app).await?;
    let answer = app
        .health(id)
        .map_err(Problem::from)
        .and_then(|health| json(StatusCode::OK, &HealthReply::of(&health)));
    Ok(read_at(&app, snapshot.revision(), answer))
}

/// Runs the checks of an instance now
///
/// All of them at once, and answers with what they came to; one that takes longer than 15 seconds keeps its last result.
/// The next run of each comes one interval later. Checks of the kind `ttl` cannot be run.
#[utoipa::path(
    post, path = "/api/v1/services/{id}/check", tag = "health",
    params(("id" = Uuid, Path, description = "The instance's id")),
    responses(
        (status = 200, description = "Its health, check by check", body = HealthReply, headers(
            ("X-Rollcall-Revision" = i64, description = "The revision that the answer rests on"),
        )),
        WriteProblems, NoSuchInstance,
    ),
)]
pub async fn run_checks(State(app): State<App>, InPath(id): InPath) -> Result<Response, Problem> {
    let health = app.run_checks(id).await?;
    let answer = json(StatusCode::OK, &HealthReply::of(&health))?;
    Ok(written_at(app.snapshot()?.revision(), answer))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_load_is_a_share() {
        for (body, expected) in [
            (json!({}), Ok(None)),
            (json!({"load": null, "other": 1}), Ok(None)),
            (json!({"load": 0}), Ok(Some(0.0))),
            (json!({"load": 0.25}), Ok(Some(0.25))),
            (json!({"load": 1}), Ok(Some(1.0))),
            (json!({"load": 1.01}), Err("load")),
            (json!({"load": -0.5}), Err("load")),
            (json!({"load": "0.5"}), Err("load")),
            (json!([]), Err("body")),
        ] {
            let read = read_load(&body).map_err(|violations| violations.first().unwrap().field.clone());
            assert_eq!(read, expected.map_err(str::to_owned), "{body}");
        }
    }

    #[test]
    fn a_report_says_healthy_or_not() {
        let read = |query: &str| read_report(&mut Params::parse(query).unwrap());
        let told = |query: &str| {
            let Report { about, seen, output } = read(query).unwrap();
            (matches!(about, About::Check(_)), seen, output)
        };
        assert_eq!(told("healthy=true"), (false, Seen::Passing, None));
        assert_eq!(told("healthy=False&output=down"), (false, Seen::Failing, Some("down".into())));
        assert_eq!(told("status=warn&check=web"), (true, Seen::Warning, None));
        assert_eq!(told("status=pass&healthy=true"), (false, Seen::Passing, None));
        let long = format!("healthy=true&output={}", "x".repeat(4097));
        for bad in [
            "",
            "status=ill",
            "status=pass&healthy=false",
            "healthy=true&check=",
            "healthy=",
            "healthy=1",
            "healthy=maybe",
            "healthy=true&healthy=true",
            &long,
        ] {
            assert_eq!(read(bad).unwrap_err().status(), StatusCode::BAD_REQUEST, "{bad}");
        }
    }
}
