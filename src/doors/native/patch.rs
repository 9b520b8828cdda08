//! PATCH /api/v1/services/{id}: a JSON merge patch (RFC 7396) of what was said of an instance.
//!
//! The patched whole goes the way of a PUT, under the version that it was made from, so that nothing that others
//! changed meanwhile is lost.

use std::time::Duration;

use axum::{extract::State, response::Response};
use serde_json::{Map, Value, json};

use super::{
    bodies::PatchBody,
    documented::{
        BodyProblems, IdempotencyParam, IdentityChanged, IfMatchParam, NoSuchInstance, PreconditionFailed,
        WriteProblems,
    },
    instance::{changed, found},
    path::InPath,
    registration::{Names, Registration},
    wire::MetadataReply,
};
use crate::{
    app::{App, AppError, Caller, Consistency},
    domain::{Checks, Instance, InstanceId, Precondition, Refusal, Violation, registry::UpdateInstance},
    doors::kit::{CallerOf, MERGE_PATCH, Preconditions, Problem, Sent, body::ONE},
};

/// How often a patch is made anew when others were faster.
const MOST_TRIES: usize = 8;
/// How long all of them may take together.
const WITHIN: Duration = Duration::from_millis(4700);

/// Changes some of what was said of an instance
///
/// A JSON merge patch: what it names is replaced, `null` takes away. Without If-Match it is made anew when others
/// changed the instance meanwhile.
#[utoipa::path(
    patch, path = "/api/v1/services/{id}", tag = "registry",
    params(
        ("id" = Uuid, Path, description = "The instance's id"),
        IfMatchParam, IdempotencyParam,
    ),
    request_body(content(
        (PatchBody = "application/merge-patch+json"),
        (PatchBody = "application/json"),
    ), description = "Any part of a registration"),
    responses(
        (status = 200, description = "The instance as it is now", body = super::wire::InstanceReply, headers(
            ("ETag" = String, description = "Its version"),
            ("X-Rollcall-Revision" = i64, description = "From which revision on readers see it"),
        )),
        WriteProblems, BodyProblems, NoSuchInstance, IdentityChanged, PreconditionFailed,
    ),
)]
pub async fn patch_instance(
    State(app): State<App>,
    InPath(id): InPath,
    CallerOf(mut caller): CallerOf,
    Preconditions(precondition): Preconditions,
    sent: Sent,
) -> Result<Response, Problem> {
    let patch = sent.json(&mut caller, MERGE_PATCH, ONE).await?;
    let Value::Object(patch) = patch else {
        return Err(Problem::invalid(vec![Violation::new("body", "must be a JSON object")]));
    };
    // each step has its time-out, and there are several
    let work = patch_until_it_fits(&app, &caller, id, &precondition, &patch);
    tokio::time::timeout(WITHIN, work).await.unwrap_or_else(|_| Err(AppError::OutcomeUnknown.into()))
}

async fn patch_until_it_fits(
    app: &App,
    caller: &Caller,
    id: InstanceId,
    precondition: &Precondition,
    patch: &Map<String, Value>,
) -> Result<Response, Problem> {
    if let Some(written) = app.repeated(caller).await? {
        return changed(&written);
    }
    let mut snapshot = app.snapshot()?;
    for _ in 0..MOST_TRIES {
        let current = found(&snapshot, id);
        let fits = current.as_ref().is_ok_and(|instance| allows(precondition, instance.version));
        if !fits {
            // this replica may be behind what the caller knows
            snapshot = app.snapshot_at(Consistency::Strong).await?;
        }
        let instance = found(&snapshot, id)?;
        if !allows(precondition, instance.version) {
            // the same request may have been carried out since it was looked for
            if let Some(written) = app.repeated(caller).await? {
                return changed(&written);
            }
            return Err(Refusal::PreconditionFailed { current: Some(instance.version) }.into());
        }
        let whole = patched(&instance, patch);
        let Registration { service, key, spec, load } =
            Registration::read(&whole, Names::All).map_err(Problem::invalid)?;
        let precondition = Precondition::Version(vec![instance.version]);
        match app.update(caller, UpdateInstance { id, service, key, spec, precondition }, load).await {
            Ok(written) => return changed(&written),
            Err(AppError::Refused(Refusal::PreconditionFailed { .. })) => {
                snapshot = app.snapshot_at(Consistency::Strong).await?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err(AppError::TooManyConflicts.into())
}

fn allows(precondition: &Precondition, version: i64) -> bool {
    match precondition {
        Precondition::None | Precondition::Exists => true,
        Precondition::Absent => false,
        Precondition::Version(wanted) => wanted.contains(&version),
    }
}

/// What was said of the instance, after the patch.
fn patched(instance: &Instance, patch: &Map<String, Value>) -> Value {
    let mut whole = said_of(instance);
    merge(&mut whole, patch);
    if instance.spec.region == instance.spec.metadata.region {
        keep_regions_together(&mut whole, patch);
    }
    Value::Object(whole)
}

/// All that the owner may say of an instance, as a registration says it.
fn said_of(instance: &Instance) -> Map<String, Value> {
    let spec = &*instance.spec;
    let mut said = json!({
        "name": instance.service,
        "type": spec.kind,
        "host": spec.host,
        "port": spec.port,
        "metadata": MetadataReply(&spec.metadata),
        "health_check_endpoint": spec.health_check_endpoint,
        "weight": spec.weight,
        "zone": spec.zone,
        "region": spec.region,
        "datacenter": spec.datacenter,
        "endpoints": spec.endpoints,
        "url": spec.url,
        "topics": spec.topics,
        "dependencies": spec.dependencies,
    });
    if instance.key.is_given() {
        merge_member(&mut said, "key", json!(instance.key.as_str()));
    }
    if spec.checks != Checks::Poll {
        merge_member(&mut said, "checks", json!(spec.checks));
    }
    match said {
        Value::Object(said) => said,
        _ => Map::new(),
    }
}

fn merge_member(value: &mut Value, name: &str, member: Value) {
    if let Value::Object(object) = value {
        object.insert(name.to_owned(), member);
    }
}

fn merge(target: &mut Map<String, Value>, patch: &Map<String, Value>) {
    for (name, change) in patch {
        match change {
            Value::Null => {
                target.remove(name);
            }
            Value::Object(change) => {
                let mut inner = match target.remove(name) {
                    Some(Value::Object(inner)) => inner,
                    _ => Map::new(),
                };
                merge(&mut inner, change);
                target.insert(name.clone(), Value::Object(inner));
            }
            _ => {
                target.insert(name.clone(), change.clone());
            }
        }
    }
}

/// A region that held in both places follows where only one of them is changed.
fn keep_regions_together(whole: &mut Map<String, Value>, patch: &Map<String, Value>) {
    let outer = patch.contains_key("region");
    let inner = patch.get("metadata").is_some_and(|metadata| metadata.get("region").is_some());
    if inner && !outer {
        whole.remove("region");
    }
    if outer
        && !inner
        && let Some(Value::Object(metadata)) = whole.get_mut("metadata")
    {
        metadata.remove("region");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{domain::Spec, doors::native::sample};

    fn instance() -> Instance {
        let registration = json!({
            "name": "orders", "type": "api", "host": "::1", "port": 80, "key": "k", "checks": [],
            "metadata": {"region": "eu", "tags": {"a": "1", "b": "2"}, "x": {"y": 1}}, "url": "http://o/",
        });
        sample::instance(1, &registration)
    }

    fn after(patch: Value) -> Spec {
        let Value::Object(patch) = patch else { panic!("not an object") };
        let whole = patched(&instance(), &patch);
        let read = Registration::read(&whole, Names::All).unwrap();
        assert_eq!(read.key, Some(instance().key));
        Spec::clone(&read.spec)
    }

    #[test]
    fn an_empty_patch_changes_nothing() {
        assert_eq!(after(json!({})), *instance().spec);
    }

    #[test]
    fn what_is_named_is_replaced_and_null_takes_away() {
        let spec = after(json!({
            "weight": 7, "url": null, "checks": null,
            "metadata": {"tags": {"a": null, "c": "3"}, "x": {"z": 2}},
        }));
        assert_eq!((spec.weight, spec.url, spec.checks), (7, None, Checks::Poll));
        assert_eq!(json!(spec.metadata.tags), json!({"b": "2", "c": "3"}));
        assert_eq!(Value::Object(spec.metadata.other.clone()), json!({"x": {"y": 1, "z": 2}}));
    }

    #[test]
    fn a_region_changed_in_one_place_changes_in_both() {
        for (patch, outer, inner) in [
            (json!({"region": "us"}), Some("us"), Some("us")),
            (json!({"metadata": {"region": "us"}}), Some("us"), Some("us")),
            (json!({"region": null}), None, None),
            (json!({"metadata": {"region": null}}), None, None),
            (json!({"region": "us", "metadata": {"region": "ap"}}), Some("us"), Some("ap")),
        ] {
            let spec = after(patch);
            assert_eq!((spec.region.as_deref(), spec.metadata.region.as_deref()), (outer, inner));
        }
    }

    #[test]
    fn a_precondition_allows_versions() {
        for (precondition, allowed) in [
            (Precondition::None, true),
            (Precondition::Exists, true),
            (Precondition::Absent, false),
            (Precondition::Version(vec![2, 3]), true),
            (Precondition::Version(vec![]), false),
        ] {
            assert_eq!(allows(&precondition, 3), allowed, "{precondition:?}");
        }
    }
}
