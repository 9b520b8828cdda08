//! Leases that are renewed in time, whatever becomes of the database and of the clocks.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::json;
use tokio::{task::JoinSet, time::sleep};

use super::{Client, fell_ill, removed};
use crate::{
    cluster::{Cluster, End, REPLICAS, wait_for},
    options::Options,
    report::Report,
};

const NAMES: &str = "lease-%";
/// Who renew, each a part of the leases, one after the other.
const RENEWERS: usize = 24;
const WITHIN: Duration = Duration::from_mins(2);

struct Plan {
    leases: usize,
    ttl: Duration,
    away: Duration,
}

/// What the renewers share.
#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    /// These are not renewed any more.
    silent: AtomicUsize,
    renewed: AtomicUsize,
    refused: AtomicUsize,
}

pub async fn play(
    cluster: &Cluster,
    client: &Client,
    options: &Options,
    report: &mut Report,
) -> Result<(), String> {
    let plan = if options.long {
        Plan { leases: 20_000, ttl: Duration::from_mins(1), away: Duration::from_mins(3) }
    } else {
        Plan { leases: 400, ttl: Duration::from_secs(5), away: Duration::from_secs(12) }
    };
    let check =
        json!({"kind": "ttl", "ttl": format!("{}s", plan.ttl.as_secs()), "initial_status": "healthy"});
    let services: Vec<_> = (0..plan.leases)
        .map(|number| {
            json!({"name": format!("lease-{}", number / 100), "type": "worker", "host": "10.0.0.1",
                   "port": number + 1, "checks": [check]})
        })
        .collect();
    let ids = client.register(&services).await?;
    let shared = Arc::new(Shared::default());
    let mut renewers = JoinSet::new();
    let every = plan.ttl / 3;
    for number in 0..RENEWERS {
        let own: Vec<_> =
            ids.iter().enumerate().skip(number).step_by(RENEWERS).map(|(n, id)| (n, id.clone())).collect();
        renewers.spawn(renew(client.clone(), own, every, shared.clone()));
    }

    sleep(plan.ttl).await;
    report.fault("clock an hour behind");
    cluster.replicas[1].weather().skew();
    sleep(plan.ttl / 2).await;
    report.fault("database away for longer than every lease");
    let before = shared.refused.load(Ordering::Relaxed);
    cluster.database.end(End::Fast).await?;
    sleep(plan.away / 2).await;
    report.fault("clock an hour ahead, while the database is away");
    cluster.replicas[2].weather().skew();
    sleep(plan.away / 2).await;
    let refused = shared.refused.load(Ordering::Relaxed) - before;
    cluster.database.start().await?;
    sleep(plan.ttl * 2).await;

    let (ill, gone) = (fell_ill(cluster, NAMES).await?, removed(cluster, NAMES).await?);
    let findings = [(ill, "lapsed although they were renewed"), (gone, "were removed")];
    let findings: Vec<_> = findings
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} of {} {what}", plan.leases))
        .collect();
    report.check("no lease that was renewed is over", &findings);
    let findings: Vec<_> = (refused > 0).then(|| format!("{refused} were not")).into_iter().collect();
    report.check("each heartbeat is answered while the database is away", &findings);

    // who is silent is found all the same, by the same clocks
    let silent = plan.leases / 10;
    shared.silent.store(silent, Ordering::Relaxed);
    let begun = Instant::now();
    let found = wait_for(WITHIN + plan.ttl, async || {
        let ill = fell_ill(cluster, NAMES).await.ok()?;
        sleep(Duration::from_millis(200)).await;
        (ill >= silent).then(|| begun.elapsed())
    });
    let mut findings = Vec::new();
    match found.await {
        Some(after) if after + every < plan.ttl => findings.push(format!("after {after:?} already")),
        Some(after) => report.recovered("nothing is heard of many → all of them lapsed", after),
        None => findings.push(format!("{} of {silent} lapsed", fell_ill(cluster, NAMES).await?)),
    }
    sleep(plan.ttl / 2).await;
    let ill = fell_ill(cluster, NAMES).await?;
    if ill > silent {
        findings.push(format!("{ill} lapsed, {silent} were silent"));
    }
    report.check("who is silent lapses, and nobody else", &findings);

    shared.stop.store(true, Ordering::Relaxed);
    renewers.join_all().await;
    report.count("leases", plan.leases);
    report.count("heartbeats", shared.renewed.load(Ordering::Relaxed));
    Ok(())
}

/// Renews its leases again and again, evenly over the time.
async fn renew(client: Client, own: Vec<(usize, String)>, every: Duration, shared: Arc<Shared>) {
    let pause = every / u32::try_from(own.len()).unwrap_or(1).max(1);
    let mut next = tokio::time::interval(pause);
    next.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
    for turn in 0_usize.. {
        for (number, id) in &own {
            next.tick().await;
            if shared.stop.load(Ordering::Relaxed) {
                return;
            }
            if *number < shared.silent.load(Ordering::Relaxed) {
                continue;
            }
            let base = &client.bases[(number + turn) % REPLICAS];
            let answer = client.http.post(format!("{base}/api/v1/services/{id}/heartbeat")).send().await;
            let counter = match answer {
                Ok(answer) if answer.status() == 204 => &shared.renewed,
                _ => &shared.refused,
            };
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }
}
