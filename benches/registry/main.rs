//! `make bench`: what the registry does beside what the machine could do, in one run.
//!
//! Absolute figures say little on a shared machine, so each is measured beside its yardstick: in rounds, in changing
//! order, the first one dropped, and what counts is the median of the ratios of a round. CPU is that of the server's
//! process, divided by its requests: the steadiest of all figures.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a measurement that cannot be made ends with its reason, and its tasks end with its runtime"
)]

mod bodies;
mod cores;
mod crowd;
mod load;
mod options;
mod place;
mod program;
mod rounds;
mod sections;
mod secured;
mod table;
mod yardsticks;

use std::process::ExitCode;

use self::{
    options::{Asked, Options, SECTIONS},
    place::Place,
    table::Table,
};

/// The registry's own, for what is measured in this process and for the yardsticks.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let options = match options::read(std::env::args().skip(1)) {
        Ok(Asked::Measure(options)) => options,
        Ok(Asked::Yardstick(what)) => return yardsticks::serve(&what),
        Ok(Asked::Nothing) => return ExitCode::SUCCESS,
        Ok(Asked::Help) => {
            println!("{}", options::HELP);
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            println!("{error}\n\n{}", options::HELP);
            return ExitCode::from(2);
        }
    };
    program::raise_file_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let table = runtime.block_on(measure(&options));
    print!("{table}");
    if table.is_met() { ExitCode::SUCCESS } else { ExitCode::from(1) }
}

async fn measure(options: &Options) -> Table {
    let mut table = Table::new(options.rounds);
    let place = Place::open().await;
    for section in SECTIONS.into_iter().filter(|section| options.wants(section)) {
        println!("== {section}");
        let (place, table) = (&place, &mut table);
        match section {
            "publish" => sections::publish(options, table),
            "discovery" => sections::discovery(options, place, table).await,
            "guarded" => sections::guarded(options, place, table).await,
            "tls" => sections::tls(options, place, table).await,
            "flatness" => sections::flatness(options, place, table).await,
            "registrations" => sections::registrations(options, place, table).await,
            "bulk" => sections::bulk(options, place, table).await,
            "memory" => sections::memory(options, place, table).await,
            "propagation" => sections::propagation(options, place, table).await,
            "overload" => sections::overload(options, place, table).await,
            "slow" => sections::slow(options, place, table).await,
            "checks" => sections::checks(options, place, table).await,
            "heartbeats" => sections::heartbeats(options, place, table).await,
            _ => sections::peers(options, place, table).await,
        }
    }
    place.close().await;
    table
}
