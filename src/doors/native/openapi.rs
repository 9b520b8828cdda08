//! The description of the API, and a page to try it that needs nothing from elsewhere.

use std::sync::Arc;

use axum::{
    body::Bytes,
    http::{
        HeaderValue, StatusCode,
        header::{CONTENT_ENCODING, CONTENT_TYPE},
    },
    response::{Html, IntoResponse as _, Response},
};
use utoipa::OpenApi;
use utoipa_swagger_ui::Config;

use super::{
    answer::json_bytes,
    check_shapes::{CheckShape, KeptCheckShape},
    error::internal,
    path::Segment,
};
use crate::doors::kit::{self, problem::ProblemBody, security::guard_page};

pub type Problem<'a> = ProblemBody<'a>;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "rollcall",
        description = "A service registry, health monitor and configuration service.\n\n\
            What goes wrong is told as `application/problem+json` (RFC 9457): `code` is for programs, `errors` names \
            each field at fault, `request_id` leads to the log. Times are UTC with six decimals. `ETag` is a version, \
            for `If-Match` and `If-None-Match`. `X-Rollcall-Revision` is a place in the log of all changes: \
            what a write answered, a read with `min_revision` has seen. A path with a slash at its end is the same \
            as without; HEAD is answered wherever GET is; unknown query parameters and fields are passed over.",
        license(name = "MIT", identifier = "MIT"),
    ),
    tags(
        (name = "registry", description = "Service instances: register, list, change, unregister"),
        (name = "discovery", description = "Finding the instances that can be called"),
        (name = "health", description = "Signs of life, and how instances fare"),
        (name = "configuration", description = "A JSON object for each service and environment, with versions"),
        (name = "audit", description = "The log of all changes"),
        (name = "tokens", description = "Who may do what"),
        (name = "operations", description = "rollcall itself"),
    ),
    paths(describe_document, describe_page),
    components(schemas(ProblemBody, CheckShape, KeptCheckShape, super::wire::InstanceReply)),
)]
pub struct Api;

/// This description
#[utoipa::path(
    get, path = "/openapi.json", tag = "operations",
    responses((status = 200, description = "An OpenAPI 3.1 document", body = Object)),
)]
#[expect(dead_code, reason = "describes a route whose answer is made from all the others")]
fn describe_document() {}

/// A page to try the API
#[utoipa::path(
    get, path = "/docs", tag = "operations",
    responses((status = 200, description = "Works without internet", body = String, content_type = "text/html")),
)]
#[expect(dead_code, reason = "describes a route that answers no JSON")]
fn describe_page() {}

/// The description, as it is sent.
pub fn document(api: &utoipa::openapi::OpenApi) -> Result<Bytes, serde_json::Error> {
    let mut description = serde_json::to_value(api)?;
    CheckShape::complete(&mut description);
    serde_json::to_vec(&description).map(Bytes::from)
}

pub fn send(document: Bytes) -> Response {
    json_bytes(StatusCode::OK, document)
}

/// The page. Its parts are named by whole paths, so that it works with and without a slash at the end.
pub async fn page() -> Response {
    let mut response = Html(include_str!("docs.html")).into_response();
    guard_page(response.headers_mut());
    response
}

/// A part of the page.
pub async fn part(Segment(path): Segment) -> Result<Response, kit::Problem> {
    let file = utoipa_swagger_ui::serve(&path, Arc::new(Config::new(["/openapi.json"])));
    let file = file.map_err(|error| internal(std::io::Error::other(error.to_string())))?;
    let file = file.ok_or_else(kit::Problem::no_such_route)?;
    let mut response = file.bytes.into_owned().into_response();
    let kind = HeaderValue::try_from(file.content_type).map_err(internal)?;
    response.headers_mut().insert(CONTENT_TYPE, kind);
    if file.gzpipped {
        response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    Ok(response)
}
