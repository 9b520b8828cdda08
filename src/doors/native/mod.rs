//! The native API: First Viscount's contract, and all that rollcall can do.
//!
//! Parse, call the app, answer: a file an operation or a few that belong together. Shapes are in `wire` and
//! `registration`, what went wrong is put into words in `error`.

mod admitted;
mod answer;
mod bodies;
mod check_shapes;
mod checks;
mod config;
mod discover;
mod documented;
mod error;
mod events;
mod front;
mod guarded;
mod health;
mod history;
mod instance;
mod list;
mod names;
mod openapi;
mod overrides;
mod page;
mod patch;
mod path;
mod plain;
mod probes;
mod register;
mod registration;
#[cfg(test)]
mod sample;
mod schemas;
mod selection;
mod tokens;
mod wire;

use axum::{Extension, Router, http::Method, routing::get};
use utoipa::OpenApi as _;
use utoipa_axum::routes;

use super::kit::{
    Admission, Envelope, Policies,
    Policy::{Each, Named, OfInstance, Open, Whole},
    Problem,
    admission::Admit,
    cors::cors,
    security::Security,
    slash::with_or_without_slash,
};
pub use front::{Answer, Front};
use guarded::Routes;
pub use guarded::Unguarded;
use list::WholeLists;

use crate::{
    app::App,
    domain::{
        Action::{Read, Write},
        Resource::{Audit, Config, Operator, Service, Token},
    },
    settings::Origins,
};

/// On what terms this door answers.
#[derive(Clone)]
pub struct Terms {
    /// Shared by all doors.
    pub admission: Admission,
    /// The web pages that may call it.
    pub cors: Option<Origins>,
    pub security: Security,
}

/// Everything of the main port. A request passes the layers from the last one named to the first: a browser's question
/// beforehand is answered by itself, then the envelope has the last word on all answers, and nobody whom there is no
/// place for is looked at any closer. Behind that is the gate.
fn router(app: App, terms: &Terms) -> Result<Router, Unguarded> {
    let document = description();
    let router = routes()
        .add_open("/openapi.json", get(async move || openapi::send(document)))
        .behind_gate(&app, |router| router.fallback(async || Problem::no_such_route()))?
        .layer(Extension(WholeLists::default()))
        .layer(Admit { admission: terms.admission.clone(), class_of: admitted::class_of })
        .layer(Envelope { metrics: app.metrics().clone(), door: "native", stamp: answer::stamp(app.clone()) })
        .with_state(app);
    let router = with_or_without_slash(router);
    Ok(match &terms.cors {
        Some(origins) => router.layer(cors(origins)),
        None => router,
    })
}

/// The description, as it is served.
pub fn description() -> axum::body::Bytes {
    let described = described();
    let mut api = described.api();
    documented::complete(&mut api, described.policies());
    openapi::document(&api).unwrap_or_default()
}

/// All routes, with who may use each.
pub fn policies() -> Policies {
    routes().add_open("/openapi.json", get(async || ())).policies().clone()
}

/// All but the description.
fn routes() -> Routes {
    described().add_open("/docs", get(openapi::page)).add_open("/docs/{*part}", get(openapi::part))
}

const GET: Method = Method::GET;
const PUT: Method = Method::PUT;
const POST: Method = Method::POST;
const PATCH: Method = Method::PATCH;
const DELETE: Method = Method::DELETE;

/// The routes that the description tells of.
fn described() -> Routes {
    Routes::described_by(openapi::Api::openapi())
        .add(routes!(register::register), &[(POST, Each(Service, Write))])
        .add(routes!(register::register_batch), &[(POST, Each(Service, Write))])
        .add(routes!(list::list_instances), &[(GET, Each(Service, Read))])
        .add(routes!(names::list_names), &[(GET, Each(Service, Read))])
        .add(
            routes!(
                instance::get_instance,
                instance::put_instance,
                instance::delete_instance,
                patch::patch_instance
            ),
            &[
                (GET, OfInstance(Read)),
                (PUT, OfInstance(Write)),
                (PATCH, OfInstance(Write)),
                (DELETE, OfInstance(Write)),
            ],
        )
        .add(routes!(health::heartbeat), &[(POST, OfInstance(Write))])
        .add(
            routes!(health::get_health, health::report_health),
            &[(GET, OfInstance(Read)), (POST, OfInstance(Write))],
        )
        .add(routes!(health::run_checks), &[(POST, OfInstance(Write))])
        .add(routes!(history::get_history), &[(GET, OfInstance(Read))])
        .add(
            routes!(overrides::put_override, overrides::delete_override),
            &[(PUT, OfInstance(Write)), (DELETE, OfInstance(Write))],
        )
        .add(routes!(discover::discover), &[(GET, Named(Service, Read, "name"))])
        .add(routes!(discover::discover_at_root), &[(GET, Named(Service, Read, "name"))])
        .add(routes!(discover::discover_many), &[(GET, Each(Service, Read))])
        .add(routes!(config::list_configs), &[(GET, Each(Config, Read))])
        .add(
            routes!(config::get_config, config::put_config, config::delete_config),
            &[
                (GET, Named(Config, Read, "service")),
                (PUT, Named(Config, Write, "service")),
                (DELETE, Named(Config, Write, "service")),
            ],
        )
        .add(routes!(events::list_events), &[(GET, Each(Audit, Read))])
        .add(routes!(events::verify_events), &[(GET, Whole(Audit, Read))])
        .add(
            routes!(tokens::list_tokens, tokens::create_token),
            &[(GET, Each(Token, Read)), (POST, Each(Token, Write))],
        )
        .add(routes!(tokens::revoke_token), &[(DELETE, Each(Token, Write))])
        .add(routes!(probes::root), &[(GET, Open)])
        .add(routes!(probes::health), &[(GET, Open)])
        .add(routes!(probes::live), &[(GET, Open)])
        .add(routes!(probes::ready), &[(GET, Open)])
        .add(routes!(probes::metrics), &[(GET, Whole(Operator, Read))])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    fn document() -> Value {
        serde_json::from_slice(&description()).unwrap()
    }

    /// Every value under a name, wherever it stands.
    fn all<'v>(value: &'v Value, name: &str, found: &mut Vec<&'v Value>) {
        match value {
            Value::Object(fields) => {
                found.extend(fields.get(name));
                fields.values().for_each(|value| all(value, name, found));
            }
            Value::Array(items) => items.iter().for_each(|value| all(value, name, found)),
            _ => {}
        }
    }

    #[test]
    fn the_description_is_a_valid_one() {
        let document = document();
        assert_eq!(
            (&document["openapi"], &document["info"]["license"]["name"]),
            (&"3.1.0".into(), &"MIT".into())
        );
        let mut responses = Vec::new();
        all(&document["paths"], "responses", &mut responses);
        assert!(responses.len() > 20);
        for response in responses.iter().flat_map(|responses| responses.as_object().unwrap().values()) {
            let described = response["description"].as_str().is_some_and(|text| !text.is_empty());
            assert!(described || response["$ref"].is_string(), "{response}");
        }
        let mut references = Vec::new();
        all(&document, "$ref", &mut references);
        for reference in references {
            let path = reference.as_str().unwrap().trim_start_matches('#');
            assert!(document.pointer(path).is_some(), "{path} leads nowhere");
        }
        let mut operations = Vec::new();
        all(&document["paths"], "operationId", &mut operations);
        let different: BTreeSet<_> = operations.iter().map(ToString::to_string).collect();
        assert_eq!(different.len(), operations.len());
    }

    #[test]
    fn what_any_operation_can_end_with_is_described_of_each() {
        let document = document();
        for (path, operations) in document["paths"].as_object().unwrap() {
            for (method, operation) in operations.as_object().unwrap() {
                let answers = &operation["responses"];
                for status in ["405", "414", "431", "500"] {
                    assert!(answers[status]["$ref"].is_string(), "{method} {path} {status}");
                }
                for status in ["429", "503"] {
                    // readiness has a 503 of its own
                    let is_limited = !admitted::is_probe(path);
                    let described = answers[status].is_object();
                    assert!(described == is_limited || path == "/health/ready", "{method} {path} {status}");
                }
                let has_body = operation["requestBody"].is_object();
                for status in ["408", "413", "415"] {
                    assert_eq!(answers[status].is_object(), has_body, "{method} {path} {status}");
                }
                for answer in answers.as_object().unwrap().values().filter(|answer| answer["$ref"].is_null())
                {
                    assert!(answer["headers"]["X-Request-Id"].is_object(), "{method} {path}");
                }
            }
        }
    }

    #[test]
    fn small_numbers_are_described_with_their_bounds() {
        fn check(value: &Value) {
            if value["format"] == "int32" {
                assert!(value["maximum"].is_number(), "{value}");
            }
            match value {
                Value::Object(fields) => fields.values().for_each(check),
                Value::Array(items) => items.iter().for_each(check),
                _ => {}
            }
        }
        check(&document());
    }

    #[test]
    fn paths_are_described_whole() {
        let document = document();
        let paths = document["paths"].as_object().unwrap();
        for path in
            ["/", "/discover/{name}", "/api/v1/services/{id}", "/api/v1/config/{service}", "/health/ready"]
        {
            assert!(paths.contains_key(path), "{path}");
        }
        assert!(paths.keys().all(|path| path == "/" || !path.ends_with('/')));
    }
}
