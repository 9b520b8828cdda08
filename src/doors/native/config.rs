//! Configuration in its plain form: get, put, delete, each with versions.

use std::sync::Arc;

use axum::{
    extract::State,
    http::{StatusCode, header::ETAG},
    response::{IntoResponse as _, Response},
};
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

use super::{
    answer::{Freshness, json, read_at, unless_known, written_at},
    documented::{
        BodyProblems, FreshnessParams, IdempotencyParam, IfMatchParam, IfNoneMatchParam, KeyReused,
        KnownParam, NoSuchConfig, PreconditionFailed, ReadProblems, WriteProblems,
    },
    path::Segment,
};
use crate::{
    app::App,
    domain::{
        Action, ConfigEntry, ConfigKey, Content, Environment, Refusal, Resource, ServiceName, Violation,
        fault::text_within,
    },
    doors::kit::{
        CallerOf, IfNoneMatch, JSON, Params, Preconditions, Problem, Sent, Who, body::ONE, entity_tag, time,
    },
};

const LONGEST_COMMENT: usize = 1000;

/// Lists configurations
#[utoipa::path(
    get, path = "/api/v1/config", tag = "configuration",
    params(
        WantedEnvironmentParam, FreshnessParams,
    ),
    responses(
        (status = 200, description = "By service and environment", body = Vec<ConfigReply>, headers(
            ("X-Rollcall-Revision" = i64, description = "The revision that the answer rests on"),
            ("X-Rollcall-Age" = i64, description = "How old that may be, in milliseconds"),
        )),
        ReadProblems,
    ),
)]
pub async fn list_configs(State(app): State<App>, who: Who, mut params: Params) -> Result<Response, Problem> {
    let freshness = Freshness::of(&mut params)?;
    params.not_supported(&["effective"])?;
    let environment = params.read("environment", Environment::parse);
    params.finish()?;
    let snapshot = freshness.snapshot(&app).await?;
    let wanted = |entry: &&Arc<ConfigEntry>| {
        environment.as_ref().is_none_or(|environment| entry.key.environment == *environment)
            && who.may(Resource::Config, Action::Read, entry.key.service.as_str())
    };
    let entries: Vec<_> =
        snapshot.configs().values().filter(wanted).filter_map(|entry| ConfigReply::of(entry)).collect();
    Ok(read_at(&app, snapshot.revision(), json(StatusCode::OK, &entries)))
}

/// The configuration of a service
#[utoipa::path(
    get, path = "/api/v1/config/{service}", tag = "configuration",
    params(
        ServiceInPath, EnvironmentParam, KnownParam, FreshnessParams,
    ),
    responses(
        (status = 200, description = "The configuration", body = ConfigReply, headers(
            ("ETag" = String, description = "Its version"),
            ("X-Rollcall-Revision" = i64, description = "The revision that the answer rests on"),
            ("X-Rollcall-Age" = i64, description = "How old that may be, in milliseconds"),
        )),
        (status = 304, description = "The reader has this version"),
        ReadProblems, NoSuchConfig,
    ),
)]
pub async fn get_config(
    State(app): State<App>,
    Segment(service): Segment,
    mut params: Params,
    known: IfNoneMatch,
) -> Result<Response, Problem> {
    let freshness = Freshness::of(&mut params)?;
    params.not_supported(&["effective"])?;
    let key = config_key(&service, &mut params)?;
    let snapshot = freshness.snapshot(&app).await?;
    let entry = snapshot.configs().get(&key).and_then(|entry| ConfigReply::of(entry));
    let answer = entry
        .ok_or_else(|| Problem::from(Refusal::NoSuchConfig))
        .and_then(|entry| unless_known(&known, entity_tag(entry.version), || json(StatusCode::OK, &entry)));
    Ok(read_at(&app, snapshot.revision(), answer))
}

/// Sets the configuration of a service
///
/// The body is the content itself, a JSON object; its numbers are kept digit by digit.
#[utoipa::path(
    put, path = "/api/v1/config/{service}", tag = "configuration",
    params(
        ServiceInPath, EnvironmentParam, CommentParam, IfMatchParam, IfNoneMatchParam, IdempotencyParam,
    ),
    request_body(content = Object, content_type = "application/json", description = "The content"),
    responses(
        (status = 200, description = "The configuration as it is now", body = ConfigReply, headers(
            ("ETag" = String, description = "Its version"),
            ("X-Rollcall-Revision" = i64, description = "From which revision on readers see it"),
        )),
        (status = 201, description = "The same, where there was none", body = ConfigReply, headers(
            ("ETag" = String, description = "Its version"),
            ("X-Rollcall-Revision" = i64, description = "From which revision on readers see it"),
        )),
        WriteProblems, BodyProblems, KeyReused, PreconditionFailed,
    ),
)]
pub async fn put_config(
    State(app): State<App>,
    Segment(service): Segment,
    CallerOf(mut caller): CallerOf,
    Preconditions(precondition): Preconditions,
    mut params: Params,
    sent: Sent,
) -> Result<Response, Problem> {
    let comment = read_comment(&mut params);
    let key = config_key(&service, &mut params)?;
    let text = sent.json_text(&mut caller, JSON, ONE).await?;
    let content =
        Content::parse(&text).map_err(|fault| Problem::invalid(vec![Violation::new("body", fault)]))?;
    let written = app.put_config(&caller, key, content, comment, precondition).await?;
    let (entry, created) = &written.value;
    let reply = ConfigReply::of(entry).ok_or(Refusal::NoSuchConfig)?;
    let mut response = json(if *created { StatusCode::CREATED } else { StatusCode::OK }, &reply)?;
    response.headers_mut().insert(ETAG, entity_tag(entry.version));
    Ok(written_at(written.revision, response))
}

/// Deletes the configuration of a service
///
/// The versions of a later one go on from here.
#[utoipa::path(
    delete, path = "/api/v1/config/{service}", tag = "configuration",
    params(
        ServiceInPath, EnvironmentParam, CommentParam, IfMatchParam, IdempotencyParam,
    ),
    responses(
        (status = 204, description = "It is deleted", headers(
            ("X-Rollcall-Revision" = i64, description = "From which revision on readers miss it"),
        )),
        WriteProblems, NoSuchConfig, KeyReused, PreconditionFailed,
    ),
)]
pub async fn delete_config(
    State(app): State<App>,
    Segment(service): Segment,
    CallerOf(caller): CallerOf,
    Preconditions(precondition): Preconditions,
    mut params: Params,
) -> Result<Response, Problem> {
    let comment = read_comment(&mut params);
    let key = config_key(&service, &mut params)?;
    let written = app.delete_config(&caller, key, comment, precondition).await?;
    Ok(written_at(written.revision, StatusCode::NO_CONTENT.into_response()))
}

/// The key by the path and the query, and the last look at the parameters.
fn config_key(service: &str, params: &mut Params) -> Result<ConfigKey, Problem> {
    let environment = params.read("environment", Environment::parse).unwrap_or_default();
    match ServiceName::parse(service) {
        Ok(service) => params.finish().map(|()| ConfigKey { service, environment }),
        Err(fault) => {
            params.refuse("service", fault);
            params.finish().and_then(|()| Err(Refusal::NoSuchConfig.into()))
        }
    }
}

fn read_comment(params: &mut Params) -> Option<Arc<str>> {
    params.read("comment", |text| text_within(text, 0, LONGEST_COMMENT).map(Arc::from))
}

/// The configuration of a service in one environment.
#[derive(Serialize, ToSchema)]
#[schema(as = Configuration)]
pub struct ConfigReply<'a> {
    service: &'a str,
    environment: &'a str,
    /// From 1; the `ETag`.
    version: i64,
    #[schema(value_type = Object, example = json!({"timeout": "3s", "retries": 2}))]
    content: &'a Content,
    /// Who changed it last.
    actor: &'a str,
    /// Why.
    #[schema(required = true)]
    comment: Option<&'a str>,
    #[serde(serialize_with = "time::serialize")]
    created_at: DateTime<Utc>,
    #[serde(serialize_with = "time::serialize")]
    updated_at: DateTime<Utc>,
    /// The revision of its last change.
    revision: i64,
}

impl<'a> ConfigReply<'a> {
    /// None for one that was deleted.
    fn of(entry: &'a ConfigEntry) -> Option<Self> {
        Some(Self {
            service: entry.key.service.as_str(),
            environment: entry.key.environment.as_str(),
            version: entry.version,
            content: entry.content.as_ref()?,
            actor: &entry.actor,
            comment: entry.comment.as_deref(),
            created_at: entry.created_at,
            updated_at: entry.updated_at,
            revision: entry.revision,
        })
    }
}

#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "describes a parameter to OpenAPI")]
struct ServiceInPath {
    /// The service's name, in upper or lower case. `register`, `discover`, `names`, `batch` and `watch` are reserved.
    #[param(min_length = 1, max_length = 100, pattern = "^[A-Za-z0-9._:-]+$", example = "orders")]
    service: String,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes a parameter to OpenAPI")]
struct EnvironmentParam {
    /// Which environment it is for.
    #[param(
        default = "_default",
        min_length = 1,
        max_length = 100,
        pattern = "^[A-Za-z0-9._-]+$",
        required = false
    )]
    environment: String,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes a parameter to OpenAPI")]
struct WantedEnvironmentParam {
    /// Only those of this environment.
    #[param(min_length = 1, max_length = 100, pattern = "^[A-Za-z0-9._-]+$", required = false)]
    environment: String,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes a parameter to OpenAPI")]
struct CommentParam {
    /// Why, for the history.
    #[param(max_length = 1000, required = false)]
    comment: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_is_found_by_service_and_environment() {
        let key = |service: &str, query: &str| config_key(service, &mut Params::parse(query).unwrap());
        let default = key("Orders", "").unwrap();
        assert_eq!((default.service.as_str(), default.environment.as_str()), ("orders", "_default"));
        assert_eq!(key("orders", "environment=prod").unwrap().environment.as_str(), "prod");
        for (service, query) in [("a b", ""), ("orders", "environment="), ("orders", "environment=a%2Fb")] {
            assert_eq!(
                key(service, query).unwrap_err().status(),
                StatusCode::BAD_REQUEST,
                "{service} {query}"
            );
        }
    }

    #[test]
    fn a_comment_is_short() {
        let comment = |query: &str| {
            let mut params = Params::parse(query).unwrap();
            let comment = read_comment(&mut params);
            params.finish().map(|()| comment)
        };
        assert_eq!(comment("comment=why+not").unwrap().as_deref(), Some("why not"));
        assert_eq!(comment("").unwrap(), None);
        assert!(comment(&format!("comment={}", "x".repeat(1001))).is_err());
    }
}
