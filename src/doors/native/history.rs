//! GET /api/v1/services/{id}/history: who was up and down when, and why.

use axum::{extract::State, http::StatusCode, response::Response};
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::{IntoParams, ToSchema, openapi::Object};
use uuid::Uuid;

use super::{
    answer::{Freshness, json, read_at},
    documented::{FreshnessParams, NoSuchInstance, ReadProblems},
    path::InPath,
    schemas::{statuses, words},
};
use crate::{
    app::App,
    domain::{Beginning, Cause, CheckId, Period, Refusal, State as _, Status, duration},
    doors::kit::{Params, Problem, time},
};

/// How an instance fared
///
/// The times that it spent in one state each, from the oldest to the newest, with what began them. Read from the log.
#[utoipa::path(
    get, path = "/api/v1/services/{id}/history", tag = "health",
    params(
        ("id" = Uuid, Path, description = "The instance's id"),
        HistoryParams, FreshnessParams,
    ),
    responses(
        (status = 200, description = "The times and their causes", body = HistoryReply, headers(
            ("X-Rollcall-Revision" = i64, description = "The revision that this replica has reached"),
            ("X-Rollcall-Age" = i64, description = "How old that may be, in milliseconds"),
        )),
        ReadProblems, NoSuchInstance,
    ),
)]
pub async fn get_history(
    State(app): State<App>,
    InPath(id): InPath,
    mut params: Params,
) -> Result<Response, Problem> {
    let freshness = Freshness::read(&mut params);
    let limit = params.number("limit", 1, 1000).and_then(|limit| usize::try_from(limit).ok()).unwrap_or(100);
    params.finish()?;
    let snapshot = freshness.snapshot(&app).await?;
    let instance = snapshot.instance(id).ok_or(Refusal::NoSuchInstance)?;
    let (periods, now) = (app.fared(id, limit).await?, app.now());
    let reply = HistoryReply {
        id: id.0,
        name: instance.service.as_str(),
        history: periods.iter().map(|period| PeriodReply::of(period, now)).collect(),
    };
    Ok(read_at(&app, snapshot.revision(), json(StatusCode::OK, &reply)))
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes parameters to OpenAPI")]
struct HistoryParams {
    /// How many times at most, the newest of them.
    #[param(default = 100, minimum = 1, maximum = 1000, required = false)]
    limit: u16,
}

#[derive(Serialize, ToSchema)]
#[schema(as = History)]
pub struct HistoryReply<'a> {
    id: Uuid,
    name: &'a str,
    history: Vec<PeriodReply<'a>>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Period)]
pub struct PeriodReply<'a> {
    #[schema(schema_with = statuses)]
    status: Status,
    /// Whether discovery gave it out.
    up: bool,
    #[serde(serialize_with = "time::serialize")]
    from: DateTime<Utc>,
    /// Nothing while it lasts.
    #[serde(serialize_with = "time::serialize_optional")]
    #[schema(required = true)]
    to: Option<DateTime<Utc>>,
    /// How long it lasted, or lasts so far.
    #[schema(example = "1h2m3s")]
    duration: String,
    /// What began it.
    #[schema(schema_with = causes)]
    cause: &'static str,
    /// Whose result it was.
    #[schema(required = true)]
    check: Option<&'a str>,
    /// What the check said, or why an operator stepped in.
    #[schema(required = true)]
    reason: Option<&'a str>,
    actor: &'a str,
    /// Where it stands in the log.
    revision: i64,
}

const CAUSES: [&str; 6] = ["registered", "updated", "check", "report", "override_set", "override_ended"];

fn causes() -> Object {
    words(CAUSES)
}

impl<'a> PeriodReply<'a> {
    fn of(period: &'a Period, now: DateTime<Utc>) -> Self {
        let [registered, updated, by_check, by_report, override_set, override_ended] = CAUSES;
        let (cause, check, reason) = match &period.began_with {
            Beginning::Registered => (registered, None, None),
            Beginning::Updated => (updated, None, None),
            Beginning::Result { cause, check, output } => {
                let cause = match cause {
                    Cause::Check => by_check,
                    Cause::Report => by_report,
                };
                (cause, check.as_ref().map(CheckId::as_str), output.as_deref())
            }
            Beginning::OverrideSet { reason } => (override_set, None, reason.as_deref()),
            Beginning::OverrideEnded => (override_ended, None, None),
        };
        // clocks of replicas may differ by a little
        let lasted = (period.to.unwrap_or(now) - period.from).to_std().unwrap_or_default();
        Self {
            status: period.status,
            up: period.status == Status::Healthy,
            from: period.from,
            to: period.to,
            duration: duration::text(lasted),
            cause,
            check,
            reason,
            actor: &period.actor,
            revision: period.revision,
        }
    }
}
