//! Discovery by name, beside a server that does nothing but send the same answers.

use crate::{
    bodies,
    options::Options,
    place::Place,
    program::Program,
    rounds::{self, Contestant},
    table::{Goal, Table},
};

pub async fn discovery(options: &Options, place: &Place, table: &mut Table) {
    const SERVICES: u64 = 10_000;
    let registry = place.registry("discovery", SERVICES, 10).await;
    let (address, services) = (registry.address.to_string(), SERVICES.to_string());
    let yardstick = Program::yardstick(&["bytes", &address, &services]).await;
    let requests = |number: u64, into: &mut Vec<u8>| {
        let service = bodies::spread(number, SERVICES);
        bodies::get(&format!("/discover/service-{service:06}"), into);
    };
    let contestants = [
        Contestant { program: &registry, requests: &requests },
        Contestant { program: &yardstick, requests: &requests },
    ];
    let [own, bare] = tokio::task::block_in_place(|| rounds::play(options.rounds, &contestants));
    let details = rounds::told(&own, &bare);
    let rates = rounds::ratios(&own, &bare, |turn| turn.rate);
    table.rounds(
        "discovery, 10,000 services of 10: requests/s ÷ bare hyper",
        &rates,
        Goal::AtLeast(0.9),
        details,
    );
    let cpus = rounds::ratios(&own, &bare, |turn| turn.cpu);
    table.rounds("discovery: CPU a request ÷ bare hyper", &cpus, Goal::AtMost(1.15), String::new());
}

pub async fn flatness(options: &Options, place: &Place, table: &mut Table) {
    let few = place.registry("few", 1000, 1).await;
    let many = place.registry("many", 100_000, 1).await;
    let asks = |services: u64| {
        move |number: u64, into: &mut Vec<u8>| {
            let service = bodies::spread(number, services);
            bodies::get(&format!("/discover/service-{service:06}"), into);
        }
    };
    let (among_few, among_many) = (asks(1000), asks(100_000));
    let contestants = [
        Contestant { program: &few, requests: &among_few },
        Contestant { program: &many, requests: &among_many },
    ];
    let [few, many] = tokio::task::block_in_place(|| rounds::play(options.rounds, &contestants));
    let rates = rounds::ratios(&few, &many, |turn| turn.rate);
    let what = "discovery, 1,000 services ÷ 100,000: requests/s";
    table.rounds(what, &rates, Goal::AtMost(1.2), rounds::told(&few, &many));
    let cpus = rounds::ratios(&many, &few, |turn| turn.cpu);
    table.rounds("discovery, 100,000 services ÷ 1,000: CPU", &cpus, Goal::AtMost(1.2), String::new());
}
