//! Schemas for `OpenAPI` that no Rust type says by itself: which texts are taken, how many of them, what may be null.

use serde_json::json;
use utoipa::openapi::{
    Object, ObjectBuilder, RefOr, Schema, SchemaFormat,
    schema::{AnyOfBuilder, Array, ArrayBuilder, SchemaType, Type},
};

use super::registration::{LONGEST_TAG, LONGEST_WORD, MOST_ENTRIES};
use crate::domain::{Overriding, ServiceType, Status};

/// A label of a host name; the last one is no number, or the whole would be an IPv4 address.
const HOST_NAME: &str = "^([A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\\.)*(?![0-9]+\\.?$)\
                         [A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\\.?$";
const SERVICE_NAME: &str = "^[A-Za-z0-9._:-]+$";

pub fn types() -> Object {
    words(ServiceType::ALL.map(ServiceType::as_str))
}

pub fn statuses() -> Object {
    words(Status::ALL.map(Status::as_str))
}

pub fn overridings() -> Object {
    words(Overriding::ALL.map(Overriding::as_str))
}

pub fn wanted_status() -> Object {
    let mut statuses = statuses();
    statuses.description = Some("Those in this status, instead of the healthy ones.".to_owned());
    statuses.default = Some(json!(Status::Healthy.as_str()));
    statuses
}

/// If-None-Match of a write.
pub fn only_if_new() -> Object {
    let mut any = words(["*"]);
    any.description = Some("`*`: only if it does not exist yet. Not together with If-Match.".to_owned());
    any
}

pub fn words<const N: usize>(words: [&'static str; N]) -> Object {
    string().enum_values(Some(words)).build()
}

pub fn host() -> RefOr<Schema> {
    let format = |format: &str| string().format(Some(SchemaFormat::Custom(format.to_owned())));
    AnyOfBuilder::new()
        .item(string().min_length(Some(1)).max_length(Some(255)).pattern(Some(HOST_NAME)))
        .item(format("ipv4"))
        .item(format("ipv6"))
        .description(Some("A host name or an IP address, without a port."))
        .examples([json!("10.0.0.7")])
        .into()
}

pub fn health_check_endpoint() -> RefOr<Schema> {
    let path = "^/([^/\\u0000-\\u0020\\u007f-\\u009f][^\\u0000-\\u0020\\u007f-\\u009f]*)?$";
    let url = "^[Hh][Tt][Tt][Pp][Ss]?://[^@/?#]+([/?#].*)?$";
    AnyOfBuilder::new()
        .item(string().max_length(Some(2048)).pattern(Some(path)))
        .item(uri(url).max_length(Some(2048)))
        .item(Object::with_type(Type::Null))
        .description(Some("A path on host:port, or a whole http(s) URL without user name and password."))
        .default(Some(json!("/health")))
        .into()
}

pub fn url() -> Object {
    let mut url = uri("^[A-Za-z][A-Za-z0-9+.-]*:").max_length(Some(2048)).build();
    url.schema_type = nullable(Type::String);
    url
}

fn uri(pattern: &str) -> ObjectBuilder {
    string().format(Some(SchemaFormat::Custom("uri".to_owned()))).pattern(Some(pattern))
}

pub fn tags() -> Object {
    map(tag_value()).examples([json!({"team": "payments", "auth": ""})]).build()
}

pub fn ports() -> Object {
    map(port()).examples([json!({"grpc": 9000})]).build()
}

/// The same in a merge patch, where null takes an entry away.
pub fn tags_of_patch() -> Object {
    let mut value = tag_value();
    value.schema_type = nullable(Type::String);
    map(value).examples([json!({"team": "billing", "auth": null})]).build()
}

pub fn ports_of_patch() -> Object {
    let mut value = port();
    value.schema_type = nullable(Type::Integer);
    map(value).examples([json!({"grpc": null})]).build()
}

fn tag_value() -> Object {
    string().max_length(Some(LONGEST_TAG)).build()
}

fn port() -> Object {
    ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1)).maximum(Some(65535)).build()
}

fn map(value: Object) -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(nullable(Type::Object))
        .property_names(Some(string().min_length(Some(1)).max_length(Some(LONGEST_WORD)).build()))
        .additional_properties(Some(Schema::Object(value)))
        .max_properties(Some(MOST_ENTRIES))
}

pub fn capabilities() -> Array {
    list(string().max_length(Some(LONGEST_WORD)))
}

pub fn topics() -> Array {
    list(string().min_length(Some(1)).max_length(Some(LONGEST_WORD)))
}

pub fn dependencies() -> Array {
    list(string().min_length(Some(1)).max_length(Some(100)).pattern(Some(SERVICE_NAME)))
}

fn list(item: ObjectBuilder) -> Array {
    ArrayBuilder::new().schema_type(nullable(Type::Array)).items(item).max_items(Some(MOST_ENTRIES)).build()
}

pub fn wanted_tags() -> Array {
    ArrayBuilder::new()
        .items(string().pattern(Some("^[^=]+=")).examples([json!("team=payments")]))
        .description(Some("`key=value`; given several times, all must be there. A bare label is `label=`."))
        .build()
}

fn string() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}

pub fn nullable(kind: Type) -> SchemaType {
    SchemaType::Array(vec![kind, Type::Null])
}
