//! The contracts as tests: a real server (in this process, or the binary itself) on a real
//! `PostgreSQL`, spoken to through real HTTP. Every test has a database of its own.
//!
//! `support` starts what the tests stand on; each other folder is one contract.
#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test says what it expects by failing, and its tasks end with its runtime"
)]

mod append;
mod auth;
mod checks;
mod firstviscount;
mod http;
mod limits;
mod log;
mod native;
mod private_postgres;
mod process;
mod support;
mod tls;
