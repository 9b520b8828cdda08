//! Asks a target how it fares, and says what it saw. One way of asking a file.
//!
//! Invariant: no way leads to an address that may not be asked. All of them connect through `dial`, which looks a name
//! up once, picks from what it found, and connects to that very address.

mod answer;
mod dial;
mod grpc;
mod http;
mod script;
mod tls;

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    domain::{
        Host, Judged, Seen,
        check::{Ask, Check, Kind},
    },
    settings::Networks,
};
use smol_str::SmolStr;
use tokio::sync::Semaphore;

use dial::Dialer;
use http::HttpLine;
use tls::Trust;

/// Where a check comes as often as this its connection is kept.
const KEPT_UP_TO: Duration = Duration::from_mins(1);
/// How much of what a target says is kept.
const LONGEST_OUTPUT: usize = 4096;

/// What asking came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Observation {
    pub seen: Seen,
    pub latency: Duration,
    /// What was wrong.
    pub output: Option<String>,
    pub load: Option<f32>,
    /// Nothing was heard of the target: it may as well be this side that is cut off.
    pub silent: bool,
}

/// What may be asked, and how.
#[derive(Clone, Debug, Default)]
pub struct Terms {
    pub allowed: Networks,
    pub denied: Networks,
    /// Where the database is: no target.
    pub database: Option<(String, u16)>,
    /// The folder of the programs that may be run; none without.
    pub scripts: Option<PathBuf>,
    /// How many connections may be kept between two runs of a check.
    pub kept: usize,
}

pub struct Probes {
    dialer: Dialer,
    trust: Trust,
    scripts: Option<PathBuf>,
    places: Arc<Semaphore>,
}

/// What a check keeps from one time to the next.
#[derive(Default)]
pub struct Line {
    http: Option<Box<HttpLine>>,
}

/// What one attempt came to.
struct Told {
    seen: Seen,
    output: Option<String>,
    load: Option<f32>,
    silent: bool,
}

impl Told {
    fn passing() -> Self {
        Self { seen: Seen::Passing, output: None, load: None, silent: false }
    }

    fn warning(output: String) -> Self {
        Self { seen: Seen::Warning, ..Self::failing(output) }
    }

    fn failing(output: String) -> Self {
        Self { seen: Seen::Failing, output: Some(output), load: None, silent: false }
    }

    fn silent(output: String) -> Self {
        Self { silent: true, ..Self::failing(output) }
    }
}

impl Probes {
    pub fn new(terms: Terms) -> Self {
        let Terms { allowed, denied, database, scripts, kept } = terms;
        let dialer = Dialer::new(allowed, denied, database);
        Self { dialer, trust: Trust::default(), scripts, places: Arc::new(Semaphore::new(kept)) }
    }

    /// Whether there are programs that may be run.
    pub fn run_scripts(&self) -> bool {
        self.scripts.is_some()
    }

    /// Asks, and asks again as often as the check says before a failure counts.
    pub async fn ask(&self, judged: &Judged, line: &mut Line) -> Observation {
        let check = &*judged.check;
        let mut tries = 0;
        loop {
            let began = Instant::now();
            let told =
                match tokio::time::timeout(check.timeout, self.once(judged, line, began + check.timeout))
                    .await
                {
                    Ok(told) => told,
                    Err(_) => {
                        let output = format!("no answer within {:?}", check.timeout);
                        // a program says what it was made to say, if it says anything
                        let is_local = check.ask.kind() == Kind::Script;
                        if is_local { Told::failing(output) } else { Told::silent(output) }
                    }
                };
            if told.seen != Seen::Failing || tries >= check.retries {
                let Told { seen, output, load, silent } = told;
                let output = output.map(beginning);
                // one that is not used for long only takes a place, and its target will have closed it
                let soon = check.interval <= KEPT_UP_TO;
                line.http = line.http.take().filter(|_| soon).and_then(|line| line.keep(&self.places));
                return Observation { seen, latency: began.elapsed(), output, load, silent };
            }
            tries += 1;
            tokio::time::sleep(check.retry_delay).await;
        }
    }

    async fn once(&self, judged: &Judged, line: &mut Line, deadline: Instant) -> Told {
        let Judged { check, host, port } = judged;
        match &check.ask {
            Ask::Http(ask) => http::ask(&self.dialer, &self.trust, ask, host, *port, line, deadline).await,
            Ask::Tcp { url } => {
                let (host, port) = url.as_ref().map_or((host, *port), |url| (&url.host, url.port));
                match self.dialer.connect(host.as_str(), port).await {
                    Ok(_) => Told::passing(),
                    Err(error) => Told::silent(error.to_string()),
                }
            }
            Ask::Grpc { url, service, tls } => {
                let (host, port) = url.as_ref().map_or((host, *port), |url| (&url.host, url.port));
                // rare and large: the others do not carry its weight around
                Box::pin(grpc::ask(&self.dialer, &self.trust, host, port, service, tls.as_ref())).await
            }
            Ask::Script { script, args } => match &self.scripts {
                Some(folder) => Box::pin(script::run(folder, script, args)).await,
                None => Told::failing("script checks are off here".to_owned()),
            },
            // nobody asks
            Ask::Ttl { .. } => Told::passing(),
        }
    }
}

/// Whose load a check adds to: no more than a few of one host are under way at once.
pub fn host_of(check: &Check, own: &Host) -> SmolStr {
    let other = match &check.ask {
        Ask::Http(ask) => ask.place.endpoint().host(),
        Ask::Tcp { url } | Ask::Grpc { url, .. } => url.as_ref().map(|url| url.host.as_str().to_owned()),
        Ask::Ttl { .. } | Ask::Script { .. } => None,
    };
    other.map_or_else(|| own.text(), Into::into)
}

fn beginning(mut text: String) -> String {
    let mut end = text.len().min(LONGEST_OUTPUT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    // PostgreSQL's text cannot hold it
    if text.contains('\0') { text.replace('\0', "\u{fffd}") } else { text }
}

/// The innermost error says what happened; the outer ones say where.
fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
