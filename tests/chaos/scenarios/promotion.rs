//! A database takes over that lacks the last commits: a standby that lagged, or a copy that was restored. Sometimes
//! every replica is restarted meanwhile, and only a file remembers.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::Value;
use tokio::time::sleep;

use super::keep_logs;
use crate::{
    checks::{self, Fold, Ledger, agree, epochs},
    clients::{Board, Crowd, FIRST_PROBE, Plan, Session, probe, shown_revision},
    cluster::{Cluster, End, Needs, Postgres, wait_for},
    history::{Clock, Consistency, History, Outcome},
    options::Options,
    proxy::{Mode, Proxy},
    random::Random,
    report::Report,
};

const EPOCH: i64 = 1_000_000_000;
const NOTICED: &str = "another database took over → noticed by a replica";
const WITHIN: Duration = Duration::from_secs(30);
/// A replica remembers once a second where it stands.
const REMEMBERED: Duration = Duration::from_millis(1300);
const EXPECTED_ERRORS: checks::Expected = &["the database has lost changes"];

/// What becomes of the replicas meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Replicas {
    StayUp,
    Killed,
    Stopped,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Successor {
    Standby,
    /// Of the same server, and on the same timeline: nothing but the log itself tells.
    Copy,
}

pub async fn play(options: &Options, report: &mut Report) -> Result<(), String> {
    report.begin("promotion");
    let mut cluster = Cluster::start(&Needs { binary: options.binary.clone(), ..Needs::default() }).await?;
    let (clock, board) = (Clock::start(), Arc::new(Board::default()));
    let clients = options.clients.min(9);
    let plan = Plan { clients, seed: options.seed, pace: Duration::from_millis(3), first: 100, loyal: false };
    let crowd = Crowd::start(&cluster.bases(), clock, &board, &plan);
    let mut rounds = rounds(options.promotions);
    let mut random = Random::of(options.seed, "promotion");
    random.shuffle(&mut rounds);
    let mut prober = Session::new(&cluster.bases(), clock, FIRST_PROBE + 10);
    let mut findings = Vec::new();
    for (number, (successor, replicas)) in rounds.iter().enumerate() {
        report.fault(&format!("{successor:?} takes over, replicas {replicas:?}"));
        let mut round =
            Round { cluster: &mut cluster, report, prober: &mut prober, random: &mut random, number };
        if let Err(error) = round.play(*successor, *replicas).await {
            findings.push(format!("round {number} ({successor:?}, {replicas:?}): {error}"));
            break;
        }
    }
    let mut history = crowd.stop().await;
    history.absorb(prober.history);
    findings.extend(agree(&cluster).await.err());
    report.check("every replica notices that another database took over", &findings);
    let checked =
        checks::check(&mut cluster, &history, report, EXPECTED_ERRORS, checks::Database::Replaced).await;
    if let Ok((fold, ledger)) = &checked {
        judge(&cluster, &history, fold, ledger, rounds.len(), report);
    }
    report.end();
    keep_logs(options, report, &cluster, "promotion");
    checked.map(|_| ())
}

fn rounds(promotions: usize) -> Vec<(Successor, Replicas)> {
    let of_a_standby = [Replicas::StayUp, Replicas::Killed, Replicas::StayUp, Replicas::Stopped];
    let of_a_copy = [Replicas::Killed, Replicas::StayUp];
    let standbys = of_a_standby.into_iter().cycle().take(promotions);
    let copies = of_a_copy.into_iter().cycle().take(promotions.div_ceil(4));
    standbys
        .map(|replicas| (Successor::Standby, replicas))
        .chain(copies.map(|replicas| (Successor::Copy, replicas)))
        .collect()
}

struct Round<'a> {
    cluster: &'a mut Cluster,
    report: &'a mut Report,
    prober: &'a mut Session,
    random: &'a mut Random,
    number: usize,
}

impl Round<'_> {
    async fn play(&mut self, successor: Successor, replicas: Replicas) -> Result<(), String> {
        let next = self.cluster.another_server(&format!("server-{}", self.number));
        // kept until the end: through it the standby hears of commits, or does not
        let replication =
            Proxy::start(self.cluster.database.socket_file()).await.map_err(|error| error.to_string())?;
        match successor {
            Successor::Standby => {
                next.copy_from(replication.port).await?;
                next.start().await?;
                caught_up(&self.cluster.database).await?;
                sleep(Duration::from_millis(self.random.between(50, 400))).await;
                replication.set(Mode::BlackHole);
            }
            Successor::Copy => {
                self.cluster.database.end(End::Fast).await?;
                next.copy_files_of(&self.cluster.database).await?;
                self.cluster.database.start().await?;
            }
        }
        // from here on there are commits that the successor will not have
        self.everybody_writes().await?;
        if successor == Successor::Copy || replicas == Replicas::Stopped {
            sleep(REMEMBERED).await;
        }
        sleep(Duration::from_millis(self.random.between(50, 500))).await;
        if replicas == Replicas::Killed {
            self.cluster.replicas.iter_mut().for_each(crate::cluster::Replica::kill);
        }
        self.cluster.database.end(End::KillAll).await?;
        if replicas == Replicas::Stopped {
            for replica in &mut self.cluster.replicas {
                replica.stop(Duration::from_secs(31)).await?;
            }
        }
        match successor {
            Successor::Standby => next.promote().await?,
            Successor::Copy => next.start().await?,
        }
        let taken_over = Instant::now();
        for proxy in &self.cluster.proxies {
            proxy.lead_to(next.socket_file());
            proxy.cut();
        }
        let before = std::mem::replace(&mut self.cluster.database, next);
        before.remove();
        if replicas != Replicas::StayUp {
            self.cluster.replicas.iter_mut().for_each(crate::cluster::Replica::start);
        }
        self.noticed(taken_over).await?;
        self.everybody_writes().await
    }

    async fn everybody_writes(&mut self) -> Result<(), String> {
        for replica in 0..self.cluster.replicas.len() {
            let written = wait_for(WITHIN, async || {
                let outcome = probe(self.prober, replica, Duration::from_secs(2)).await;
                matches!(outcome, Outcome::Done { .. }).then_some(())
            });
            written.await.ok_or_else(|| format!("replica {replica} does not write"))?;
        }
        Ok(())
    }

    /// Each replica is to show a revision of the next epoch.
    async fn noticed(&mut self, taken_over: Instant) -> Result<(), String> {
        let first = EPOCH * (self.number as i64 + 1);
        for replica in 0..self.cluster.replicas.len() {
            let noticed = wait_for(WITHIN, async || {
                let shown = shown_revision(self.prober, replica, Consistency::Default).await?;
                (shown >= first).then(Instant::now)
            });
            let noticed = noticed.await.ok_or_else(|| format!("replica {replica} is not at {first}"))?;
            self.report.recovered(NOTICED, noticed - taken_over);
        }
        Ok(())
    }
}

async fn caught_up(primary: &Postgres) -> Result<(), String> {
    let mut connection = primary.connect_to_maintain().await.map_err(|error| error.to_string())?;
    let streaming = wait_for(WITHIN, async || {
        let streams = sqlx::query_scalar::<_, i64>(
            "select count(*) from pg_stat_replication where state = 'streaming' and replay_lsn is not null",
        );
        let streams = streams.fetch_one(&mut connection).await.ok()?;
        (streams > 0).then_some(())
    });
    streaming.await.ok_or_else(|| "the standby does not follow".to_owned())
}

/// One epoch for each take-over, no revision twice, and all that was lost is told.
fn judge(
    cluster: &Cluster,
    history: &History,
    fold: &Fold,
    ledger: &Ledger,
    rounds: usize,
    report: &mut Report,
) {
    let epochs = epochs(fold);
    let found = epochs.len();
    let wrong = format!("{found} epochs were begun in {rounds} rounds: {epochs:?}");
    report.check("one epoch is begun for each", &if found == rounds { vec![] } else { vec![wrong] });
    report.check("no revision was given out twice", &given_out_twice(history, fold));
    let told = told(cluster, &epochs);
    let is_told = |revision: &i64| told.iter().any(|(from, to)| (*from..=*to).contains(revision));
    let untold: Vec<i64> = ledger.gone.iter().copied().filter(|revision| !is_told(revision)).collect();
    report.count("  of which nobody told", untold.len());
    let silent: Vec<String> = untold
        .iter()
        .map(|revision| format!("revision {revision} was acknowledged, lost, and nobody tells"))
        .collect();
    report.check("what was lost is told", &silent);
}

/// No two writes were told one revision, and none that of another's event.
fn given_out_twice(history: &History, fold: &Fold) -> Vec<String> {
    let mut findings = Vec::new();
    let logged: HashMap<i64, _> = fold.entries.iter().map(|entry| (entry.revision, entry.tag)).collect();
    let mut given: BTreeMap<i64, crate::history::Tag> = BTreeMap::new();
    for write in history.writes.iter().filter(|write| !write.verb.may_change_nothing()) {
        let Some(revision) = write.revision() else { continue };
        if let Some(other) = given.insert(revision, write.tag) {
            findings.push(format!("{revision} was told to {other:?} and to {:?}", write.tag));
        }
        if let Some(tag) = logged.get(&revision).filter(|tag| **tag != Some(write.tag)) {
            findings.push(format!("{revision} was told to {:?} and is {tag:?} in the log", write.tag));
        }
    }
    findings
}

/// The revisions that are reported as lost: by the log itself, and by the replicas to whoever minds them.
fn told(cluster: &Cluster, epochs: &[(i64, Option<(i64, i64)>)]) -> Vec<(i64, i64)> {
    let mut told: Vec<(i64, i64)> = epochs.iter().filter_map(|(_, lost)| *lost).collect();
    for file in cluster.log_files() {
        let text = fs::read_to_string(file).unwrap_or_default();
        told.extend(text.lines().filter_map(|line| {
            let line: Value = serde_json::from_str(line).ok()?;
            // where the last common revision is not known, all may be lost
            Some((line["lost_from"].as_i64().unwrap_or(0), line["lost_to"].as_i64()?))
        }));
    }
    told
}
