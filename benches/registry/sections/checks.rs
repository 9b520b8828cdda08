//! Health checks, beside a client that is hyper and nothing else.
//!
//! The targets are one server under many addresses, as no host is asked by many at once. Both ask over as many kept
//! connections, 512 at a time, from a core of their own; the targets have the other. The registry cannot be told to ask for a
//! second only, so it is stopped while it is the other's turn. Its checks come so often that they are always overdue.

use std::time::{Duration, Instant};

use crate::{
    bodies,
    cores::Cores,
    load::Wire,
    options::Options,
    place::Place,
    program::Program,
    rounds::TURN,
    table::{Goal, Table, median},
};

/// Ten times a second each is more than either side can do. Their server has two connections to each.
const TARGETS: u64 = 9000;
const FEWER_TARGETS: u64 = 1000;
const HOSTS: u64 = 24;
const AT_ONCE: u64 = 1000;
const WARM_UP: Duration = Duration::from_millis(500);
const LONG_TURN: Duration = Duration::from_secs(3);
const PATIENCE: Duration = Duration::from_mins(1);

pub async fn checks(options: &Options, place: &Place, table: &mut Table) {
    let cores = Cores::share(&place.folder("data"));
    cores.asking();
    let target = Program::yardstick(&["target"]).await;
    let mut count = Count { target: &target, wire: Wire::connect(target.address).await.unwrap() };
    cores.measured();
    let registry = checking(place, "checks", TARGETS, &target).await;
    let port = target.address.port().to_string();
    let asker = Program::yardstick(&["asker", &port, &TARGETS.to_string()]).await;
    cores.asking();
    let mut bare = Wire::connect(asker.address).await.unwrap();
    count.grows_by(TARGETS * 3).await;
    let (mut ratios, mut thrift) = (Vec::new(), Vec::new());
    let (mut owns, mut others) = (Vec::new(), Vec::new());
    for round in 0..=options.rounds {
        let (mut own, mut other) = ((0.0, 0.0), (0.0, 0.0));
        for turn in 0..2 {
            if (turn + round) % 2 == 0 {
                registry.go_on();
                tokio::time::sleep(WARM_UP).await;
                own = count.turn(&registry, TURN).await;
                registry.pause();
            } else {
                let before = asker.cpu();
                let mut request = Vec::new();
                bodies::get("/go", &mut request);
                bare.ask(&request).await.unwrap();
                let asked: f64 = String::from_utf8_lossy(bare.body()).parse().unwrap();
                other = (asked / TURN.as_secs_f64(), (asker.cpu() - before) / asked * 1e6);
            }
        }
        if round > 0 {
            ratios.push(own.0 / other.0);
            thrift.push(own.1 / other.1);
            owns.push(own);
            others.push(other);
        }
    }
    registry.go_on();
    let told = |turns: &[(f64, f64)]| {
        let of = |one: fn(&(f64, f64)) -> f64| median(&turns.iter().map(one).collect::<Vec<_>>());
        format!("{:.0}/s, {:.2} µs CPU", of(|turn| turn.0), of(|turn| turn.1))
    };
    let details = format!("{} | beside it {}", told(&owns), told(&others));
    let what = "checks, 512 at once over kept connections ÷ bare hyper";
    table.rounds(what, &ratios, Goal::AtLeast(0.8), details);
    table.rounds("checks: CPU a check ÷ bare hyper", &thrift, Goal::None, String::new());
    registry.stop().await;
    asker.stop().await;
    steady(options, place, table, &cores, &mut count).await;
}

/// What it takes to ask ten thousand times a second.
async fn steady(options: &Options, place: &Place, table: &mut Table, cores: &Cores, count: &mut Count<'_>) {
    cores.measured();
    let registry = checking(place, "steady", FEWER_TARGETS, count.target).await;
    cores.asking();
    count.grows_by(FEWER_TARGETS * 20).await;
    let (mut shares, mut rates) = (Vec::new(), Vec::new());
    for _ in 0..options.rounds {
        let (rate, cpu) = count.turn(&registry, LONG_TURN).await;
        rates.push(rate);
        shares.push(rate * cpu / 1e6);
    }
    let details = format!("at {:.0} checks a second", median(&rates));
    table.rounds("checks: share of a core for 10,000 a second", &shares, Goal::None, details);
    registry.stop().await;
}

/// A registry that checks so many instances, each ten times a second.
async fn checking(place: &Place, database: &str, targets: u64, target: &Program) -> Program {
    let registry = place.registry(database, 0, 0).await;
    let mut wire = Wire::connect(registry.address).await.unwrap();
    let port = target.address.port();
    let check = r#"{"kind":"http","path":"/","interval":"100ms","timeout":"10s"}"#;
    let one = |number: u64| {
        let host = number % HOSTS + 1;
        format!(
            r#"{{"name":"service-{number:06}","type":"api","host":"127.0.0.{host}","port":{port},"checks":[{check}]}}"#
        )
    };
    for first in (0..targets).step_by(AT_ONCE as usize) {
        let items: Vec<String> = (first..targets.min(first + AT_ONCE)).map(one).collect();
        let mut request = Vec::new();
        bodies::post("/api/v1/services/register/batch", &format!("[{}]", items.join(",")), &mut request);
        assert_eq!(wire.ask(&request).await.unwrap(), 200);
    }
    registry.stop().await;
    let kept = targets.to_string();
    let settings = [("ROLLCALL_CHECKER", "on"), ("ROLLCALL_CHECK_CONNECTIONS", kept.as_str())];
    Program::rollcall(&place.url(database), &place.folder(database), &settings).await
}

/// How often the target was asked.
struct Count<'a> {
    target: &'a Program,
    wire: Wire,
}

impl Count<'_> {
    async fn now(&mut self) -> u64 {
        let mut request = Vec::new();
        bodies::get("/count", &mut request);
        assert_eq!(self.wire.ask(&request).await.unwrap(), 200);
        String::from_utf8_lossy(self.wire.body()).parse().unwrap()
    }

    async fn grows_by(&mut self, by: u64) {
        let (begun, before) = (Instant::now(), self.now().await);
        while self.now().await < before + by {
            assert!(begun.elapsed() < PATIENCE, "the targets are not asked");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The checks a second, and the microseconds of CPU that each took.
    async fn turn(&mut self, registry: &Program, time: Duration) -> (f64, f64) {
        let (begun, cpu, before) = (Instant::now(), registry.cpu(), self.now().await);
        tokio::time::sleep(time).await;
        let asked = (self.now().await - before) as f64;
        (asked / begun.elapsed().as_secs_f64(), (registry.cpu() - cpu) / asked * 1e6)
    }
}
