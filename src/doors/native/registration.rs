//! Reads a registration, all of its faults at once.

use std::sync::Arc;

use serde_json::Value;
use url::Url;

use super::checks::read_checks;
use crate::{
    domain::{
        Checks, Fault, Host, Key, Metadata, ServiceName, ServiceType, Spec, Violation, fault::text_within,
        target::Endpoint,
    },
    doors::kit::{
        Fields,
        fields::{number_from, parsed, share, text},
    },
};

/// The longest name of a version, an environment, a region and the like.
pub const LONGEST_WORD: usize = 255;
pub const LONGEST_TAG: usize = 1024;
/// How many tags, capabilities, topics and so on there may be of each.
pub const MOST_ENTRIES: usize = 100;
const METADATA_FIELDS: [&str; 5] = ["version", "environment", "region", "tags", "capabilities"];

/// What was sent to register or to replace an instance, and is sound.
#[derive(Debug)]
pub struct Registration {
    pub service: ServiceName,
    pub key: Option<Key>,
    pub spec: Arc<Spec>,
    /// No part of the specification: it changes all the time.
    pub load: Option<f32>,
}

/// Which names of services are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Names {
    /// Those that this door gives.
    Own,
    /// Those of other doors too: the instance may have been registered there.
    All,
}

impl Registration {
    /// What it does not know it passes over, the fields of an answer that is sent back too.
    pub fn read(value: &Value, names: Names) -> Result<Self, Vec<Violation>> {
        let mut violations = Vec::new();
        let read =
            Fields::of(value, "", &mut violations).and_then(|mut fields| Self::parts(&mut fields, names));
        let Some((service, key, spec, load)) = read.filter(|_| violations.is_empty()) else {
            return Err(violations);
        };
        Ok(Self { service, key, spec: spec.complete()?.into(), load })
    }

    /// The parts by themselves; None where some are missing or bad.
    fn parts(
        fields: &mut Fields<'_, '_>,
        names: Names,
    ) -> Option<(ServiceName, Option<Key>, Spec, Option<f32>)> {
        let service = fields.required("name", parsed(|text| service_name(text, names)));
        let kind = fields.required("type", parsed(service_type));
        let host = fields.required("host", parsed(Host::parse));
        let port = fields.required("port", number_from(1));
        let metadata = fields.nested("metadata", read_metadata).unwrap_or_default();
        let health_check_endpoint =
            fields.optional("health_check_endpoint", parsed(Endpoint::parse)).unwrap_or_default();
        let key = fields.optional("key", parsed(Key::given));
        let weight = fields.optional("weight", number_from(0)).unwrap_or(Spec::DEFAULT_WEIGHT);
        let mut word = |name: &str| Some(fields.optional(name, text(0, LONGEST_WORD))?.into());
        let (zone, region, datacenter) = (word("zone"), word("region"), word("datacenter"));
        let endpoints = fields.map("endpoints", MOST_ENTRIES, LONGEST_WORD, number_from(1));
        let url = fields.optional("url", parsed(whole_url));
        let topics = fields.list("topics", MOST_ENTRIES, text(1, LONGEST_WORD));
        let dependencies = fields.list("dependencies", MOST_ENTRIES, parsed(ServiceName::parse));
        let checks = read_checks(fields, &health_check_endpoint).map(Checks::listed).unwrap_or_default();
        let load = fields.optional("load", share);
        let spec = Spec {
            kind: kind?,
            host: host?,
            port: port?,
            metadata: metadata.into(),
            health_check_endpoint,
            weight,
            zone,
            region,
            datacenter,
            endpoints,
            url,
            topics: topics.into(),
            dependencies: dependencies.into(),
            checks,
        };
        Some((service?, key, spec, load))
    }
}

fn service_name(text: &str, names: Names) -> Result<ServiceName, Fault> {
    let own = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if names == Names::Own
        && let Some(odd) = text.chars().find(|c| !own(*c))
    {
        return Err(format!("may have ASCII letters, digits, '-' and '_' only, has {odd:?}").into());
    }
    ServiceName::parse(text)
}

pub fn service_type(text: &str) -> Result<ServiceType, Fault> {
    ServiceType::parse(text).ok_or_else(|| {
        format!("must be one of {}", ServiceType::ALL.map(ServiceType::as_str).join(", ")).into()
    })
}

fn whole_url(text: &str) -> Result<Box<str>, Fault> {
    let text = text_within(text, 1, 2048)?;
    if text.chars().any(char::is_control) {
        return Err(Fault::new("must not contain control characters"));
    }
    Url::parse(text).map_err(|error| Fault::from(format!("must be a whole URL: {error}")))?;
    Ok(text.into())
}

fn read_metadata(fields: &mut Fields<'_, '_>) -> Metadata {
    let defaults = Metadata::default();
    let mut word = |name: &str| fields.optional(name, text(0, LONGEST_WORD));
    let (version, environment, region) = (word("version"), word("environment"), word("region"));
    Metadata {
        version: version.unwrap_or(defaults.version),
        environment: environment.unwrap_or(defaults.environment),
        region: region.map(Into::into),
        tags: fields.map("tags", MOST_ENTRIES, LONGEST_WORD, text(0, LONGEST_TAG)),
        capabilities: fields.list("capabilities", MOST_ENTRIES, text(0, LONGEST_WORD)),
        other: fields.others(&METADATA_FIELDS),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn minimal() -> Value {
        json!({"name": "Orders", "type": "api", "host": "10.0.0.7", "port": 8080})
    }

    fn with(name: &str, value: Value) -> Value {
        let mut body = minimal();
        body[name] = value;
        body
    }

    fn faults(body: &Value) -> Vec<String> {
        let violations = Registration::read(body, Names::Own).err().unwrap_or_default();
        violations.into_iter().map(|violation| violation.field).collect()
    }

    #[test]
    fn the_defaults_are_first_viscounts() {
        let Registration { service, key, spec, .. } = Registration::read(&minimal(), Names::Own).unwrap();
        assert_eq!(service.as_str(), "orders");
        assert_eq!(key, None);
        assert_eq!(*spec.metadata, Metadata::default());
        assert_eq!(spec.health_check_endpoint.as_str(), "/health");
        assert_eq!((spec.weight, &spec.checks), (1, &Checks::Poll));
    }

    #[test]
    fn every_field_has_its_rule() {
        let list = |count: usize| json!(vec!["x"; count]);
        for (name, value, field) in [
            ("name", json!(""), "name"),
            ("name", json!("a.b"), "name"),
            ("name", json!("register"), "name"),
            ("name", json!(7), "name"),
            ("name", Value::Null, "name"),
            ("type", json!("API"), "type"),
            ("host", json!("a b"), "host"),
            ("port", json!(65536), "port"),
            ("port", json!("8080"), "port"),
            ("metadata", json!([]), "metadata"),
            ("metadata", json!({"version": 1}), "metadata.version"),
            ("metadata", json!({"environment": "x".repeat(256)}), "metadata.environment"),
            ("metadata", json!({"region": false}), "metadata.region"),
            ("metadata", json!({"tags": ["a"]}), "metadata.tags"),
            ("metadata", json!({"tags": {"team": null}}), "metadata.tags.team"),
            ("metadata", json!({"capabilities": "x"}), "metadata.capabilities"),
            ("metadata", json!({"capabilities": list(101)}), "metadata.capabilities"),
            ("metadata", json!({"x": {"y": "\0"}}), "metadata.x.y"),
            ("health_check_endpoint", json!("ftp://x/"), "health_check_endpoint"),
            ("key", json!(""), "key"),
            ("weight", json!(-1), "weight"),
            ("zone", json!("\0"), "zone"),
            ("region", json!(1), "region"),
            ("datacenter", json!({}), "datacenter"),
            ("endpoints", json!({"grpc": 0}), "endpoints.grpc"),
            ("url", json!("orders"), "url"),
            ("topics", json!([""]), "topics[0]"),
            ("dependencies", json!(["a b"]), "dependencies[0]"),
            ("checks", json!([7]), "checks[0]"),
            ("checks", json!({}), "checks"),
        ] {
            let body = with(name, value);
            assert_eq!(faults(&body), [field], "{body}");
        }
        assert_eq!(faults(&json!({})), ["name", "type", "host", "port"]);
        assert_eq!(faults(&json!([])), ["body"]);
    }

    #[test]
    fn optional_fields_may_be_null_and_unknown_ones_are_passed_over() {
        let mut body = minimal();
        for name in [
            "metadata",
            "health_check_endpoint",
            "key",
            "weight",
            "zone",
            "region",
            "endpoints",
            "url",
            "checks",
        ] {
            body[name] = Value::Null;
        }
        body["id"] = json!(7);
        body["status"] = json!("healthy");
        assert_eq!(Registration::read(&body, Names::Own).unwrap().spec.weight, 1);
    }

    #[test]
    fn unknown_metadata_is_kept() {
        let body = with("metadata", json!({"owner": {"team": ["a", 1, null]}, "region": "eu"}));
        let spec = Registration::read(&body, Names::Own).unwrap().spec;
        assert_eq!(Value::Object(spec.metadata.other.clone()), json!({"owner": {"team": ["a", 1, null]}}));
        assert_eq!(spec.region.as_deref(), Some("eu"));
    }

    #[test]
    fn rules_over_several_fields_are_told_with_their_place() {
        let mut body = with("host", json!("169.254.169.254"));
        let violations = Registration::read(&body, Names::Own).unwrap_err();
        assert_eq!(violations.first().unwrap().field, "host");
        body["checks"] = json!([]);
        assert!(Registration::read(&body, Names::Own).is_ok());
    }

    #[test]
    fn names_of_other_doors_are_taken_where_they_exist_already() {
        let body = with("name", json!("a.b:c"));
        assert!(Registration::read(&body, Names::Own).is_err());
        assert_eq!(Registration::read(&body, Names::All).unwrap().service.as_str(), "a.b:c");
    }
}
