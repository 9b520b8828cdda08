//! The database, and the only place that speaks SQL.
//!
//! Connections are held in lanes instead of a pool: whoever works owns its connection for as long as the work takes
//! and gives it back only when the work has ended well. A query that outlives its time, fails, or is dropped half-way
//! takes its socket with it, so nothing leaks and no later query meets what an earlier one left behind.

pub mod append;
pub mod columns;
mod connect;
pub mod epoch;
pub mod error;
pub mod hint;
pub mod history;
pub mod idempotency;
pub mod lane;
pub mod liveness;
pub mod load;
pub mod migrate;
pub mod poll;
pub mod private;
pub mod replicas;
mod state;
pub mod sweep;

pub use append::{Appended, Batch, GroupOutcome};
pub use connect::Database;
pub use error::StoreError;
pub use lane::{Lane, Lanes, Patience};
pub use poll::{Cursor, Polled};
pub use sqlx::PgConnection as Connection;
