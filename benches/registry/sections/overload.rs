//! Ten times the load: whether what is done stays what could be done.
//!
//! The server and its database share one core, those who ask have another, so that neither takes from the other.
//! First it is found how many connections it takes until no more requests are answered with success within a second: this
//! is the load. Ten times the load are ten times these connections. Each asks again as soon as it is answered, refused or not,
//! and heeds no Retry-After: so they offer whatever the server can take off their hands, and refusing them costs it
//! most. A load by the clock would be milder here, because one core cannot ask ten times as often as another answers,
//! and who would have to ask on time over a connection that is not answered yet cannot either.
//!
//! What counts as done is a success within a second. The peak and ten times the load are measured in turn, and the
//! figure is their ratio in a round. Heartbeats are those of all rounds together: a refused or late one is a missed one.
//! Memory is the highest that the process ever had. What is done a second of CPU is told beside it: where others compute
//! on the same cores, it is the steadier figure. Connections cost something by themselves, whoever serves them: so is
//! what bare hyper keeps of its own discoveries a second of CPU, with ten times the connections.

use std::time::Duration;

use serde_json::Value;

use crate::{
    bodies,
    cores::Cores,
    crowd::{Counts, Crowd, Kind, Tally},
    load::{self, Amount, Wire},
    options::Options,
    place::Place,
    program::Program,
    table::{Goal, Table, median, quantile},
};

const SERVICES: u64 = 1000;
const INSTANCES: u64 = 10;
const LOADS: [usize; 7] = [8, 16, 32, 64, 128, 256, 512];
const WARM_UP: Duration = Duration::from_millis(500);
const TURN: Duration = Duration::from_secs(2);
const TIMES: usize = 10;
/// A load with so much of the best goodput reaches the peak: the rest is noise.
const NEARLY: f64 = 0.97;
/// With room for what ten thousand instances, five thousand connections and the requests of a second take.
const MOST_MEMORY: f64 = 256.0;

pub async fn overload(options: &Options, place: &Place, table: &mut Table) {
    place.registry("overload", SERVICES, INSTANCES).await.stop().await;
    let cores = Cores::share(&place.folder("data"));
    cores.measured();
    let registry = Program::rollcall(&place.url("overload"), &place.folder("overload"), &[]).await;
    let address = registry.address.to_string();
    let bare = Program::yardstick(&["bytes", &address, &SERVICES.to_string(), "none"]).await;
    cores.asking();
    let mut crowd = Crowd {
        address: registry.address,
        services: SERVICES,
        ids: ids(&registry).await,
        next: SERVICES * INSTANCES,
    };
    let mut ask = |connections| {
        let cpu = || registry.cpu() + cores.database_cpu();
        let tally = tokio::task::block_in_place(|| crowd.ask(connections, WARM_UP, TURN, cpu)).unwrap();
        println!("   {}", told(connections, &tally));
        tally
    };
    let peaks: Vec<f64> = LOADS.iter().map(|connections| ask(*connections).goodput()).collect();
    let best = peaks.iter().copied().fold(0.0, f64::max);
    // more connections than it takes would make ten times as many harmless
    let enough = peaks.iter().position(|peak| *peak >= NEARLY * best).unwrap_or_default();
    let connections = LOADS[enough];

    let (mut ratios, mut thrift, mut bares) = (Vec::new(), Vec::new(), Vec::new());
    let hyper_keeps = || {
        let rate = |connections| {
            let (amount, before) = (Amount::For(TURN), bare.cpu());
            let done = load::run(bare.address, connections, amount, 0, &discovery).flawless();
            done.requests as f64 / (bare.cpu() - before)
        };
        tokio::task::block_in_place(|| rate(TIMES * connections) / rate(connections))
    };
    let (mut peaks, mut overs, mut latencies) = (Vec::new(), Vec::new(), Vec::new());
    let mut heartbeats = Counts::default();
    for round in 0..=options.rounds {
        let (mut peak, mut over) = (None, None);
        for turn in 0..2 {
            if (turn + round) % 2 == 0 {
                peak = Some(ask(connections));
            } else {
                over = Some(ask(TIMES * connections));
            }
        }
        let (peak, over) = (peak.unwrap(), over.unwrap());
        if round > 0 {
            bares.push(hyper_keeps());
            let signs = over.of(Kind::Heartbeat);
            heartbeats.asked += signs.asked;
            heartbeats.good += signs.good;
            ratios.push(over.goodput() / peak.goodput());
            thrift.push(over.goodput() / over.cpu / (peak.goodput() / peak.cpu));
            peaks.push(peak.goodput());
            overs.push(over.goodput());
            latencies.push(quantile(&over.latencies, 0.99));
        }
    }
    let details = format!(
        "{:.0}/s with {} connections, p99 {:.0} ms | {:.0}/s with {connections}",
        median(&overs),
        TIMES * connections,
        median(&latencies),
        median(&peaks),
    );
    table.rounds("ten times the load: goodput ÷ its peak", &ratios, Goal::AtLeast(0.9), details);
    let what = "the same a second of CPU, of server and database";
    table.rounds(what, &thrift, Goal::None, String::new());
    let what = "the same of bare hyper, asked for discoveries";
    table.rounds(what, &bares, Goal::None, String::new());
    let share = heartbeats.good as f64 / heartbeats.asked as f64;
    let details = format!("{} of {}", heartbeats.good, heartbeats.asked);
    table.figure("the same: heartbeats answered", share, Goal::AtLeast(0.999), details);
    let memory = registry.highest_memory() / 1024.0 / 1024.0;
    table.figure("the same: highest memory, MB", memory, Goal::AtMost(MOST_MEMORY), String::new());
    bare.stop().await;
    registry.stop().await;
}

fn discovery(number: u64, into: &mut Vec<u8>) {
    bodies::get(&format!("/discover/service-{:06}", number % SERVICES), into);
}

async fn ids(registry: &Program) -> Vec<String> {
    let mut wire = Wire::connect(registry.address).await.unwrap();
    assert_eq!(wire.ask(b"GET /api/v1/services HTTP/1.1\r\nHost: registry\r\n\r\n").await.unwrap(), 200);
    let all: Vec<Value> = serde_json::from_slice(wire.body()).unwrap();
    all.iter().map(|instance| instance["id"].as_str().unwrap().to_owned()).collect()
}

fn told(connections: usize, tally: &Tally) -> String {
    let kinds = Kind::ALL.map(|kind| {
        let Counts { asked, good, late, refused, failed } = tally.of(kind);
        format!("{kind:?} {good}/{asked} (late {late}, refused {refused}, failed {failed})")
    });
    let failure = tally.worst_failure.as_deref().unwrap_or_default();
    format!(
        "{connections} connections: {:.0}/s good of {:.0}/s, {:.2} s of CPU; {}{failure}",
        tally.goodput(),
        tally.offered(),
        tally.cpu,
        kinds.join(", ")
    )
}
