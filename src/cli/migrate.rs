//! `rollcall migrate`: the tables, and nothing else. For those who want it to be a step of its own, by another
//! database user than the server's.

use super::{Failure, block_on, load_aside};
use crate::{server, settings::Flags, telemetry};

pub const ABOUT: &str = "Bring the tables of the database up to date, and end.\n\n\
    `rollcall serve` does this by itself unless ROLLCALL_MIGRATE is off. Running it twice, or on many machines at \
    once, does no harm.";

pub fn run(flags: Flags) -> Result<(), Failure> {
    let loaded = load_aside(flags)?;
    telemetry::init_logging(&loaded.settings)?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    // Somebody typed this and waits for it: the error goes where they look.
    block_on(server::migrate(&loaded.settings), || ())??;
    Ok(())
}
