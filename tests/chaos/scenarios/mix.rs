//! Everything that can fail fails, in an order that follows from the seed, while clients work.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::keep_logs;
use crate::{
    checks::{self, agree},
    clients::{Board, Crowd, Plan},
    cluster::{Cluster, Needs, REPLICAS},
    history::Clock,
    nemesis::{AGREED, FIRST_WRITE, KINDS, Kind, Nemesis, REPLICA_READY, schedule},
    options::Options,
    report::Report,
};

const DISK: u64 = 2 << 30;
const LARGE_DISK: u64 = 16 << 30;
/// The short form ends after this, whatever is left of its schedule.
const SHORT: Duration = Duration::from_secs(40);
const LONG: Duration = Duration::from_hours(3);
pub async fn play(options: &Options, report: &mut Report) -> Result<(), String> {
    report.begin("mix");
    let disk = Some(if options.long { LARGE_DISK } else { DISK });
    let mut cluster =
        Cluster::start(&Needs { disk, binary: options.binary.clone(), ..Needs::default() }).await?;
    let kinds = kinds(options, &cluster, report)?;
    let (clock, board) = (Clock::start(), Arc::new(Board::default()));
    let plan = Plan {
        clients: options.clients,
        seed: options.seed,
        pace: Duration::from_millis(2),
        first: 0,
        loyal: false,
    };
    let crowd = Crowd::start(&cluster.bases(), clock, &board, &plan);

    let one_round = kinds.len();
    let faults = schedule(options.seed, kinds, REPLICAS, options.long);
    let begun = Instant::now();
    let mut nemesis = Nemesis::new(&mut cluster, report, clock);
    for (count, fault) in faults.enumerate() {
        let enough = if options.long {
            (count >= options.faults && board.acknowledged() >= options.writes) || begun.elapsed() > LONG
        } else {
            count >= options.faults.max(one_round) || begun.elapsed() > SHORT
        };
        if enough {
            break;
        }
        nemesis.strike(&fault).await;
        tokio::time::sleep(fault.pause).await;
    }
    let (probes, mut findings) = nemesis.finish();
    let mut history = crowd.stop().await;
    history.absorb(probes);
    findings.extend(agree(&cluster).await.err());
    report.check("all is well again after each fault", &findings);
    let target = if options.long { options.writes } else { 1 };
    let enough = history.acknowledged() >= target && report.faults() >= options.faults;
    let short_of = format!("{} writes, {} faults", history.acknowledged(), report.faults());
    report.check("the run was long enough", &if enough { vec![] } else { vec![short_of] });
    let limit = recovery_limit(options);
    let slow = [REPLICA_READY, FIRST_WRITE, AGREED].into_iter().filter_map(|what| {
        let slowest = report.slowest(what)?;
        (slowest > limit).then(|| format!("{what}: {slowest:?}, more than {limit:?}"))
    });
    let slow: Vec<_> = slow.collect();
    report.check("recovery is quick", &slow);
    let checked = checks::check(&mut cluster, &history, report, &[], checks::Database::TheSame).await;
    if let Ok((fold, _)) = &checked {
        let epochs: Vec<_> = checks::epochs(fold).iter().map(|epoch| format!("{epoch:?}")).collect();
        report.check("no epoch is begun where no log was lost", &epochs);
    }
    report.end();
    keep_logs(options, report, &cluster, "mix");
    checked.map(|_| ())
}

fn kinds(options: &Options, cluster: &Cluster, report: &mut Report) -> Result<Vec<Kind>, String> {
    let mut kinds = KINDS.to_vec();
    if let Some(words) = &options.kinds {
        kinds.retain(|kind| words.contains(&kind.word()));
        if kinds.len() != words.len() {
            let known: Vec<_> = KINDS.iter().map(|kind| kind.word()).collect();
            return Err(format!("kinds of faults are {}", known.join(", ")));
        }
    }
    if let Some(reason) = &cluster.no_disk {
        kinds.retain(|kind| *kind != Kind::FillDisk);
        report.say(&format!("skipped: full disk ({reason})"));
    }
    Ok(kinds)
}

/// A build for debugging on a busy machine is given more time.
fn recovery_limit(options: &Options) -> Duration {
    Duration::from_secs(if options.long { 2 } else { 6 })
}
