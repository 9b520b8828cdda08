//! The native contract, as far as it goes beyond First Viscount's.

mod batch;
mod configuration;
mod configuration_locking;
mod discovery;
mod events;
mod fields;
mod heartbeat;
mod idempotency;
mod identity;
mod listing;
mod locking;
mod operations;
mod problems;
mod replicas;
mod updating;
