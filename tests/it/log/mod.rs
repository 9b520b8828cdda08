//! The log driven from within: commands in, state out, against a naive model and against itself.

mod backlog;
mod epochs;
mod model;
mod properties;
mod replica;
mod tokens;
