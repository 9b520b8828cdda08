//! The real binary: start, stop, kill, and a database that comes and goes.

mod durability;
mod migration;
mod outage;
mod replicas;
mod stopping;
