//! The bodies that `registration` and `patch` read field by field, as `OpenAPI` tells of them. Where a field may be
//! left out it may be null too.

use std::borrow::Cow;

use serde_json::Value;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{Object, RefOr, Schema, schema::Type},
};

use super::schemas::{
    capabilities, dependencies, health_check_endpoint, host, nullable, ports, ports_of_patch, tags,
    tags_of_patch, topics, types, url,
};

/// What registers an instance, or replaces what was said of it. Unknown fields are passed over. No text may have the
/// character U+0000, no JSON more than 32 levels, and all of it together comes to 32 KiB at most.
#[derive(ToSchema)]
#[schema(as = Registration, example = json!({
    "name": "orders", "type": "api", "host": "10.0.0.7", "port": 8080,
    "metadata": {"version": "1.4.2", "environment": "production", "tags": {"team": "payments"}},
}))]
#[expect(dead_code, reason = "describes the body to OpenAPI; it is read field by field")]
pub struct RegistrationBody {
    /// Stored in lower case. `register`, `discover`, `names`, `batch` and `watch` are reserved.
    #[schema(min_length = 1, max_length = 100, pattern = "^[A-Za-z0-9_-]+$", example = "orders")]
    name: String,
    #[schema(schema_with = types)]
    r#type: String,
    #[schema(schema_with = host)]
    host: String,
    #[schema(minimum = 1, maximum = 65535, example = 8080)]
    port: u16,
    metadata: Option<MetadataOfRegistration>,
    #[schema(schema_with = health_check_endpoint, required = false)]
    health_check_endpoint: String,
    /// The client's own id within the service. None given, host and port are the identity.
    #[schema(min_length = 1, max_length = 255, pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]+$")]
    key: Option<String>,
    #[schema(default = 1, minimum = 0, maximum = 65535)]
    weight: Option<u16>,
    /// From 0 to 1. Moves no version.
    #[schema(minimum = 0, maximum = 1)]
    load: Option<f32>,
    #[schema(max_length = 255)]
    zone: Option<String>,
    /// Where only one of this and metadata.region is given, it holds for both.
    #[schema(max_length = 255)]
    region: Option<String>,
    #[schema(max_length = 255)]
    datacenter: Option<String>,
    /// Further ports, by name.
    #[schema(schema_with = ports, required = false)]
    endpoints: Object,
    /// A whole URL at which people or programs find it.
    #[schema(schema_with = url, required = false)]
    url: String,
    #[schema(schema_with = super::check_shapes::list, required = false)]
    checks: Option<Vec<Value>>,
    /// What it has to do with, in words of its own.
    #[schema(schema_with = topics, required = false)]
    topics: Vec<String>,
    /// The names of the services that it calls.
    #[schema(schema_with = dependencies, required = false)]
    dependencies: Vec<String>,
}

/// What a service says of itself. Further keys are kept and given back.
#[derive(ToSchema)]
#[schema(as = RegistrationMetadata)]
#[expect(dead_code, reason = "describes the shape to OpenAPI")]
pub struct MetadataOfRegistration {
    #[schema(default = "unknown", max_length = 255)]
    version: Option<String>,
    #[schema(default = "development", max_length = 255)]
    environment: Option<String>,
    #[schema(max_length = 255)]
    region: Option<String>,
    #[schema(schema_with = tags, required = false)]
    tags: Object,
    #[schema(schema_with = capabilities, required = false)]
    capabilities: Vec<String>,
}

/// Any part of a registration: derived from it, so that the two cannot drift apart.
pub struct PatchBody;

impl ToSchema for PatchBody {
    fn name() -> Cow<'static, str> {
        "RegistrationPatch".into()
    }
}

impl PartialSchema for PatchBody {
    fn schema() -> RefOr<Schema> {
        let metadata = object_of(MetadataOfRegistration::schema(), |metadata| {
            metadata.schema_type = nullable(Type::Object);
            metadata.properties.insert("tags".to_owned(), tags_of_patch().into());
        });
        object_of(RegistrationBody::schema(), |registration| {
            registration.description =
                Some("Any part of a registration: what is named is replaced, null takes away.".to_owned());
            registration.example =
                Some(serde_json::json!({"weight": 5, "metadata": {"tags": {"team": null}}}));
            registration.required.clear();
            registration.properties.insert("metadata".to_owned(), metadata);
            registration.properties.insert("endpoints".to_owned(), ports_of_patch().into());
        })
    }
}

fn object_of(mut schema: RefOr<Schema>, change: impl FnOnce(&mut Object)) -> RefOr<Schema> {
    if let RefOr::T(Schema::Object(object)) = &mut schema {
        change(object);
    }
    schema
}

/// Up to 1,000 registrations.
#[derive(ToSchema)]
#[schema(max_items = 1000)]
#[expect(dead_code, reason = "describes the body to OpenAPI")]
pub struct BatchBody(Vec<RegistrationBody>);

/// What a sign of life may carry.
#[derive(ToSchema)]
#[schema(as = Heartbeat)]
#[expect(dead_code, reason = "describes the body to OpenAPI")]
pub struct HeartbeatBody {
    /// How busy it is, from 0 to 1.
    #[schema(minimum = 0, maximum = 1, example = 0.3)]
    load: Option<f32>,
}
