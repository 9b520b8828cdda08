//! Chaos: several replicas on a `PostgreSQL` of its own, faults of many kinds, clients that write down every request
//! and its outcome, and checkers that afterwards ask whether anything was lost, done twice or out of order.
//!
//! `cluster` is what fails, `proxy` and `nemesis` make it fail, `clients` work meanwhile, `checks` judge, `scenarios`
//! are the stories. Every decision follows from the seed that is printed; the times at which things happen do not.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_precision_loss,
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    clippy::unwrap_used,
    reason = "a test says what it expects by failing, and its tasks end with its runtime"
)]

mod checks;
mod clients;
mod cluster;
mod history;
mod nemesis;
mod options;
mod proxy;
mod random;
mod report;
mod scenarios;
mod seeded;

use std::process::ExitCode;

use self::{
    options::{Asked, Options},
    report::Report,
};

fn main() -> ExitCode {
    let options = match options::read(std::env::args().skip(1)) {
        Ok(Asked::Run(options)) => options,
        Ok(Asked::Nothing) => return said("0 passed, 0 failed"),
        Ok(Asked::List) => return said("chaos: test"),
        Ok(Asked::Help) => return said(options::USAGE),
        Err(error) => {
            said(&error);
            return ExitCode::from(2);
        }
    };
    if options.seeded {
        return if seeded::run(&options) { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let passed = runtime.block_on(run(&options));
    runtime.shutdown_timeout(std::time::Duration::from_secs(5));
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[expect(clippy::print_stdout, reason = "it is what the program is for")]
fn said(text: &str) -> ExitCode {
    println!("{text}");
    ExitCode::SUCCESS
}

async fn run(options: &Options) -> bool {
    let mut report = Report::new();
    report.say(&format!("seed {}", options.seed));
    let played = tokio::select! {
        played = scenarios::play(options, &mut report) => Some(played),
        _ = tokio::signal::ctrl_c() => None,
    };
    match played {
        Some(Ok(())) => {}
        Some(Err(error)) => report.check("the scenario could be played", &[error]),
        None => report.check("the run was not interrupted", &["it was".to_owned()]),
    }
    report.say(&format!("seed {}", options.seed));
    report.verdict()
}
