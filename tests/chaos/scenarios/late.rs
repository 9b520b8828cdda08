//! A batch is held on its way for so long that its writer has given the connection up, asked again, and been told
//! that it did not fit; then the world changes so that it would fit, and it arrives.
//!
//! Nothing but the generation of the writer's connection stands between it and the log.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::keep_logs;
use crate::{
    checks::{self, agree},
    clients::{FIRST_PROBE, Session, register, unregister},
    cluster::{Cluster, Needs, wait_for},
    history::{Clock, Outcome, Slot},
    options::Options,
    report::Report,
};

const WITHIN: Duration = Duration::from_secs(20);

pub async fn play(options: &Options, report: &mut Report) -> Result<(), String> {
    report.begin("late");
    let mut cluster = Cluster::start(&Needs { binary: options.binary.clone(), ..Needs::default() }).await?;
    let clock = Clock::start();
    let mut sessions: Vec<Session> =
        (0..2).map(|number| Session::new(&cluster.bases(), clock, FIRST_PROBE + 30 + number)).collect();
    let mut findings = Vec::new();
    for round in 0..if options.long { 5 } else { 1 } {
        let slot = Slot { service: "late".into(), key: Arc::from(format!("round-{round}")) };
        report.fault("a batch arrives late");
        findings.extend(play_round(&cluster, &mut sessions, &slot).await.err());
        agree(&cluster).await?;
    }
    report.check("a batch could be held and let go", &findings);
    let mut history = crate::history::History::default();
    for session in sessions {
        history.absorb(session.history);
    }
    let checked = checks::check(&mut cluster, &history, report, &[], checks::Database::TheSame).await;
    report.end();
    keep_logs(options, report, &cluster, "late");
    checked.map(|_| ())
}

async fn play_round(cluster: &Cluster, sessions: &mut [Session], slot: &Slot) -> Result<(), String> {
    let [slow, quick] = sessions else { return Err("two sessions are needed".to_owned()) };
    let (near, far) = (0, 1);
    let proxy = &cluster.proxies[near];
    proxy.trap(slow.coming_tag().text().as_bytes());
    let held = register(slow, near, slot);
    let other = async {
        let caught = wait_for(WITHIN, async || proxy.has_caught().then_some(())).await;
        caught.ok_or("the batch did not come by")?;
        match register(quick, far, slot).await {
            Outcome::Done { instance: Some(id), .. } => Ok(id),
            other => Err(format!("the other could not register: {other:?}")),
        }
    };
    let (answered, other) = tokio::join!(held, other);
    let id = other?;
    if matches!(answered, Outcome::Failed { .. } | Outcome::Refused { .. }) {
        return Err(format!("the slow one could not register: {answered:?}"));
    }
    let gone = unregister(quick, far, id).await;
    if !matches!(gone, Outcome::Done { .. }) {
        return Err(format!("the other could not unregister: {gone:?}"));
    }
    let connections = proxy.connections();
    let released = Instant::now();
    proxy.release();
    // its connection ends when the database has answered and nobody was there to hear it
    let ended = wait_for(WITHIN, async || (proxy.connections() < connections).then_some(())).await;
    ended.ok_or_else(|| format!("the late batch is still under way after {:?}", released.elapsed()))
}
