//! The shapes that instances have on this door's wire. First Viscount's fields come first, as its clients know
//! them; ours follow.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Serialize, Serializer, ser::SerializeMap as _};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{
    check_shapes::{KeptCheckShape, kinds},
    schemas::{overridings, statuses, types},
};
use crate::{
    app::{CheckDetail, Health, Shown},
    domain::{Checks, Metadata, Override, ServiceName, ServiceType, Status},
    doors::kit::time,
};

/// A service instance.
#[derive(Serialize, ToSchema)]
#[schema(as = Service)]
pub struct InstanceReply<'a> {
    id: Uuid,
    name: &'a str,
    #[serde(rename = "type")]
    #[schema(schema_with = types)]
    kind: ServiceType,
    host: &'a str,
    #[schema(minimum = 1, maximum = 65535)]
    port: u16,
    #[schema(schema_with = statuses)]
    status: Status,
    #[schema(value_type = MetadataBody)]
    metadata: MetadataReply<'a>,
    #[schema(example = "/health")]
    health_check_endpoint: &'a str,
    #[serde(serialize_with = "time::serialize")]
    registered_at: DateTime<Utc>,
    #[serde(serialize_with = "time::serialize")]
    /// Its last sign of life: a registration, a heartbeat, a good check.
    last_seen_at: DateTime<Utc>,
    /// Failures in a row.
    health_check_failures: i64,
    /// Its identity within the service: the client's own id, or host:port.
    key: &'a str,
    /// Rises by 1 with every change; the `ETag` of the single resource.
    version: i64,
    /// The revision of its last change.
    revision: i64,
    #[serde(serialize_with = "time::serialize")]
    updated_at: DateTime<Utc>,
    /// Its share of the calls, compared with the others.
    #[schema(minimum = 0, maximum = 65535)]
    weight: u16,
    /// How busy it said it was, from 0 to 1.
    #[schema(minimum = 0, maximum = 1)]
    load: f32,
    #[schema(required = true)]
    zone: Option<&'a str>,
    #[schema(required = true)]
    region: Option<&'a str>,
    #[schema(required = true)]
    datacenter: Option<&'a str>,
    /// Further ports, by name.
    #[schema(value_type = BTreeMap<String, i64>, example = json!({"grpc": 9000}))]
    endpoints: &'a BTreeMap<String, u16>,
    #[schema(required = true)]
    url: Option<&'a str>,
    /// Absent for the HTTP poll that is the default; empty for an instance that nobody checks.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Vec<KeptCheckShape>, required = false)]
    checks: Option<&'a Checks>,
    topics: &'a [String],
    #[schema(value_type = Vec<String>)]
    dependencies: &'a [ServiceName],
    /// What an operator has set above its checks.
    #[serde(rename = "override")]
    #[schema(required = true)]
    overridden: Option<OverrideReply<'a>>,
}

impl<'a> InstanceReply<'a> {
    pub fn of(shown: &'a Shown) -> Self {
        let instance = &*shown.instance;
        let spec = &*instance.spec;
        Self {
            id: instance.id.0,
            name: instance.service.as_str(),
            kind: spec.kind,
            host: spec.host.as_str(),
            port: spec.port,
            status: instance.status(),
            metadata: MetadataReply(&spec.metadata),
            health_check_endpoint: spec.health_check_endpoint.as_str(),
            registered_at: instance.registered_at,
            last_seen_at: shown.last_seen(),
            health_check_failures: shown.failures(),
            key: instance.key.as_str(),
            version: instance.version,
            revision: instance.revision,
            updated_at: instance.updated_at,
            weight: spec.weight,
            load: shown.known.load.unwrap_or(0.0),
            zone: spec.zone.as_deref(),
            region: spec.region.as_deref(),
            datacenter: spec.datacenter.as_deref(),
            endpoints: &spec.endpoints,
            url: spec.url.as_deref(),
            checks: Some(&spec.checks).filter(|checks| **checks != Checks::Poll),
            topics: &spec.topics,
            dependencies: &spec.dependencies,
            overridden: instance.overridden.as_deref().map(OverrideReply::of),
        }
    }
}

/// What an operator has set above the checks of an instance.
#[derive(Serialize, ToSchema)]
#[schema(as = Override)]
pub struct OverrideReply<'a> {
    #[schema(schema_with = overridings)]
    status: &'static str,
    #[schema(required = true)]
    reason: Option<&'a str>,
    /// Who set it.
    by: &'a str,
    /// When it ends by itself.
    #[serde(serialize_with = "time::serialize_optional")]
    #[schema(required = true)]
    until: Option<DateTime<Utc>>,
}

impl<'a> OverrideReply<'a> {
    fn of(above: &'a Override) -> Self {
        Self {
            status: above.status.as_str(),
            reason: above.reason.as_deref(),
            by: &above.by,
            until: above.until,
        }
    }
}

/// Metadata with its unknown keys among the known ones, as they came.
pub struct MetadataReply<'a>(pub &'a Metadata);

impl Serialize for MetadataReply<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Metadata { version, environment, region, tags, capabilities, other } = self.0;
        let mut map = serializer.serialize_map(Some(5 + other.len()))?;
        map.serialize_entry("version", version)?;
        map.serialize_entry("environment", environment)?;
        map.serialize_entry("region", region)?;
        map.serialize_entry("tags", tags)?;
        map.serialize_entry("capabilities", capabilities)?;
        for (name, value) in other {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

/// What a service says of itself. Further keys are kept and given back.
#[derive(ToSchema)]
#[schema(as = Metadata)]
#[expect(dead_code, reason = "describes the shape to OpenAPI")]
pub struct MetadataBody {
    version: String,
    environment: String,
    #[schema(required = true)]
    region: Option<String>,
    tags: BTreeMap<String, String>,
    capabilities: Vec<String>,
}

/// How an instance fares.
#[derive(Serialize, ToSchema)]
#[schema(as = Health)]
pub struct HealthReply<'a> {
    id: Uuid,
    name: &'a str,
    #[schema(schema_with = statuses)]
    status: Status,
    /// Failures in a row.
    health_check_failures: i64,
    /// When it was last asked, or reported on.
    #[serde(serialize_with = "time::serialize_optional")]
    #[schema(required = true)]
    last_check: Option<DateTime<Utc>>,
    /// How long it took to answer.
    #[schema(required = true)]
    response_time_ms: Option<f32>,
    /// What was wrong, where something is.
    #[schema(required = true)]
    error: Option<&'a str>,
    #[serde(serialize_with = "time::serialize")]
    last_seen_at: DateTime<Utc>,
    checks: Vec<CheckReply<'a>>,
}

/// How one of its checks fares.
#[derive(Serialize, ToSchema)]
#[schema(as = CheckHealth)]
pub struct CheckReply<'a> {
    id: &'a str,
    #[schema(schema_with = kinds)]
    kind: &'static str,
    /// What is asked; nothing where the instance itself tells.
    #[schema(required = true)]
    target: Option<&'a str>,
    #[schema(schema_with = statuses)]
    status: Status,
    /// What the last result said, 4 KiB at most.
    #[schema(required = true)]
    output: Option<&'a str>,
    #[schema(required = true)]
    latency_ms: Option<f32>,
    /// In a row.
    failures: i64,
    #[serde(serialize_with = "time::serialize_optional")]
    #[schema(required = true)]
    last_run_at: Option<DateTime<Utc>>,
    #[serde(serialize_with = "time::serialize_optional")]
    #[schema(required = true)]
    next_run_at: Option<DateTime<Utc>>,
}

impl<'a> HealthReply<'a> {
    pub fn of(health: &'a Health) -> Self {
        let shown = &health.shown;
        let instance = &*shown.instance;
        let status = instance.status();
        // of the checks that are not well the first speaks for all
        let ill = health.checks.iter().find(|check| check.status != Status::Healthy);
        let latest = health.checks.iter().max_by_key(|check| check.last_run_at);
        let known = latest.map_or(&shown.known, |check| &check.known);
        Self {
            id: instance.id.0,
            name: instance.service.as_str(),
            status,
            health_check_failures: shown.failures(),
            last_check: latest.map_or(shown.known.last_check, |check| check.last_run_at),
            response_time_ms: known.latency_ms,
            error: ill
                .map_or(&shown.known, |check| &check.known)
                .output
                .as_deref()
                .filter(|_| instance.health.status() != Status::Healthy),
            last_seen_at: shown.last_seen(),
            checks: health.checks.iter().map(CheckReply::of).collect(),
        }
    }
}

impl<'a> CheckReply<'a> {
    fn of(check: &'a CheckDetail) -> Self {
        Self {
            id: check.check.id.as_str(),
            kind: check.check.ask.kind().as_str(),
            target: check.target.as_deref(),
            status: check.status,
            output: check.known.output.as_deref(),
            latency_ms: check.known.latency_ms,
            failures: check.failures,
            last_run_at: check.last_run_at,
            next_run_at: check.next_run_at,
        }
    }
}
