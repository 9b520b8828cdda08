//! `append` alone: the functions that write the log, called as the writer calls them, on a real `PostgreSQL`.
//!
//! A `Replica` is a writer with its connection and its view of the log; a `Draft` is a batch in the making. Strangers
//! are plain superuser connections, which change rows past the log.

mod configurations;
mod draft;
mod epochs;
mod guards;
mod keys;
mod liveness;
mod migrations;
mod order;
mod partitions;
mod plans;
mod privileges;
mod removals;
mod replica;
mod resending;
mod strangers;
mod throughput;
mod versions;

use draft::{Draft, config_key};
use replica::Replica;
