//! rollcall: a service registry, health monitor and configuration service on `PostgreSQL`.

pub mod app;
pub mod auth;
pub mod checker;
pub mod cli;
pub mod clock;
pub mod domain;
pub mod doors;
pub mod liveness;
pub mod log;
pub mod probe;
pub mod server;
pub mod settings;
pub mod store;
pub mod telemetry;
pub mod view;
