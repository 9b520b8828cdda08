//! Parts of the API's description that many operations share, and what is said of all of them alike.

use std::collections::BTreeMap;

use axum::http::Method;
use utoipa::{
    IntoParams, IntoResponses,
    openapi::{
        ContentBuilder, Header, HeaderBuilder, Object, OpenApi, Ref, RefOr, Response, ResponseBuilder,
        Schema,
        path::{Operation, Parameter, ParameterBuilder, ParameterIn, PathItem},
        schema::{KnownFormat, ObjectBuilder, SchemaFormat, Type},
        security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme},
    },
};

use super::{admitted::is_probe, schemas::only_if_new};
use crate::doors::kit::{Policies, Policy};

/// How fresh the answer has to be.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes parameters to OpenAPI")]
pub struct FreshnessParams {
    /// `strong`: no older than the request. `default`: what this replica has; X-Rollcall-Age tells how old it is.
    #[param(pattern = "^(default|strong)$", default = "default", required = false)]
    consistency: String,
    /// At least this revision, such as X-Rollcall-Revision of a write named it: you read your own writes on any
    /// replica. 503 (`revision_not_reached`) if this one does not get there in time.
    #[param(minimum = 0, maximum = 9_223_372_036_854_775_807_isize, required = false)]
    min_revision: i64,
}

/// Do it once.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "describes a parameter to OpenAPI")]
pub struct IdempotencyParam {
    /// A key of the client's choice, such as a UUID. A request that is sent again under its key is not carried out
    /// again. Under the key of another request it is refused.
    #[param(
        rename = "Idempotency-Key",
        min_length = 1,
        max_length = 255,
        required = false,
        pattern = "^[!-~]([ -~]*[!-~])?$"
    )]
    key: String,
}

/// The condition of a write.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "describes a parameter to OpenAPI")]
pub struct IfMatchParam {
    /// The version that it must have, as its `ETag` says; several, of which it must have one; or `*`: it must exist.
    #[param(
        rename = "If-Match",
        required = false,
        example = "\"3\"",
        pattern = r#"^([*]|((W/)?"[ !#-~]*"|[0-9]+)( *, *((W/)?"[ !#-~]*"|[0-9]+))*)$"#
    )]
    versions: String,
}

/// The condition of a write that creates.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "describes a parameter to OpenAPI")]
pub struct IfNoneMatchParam {
    #[param(rename = "If-None-Match", schema_with = only_if_new, required = false)]
    any: String,
}

/// What a reader has already.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "describes a parameter to OpenAPI")]
pub struct KnownParam {
    /// The `ETag` of the answer that the reader has; 304 if it is still the same.
    #[param(rename = "If-None-Match", required = false, example = "\"3\"")]
    tag: String,
}

macro_rules! problems {
    ($($(#[$doc:meta])* $name:ident { $($status:literal: $description:literal),+ $(,)? })+) => {
        $(
            $(#[$doc])*
            pub struct $name;

            impl IntoResponses for $name {
                fn responses() -> BTreeMap<String, RefOr<Response>> {
                    BTreeMap::from([$(($status.to_owned(), problem($description).into())),+])
                }
            }
        )+
    };
}

problems! {
    /// What any read can end with.
    ReadProblems {
        "400": "A parameter is malformed or invalid (`bad_parameter`), or of a later version (`not_supported`); \
                `errors` names each",
        "503": "The registry is not loaded yet, or not as fresh as asked for (`not_ready`, `revision_not_reached`, \
                `store_unavailable`), or too many requests are under way (`overloaded`). Try again after Retry-After",
    }
    /// What any write can end with.
    WriteProblems {
        "400": "Malformed or invalid (`malformed_json`, `incomplete_body`, `invalid_request`, `bad_parameter`); \
                `errors` names each field at fault",
        "503": "Not done, or not known whether done (`outcome_unknown`): `store_unavailable`, `overloaded`, \
                `row_busy`, `too_many_conflicts`, `not_ready`. Try again after Retry-After",
    }
    /// What a body can be refused for.
    BodyProblems {
        "408": "The body did not come, or too slowly (`request_timeout`); the connection is closed",
        "413": "The body is too large: 1 MiB, for a batch 16 MiB (`body_too_large`)",
        "415": "The body is not of a type, or in a coding, that is taken here (`unsupported_media_type`)",
    }
    NoSuchInstance { "404": "There is no such instance (`no_such_instance`)" }
    NoSuchToken { "404": "There is no such token (`no_such_token`)" }
    NoSuchConfig { "404": "There is no such configuration (`no_such_config`)" }
    KeyReused { "409": "The Idempotency-Key was used for another request (`idempotency_key_reused`)" }
    IdentityChanged {
        "409": "Name, key, or for an instance without a key host and port, cannot change (`identity_changed`); or the \
                Idempotency-Key was used for another request (`idempotency_key_reused`)",
    }
    PreconditionFailed {
        "412": "If-Match or If-None-Match does not hold (`precondition_failed`); `current_version` has the current \
                version, null where there is none",
    }
}

fn problem(description: &str) -> Response {
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
    ResponseBuilder::new().description(description).content(PROBLEM, content).build()
}

const PROBLEM: &str = "application/problem+json";

/// Adds what every operation has in common, so that no handler has to say it: the ids that a request is followed by,
/// and the answers that do not come from the handler.
pub fn complete(api: &mut OpenApi, policies: &Policies) {
    let components = api.components.get_or_insert_default();
    components.headers.extend(headers().map(|(name, header)| (name.to_owned(), header.into())));
    components.parameters.extend(ids().map(|id| (id.name.clone(), id.into())));
    let answers = answers_of_all().into_iter().chain(answers_of_gate()).map(|(_, name, mut answer)| {
        // what is answered before the request is known has no ids
        if answer.content.contains_key(PROBLEM) {
            complete_answer(name, &mut answer);
        }
        (name.to_owned(), answer.into())
    });
    components.responses.extend(answers);
    components.add_security_scheme("token", SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)));
    for (path, item) in &mut api.paths.paths {
        for operation in operations(item) {
            complete_operation(operation, is_probe(path));
        }
    }
    for (path, method, _) in policies.iter().filter(|(.., policy)| *policy != Policy::Open) {
        let item = api.paths.paths.get_mut(path);
        if let Some(operation) = item.and_then(|item| operation_of(item, method)) {
            // none is needed where ROLLCALL_AUTH is off
            let nothing: [String; 0] = [];
            operation.security =
                Some(vec![SecurityRequirement::new("token", nothing), SecurityRequirement::default()]);
            let answers = &mut operation.responses.responses;
            let mut add = |status: &str, name: &str| {
                answers.entry(status.to_owned()).or_insert_with(|| Ref::from_response_name(name).into());
            };
            add("401", "Unauthenticated");
            add("403", "Forbidden");
        }
    }
}

fn operation_of<'a>(path: &'a mut PathItem, method: &Method) -> Option<&'a mut Operation> {
    let PathItem { get, put, post, delete, patch, .. } = path;
    let operation = match method.as_str() {
        "GET" => get,
        "PUT" => put,
        "POST" => post,
        "DELETE" => delete,
        _ => patch,
    };
    operation.as_mut()
}

fn operations(path: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let PathItem { get, put, post, delete, patch, .. } = path;
    [get, put, post, delete, patch].into_iter().flatten()
}

fn complete_operation(operation: &mut Operation, is_probe: bool) {
    let parameters = operation.parameters.get_or_insert_default();
    parameters.iter_mut().for_each(describe_by_schema);
    for id in ids() {
        parameters.push(RefOr::Ref(Ref::new(format!("#/components/parameters/{}", id.name))));
    }
    let answers = &mut operation.responses.responses;
    for (status, answer) in answers.iter_mut() {
        if let RefOr::T(answer) = answer {
            complete_answer(status, answer);
        }
    }
    for (status, name, _) in answers_of_all() {
        let applies = match status {
            "408" => operation.request_body.is_some(),
            "429" | "503" => !is_probe,
            _ => true,
        };
        if applies {
            answers.entry(status.to_owned()).or_insert_with(|| Ref::from_response_name(name).into());
        }
    }
}

/// Pages show a parameter's own description, and its schema's only where they show the schema.
fn describe_by_schema(parameter: &mut RefOr<Parameter>) {
    let RefOr::T(parameter) = parameter else { return };
    let of_schema = match &mut parameter.schema {
        Some(RefOr::T(Schema::Object(object))) => object.description.take(),
        Some(RefOr::T(Schema::Array(array))) => array.description.take(),
        _ => None,
    };
    parameter.description = parameter.description.take().or(of_schema);
}

fn complete_answer(status: &str, answer: &mut Response) {
    let mut names = vec!["X-Request-Id", "traceparent"];
    if answer.content.contains_key(PROBLEM) {
        names.extend(["X-Rollcall-Revision", "X-Rollcall-Age"]);
    }
    names.extend(match status {
        "304" => &["ETag", "X-Rollcall-Revision", "X-Rollcall-Age"][..],
        "Unauthenticated" => &["WWW-Authenticate"],
        "405" | "MethodNotAllowed" => &["Allow"],
        "412" => &["ETag"],
        "429" | "503" | "TooManyRequests" | "Overloaded" => &["Retry-After"],
        _ => &[],
    });
    for name in names {
        let reference = Ref::new(format!("#/components/headers/{name}"));
        answer.headers.entry(name.to_owned()).or_insert_with(|| RefOr::Ref(reference));
    }
}

/// Statuses that no handler gives, each with the name of its component.
fn answers_of_all() -> [(&'static str, &'static str, Response); 7] {
    [
        (
            "405",
            "MethodNotAllowed",
            problem(
                "The path does not know the method; Allow lists those that it does (`method_not_allowed`)",
            ),
        ),
        ("408", "RequestTimeout", problem("The body did not come in time (`request_timeout`)")),
        ("414", "UriTooLong", Response::new("The URI has more than 65,534 bytes. Without a body")),
        (
            "429",
            "TooManyRequests",
            problem(
                "More requests came from this address than it may make, where that is limited (`too_many_requests`). \
                 Nothing was done; try again after Retry-After",
            ),
        ),
        (
            "431",
            "HeadersTooLarge",
            Response::new("There are more than 100 headers, or they are too large. Without a body"),
        ),
        (
            "500",
            "InternalError",
            problem(
                "A fault of rollcall's own; the log has it under the request's id \
                                          (`internal_error`)",
            ),
        ),
        (
            "503",
            "Overloaded",
            problem(
                "Too many requests are under way (`overloaded`). Nothing was done; try again after Retry-After",
            ),
        ),
    ]
}

/// What the gate answers, before anything else of a request is looked at.
fn answers_of_gate() -> [(&'static str, &'static str, Response); 2] {
    [
        (
            "401",
            "Unauthenticated",
            problem(
                "Who asks has not shown who he is (`unauthenticated`), or not with a token that is valid \
                 (`invalid_token`)",
            ),
        ),
        ("403", "Forbidden", problem("Who asks may not do this (`forbidden`)")),
    ]
}

/// The ids that a request is followed by: taken, and given back.
fn ids() -> [Parameter; 2] {
    let parameter = |name: &str, description: &str, schema: ObjectBuilder| {
        ParameterBuilder::new()
            .name(name)
            .parameter_in(ParameterIn::Header)
            .required(utoipa::openapi::Required::False)
            .description(Some(description))
            .schema(Some(schema.schema_type(Type::String)))
            .build()
    };
    [
        parameter(
            "X-Request-Id",
            "An id of the caller's own for this request: up to 128 visible ASCII characters. Anything else is passed \
             over, and the request gets a new one.",
            ObjectBuilder::new().examples(["4f1f2e2c-6a57-4c5e-9f27-0c3d1b1f2a77"]),
        ),
        parameter(
            "traceparent",
            "The caller's trace, as W3C Trace Context has it. Anything else is passed over.",
            ObjectBuilder::new().examples(["00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"]),
        ),
    ]
}

fn headers() -> [(&'static str, Header); 8] {
    let header = |description: &str, schema: Object| {
        HeaderBuilder::new().description(Some(description)).schema(Some(schema)).build()
    };
    let text = || Object::with_type(Type::String);
    let number = || {
        ObjectBuilder::new()
            .schema_type(Type::Integer)
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::Int64)))
            .minimum(Some(0))
            .build()
    };
    [
        (
            "X-Request-Id",
            header("The id of this request, as the log has it: the caller's own, or a new one", text()),
        ),
        ("traceparent", header("The caller's trace, where it gave one", text())),
        ("X-Rollcall-Revision", header("The revision that the answer rests on, once there is one", number())),
        ("X-Rollcall-Age", header("How old that may be, in milliseconds", number())),
        ("ETag", header("The current version, where there is one", text())),
        ("WWW-Authenticate", header("How to show it: as a Bearer token", text())),
        ("Allow", header("The methods that the path knows", text())),
        ("Retry-After", header("In how many seconds to try again", number())),
    ]
}
