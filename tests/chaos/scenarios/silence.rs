//! The connections of a replica go silent: no error, no end, no answer. It must find out by itself, write again
//! without a restart, and follow the log although it hears no hint.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::keep_logs;
use crate::{
    checks::{self, agree},
    clients::{Board, Crowd, FIRST_PROBE, Plan, Session, probe, shown_revision},
    cluster::{Cluster, Needs, REPLICAS, wait_for},
    history::{Clock, Consistency, Outcome},
    options::Options,
    random::Random,
    report::Report,
};

const LEAST_CONNECTIONS: usize = 3;
const WITHIN: Duration = Duration::from_secs(30);
const RESUMED: &str = "connections silently dead → the replica has written";
const FOLLOWED: &str = "connections silently dead, nobody asks → the replica shows another's write";

pub async fn play(options: &Options, report: &mut Report) -> Result<(), String> {
    report.begin("silence");
    let mut cluster = Cluster::start(&Needs { binary: options.binary.clone(), ..Needs::default() }).await?;
    let (clock, board) = (Clock::start(), Arc::new(Board::default()));
    let plan = Plan {
        clients: options.clients.min(6),
        seed: options.seed,
        pace: Duration::from_millis(5),
        first: 300,
        loyal: false,
    };
    let mut random = Random::of(options.seed, "silence");
    let mut prober = Session::new(&cluster.bases(), clock, FIRST_PROBE + 20);
    let crowd = Crowd::start(&cluster.bases(), clock, &board, &plan);
    let mut findings = Vec::new();
    for _ in 0..if options.long { 10 } else { 1 } {
        let replica = random.below(REPLICAS);
        findings.extend(resumes(&cluster, &mut prober, replica, report).await.err());
        agree(&cluster).await?;
    }
    let mut history = crowd.stop().await;
    agree(&cluster).await?;
    for _ in 0..if options.long { 5 } else { 1 } {
        let replica = random.below(REPLICAS);
        findings.extend(follows(&cluster, &mut prober, replica, report).await.err());
    }
    report.check("a replica gets over connections that died silently", &findings);
    history.absorb(prober.history);
    let checked = checks::check(&mut cluster, &history, report, &[], checks::Database::TheSame).await;
    report.end();
    keep_logs(options, report, &cluster, "silence");
    checked.map(|_| ())
}

async fn resumes(
    cluster: &Cluster,
    prober: &mut Session,
    replica: usize,
    report: &mut Report,
) -> Result<(), String> {
    let dead = wait_for(WITHIN, async || {
        let connections = cluster.proxies[replica].connections();
        (connections >= LEAST_CONNECTIONS).then(|| cluster.proxies[replica].deafen_all())
    });
    let dead = dead.await.ok_or_else(|| format!("replica {replica} has too few connections"))?;
    let begun = Instant::now();
    report.fault(&format!("at least {LEAST_CONNECTIONS} connections silently dead"));
    let written = wait_for(WITHIN, async || {
        let outcome = probe(prober, replica, Duration::from_secs(6)).await;
        matches!(outcome, Outcome::Done { .. }).then(Instant::now)
    });
    let written =
        written.await.ok_or_else(|| format!("replica {replica} does not write again ({dead} dead)"))?;
    report.recovered(RESUMED, written - begun);
    Ok(())
}

/// Nobody asks this replica for anything, and it hears of nothing.
async fn follows(
    cluster: &Cluster,
    prober: &mut Session,
    replica: usize,
    report: &mut Report,
) -> Result<(), String> {
    cluster.proxies[replica].deafen_all();
    report.fault("connections silently dead, nobody asks");
    let begun = Instant::now();
    let other = (replica + 1) % REPLICAS;
    let Outcome::Done { revision, .. } = probe(prober, other, WITHIN).await else {
        return Err(format!("replica {other} does not write"));
    };
    let shown = wait_for(WITHIN, async || {
        let shown = shown_revision(prober, replica, Consistency::Default).await?;
        (shown >= revision).then(Instant::now)
    });
    let shown = shown.await.ok_or_else(|| format!("replica {replica} does not follow to {revision}"))?;
    report.recovered(FOLLOWED, shown - begun);
    Ok(())
}
