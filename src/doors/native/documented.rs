//! Parts of the API's description that many operations share.

use std::collections::BTreeMap;

use utoipa::{
    IntoParams, IntoResponses,
    openapi::{ContentBuilder, Ref, RefOr, Response, ResponseBuilder},
};

/// How fresh the answer has to be.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes parameters to OpenAPI")]
pub struct FreshnessParams {
    /// `strong`: no older than the request. `default`: what this replica has; X-Rollcall-Age tells how old it is.
    #[param(pattern = "^(default|strong)$", required = false)]
    consistency: String,
    /// At least this revision, such as X-Rollcall-Revision of a write named it: you read your own writes on any
    /// replica.
    #[param(minimum = 0, required = false)]
    min_revision: i64,
}

macro_rules! problems {
    ($($(#[$doc:meta])* $name:ident { $($status:literal: $description:literal),+ $(,)? })+) => {
        $(
            $(#[$doc])*
            pub struct $name;

            impl IntoResponses for $name {
                fn responses() -> BTreeMap<String, RefOr<Response>> {
                    BTreeMap::from([$(($status.to_owned(), problem($description))),+])
                }
            }
        )+
    };
}

problems! {
    /// What any read can end with.
    ReadProblems {
        "400": "A parameter is malformed or invalid; `errors` names each",
        "503": "The registry is not loaded yet, or not as fresh as asked for (`not_ready`, `revision_not_reached`, \
                `store_unavailable`)",
    }
    /// What any write can end with.
    WriteProblems {
        "400": "Malformed or invalid; `errors` names each field at fault",
        "503": "Not done, or not known whether done (`outcome_unknown`): `store_unavailable`, `overloaded`, \
                `row_busy`, `too_many_conflicts`, `not_ready`. Try again after Retry-After",
    }
    /// What a body can be refused for.
    BodyProblems {
        "408": "The body did not come, or too slowly (`request_timeout`); the connection is closed",
        "413": "The body is too large: 1 MiB, for a batch 16 MiB",
        "415": "The body is not of a type, or in a coding, that is taken here",
    }
    NoSuchInstance { "404": "There is no such instance (`no_such_instance`)" }
    NoSuchConfig { "404": "There is no such configuration (`no_such_config`)" }
    IdentityChanged { "409": "Name, key, or for an instance without a key host and port, cannot change (`identity_changed`)" }
    PreconditionFailed { "412": "If-Match or If-None-Match does not hold; `current_version` has the current one" }
}

fn problem(description: &str) -> RefOr<Response> {
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
    ResponseBuilder::new()
        .description(description)
        .content("application/problem+json", content)
        .build()
        .into()
}
