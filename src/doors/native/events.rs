//! The audit: what happened, and whether the log is whole.

use axum::{extract::State, http::StatusCode, response::Response};
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::{
    answer::{Freshness, json, read_at},
    documented::{FreshnessParams, ReadProblems},
    error::internal,
};
use crate::{
    app::{App, EventQuery, EventRecord, Verification},
    domain::{Action, Resource, Revision, ServiceName},
    doors::kit::{Params, Problem, Who, time},
};

/// Lists events
///
/// Ascending, after a revision. `next` is what to ask for next time.
#[utoipa::path(
    get, path = "/api/v1/events", tag = "audit",
    params(EventParams, FreshnessParams),
    responses(
        (status = 200, description = "The events", body = EventsReply, headers(
            ("X-Rollcall-Revision" = i64, description = "The revision that this replica has reached"),
            ("X-Rollcall-Age" = i64, description = "How old that may be, in milliseconds"),
        )),
        ReadProblems,
    ),
)]
pub async fn list_events(State(app): State<App>, who: Who, mut params: Params) -> Result<Response, Problem> {
    params.not_supported(&["wait"])?;
    let freshness = Freshness::read(&mut params);
    let query = read_query(&mut params)?;
    let snapshot = freshness.snapshot(&app).await?;
    let (records, next) = app.events(query).await?;
    let may = |record: &&EventRecord| {
        who.may(Resource::Audit, Action::Read, record.service.as_deref().unwrap_or_default())
    };
    let events = records.iter().filter(may).map(EventReply::of).collect::<Result<_, _>>()?;
    let answer = json(StatusCode::OK, &EventsReply { events, next });
    Ok(read_at(&app, snapshot.revision(), answer))
}

fn read_query(params: &mut Params) -> Result<EventQuery, Problem> {
    let query = EventQuery {
        after: params.number("after", 0, Revision::MAX).unwrap_or(0),
        service: params.read("service", |text| ServiceName::parse(text).map(|name| name.as_str().to_owned())),
        instance: None,
        kinds: params.text("kind").map(|kind| vec![kind]),
        actor: params.text("actor"),
        limit: params.number("limit", 1, 1000).unwrap_or(100),
    };
    params.finish()?;
    Ok(query)
}

/// Verifies the log
///
/// Walks the chain of hashes over all batches.
#[utoipa::path(
    get, path = "/api/v1/events/verify", tag = "audit",
    params(FreshnessParams),
    responses(
        (status = 200, description = "Whether the log is whole", body = VerificationReply, headers(
            ("X-Rollcall-Revision" = i64, description = "The revision that this replica has reached"),
            ("X-Rollcall-Age" = i64, description = "How old that may be, in milliseconds"),
        )),
        ReadProblems,
    ),
)]
pub async fn verify_events(State(app): State<App>, mut params: Params) -> Result<Response, Problem> {
    let freshness = Freshness::of(&mut params)?;
    params.finish()?;
    let snapshot = freshness.snapshot(&app).await?;
    let verification = app.verify().await?;
    let answer = json(StatusCode::OK, &VerificationReply::of(&verification));
    Ok(read_at(&app, snapshot.revision(), answer))
}

#[derive(Serialize, ToSchema)]
#[schema(as = Events)]
pub struct EventsReply<'a> {
    events: Vec<EventReply<'a>>,
    /// The revision to go on after.
    next: i64,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Event)]
pub struct EventReply<'a> {
    revision: i64,
    /// Rises where the log was found to have lost its end, or to be another.
    #[schema(value_type = i64)]
    epoch: i32,
    #[serde(serialize_with = "time::serialize")]
    time: DateTime<Utc>,
    #[schema(example = "service_registered")]
    kind: &'a str,
    #[schema(required = true)]
    service: Option<&'a str>,
    #[schema(required = true)]
    instance: Option<Uuid>,
    actor: &'a str,
    /// The X-Request-Id of the request that did it.
    #[schema(required = true)]
    request_id: Option<&'a str>,
    /// What changed; its fields are those of its kind.
    #[schema(value_type = Object)]
    data: &'a RawValue,
    /// The way it came: the door and the peer.
    origin: &'a str,
}

impl<'a> EventReply<'a> {
    fn of(record: &'a EventRecord) -> Result<Self, Problem> {
        Ok(Self {
            revision: record.revision,
            epoch: record.epoch,
            time: record.time,
            kind: &record.kind,
            service: record.service.as_deref(),
            instance: record.instance,
            actor: &record.actor,
            request_id: record.request_id.as_deref(),
            data: serde_json::from_str(&record.data).map_err(internal)?,
            origin: &record.origin,
        })
    }
}

#[derive(Serialize, ToSchema)]
#[schema(as = Verification)]
pub struct VerificationReply {
    /// Whether every batch is as it was written.
    ok: bool,
    /// The first revision that was looked at.
    from: i64,
    /// The last one.
    to: i64,
    /// The newest revision there is.
    head: i64,
    /// The first revision of the first batch that is not as it was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = i64, required = false)]
    broken_at: Option<i64>,
}

impl VerificationReply {
    fn of(verification: &Verification) -> Self {
        let Verification { ok, from, to, head, broken_at } = *verification;
        Self { ok, from, to, head, broken_at }
    }
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes parameters to OpenAPI")]
struct EventParams {
    /// Only events after this revision.
    #[param(default = 0, minimum = 0, maximum = 9_223_372_036_854_775_807_isize, required = false)]
    after: i64,
    /// Only those of this service, in upper or lower case.
    #[param(min_length = 1, max_length = 100, pattern = "^[A-Za-z0-9._:-]+$", required = false)]
    service: String,
    /// Such as `service_registered`, `status_change`, `service_unregistered`, `config_updated`.
    #[param(required = false)]
    kind: String,
    /// Only what was done by this one.
    #[param(required = false)]
    actor: String,
    /// How many at most.
    #[param(default = 100, minimum = 1, maximum = 1000, required = false)]
    limit: u16,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_for_events_has_bounds() {
        let read = |query: &str| read_query(&mut Params::parse(query).unwrap());
        let query = read("").unwrap();
        assert_eq!((query.after, query.limit, query.service), (0, 100, None));
        let query = read("after=7&service=Orders&kind=status_change&actor=a&limit=1000").unwrap();
        assert_eq!((query.after, query.limit, query.service.as_deref()), (7, 1000, Some("orders")));
        for bad in ["after=-1", "after=x", "limit=0", "limit=1001", "actor=a&actor=b"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
