//! Checks as `OpenAPI` tells of them; `checks` reads them.

use std::borrow::Cow;

use serde_json::{Value, json};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        Object, Ref, RefOr, Schema,
        schema::{ArrayBuilder, Type},
    },
};

use super::{
    registration::{LONGEST_WORD, MOST_ENTRIES},
    schemas::{nullable, words},
};
use crate::domain::check::{Kind, MOST_CHECKS, Method};

const INTERVAL: &str = "^([1-9][0-9]{2,6}ms|[1-9][0-9]{0,3}s|[1-9][0-9]{0,2}m|([1-9]|1[0-9]|2[0-4])h)$";
const TIMEOUT: &str = "^([5-9][0-9]ms|[1-9][0-9]{2,4}ms|[1-9][0-9]?s|[1-5]m)$";
const AT_LEAST_A_SECOND: &str =
    "^([1-9][0-9]{3,6}ms|[1-9][0-9]{0,6}s|[1-9][0-9]{0,4}m|[1-9][0-9]{0,2}h|[1-9][0-9]?d)$";
const DELAY: &str = "^([0-9]{1,5}ms|[1-9]?[0-9]s|[0-5]m)$";
const STATUSES: &str = "^([1-5][0-9][0-9]|[1-5]xx)$";

/// One check of an instance. The builders of `utoipa` have no words for all of it: `Check::complete` puts the shape into
/// the finished description.
pub struct CheckShape;

impl ToSchema for CheckShape {
    fn name() -> Cow<'static, str> {
        NAME.into()
    }
}

impl PartialSchema for CheckShape {
    fn schema() -> RefOr<Schema> {
        Object::new().into()
    }
}

const NAME: &str = "Check";
const KEPT: &str = "CheckOfInstance";

/// A check as it is shown: what was taken in any form, in one that need not be taken.
pub struct KeptCheckShape;

impl ToSchema for KeptCheckShape {
    fn name() -> Cow<'static, str> {
        KEPT.into()
    }
}

impl PartialSchema for KeptCheckShape {
    fn schema() -> RefOr<Schema> {
        Object::new().into()
    }
}

fn without_patterns(mut shape: Value) -> Value {
    match &mut shape {
        Value::Object(members) => {
            members.remove("pattern");
            members.remove("propertyNames");
            for member in members.values_mut() {
                *member = without_patterns(member.take());
            }
        }
        Value::Array(items) => {
            for item in items {
                *item = without_patterns(item.take());
            }
        }
        _ => {}
    }
    shape
}

impl CheckShape {
    pub fn complete(description: &mut Value) {
        if let Some(Value::Object(schemas)) = description.pointer_mut("/components/schemas") {
            schemas.insert(NAME.to_owned(), Self::shape());
            schemas.insert(KEPT.to_owned(), without_patterns(Self::shape()));
        }
    }

    fn shape() -> Value {
        json!({"oneOf": [
            with_all_checks("http", "An HTTP request.", &["kind"], &json!({
                "path": {"type": ["string", "null"], "pattern": "^/([^/\\u0000-\\u0020\\u007f-\\u009f][^\\u0000-\\u0020\\u007f-\\u009f]*)?$", "maxLength": 2048,
                    "description": "On the address of the instance. Without it and `url` the health_check_endpoint is asked."},
                "url": {"type": ["string", "null"], "format": "uri", "pattern": "^[Hh][Tt][Tt][Pp][Ss]?://[^@/?#]+([/?#].*)?$", "maxLength": 2048,
                    "description": "A whole http(s) URL, instead of `path`."},
                "method": {"type": ["string", "null"], "enum": Method::ALL.map(Method::as_str), "default": "GET"},
                "headers": {"type": ["object", "null"], "maxProperties": MOST_ENTRIES,
                    "propertyNames": {"pattern": "^[Xx]-[A-Za-z0-9-]{1,100}$|^[Aa]uthorization$|^[Hh]ost$|^[Aa]ccept$"},
                    "additionalProperties": {"type": "string", "pattern": "^[!-~]([ -~]*[!-~])?$", "maxLength": 4096}},
                "expect": {"type": ["object", "null"], "description": "What the answer must be; without it, 200 to 299.",
                    "properties": {
                        "status": statuses("Those that are well."),
                        "degraded": statuses("Those that say: alive, and not well."),
                        "json": {"type": ["object", "null"], "description": "What the body must have: a value for each path, dots between its steps.",
                            "propertyNames": {"minLength": 1, "maxLength": 255}, "examples": [{"status": "healthy"}]},
                        "load": {"type": ["string", "null"], "minLength": 1, "maxLength": 255,
                            "description": "The path of a number from 0 to 1 in the body, which is taken as the load. It must be there."}}},
                "tls": tls()
            })),
            with_all_checks("tcp", "That a connection comes about.", &["kind"], &json!({"url": address()})),
            with_all_checks("grpc", "By the standard health protocol of gRPC.", &["kind"], &json!({
                "url": address(),
                "service": {"type": ["string", "null"], "maxLength": LONGEST_WORD, "description": "Empty for the server as a whole."},
                "tls": tls()
            })),
            with_all_checks("ttl", "Nobody asks: the instance tells by heartbeats or reports, at least so often.", &["kind", "ttl"], &json!({
                "ttl": {"type": "string", "pattern": AT_LEAST_A_SECOND, "examples": ["15s"]}
            })),
            with_all_checks("script", "A program in the folder that the operator allows (ROLLCALL_CHECK_SCRIPTS): 0 is well, 1 degraded, all else a failure.", &["kind", "script"], &json!({
                "script": {"type": "string", "pattern": "^[A-Za-z0-9_][A-Za-z0-9._-]*$", "maxLength": LONGEST_WORD},
                "args": {"type": ["array", "null"], "items": {"type": "string", "maxLength": 4096}, "maxItems": MOST_ENTRIES}
            })),
        ], "examples": [{"kind": "http", "path": "/health", "interval": "10s"}]})
    }
}

/// The checks of a registration.
pub fn list() -> RefOr<Schema> {
    ArrayBuilder::new()
        .schema_type(nullable(Type::Array))
        .items(Ref::from_schema_name(NAME))
        .max_items(Some(MOST_CHECKS))
        .description(Some(
            "Absent: an HTTP request to health_check_endpoint every 30 s. Empty: nobody checks. Each has an id of its \
             own; one that is given none has that of its kind.",
        ))
        .into()
}

fn with_all_checks(kind: &str, description: &str, required: &[&str], own: &Value) -> Value {
    let threshold = |default: u16| json!({"type": ["integer", "null"], "minimum": 1, "maximum": 1000, "default": default});
    let duration = |pattern: &str, default: Value| json!({"type": ["string", "null"], "pattern": pattern, "default": default});
    let mut shape = json!({
        "type": "object", "description": description, "required": required,
        "properties": {
            "kind": {"type": "string", "enum": [kind]},
            "id": {"type": ["string", "null"], "minLength": 1, "maxLength": 100, "pattern": "^[^\\u0000-\\u001f\\u007f-\\u009f]+$"},
            "interval": duration(INTERVAL, json!("30s")),
            "timeout": duration(TIMEOUT, json!("10s")),
            "degraded_after": threshold(1),
            "unhealthy_after": threshold(3),
            "healthy_after": threshold(1),
            "retries": {"type": ["integer", "null"], "minimum": 0, "maximum": 10, "default": 0},
            "retry_delay": duration(DELAY, json!("0s")),
            "deregister_after": duration(AT_LEAST_A_SECOND, Value::Null),
            "initial_status": {"type": ["string", "null"], "enum": ["unknown", "starting", "healthy", "degraded", "unhealthy", null], "default": "unknown"},
        },
    });
    if let (Some(Value::Object(all)), Value::Object(own)) = (shape.get_mut("properties"), own) {
        all.extend(own.clone());
    }
    shape
}

fn statuses(description: &str) -> Value {
    let one = json!({"type": "string", "pattern": STATUSES});
    json!({"description": description, "anyOf": [
        one, {"type": "integer", "minimum": 100, "maximum": 599},
        {"type": "array", "items": one, "maxItems": MOST_ENTRIES}, {"type": "null"},
    ]})
}

fn address() -> Value {
    json!({"type": ["string", "null"], "pattern": "^[a-z][a-z0-9-]{0,50}[a-z0-9]:[1-9][0-9]{0,3}$", "examples": ["db:5432"],
        "description": "host:port, where that is not the address of the instance."})
}

fn tls() -> Value {
    json!({"description": "`true`: what the machine trusts.", "anyOf": [
        {"type": "boolean"}, {"type": "null"},
        {"type": "object", "properties": {
            "verify": {"type": ["boolean", "null"], "default": true},
            "ca": {"type": ["string", "null"], "pattern": "-----BEGIN CERTIFICATE-----", "maxLength": 16384, "description": "Certificates in PEM to trust instead."},
            "server_name": {"type": ["string", "null"], "minLength": 1, "maxLength": LONGEST_WORD}}}]})
}

pub fn kinds() -> Object {
    words(Kind::ALL.map(Kind::as_str))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shape_takes_its_place_in_the_description() {
        let mut description = json!({"components": {"schemas": {"Check": {}}}});
        CheckShape::complete(&mut description);
        let shape = &description["components"]["schemas"]["Check"];
        let kinds: Vec<_> = shape["oneOf"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| &one["properties"]["kind"]["enum"][0])
            .collect();
        assert_eq!(kinds, Kind::ALL.map(Kind::as_str).iter().collect::<Vec<_>>());
        assert!(shape.to_string().contains("\"pattern\""));
        assert!(!description["components"]["schemas"]["CheckOfInstance"].to_string().contains("\"pattern\""));
        assert_eq!(serde_json::to_value(list()).unwrap()["maxItems"], json!(MOST_CHECKS));
    }
}
