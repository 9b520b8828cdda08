//! GET /api/v1/services/names: how each service fares as a whole.

use std::sync::Arc;

use axum::{extract::State, http::StatusCode, response::Response};
use serde::{Serialize, Serializer};
use utoipa::ToSchema;

use super::{
    answer::{Freshness, json, read_at},
    documented::{FreshnessParams, ReadProblems},
};
use crate::{
    app::{App, ServiceView},
    domain::{Action, Resource, Status},
    doors::kit::{Params, Problem, Who},
};

/// Lists the names of services
///
/// With the number of instances in each status.
#[utoipa::path(
    get, path = "/api/v1/services/names", tag = "registry",
    params(FreshnessParams),
    responses(
        (status = 200, description = "The names, in order", body = Vec<NameReply>, headers(
            ("X-Rollcall-Revision" = i64, description = "The revision that the answer rests on"),
            ("X-Rollcall-Age" = i64, description = "How old that may be, in milliseconds"),
        )),
        ReadProblems,
    ),
)]
pub async fn list_names(State(app): State<App>, who: Who, mut params: Params) -> Result<Response, Problem> {
    let freshness = Freshness::of(&mut params)?;
    params.finish()?;
    let snapshot = freshness.snapshot(&app).await?;
    let may = |service: &&Arc<ServiceView>| who.may(Resource::Service, Action::Read, service.name.as_str());
    let inhabited = snapshot.services().filter(|view| !view.instances.is_empty()).filter(may);
    let names: Vec<_> = inhabited.map(|view| NameReply::of(view)).collect();
    Ok(read_at(&app, snapshot.revision(), json(StatusCode::OK, &names)))
}

#[derive(Serialize, ToSchema)]
#[schema(as = ServiceSummary)]
pub struct NameReply<'a> {
    name: &'a str,
    /// How many there are in all.
    instances: usize,
    /// How many there are in each status.
    #[schema(value_type = std::collections::BTreeMap<String, u64>, example = json!({"healthy": 2, "degraded": 1}))]
    statuses: Counts,
    /// The revision of the service's last change.
    revision: i64,
}

impl<'a> NameReply<'a> {
    fn of(view: &'a ServiceView) -> Self {
        let count = |status| view.instances.values().filter(|i| i.status() == status).count();
        Self {
            name: view.name.as_str(),
            instances: view.instances.len(),
            statuses: Counts(Status::ALL.map(|status| (status, count(status)))),
            revision: view.revision,
        }
    }
}

struct Counts([(Status, usize); Status::ALL.len()]);

impl Serialize for Counts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(status, count)| (status.as_str(), count)))
    }
}
