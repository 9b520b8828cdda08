//! The command line: from arguments and environment to an exit code.
//!
//! One file a subcommand. Invariant: it decides nothing about the registry; it reads the settings, starts the
//! runtime and says in plain words why something did not start. Exit codes: 0 orderly, 2 for a command line or
//! settings that cannot be used, 1 for anything else.

mod health;
mod migrate;
mod serve;

use std::{
    cell::Cell,
    io::{self, Write as _},
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::{Parser, Subcommand};

use crate::{
    settings::{self, Flags, Loaded, Settings, SettingsError},
    telemetry::chain_with,
};

const BAD_USAGE: u8 = 2;

/// How long blocking work that nobody waits for any more may delay the end of the process.
const LAST_GRACE: Duration = Duration::from_secs(2);

#[derive(Parser)]
#[command(name = "rollcall", version, about, long_about = ABOUT, after_help = EXAMPLES, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the registry until it is stopped
    #[command(long_about = serve::ABOUT, after_help = serve::EXAMPLES)]
    Serve(Flags),
    /// Bring the tables of the database up to date, and end
    #[command(long_about = migrate::ABOUT)]
    Migrate(Flags),
    /// Ask a running registry whether it is ready
    #[command(long_about = health::ABOUT)]
    Health(health::Arguments),
}

const ABOUT: &str = "A service registry, health monitor and configuration service on PostgreSQL.\n\n\
    Services register with it, others find them there, and it watches over their health.";

const EXAMPLES: &str = "To try it: `rollcall serve`, with nothing set. It brings its own PostgreSQL up and prints \
    where it listens.";

/// Why a command did not end in order.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error("cannot start the threads of the server")]
    Runtime(#[source] io::Error),
    #[error("cannot start the log")]
    Logging(#[from] crate::telemetry::LoggingError),
    #[error(transparent)]
    Health(#[from] health::HealthError),
    #[error(transparent)]
    Server(#[from] crate::server::ServeError),
    /// The same, when the log has told it already.
    #[error("stopped with an error that is in the log")]
    Logged,
}

/// The whole program; `main` only calls it. `when_idle` is called on a thread of the server that has nothing to do, not
/// often.
pub fn run(when_idle: fn()) -> ExitCode {
    // TLS panics at its first use without a provider, so it comes before all else. An error only says that
    // there is one already.
    let _installed = rustls::crypto::aws_lc_rs::default_provider().install_default();

    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(help_or_error) => {
            let _nobody_listens = help_or_error.print();
            return if help_or_error.use_stderr() { ExitCode::from(BAD_USAGE) } else { ExitCode::SUCCESS };
        }
    };
    let ended = match arguments.command {
        Command::Serve(flags) => serve::run(flags, when_idle),
        Command::Migrate(flags) => migrate::run(flags),
        Command::Health(arguments) => health::run(arguments),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Logged) => ExitCode::FAILURE,
        Err(failure) => {
            let _nobody_listens = writeln!(io::stderr(), "error: {}", chain_with(&failure, "\ncaused by: "));
            match failure {
                Failure::Settings(_) | Failure::Health(health::HealthError::Address(_)) => {
                    ExitCode::from(BAD_USAGE)
                }
                _ => ExitCode::FAILURE,
            }
        }
    }
}

fn load(flags: Flags) -> Result<Loaded, SettingsError> {
    Settings::load(flags, settings::process_environment()?)
}

/// For those who do not listen themselves.
fn load_aside(flags: Flags) -> Result<Loaded, SettingsError> {
    Settings::load_aside(flags, settings::process_environment()?)
}

/// So many turns of tasks are taken before the system is asked again for what has come in the meantime. A request takes
/// microseconds: the library's 61 would ask more often than it pays, by three percent of all requests.
const TURNS_BETWEEN_LOOKS: u32 = 200;

/// How much time passes at least between two times that a thread is told that it is idle.
const BETWEEN_IDLE: Duration = Duration::from_secs(1);

/// Runs a future to its end on a runtime with a thread a core.
fn block_on<T>(future: impl Future<Output = T>, when_idle: fn()) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .event_interval(TURNS_BETWEEN_LOOKS)
        .on_thread_park(move || seldom(when_idle))
        .build()
        .map_err(Failure::Runtime)?;
    let result = runtime.block_on(future);
    // Dropping it would wait for blocking work without end.
    runtime.shutdown_timeout(LAST_GRACE);
    Ok(result)
}

/// Does something unless this thread has just done it.
fn seldom(what: fn()) {
    thread_local! {
        static LAST: Cell<Option<Instant>> = const { Cell::new(None) };
    }
    LAST.with(|last| {
        if last.get().is_none_or(|last| last.elapsed() >= BETWEEN_IDLE) {
            what();
            last.set(Some(Instant::now()));
        }
    });
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_arguments_are_well_defined() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn the_help_of_serve_names_every_setting() {
        let mut command = Arguments::command();
        let serve = command.find_subcommand_mut("serve").expect("the subcommand");
        let help = serve.render_long_help().to_string();
        for setting in settings::documented() {
            assert!(help.contains(setting.name), "{}", setting.name);
        }
    }
}
