//! What must be true when it is over.

mod chain;
mod fold;
mod gone;
mod ledger;
mod log;
mod order;
mod output;
mod reads;
mod refusals;
mod small;
mod tables;

use std::time::{Duration, Instant};

use sqlx::Connection as _;

pub use fold::Fold;
pub use gone::Gone;
pub use ledger::Ledger;
pub use output::Expected;

use self::order::RealTime;
use crate::{
    cluster::{Cluster, wait_for},
    history::History,
    report::Report,
};

const AGREE_WITHIN: Duration = Duration::from_secs(30);

/// Whether the database was replaced by one that lacked its last commits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Database {
    TheSame,
    Replaced,
}

/// Runs every checker over a history and the cluster that it was made on.
pub async fn check(
    cluster: &mut Cluster,
    history: &History,
    report: &mut Report,
    expected: Expected,
    server: Database,
) -> Result<(Fold, Ledger), String> {
    let begun = Instant::now();
    let mut database = cluster.database.connect().await.map_err(|error| error.to_string())?;
    let bases = cluster.bases();
    let fold = Fold::of(&bases[0]).await?;

    let gone = if server == Database::Replaced { Gone::of(&fold) } else { Gone::default() };
    let ledger = ledger::check(history, &fold, &gone);
    report.count("writes acknowledged", ledger.acknowledged);
    report.count("writes of unknown outcome", ledger.unknown);
    report.count("  of which were done", ledger.unknown_done);
    if !gone.is_empty() {
        report.count("writes lost with a database", ledger.gone.len());
    }
    report.count("reads", history.reads.len());
    report.count("reads without an answer", usize::try_from(history.failed_reads).unwrap_or(0));
    report.count("events in the log", fold.entries.len());
    report.check("an acknowledged write is in the log", &ledger.lost);
    report.check("no write is in the log twice", &ledger.twice);
    report.check("the log holds what was asked for and told, nothing else", &ledger.contradictions);
    let odd = history.writes.iter().filter_map(|write| match &write.outcome {
        crate::history::Outcome::Odd(what) => Some(format!("{what}: {write:?}")),
        _ => None,
    });
    report.check("every answer is one that a client may get", &odd.collect::<Vec<_>>());

    let mut gaps = log::without_gap(&fold.entries);
    gaps.extend(fold.findings.iter().cloned());
    report.check("the log is without a gap, and makes sense", &gaps);
    let (batches, mut broken) = chain::check(&mut database).await?;
    report.count("batches in the chain", batches);
    broken.extend(verified(&bases[0], fold.head()).await);
    report.check("the chain of hashes holds", &broken);

    report.check("tables = fold of the log", &tables::tables(&mut database, &fold).await?);
    let mut differing = Vec::new();
    for base in &bases {
        differing.extend(tables::replica(base, &fold).await?);
    }
    report.check("each replica = fold of the log", &differing);

    let times = RealTime::of(history, &ledger.revisions);
    report.check("each write was right at its place in the log", &order::replay(history, &fold));
    let disorder = order::real_time(history, &ledger.revisions, &times);
    report.check("the log agrees with real time", &disorder);
    report.check("a refusal has a reason", &refusals::justified(history, &fold, &times, &gone));
    report.check("a read shows the state of its revision", &reads::true_to_the_log(history, &fold, &gone));
    report.check("a strong read is no older than its request", &reads::fresh(history, &times));
    report.check("no replica goes back", &reads::never_back(history, bases.len()));
    if gone.is_empty() {
        let searched = small::check(history, &ledger.revisions);
        report.count("small histories searched", searched.histories);
        report.count("  operations in them", searched.operations);
        report.count("  too long to be searched", searched.too_long);
        report.check("small histories are linearizable by search", &searched.findings);
    }
    report.check("no panic and no error without a cause", &output::check(&cluster.log_files(), expected));
    report.say(&format!("checked in {:.1} s", begun.elapsed().as_secs_f64()));
    database.close().await.map_err(|error| error.to_string())?;
    Ok((fold, ledger))
}

/// The first revision of every epoch but the first, with what it says is lost.
pub fn epochs(fold: &Fold) -> Vec<(i64, Option<(i64, i64)>)> {
    let begun = fold.entries.iter().filter_map(|entry| match entry.kind {
        log::Kind::EpochStarted { lost } => Some((entry.revision, lost)),
        _ => None,
    });
    begun.collect()
}

/// What the product itself says of its chain.
async fn verified(base: &str, head: i64) -> Vec<String> {
    let url = format!("{base}/api/v1/events/verify");
    let answer = wait_for(AGREE_WITHIN, async || {
        let answer = reqwest::get(&url).await.ok()?.error_for_status().ok()?;
        answer.json::<serde_json::Value>().await.ok()
    });
    match answer.await {
        Some(told) if told["ok"] == true && told["to"] == head && told["head"] == head => Vec::new(),
        Some(told) => vec![format!("/events/verify says {told}, with the head at {head}")],
        None => vec![format!("{url} does not answer")],
    }
}

/// Waits until every replica shows the newest revision of the database.
pub async fn agree(cluster: &Cluster) -> Result<(), String> {
    let head = head(cluster).await?;
    for base in cluster.bases() {
        let url = format!("{base}/api/v1/services/discover/nobody");
        let reached = wait_for(AGREE_WITHIN, async || {
            let answer = reqwest::get(&url).await.ok()?;
            let shown: i64 = answer.headers().get("x-rollcall-revision")?.to_str().ok()?.parse().ok()?;
            (shown >= head).then_some(())
        });
        reached.await.ok_or_else(|| format!("{base} did not reach {head} within {AGREE_WITHIN:?}"))?;
    }
    Ok(())
}

/// The newest revision of the database, asked for past the replicas.
pub async fn head(cluster: &Cluster) -> Result<i64, String> {
    let asked = async {
        let mut connection = cluster.database.connect().await?;
        let head = sqlx::query_scalar("select coalesce(max(rev_to), 0) from rollcall.batches")
            .fetch_one(&mut connection)
            .await?;
        connection.close().await?;
        Ok::<i64, sqlx::Error>(head)
    };
    asked.await.map_err(|error| error.to_string())
}
