//! `rollcall serve`: the registry itself, until a signal ends it.

use super::{Failure, block_on, load};
use crate::{server, settings::Flags, telemetry};

pub const ABOUT: &str = "Run the registry until it is stopped (Ctrl-C or SIGTERM; a second one ends it at once).\n\n\
    Without DATABASE_URL it runs a PostgreSQL of its own, with its data in ROLLCALL_DATA_DIR. Every setting can \
    be given as a flag, in the environment or in a file; flags beat the environment, and the environment beats \
    the file.";

pub const EXAMPLES: &str = "Examples:\n  \
    rollcall serve\n  \
    rollcall serve --listen 127.0.0.1:9000 --log debug\n  \
    DATABASE_URL=postgres://rollcall:secret@db.example/rollcall rollcall serve";

pub fn run(flags: Flags, when_idle: fn()) -> Result<(), Failure> {
    let loaded = load(flags)?;
    telemetry::init_logging(&loaded.settings)?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    block_on(server::serve(loaded), when_idle)?.map_err(|error| {
        tracing::error!(error = telemetry::chain(&error), "rollcall stopped with an error");
        Failure::Logged
    })
}
