//! Discovery by name: who can be called?
//!
//! The plain question is what a registry is asked all day. It costs a look at the snapshot; the answer is ready since the
//! service last changed.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    body::Bytes,
    extract::{RawQuery, State},
    http::StatusCode,
    response::Response,
};
use utoipa::{IntoParams, ToSchema};

use super::{
    answer::{Freshness, json_bytes, read_at, unless_known},
    documented::{FreshnessParams, KnownParam, ReadProblems},
    error::internal,
    path::{Segment, asked_name},
    schemas::{wanted_status, wanted_tags},
    selection::{Selection, status},
    wire::InstanceReply,
};
use crate::{
    app::{App, ServiceView, Snapshot},
    domain::{Action, Instance, Resource, Revision, Status, Violation},
    doors::kit::{IfNoneMatch, Params, Problem, Who, entity_tag, slots::NATIVE_HEALTHY},
};

/// How many services one question may name.
const MOST_NAMES: usize = 1000;
/// What comes with later versions and would change the answer.
const LATER: [&str; 4] = ["version", "near", "filter", "strategy"];

/// Finds the instances of a service, for the API gateway
#[utoipa::path(
    get, path = "/discover/{name}", tag = "discovery",
    params(
        NameInPath, KnownParam, DiscoverParams, FreshnessParams,
    ),
    responses(
        (status = 200, description = "Its instances, by default the healthy ones; none for an unknown service",
         body = Vec<InstanceReply>, headers(
            ("ETag" = String, description = "The revision of the service's last change"),
            ("X-Rollcall-Revision" = i64, description = "The revision that the answer rests on"),
            ("X-Rollcall-Age" = i64, description = "How old that may be, in milliseconds"),
        )),
        (status = 304, description = "Nothing has changed since the reader's answer"),
        ReadProblems,
    ),
)]
pub async fn discover_at_root(
    state: State<App>,
    name: Segment,
    query: RawQuery,
    known: IfNoneMatch,
) -> Result<Response, Problem> {
    discover(state, name, query, known).await
}

/// Finds the instances of a service
#[utoipa::path(
    get, path = "/api/v1/services/discover/{name}", tag = "discovery",
    params(
        NameInPath, KnownParam, DiscoverParams, FreshnessParams,
    ),
    responses(
        (status = 200, description = "Its instances, by default the healthy ones; none for an unknown service",
         body = Vec<InstanceReply>, headers(
            ("ETag" = String, description = "The revision of the service's last change"),
            ("X-Rollcall-Revision" = i64, description = "The revision that the answer rests on"),
            ("X-Rollcall-Age" = i64, description = "How old that may be, in milliseconds"),
        )),
        (status = 304, description = "Nothing has changed since the reader's answer"),
        ReadProblems,
    ),
)]
pub async fn discover(
    State(app): State<App>,
    Segment(name): Segment,
    RawQuery(query): RawQuery,
    known: IfNoneMatch,
) -> Result<Response, Problem> {
    let (snapshot, wanted) = match query.as_deref() {
        None | Some("") => (app.snapshot()?, None),
        Some(query) => {
            let (freshness, wanted) = asked(&mut Params::parse(query)?)?;
            (freshness.snapshot(&app).await?, wanted)
        }
    };
    let view = look_up(&snapshot, &name)?;
    let tag = entity_tag(view.map_or(0, |view| view.revision));
    let answer =
        unless_known(&known, tag, || Ok(json_bytes(StatusCode::OK, instances(&app, view, wanted.as_ref())?)));
    Ok(read_at(&app, snapshot.revision(), answer))
}

/// Finds the instances of several services at once
///
/// All of them as they were at one revision.
#[utoipa::path(
    get, path = "/api/v1/discover", tag = "discovery",
    params(
        ("names" = String, Query, description = "Up to 1,000 names, with commas between them",
         pattern = "^[A-Za-z0-9._:-]{1,100}(,[A-Za-z0-9._:-]{1,100}){0,999}$", example = "orders,billing"),
        KnownParam, DiscoverParams, FreshnessParams,
    ),
    responses(
        (status = 200, description = "The instances of each, by default the healthy ones",
         body = ManyReply, headers(
            ("ETag" = String, description = "The revision of the last change of any of them"),
            ("X-Rollcall-Revision" = i64, description = "The revision that the answer rests on"),
            ("X-Rollcall-Age" = i64, description = "How old that may be, in milliseconds"),
        )),
        (status = 304, description = "Nothing has changed since the reader's answer"),
        ReadProblems,
    ),
)]
pub async fn discover_many(
    State(app): State<App>,
    who: Who,
    mut params: Params,
    known: IfNoneMatch,
) -> Result<Response, Problem> {
    let names = asked_names(&mut params);
    let (freshness, wanted) = asked(&mut params)?;
    for name in &names {
        who.permit(Resource::Service, Action::Read, name)?;
    }
    let snapshot = freshness.snapshot(&app).await?;
    let views: BTreeMap<_, _> = names
        .into_iter()
        .map(|name| (snapshot.service(&name), name))
        .map(|(view, name)| (name, view))
        .collect();
    let newest = views.values().flatten().map(|view| view.revision).max();
    let answer = unless_known(&known, entity_tag(newest.unwrap_or(0)), || {
        Ok(json_bytes(StatusCode::OK, many(&app, snapshot.revision(), &views, wanted.as_ref())?))
    });
    Ok(read_at(&app, snapshot.revision(), answer))
}

/// Several services, all of one revision.
#[derive(ToSchema)]
#[schema(as = Discovered)]
#[expect(dead_code, reason = "describes the shape to OpenAPI; it is joined from ready parts")]
pub struct ManyReply<'a> {
    revision: i64,
    services: BTreeMap<String, Vec<InstanceReply<'a>>>,
}

/// What distinguishes a question from the plain one.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    status: Status,
    degraded: bool,
    selection: Selection,
    limit: usize,
}

impl Wanted {
    fn plain() -> Self {
        Self { status: Status::Healthy, degraded: false, selection: Selection::default(), limit: usize::MAX }
    }

    fn takes(&self, instance: &Instance) -> bool {
        let status = instance.status();
        let answers = status == self.status || (self.degraded && status == Status::Degraded);
        answers && self.selection.takes(instance)
    }
}

/// How fresh the answer must be, and what is wanted where that is not the plain answer.
fn asked(params: &mut Params) -> Result<(Freshness, Option<Wanted>), Problem> {
    let freshness = Freshness::of(params)?;
    params.not_supported(&LATER)?;
    let plain = Wanted::plain();
    let wanted = Wanted {
        status: params.read("status", status).unwrap_or(plain.status),
        degraded: params.flag("degraded").unwrap_or_default(),
        selection: Selection::of(params),
        limit: params
            .number("limit", 1, 1000)
            .and_then(|limit| usize::try_from(limit).ok())
            .unwrap_or(plain.limit),
    };
    params.finish()?;
    Ok((freshness, (wanted != plain).then_some(wanted)))
}

fn asked_names(params: &mut Params) -> Vec<String> {
    let names = params.read("names", |text| {
        let names = text.split(',').map(asked_name).collect::<Result<Vec<_>, _>>()?;
        if names.len() > MOST_NAMES {
            return Err(format!("may have at most {MOST_NAMES} names, has {}", names.len()).into());
        }
        Ok(names)
    });
    if names.is_none() && params.text("names").is_none() {
        params.refuse("names", "is required");
    }
    names.unwrap_or_default()
}

fn look_up<'s>(snapshot: &'s Snapshot, name: &str) -> Result<Option<&'s ServiceView>, Problem> {
    if let Some(view) = snapshot.service(name) {
        return Ok(Some(view));
    }
    let name =
        asked_name(name).map_err(|fault| Problem::bad_parameter(vec![Violation::new("name", fault)]))?;
    Ok(snapshot.service(&name).map(Arc::as_ref))
}

/// A service's instances as a JSON array.
fn instances(app: &App, view: Option<&ServiceView>, wanted: Option<&Wanted>) -> Result<Bytes, Problem> {
    let Some(view) = view else { return Ok(Bytes::from_static(b"[]")) };
    view.discoveries.count();
    match wanted {
        None => Ok(plain(app, view).clone()),
        Some(wanted) => encode(app, view, wanted).map_err(internal),
    }
}

/// The answer to the plain question, ready since the service last changed.
pub fn plain<'v>(app: &App, view: &'v ServiceView) -> &'v Bytes {
    view.ready(NATIVE_HEALTHY, |view| {
        // an answer that cannot be written cannot be kept either; no instance is such
        encode(app, view, &Wanted::plain()).unwrap_or(Bytes::from_static(b"[]"))
    })
}

fn encode(app: &App, view: &ServiceView, wanted: &Wanted) -> Result<Bytes, serde_json::Error> {
    let mut body = Vec::with_capacity(1024 * view.instances.len());
    body.push(b'[');
    let taken = view.instances.values().filter(|instance| wanted.takes(instance)).take(wanted.limit);
    for (index, instance) in taken.enumerate() {
        if index > 0 {
            body.push(b',');
        }
        let shown = app.shown(Arc::clone(instance));
        serde_json::to_writer(&mut body, &InstanceReply::of(&shown))?;
    }
    body.push(b']');
    // it may be kept for long: no larger than it is
    Ok(Bytes::copy_from_slice(&body))
}

fn many(
    app: &App,
    revision: Revision,
    views: &BTreeMap<String, Option<&Arc<ServiceView>>>,
    wanted: Option<&Wanted>,
) -> Result<Vec<u8>, Problem> {
    let mut body = format!("{{\"revision\":{revision},\"services\":{{").into_bytes();
    for (index, (name, view)) in views.iter().enumerate() {
        if index > 0 {
            body.push(b',');
        }
        serde_json::to_writer(&mut body, name).map_err(internal)?;
        body.push(b':');
        body.extend_from_slice(&instances(app, view.map(Arc::as_ref), wanted)?);
    }
    body.extend_from_slice(b"}}");
    Ok(body)
}

#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "describes a parameter to OpenAPI")]
struct NameInPath {
    /// The service's name, in upper or lower case.
    #[param(min_length = 1, max_length = 100, pattern = "^[A-Za-z0-9._:-]+$", example = "orders")]
    name: String,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes parameters to OpenAPI")]
struct DiscoverParams {
    #[param(schema_with = wanted_status, required = false)]
    status: String,
    /// Adds the degraded ones: they still answer.
    #[param(default = false, required = false)]
    degraded: bool,
    #[param(schema_with = wanted_tags, required = false)]
    tag: Vec<String>,
    /// Only those whose metadata.environment is this.
    #[param(required = false)]
    environment: String,
    #[param(required = false)]
    region: String,
    #[param(required = false)]
    zone: String,
    /// How many of each service at most.
    #[param(minimum = 1, maximum = 1000, required = false)]
    limit: u16,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(query: &str) -> Result<Option<Wanted>, Problem> {
        asked(&mut Params::parse(query).unwrap()).map(|(_, wanted)| wanted)
    }

    #[test]
    fn the_plain_question_is_recognised() {
        for query in ["", "x=1", "consistency=strong", "status=healthy", "degraded=false"] {
            assert_eq!(wanted(query).unwrap(), None, "{query}");
        }
        for query in ["status=unknown", "degraded=true", "tag=a=b", "zone=z", "limit=5"] {
            assert!(wanted(query).unwrap().is_some(), "{query}");
        }
    }

    #[test]
    fn bad_and_later_parameters_are_refused() {
        for query in [
            "status=ill",
            "degraded=yes",
            "tag=a",
            "limit=0",
            "status=healthy&status=unknown",
            "near=eu",
            "strategy=random",
            "filter=x",
            "version=1",
            "after=3",
            "wait=1s",
        ] {
            assert_eq!(wanted(query).unwrap_err().status(), StatusCode::BAD_REQUEST, "{query}");
        }
    }

    #[test]
    fn several_names_are_asked_for_with_commas() {
        let names = |query: &str| {
            let mut params = Params::parse(query).unwrap();
            let names = asked_names(&mut params);
            params.finish().map(|()| names)
        };
        assert_eq!(names("names=B,a,watch").unwrap(), ["b", "a", "watch"]);
        let many = format!("names={}", vec!["a"; 1001].join(","));
        for bad in ["", "names=", "names=a,,b", "names=a,b%20c", "names=a&names=b", &many] {
            assert!(names(bad).is_err(), "{bad}");
        }
    }
}
