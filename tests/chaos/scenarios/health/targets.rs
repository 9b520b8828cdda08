//! Targets that are asked for their health, over connections that are never kept.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::sleep,
};

use super::{Client, fell_ill, removed};
use crate::{
    cluster::{Cluster, wait_for},
    options::Options,
    report::Report,
};

const NAMES: &str = "target-%";
/// Between two passes of removals, as far as clocks tell.
const PASS: Duration = Duration::from_millis(4500);
/// As the checks say it.
const DUE_AFTER: Duration = Duration::from_secs(15);
const WITHIN: Duration = Duration::from_mins(2);
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";

/// A server that all targets are at, each by a path of its own. The first few of them may be away.
pub struct Targets {
    pub port: u16,
    away: Arc<AtomicUsize>,
    asked: Arc<Mutex<HashMap<usize, Instant>>>,
}

impl Targets {
    pub async fn start() -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let targets = Self { port, away: Arc::default(), asked: Arc::default() };
        let (away, asked) = (targets.away.clone(), targets.asked.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, away.clone(), asked.clone()));
            }
        });
        Ok(targets)
    }

    fn take_away(&self, count: usize) {
        self.away.store(count, Ordering::Relaxed);
    }

    /// Who was not asked after that.
    fn not_asked_since(&self, since: Instant, count: usize) -> Vec<usize> {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        (0..count).filter(|number| asked.get(number).is_none_or(|at| *at < since)).collect()
    }
}

/// One that is away ends the connection without a word.
async fn answer(mut stream: TcpStream, away: Arc<AtomicUsize>, asked: Arc<Mutex<HashMap<usize, Instant>>>) {
    let mut head = [0; 2048];
    let Ok(length) = stream.read(&mut head).await else { return };
    let text = String::from_utf8_lossy(&head[..length]).into_owned();
    let path = text.split(' ').nth(1).and_then(|path| path.strip_prefix('/')?.parse::<usize>().ok());
    let Some(number) = path else { return };
    if number >= away.load(Ordering::Relaxed) {
        asked.lock().unwrap_or_else(PoisonError::into_inner).insert(number, Instant::now());
        let _ = stream.write_all(ANSWER).await;
    }
}

pub async fn play(
    cluster: &Cluster,
    client: &Client,
    targets: &Targets,
    options: &Options,
    report: &mut Report,
) -> Result<(), String> {
    // each of three replicas is to have more than the 20 that it takes to doubt oneself
    let count = 90;
    let lasts = Duration::from_secs(if options.long { 60 } else { 8 });
    let services: Vec<_> = (0..count)
        .map(|number| {
            let check = json!({
                "kind": "http", "path": format!("/{number}"), "interval": "1s", "timeout": "1s",
                "unhealthy_after": 2, "deregister_after": "15s",
            });
            json!({"name": format!("target-{number}"), "type": "api", "host": "127.0.0.1",
                   "port": targets.port, "checks": [check]})
        })
        .collect();
    client.register(&services).await?;
    all_are(client, "healthy", count).await?;

    report.fault("a replica cut off from its targets");
    cluster.replicas[1].weather().cut();
    sleep(lasts).await;
    let since = Instant::now();
    let asked =
        wait_for(WITHIN, async || targets.not_asked_since(since, count).is_empty().then_some(())).await;
    let mut findings = Vec::new();
    if asked.is_none() {
        findings.push(format!("not asked by the others: {:?}", targets.not_asked_since(since, count)));
    }
    let wrong = fell_ill(cluster, NAMES).await?;
    cluster.replicas[1].weather().mend();
    if wrong > 0 {
        findings.push(format!("{wrong} of {count} were told to be ill"));
    }
    report.check("a replica that is cut off says nothing wrong, and the others do its work", &findings);

    report.fault("all targets away at once");
    targets.take_away(count);
    all_are(client, "unhealthy", count).await?;
    sleep(lasts + DUE_AFTER).await;
    let gone = removed(cluster, NAMES).await?;
    let findings: Vec<_> = (gone > 0).then(|| format!("{gone} were removed")).into_iter().collect();
    report.check("nobody is removed while all are away at once", &findings);

    // fewer than 55 % of them are due from now on
    report.fault("many targets away at once");
    targets.take_away(count / 2);
    let mut passes: Vec<(Instant, usize)> = Vec::new();
    let mut before = 0;
    let enough = if options.long { count / 2 } else { count / 4 };
    let all = wait_for(WITHIN, async || {
        let gone = removed(cluster, NAMES).await.ok()?;
        if gone > before {
            passes.push((Instant::now(), gone - before));
            before = gone;
        }
        (gone >= enough).then_some(())
    });
    let all = all.await;
    let most = count * 15 / 100;
    let mut findings = Vec::new();
    for (index, (begun, _)) in passes.iter().enumerate() {
        let within = passes[index..].iter().filter(|(at, _)| *at - *begun < PASS);
        let together: usize = within.map(|(_, gone)| gone).sum();
        if together > most {
            findings.push(format!("{together} were removed within {PASS:?}, {most} may be"));
        }
    }
    if all.is_none() {
        findings.push(format!("{before} of {enough} were removed within {WITHIN:?}"));
    }
    report.check("three replicas together remove no more than a pass may", &findings);
    report.count("targets removed", before);
    targets.take_away(0);
    Ok(())
}

async fn all_are(client: &Client, status: &str, count: usize) -> Result<(), String> {
    let mut last = 0;
    let all = wait_for(WITHIN, async || {
        let url = format!("{}/api/v1/services?status={status}&type=api&limit=1000", client.bases[0]);
        let answer: serde_json::Value = client.http.get(url).send().await.ok()?.json().await.ok()?;
        last = answer.as_array()?.len();
        (last == count).then_some(())
    });
    all.await.ok_or_else(|| format!("{last} of {count} targets are {status} after {WITHIN:?}"))
}
