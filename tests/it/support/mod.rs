//! What the tests stand on: a throw-away `PostgreSQL`, servers, clients, and targets to be checked.

mod app;
mod client;
mod database;
mod folder;
mod postgres;
mod process;
mod raw;
mod samples;
mod target;
mod wait;

pub use app::TestApp;
pub use client::{Call, Client, Reply, id_of, is_time};
pub use database::Database;
pub use folder::Folder;
pub use postgres::Postgres;
pub use process::{Process, run};
pub use raw::{Raw, Said, answers};
pub use samples::{keyed, service, static_service};
pub use target::{Answer, HealthTarget};
pub use wait::{PATIENCE, wait_until};
