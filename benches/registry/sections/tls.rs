//! Discovery over TLS, beside a server that does nothing but send the same answers by the same certificate.

use tokio::runtime::Handle;

use crate::{
    bodies,
    options::Options,
    place::Place,
    program::Program,
    rounds::{self, CONNECTIONS, TURN, Turn},
    secured::{self, Secured},
    table::{Goal, Table},
};

const SERVICES: u64 = 10_000;
const DATABASE: &str = "secured";

pub async fn tls(options: &Options, place: &Place, table: &mut Table) {
    let secured = Secured::within(&place.folder("certificates"));
    let plain = place.registry(DATABASE, SERVICES, 10).await;
    let (address, services) = (plain.address.to_string(), SERVICES.to_string());
    let (certificate, key) = (secured.certificate.display().to_string(), secured.key.display().to_string());
    let arguments = ["bytes", &address, &services, "none", &certificate, &key];
    let yardstick = Program::yardstick_over(&arguments, Some(&secured)).await;
    plain.stop().await;
    let (url, folder) = (place.url(DATABASE), place.folder(DATABASE));
    let registry = Program::rollcall_over_tls(&url, &folder, &secured).await;

    let contestants = [&registry, &yardstick];
    let [own, bare] = tokio::task::block_in_place(|| {
        rounds::play_by(options.rounds, |which, first| {
            let program = contestants[which];
            let runtime = Handle::current();
            // Handshakes are none of what is measured.
            let wires = runtime.block_on(secured.connections(program.address, CONNECTIONS));
            Turn::of(program, || runtime.block_on(secured::load(wires, TURN, first, request)))
        })
    });
    let details = rounds::told(&own, &bare);
    let rates = rounds::ratios(&own, &bare, |turn| turn.rate);
    table.rounds("discovery over TLS: requests/s ÷ bare hyper with TLS", &rates, Goal::None, details);
    let cpus = rounds::ratios(&own, &bare, |turn| turn.cpu);
    table.rounds("discovery over TLS: CPU a request ÷ bare hyper", &cpus, Goal::None, String::new());
}

fn request(number: u64, into: &mut Vec<u8>) {
    let service = bodies::spread(number, SERVICES);
    bodies::get(&format!("/discover/service-{service:06}"), into);
}
