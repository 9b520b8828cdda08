//! The native API: First Viscount's contract, and all that rollcall can do.
//!
//! Parse, call the app, answer: a file an operation or a few that belong together. Shapes are in `wire` and
//! `registration`, what went wrong is put into words in `error`.

mod answer;
mod config;
mod discover;
mod documented;
mod error;
mod events;
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
mod selection;
mod wire;

use axum::{Router, routing::get};
use utoipa::OpenApi as _;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::kit::{Envelope, Problem, slash::with_or_without_slash};
use crate::app::App;

/// Everything of the main port.
pub fn router(app: App) -> Router {
    let (router, api) = described().split_for_parts();
    let document = openapi::document(&api).unwrap_or_default();
    let router = router
        .route("/openapi.json", get(async move || openapi::send(document)))
        .route("/docs", get(openapi::page))
        .route("/docs/{*part}", get(openapi::part))
        .fallback(async || Problem::no_such_route())
        .layer(Envelope { app: app.clone(), door: "native" })
        .with_state(app);
    with_or_without_slash(router)
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
