//! The native API: First Viscount's contract, and all that rollcall can do.
//!
//! Parse, call the app, answer: a file an operation or a few that belong together. Shapes are in `wire` and
//! `registration`, what went wrong is put into words in `error`.

mod admitted;
mod answer;
mod bodies;
mod config;
mod discover;
mod documented;
mod error;
mod events;
mod front;
mod health;
mod instance;
mod list;
mod names;
mod openapi;
mod page;
mod patch;
mod path;
mod probes;
mod register;
mod registration;
#[cfg(test)]
mod sample;
mod schemas;
mod selection;
mod wire;

use axum::{Extension, Router, routing::get};
use utoipa::OpenApi as _;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::kit::{
    Admission, Envelope, Problem, admission::Admit, cors::cors, security::Security,
    slash::with_or_without_slash,
};
pub use front::{Answer, Front};
use list::WholeLists;

use crate::{app::App, settings::Origins};

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
/// place for is looked at any closer.
fn router(app: App, terms: &Terms) -> Router {
    let (router, mut api) = described().split_for_parts();
    documented::complete(&mut api);
    let document = openapi::document(&api).unwrap_or_default();
    let router = router
        .route("/openapi.json", get(async move || openapi::send(document)))
        .route("/docs", get(openapi::page))
        .route("/docs/{*part}", get(openapi::part))
        .fallback(async || Problem::no_such_route())
        .layer(Extension(WholeLists::default()))
        .layer(Admit { admission: terms.admission.clone(), class_of: admitted::class_of })
        .layer(Envelope { metrics: app.metrics().clone(), door: "native", stamp: answer::stamp(app.clone()) })
        .with_state(app);
    let router = with_or_without_slash(router);
    match &terms.cors {
        Some(origins) => router.layer(cors(origins)),
        None => router,
    }
}

/// The routes that the description tells of.
fn described() -> OpenApiRouter<App> {
    OpenApiRouter::with_openapi(openapi::Api::openapi())
        .routes(routes!(register::register))
        .routes(routes!(register::register_batch))
        .routes(routes!(list::list_instances))
        .routes(routes!(names::list_names))
        .routes(routes!(
            instance::get_instance,
            instance::put_instance,
            instance::delete_instance,
            patch::patch_instance
        ))
        .routes(routes!(health::heartbeat))
        .routes(routes!(health::get_health, health::report_health))
        .routes(routes!(discover::discover))
        .routes(routes!(discover::discover_at_root))
        .routes(routes!(discover::discover_many))
        .routes(routes!(config::list_configs))
        .routes(routes!(config::get_config, config::put_config, config::delete_config))
        .routes(routes!(events::list_events))
        .routes(routes!(events::verify_events))
        .routes(routes!(probes::root))
        .routes(routes!(probes::health))
        .routes(routes!(probes::live))
        .routes(routes!(probes::ready))
        .routes(routes!(probes::metrics))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    fn document() -> Value {
        let mut api = described().into_openapi();
        documented::complete(&mut api);
        serde_json::from_slice(&openapi::document(&api).unwrap()).unwrap()
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
