//! rollcall: a service registry, health monitor and configuration service on `PostgreSQL`.

pub mod domain;
