//! What orchestrators, monitors and the curious ask of rollcall itself.

use axum::{
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};

use super::{answer, error::unavailable};
use crate::{
    app::{App, Readiness},
    domain::Fault,
    doors::kit::{Params, Problem, time},
    telemetry,
};

const SERVICE: &str = env!("CARGO_PKG_NAME");
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Who answers here
#[utoipa::path(
    get, path = "/", tag = "operations",
    responses((status = 200, description = "Name, version and where the documentation is", body = RootReply)),
)]
pub async fn root() -> Result<Response, Problem> {
    let reply = RootReply {
        service: SERVICE,
        version: VERSION,
        docs: "/docs",
        openapi: "/openapi.json",
        health: "/health",
        metrics: "/metrics",
    };
    answer::json(StatusCode::OK, &reply)
}

#[derive(Serialize, ToSchema)]
#[schema(as = Root)]
pub struct RootReply {
    service: &'static str,
    version: &'static str,
    docs: &'static str,
    openapi: &'static str,
    health: &'static str,
    metrics: &'static str,
}

/// Whether rollcall is well
#[utoipa::path(
    get, path = "/health", tag = "operations",
    responses((status = 200, description = "It answers", body = StatusReply)),
)]
pub async fn health(State(app): State<App>) -> Result<Response, Problem> {
    let reply = StatusReply { status: "healthy", timestamp: app.now(), service: SERVICE, version: VERSION };
    answer::json(StatusCode::OK, &reply)
}

#[derive(Serialize, ToSchema)]
#[schema(as = Status)]
pub struct StatusReply {
    status: &'static str,
    #[serde(serialize_with = "time::serialize")]
    timestamp: DateTime<Utc>,
    service: &'static str,
    version: &'static str,
}

/// Whether the process can answer
#[utoipa::path(
    get, path = "/health/live", tag = "operations",
    responses((status = 200, description = "It can", body = LiveReply)),
)]
pub async fn live() -> Result<Response, Problem> {
    answer::json(StatusCode::OK, &LiveReply { status: "alive" })
}

#[derive(Serialize, ToSchema)]
#[schema(as = Live)]
pub struct LiveReply {
    status: &'static str,
}

/// Whether rollcall can serve
///
/// Ready as soon as the registry is loaded, and from then on while reads can be answered, even without the
/// database.
#[utoipa::path(
    get, path = "/health/ready", tag = "operations",
    params(StoreParam),
    responses(
        (status = 200, description = "It can", body = ReadyReply),
        (status = 400, description = "A parameter is invalid", body = super::openapi::Problem,
         content_type = "application/problem+json"),
        (status = 503, description = "It cannot; `detail` says why, and each part is named as in a good answer",
         body = super::openapi::Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn ready(State(app): State<App>, mut params: Params) -> Result<Response, Problem> {
    let store_required = params.read("store", |value| match value {
        "required" => Ok(true),
        _ => Err(Fault::new("must be required")),
    });
    params.finish()?;
    let readiness = app.readiness();
    match reason_against(&readiness, store_required.unwrap_or_default()) {
        None => answer::json(StatusCode::OK, &ReadyReply::of(&readiness)),
        Some(reason) => {
            // what a probe hears again and again is no failure of a request: it does not go to the log
            let parts = json!(ReadyReply::of(&readiness));
            let part = |name: &str| parts.get(name).cloned().unwrap_or(Value::Null);
            Err(unavailable("not_ready", reason)
                .with_member("view", part("view"))
                .with_member("store", part("store"))
                .with_member("follower_lag_ms", part("follower_lag_ms"))
                .with_member("guards", part("guards"))
                .unlogged())
        }
    }
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes a parameter to OpenAPI")]
struct StoreParam {
    /// `required`: not ready without the database.
    #[param(pattern = "^required$", required = false)]
    store: String,
}

fn reason_against(readiness: &Readiness, store_required: bool) -> Option<String> {
    if !readiness.ready {
        return Some(format!("the view of the registry is {}", readiness.view));
    }
    (store_required && !readiness.store_ok).then(|| format!("the database is {}", readiness.store))
}

#[derive(Serialize, ToSchema)]
#[schema(as = Ready)]
pub struct ReadyReply<'a> {
    status: &'static str,
    /// The registry in memory.
    view: &'a str,
    /// The database.
    store: &'a str,
    /// How long ago this replica last knew itself current.
    #[schema(required = true)]
    follower_lag_ms: Option<u64>,
    /// What holds back removals and verdicts at the moment.
    guards: &'a [String],
}

impl<'a> ReadyReply<'a> {
    fn of(readiness: &'a Readiness) -> Self {
        Self {
            status: "ready",
            view: readiness.view,
            store: readiness.store,
            follower_lag_ms: readiness.follower_lag_ms,
            guards: &readiness.guards,
        }
    }
}

/// Metrics for Prometheus
#[utoipa::path(
    get, path = "/metrics", tag = "operations",
    responses((status = 200, description = "OpenMetrics text", body = String,
               content_type = "application/openmetrics-text")),
)]
pub async fn metrics(State(app): State<App>) -> Response {
    ([(CONTENT_TYPE, telemetry::CONTENT_TYPE)], app.render_metrics()).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_database_counts_only_where_it_is_required() {
        let readiness = |ready, store_ok| Readiness {
            ready,
            view: if ready { "loaded" } else { "loading" },
            store: if store_ok { "connected" } else { "unreachable" },
            store_ok,
            follower_lag_ms: None,
            guards: Vec::new(),
        };
        assert_eq!(reason_against(&readiness(true, true), true), None);
        assert_eq!(reason_against(&readiness(true, false), false), None);
        assert!(reason_against(&readiness(true, false), true).unwrap().contains("unreachable"));
        assert!(reason_against(&readiness(false, true), false).unwrap().contains("loading"));
    }
}
