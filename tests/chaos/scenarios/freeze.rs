//! A replica stands still in the middle of everything. The others must not notice.

use std::{sync::Arc, time::Duration};

use rustix::process::Signal;
use tokio::time::sleep;

use super::keep_logs;
use crate::{
    checks::{self, agree},
    clients::{Board, Crowd, Plan},
    cluster::{Cluster, Needs, REPLICAS},
    history::{Clock, History, Micros, Outcome},
    options::Options,
    random::Random,
    report::Report,
};

/// Seconds of one freeze, and of the time before it that it is compared with.
const LONG: u64 = 10;
const SHORT: u64 = 3;

/// When which replica stood still, and since when it had not.
struct Freeze {
    replica: usize,
    before: Micros,
    begun: Micros,
    ended: Micros,
}

pub async fn play(options: &Options, report: &mut Report) -> Result<(), String> {
    report.begin("freeze");
    let mut cluster = Cluster::start(&Needs { binary: options.binary.clone(), ..Needs::default() }).await?;
    let (clock, board) = (Clock::start(), Arc::new(Board::default()));
    // a steady load below what the machine can do, so that there is a time to compare
    let plan =
        Plan { clients: 2 * REPLICAS, seed: options.seed, pace: pace(options), first: 200, loyal: true };
    let crowd = Crowd::start(&cluster.bases(), clock, &board, &plan);
    let length = Duration::from_secs(if options.long { LONG } else { SHORT });
    let mut random = Random::of(options.seed, "freeze");
    let mut freezes = Vec::new();
    sleep(Duration::from_secs(1)).await;
    for _ in 0..options.freezes {
        let before = clock.now();
        sleep(length + Duration::from_millis(random.between(0, 50))).await;
        let replica = random.below(REPLICAS);
        report.fault("freeze of a replica");
        let begun = clock.now();
        cluster.replicas[replica].signal(Signal::STOP);
        sleep(length).await;
        cluster.replicas[replica].signal(Signal::CONT);
        freezes.push(Freeze { replica, before, begun, ended: clock.now() });
        agree(&cluster).await?;
    }
    let history = crowd.stop().await;
    agree(&cluster).await?;
    judge(&history, &freezes, options, report);
    let checked = checks::check(&mut cluster, &history, report, &[], checks::Database::TheSame).await;
    report.end();
    keep_logs(options, report, &cluster, "freeze");
    checked.map(|_| ())
}

fn pace(options: &Options) -> Duration {
    Duration::from_millis(if options.long { 10 } else { 25 })
}

fn judge(history: &History, freezes: &[Freeze], options: &Options, report: &mut Report) {
    let (mut ratios, mut calm, mut frozen) = (Vec::new(), Vec::new(), Vec::new());
    for freeze in freezes {
        let before = latencies(history, freeze.replica, freeze.before, freeze.begun);
        let during = latencies(history, freeze.replica, freeze.begun, freeze.ended);
        report.say(&format!(
            "   replica {} frozen: median write of the others {} µs before ({} writes), {} µs during ({} writes)",
            freeze.replica,
            median(&before),
            before.len(),
            median(&during),
            during.len(),
        ));
        ratios.push(median(&during) as f64 / median(&before).max(1) as f64);
        calm.extend(before);
        frozen.extend(during);
    }
    calm.sort_unstable();
    frozen.sort_unstable();
    let ratio = median(&frozen) as f64 / median(&calm).max(1) as f64;
    ratios.sort_unstable_by(f64::total_cmp);
    let (least, most) = (ratios.first().unwrap_or(&0.0), ratios.last().unwrap_or(&0.0));
    report.say(&format!(
        "median write of the others: {ratio:.2} × as long while a replica stands still ({least:.2} to {most:.2})"
    ));
    // a short run on a busy machine says little
    let limit = if options.long { 1.2 } else { 2.0 };
    let slow = ratio > limit || frozen.is_empty();
    let finding = format!("{ratio:.2} times as long, more than {limit}");
    report.check("a frozen replica slows nobody down", &if slow { vec![finding] } else { vec![] });
}

/// How long the writes took that began and ended in that time, on all replicas but one.
fn latencies(history: &History, but: usize, from: Micros, to: Micros) -> Vec<Micros> {
    let writes = history.writes.iter().filter(|write| {
        let done = matches!(write.outcome, Outcome::Done { .. });
        done && write.sent == 1 && write.replica != but && write.invoked >= from && write.completed <= to
    });
    let mut latencies: Vec<Micros> = writes.map(|write| write.completed - write.invoked).collect();
    latencies.sort_unstable();
    latencies
}

fn median(sorted: &[Micros]) -> Micros {
    sorted.get(sorted.len() / 2).copied().unwrap_or(0)
}
