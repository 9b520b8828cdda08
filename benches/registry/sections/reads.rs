//! Discovery by name, beside a server that does nothing but send the same answers.

use std::io::Write as _;

use crate::{
    bodies,
    load::{Requests, Wire},
    options::Options,
    place::Place,
    program::Program,
    rounds::{self, Contestant},
    table::{Goal, Table},
};

const SERVICES: u64 = 10_000;
const ROOT: &str = "root-token-of-the-measurements-0123456789";

pub async fn discovery(options: &Options, place: &Place, table: &mut Table) {
    let registry = place.registry("discovery", SERVICES, 10).await;
    let requests = |number: u64, into: &mut Vec<u8>| bodies::get(&path(number), into);
    beside_bare_hyper(options, table, "discovery", &registry, "none", &requests).await;
}

/// The same where everybody must show a token, and with one that somebody was given.
pub async fn guarded(options: &Options, place: &Place, table: &mut Table) {
    let settings = [("ROLLCALL_AUTH", "on"), ("ROLLCALL_ROOT_TOKEN", ROOT)];
    let registry = place.registry_with("guarded", SERVICES, 10, &settings).await;
    let token = given_token(&registry).await;
    let requests = |number: u64, into: &mut Vec<u8>| bodies::get_with_token(&path(number), &token, into);
    beside_bare_hyper(options, table, "discovery with a token", &registry, &token, &requests).await;
}

fn path(number: u64) -> String {
    format!("/discover/service-{:06}", bodies::spread(number, SERVICES))
}

async fn given_token(registry: &Program) -> String {
    let body =
        r#"{"name":"reader","policies":{"rules":[{"resource":"service","prefix":"","access":"read"}]}}"#;
    let mut request = Vec::new();
    write!(
        request,
        "POST /api/v1/tokens HTTP/1.1\r\nHost: registry\r\nAuthorization: Bearer {ROOT}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut wire = Wire::connect(registry.address).await.unwrap();
    assert_eq!(wire.ask(&request).await.unwrap(), 201);
    let made: serde_json::Value = serde_json::from_slice(wire.body()).unwrap();
    made["secret"].as_str().unwrap().to_owned()
}

async fn beside_bare_hyper(
    options: &Options,
    table: &mut Table,
    what: &str,
    registry: &Program,
    token: &str,
    requests: Requests<'_>,
) {
    let (address, services) = (registry.address.to_string(), SERVICES.to_string());
    let yardstick = Program::yardstick(&["bytes", &address, &services, token]).await;
    let contestants =
        [Contestant { program: registry, requests }, Contestant { program: &yardstick, requests }];
    let [own, bare] = tokio::task::block_in_place(|| rounds::play(options.rounds, &contestants));
    let rates = rounds::ratios(&own, &bare, |turn| turn.rate);
    let line = format!("{what}, 10,000 services of 10: requests/s ÷ bare hyper");
    table.rounds(&line, &rates, Goal::AtLeast(0.9), rounds::told(&own, &bare));
    let cpus = rounds::ratios(&own, &bare, |turn| turn.cpu);
    let line = format!("{what}: CPU a request ÷ bare hyper");
    table.rounds(&line, &cpus, Goal::AtMost(1.15), String::new());
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
