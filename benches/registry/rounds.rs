//! Rounds: each measures all contestants once, in an order that changes.

use std::time::Duration;

use crate::{
    load::{self, Amount, Done, Requests},
    program::Program,
    table::{median, quantile},
};

/// How long each contestant is measured in each round.
pub const TURN: Duration = Duration::from_secs(1);
pub const CONNECTIONS: usize = 64;

/// A server under a load.
#[derive(Clone, Copy)]
pub struct Contestant<'a> {
    pub program: &'a Program,
    pub requests: Requests<'a>,
}

/// What a contestant did in one round.
#[derive(Clone, Copy)]
pub struct Turn {
    pub rate: f64,
    /// Microseconds of the server's CPU a request.
    pub cpu: f64,
    pub p50: f64,
    pub p99: f64,
}

/// The turns of each contestant, round by round.
pub fn play<const N: usize>(rounds: usize, contestants: &[Contestant<'_>; N]) -> [Vec<Turn>; N] {
    play_by(rounds, |which, first| {
        let Contestant { program, requests } = contestants[which];
        Turn::of(program, || load::run(program.address, CONNECTIONS, Amount::For(TURN), first, requests))
    })
}

/// The same with a load of one's own: of which contestant, and from which request on.
pub fn play_by<const N: usize>(
    rounds: usize,
    mut turn_of: impl FnMut(usize, u64) -> (Turn, u64),
) -> [Vec<Turn>; N] {
    let mut turns = [const { Vec::new() }; N];
    let mut number = 0;
    for round in 0..=rounds {
        for place in 0..N {
            let which = (place + round) % N;
            let (turn, asked) = turn_of(which, number);
            number += asked;
            if round > 0 {
                turns[which].push(turn);
            }
        }
    }
    turns
}

impl Turn {
    /// What the program did under a load, and how many requests were used up.
    pub fn of(program: &Program, load: impl FnOnce() -> Done) -> (Self, u64) {
        let before = program.cpu();
        let done = load().flawless();
        let cpu = (program.cpu() - before) / done.requests as f64 * 1e6;
        let (p50, p99) = (quantile(&done.latencies, 0.5), quantile(&done.latencies, 0.99));
        // each connection may have drawn a number that it did not use
        (Self { rate: done.rate(), cpu, p50, p99 }, done.requests + CONNECTIONS as u64)
    }
}

/// One ratio a round.
pub fn ratios(own: &[Turn], yardstick: &[Turn], of: impl Fn(&Turn) -> f64) -> Vec<f64> {
    own.iter().zip(yardstick).map(|(own, other)| of(own) / of(other)).collect()
}

pub fn medians(turns: &[Turn], of: impl Fn(&Turn) -> f64) -> f64 {
    median(&turns.iter().map(of).collect::<Vec<_>>())
}

/// What was measured, in absolute figures: for orientation.
pub fn told(own: &[Turn], yardstick: &[Turn]) -> String {
    let one = |turns| {
        format!(
            "{:.0}/s, {:.2} µs CPU, p50 {:.0} µs, p99 {:.0} µs",
            medians(turns, |turn| turn.rate),
            medians(turns, |turn| turn.cpu),
            medians(turns, |turn| turn.p50),
            medians(turns, |turn| turn.p99)
        )
    };
    format!("{} | beside it {}", one(own), one(yardstick))
}
