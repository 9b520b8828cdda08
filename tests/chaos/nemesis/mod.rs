//! Injects faults by a schedule that follows from the seed, and measures how long it takes until all is well again.

mod faults;
mod schedule;
mod strangers;

use std::time::{Duration, Instant};

use futures_util::future::join_all;

pub use schedule::{Fault, KINDS, Kind, schedule};

use crate::{
    checks::head,
    clients::{FIRST_PROBE, Session, probe, shown_revision},
    cluster::{Cluster, wait_for},
    history::{Clock, Consistency, History, Outcome},
    report::Report,
};

/// A replica that does not write again within this has not recovered.
const WELL_WITHIN: Duration = Duration::from_secs(20);
const PROBE_WITHIN: Duration = Duration::from_millis(1500);

pub const REPLICA_READY: &str = "replica killed → ready";
pub const FIRST_WRITE: &str = "database back → first acknowledged write";
pub const EVERY_WRITE: &str = "database back → every replica has written";
pub const AGREED: &str = "partition healed → all replicas agree";
pub const WRITES_AGAIN: &str = "other fault over → every replica has written";

/// Does harm, and looks after what it has done. Its own writes are part of the history.
pub struct Nemesis<'a> {
    cluster: &'a mut Cluster,
    report: &'a mut Report,
    clock: Clock,
    probers: Vec<Session>,
    findings: Vec<String>,
}

impl<'a> Nemesis<'a> {
    pub fn new(cluster: &'a mut Cluster, report: &'a mut Report, clock: Clock) -> Self {
        let bases = cluster.bases();
        let probers =
            (0..bases.len() as u64).map(|number| Session::new(&bases, clock, FIRST_PROBE + number)).collect();
        Self { cluster, report, clock, probers, findings: Vec::new() }
    }

    /// One fault, from its injection until all is well again.
    pub async fn strike(&mut self, fault: &Fault) {
        let begun = self.clock.now();
        self.report.fault(fault.kind.name());
        let at = Instant::now();
        let injected = self.inject(fault).await;
        let end = if injected.is_ok() { "all well" } else { "NOT well" };
        if let Err(error) = injected {
            self.findings.push(format!("{fault:?} at {begun} µs: {error}"));
        }
        let whom = fault.replica.map_or("all".to_owned(), |replica| format!("replica {replica}"));
        let (name, lasts, took) = (fault.kind.name(), fault.lasts, at.elapsed());
        self.report.say(&format!("   {name}, {whom}, {lasts:?}: {end} after {:.2} s", took.as_secs_f64()));
        for replica in &mut self.cluster.replicas {
            if let Some(ended) = replica.ended_by_itself() {
                self.findings.push(format!("{ended} during {fault:?}"));
                replica.start();
            }
        }
    }

    /// The history of the probes, and what went wrong apart from it.
    pub fn finish(self) -> (History, Vec<String>) {
        let mut whole = History::default();
        for prober in self.probers {
            whole.absorb(prober.history);
        }
        (whole, self.findings)
    }

    /// Waits until each replica has had a write acknowledged. The first and the last of these moments.
    async fn all_write(&mut self) -> Result<(Instant, Instant), String> {
        let acknowledged = join_all(self.probers.iter_mut().enumerate().map(async |(replica, prober)| {
            let asked = wait_for(WELL_WITHIN, async || {
                let outcome = probe(prober, replica, PROBE_WITHIN).await;
                matches!(outcome, Outcome::Done { .. }).then(Instant::now)
            });
            asked
                .await
                .ok_or_else(|| format!("replica {replica} does not write again within {WELL_WITHIN:?}"))
        }))
        .await;
        let times = acknowledged.into_iter().collect::<Result<Vec<_>, _>>()?;
        let now = Instant::now();
        Ok((times.iter().min().copied().unwrap_or(now), times.iter().max().copied().unwrap_or(now)))
    }

    /// Measures from the moment at which the database could be reached again.
    async fn database_is_back(&mut self, back: Instant) -> Result<(), String> {
        let (first, last) = self.all_write().await?;
        self.report.recovered(FIRST_WRITE, first - back);
        self.report.recovered(EVERY_WRITE, last - back);
        Ok(())
    }

    /// Measures from the healing of a partition until every replica shows what was the newest then.
    async fn all_agree(&mut self, what: &str) -> Result<(), String> {
        let healed = Instant::now();
        let head = head(self.cluster).await?;
        let agreed = join_all(self.probers.iter_mut().enumerate().map(async |(replica, prober)| {
            let reached = wait_for(WELL_WITHIN, async || {
                let shown = shown_revision(prober, replica, Consistency::Default).await?;
                (shown >= head).then(Instant::now)
            });
            reached
                .await
                .ok_or_else(|| format!("replica {replica} does not reach {head} within {WELL_WITHIN:?}"))
        }))
        .await;
        let times = agreed.into_iter().collect::<Result<Vec<_>, _>>()?;
        let last = times.into_iter().max().unwrap_or(healed);
        self.report.recovered(what, last - healed);
        self.all_write().await.map(|_| ())
    }

    /// Measures until every replica has written, from now.
    async fn all_write_again(&mut self) -> Result<(), String> {
        let over = Instant::now();
        let (_, last) = self.all_write().await?;
        self.report.recovered(WRITES_AGAIN, last - over);
        Ok(())
    }
}
