//! How many files the process may have open: every connection is one.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the limit as far as the process may by itself, and gives it. Shells and service managers start with a low
/// one for the sake of old programs that use `select`.
pub fn raised() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: maximum, maximum };
    // Where it is refused (a hard limit above what the system can), the old one goes on being true.
    let reached = if setrlimit(Resource::Nofile, raised).is_ok() { maximum } else { current };
    reached.unwrap_or(u64::MAX)
}
