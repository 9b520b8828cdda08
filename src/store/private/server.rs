//! The running server: starts one or adopts the one that is there, and stops it in order.
//!
//! A rollcall that was killed leaves its server running; the next one adopts it, since two servers on one
//! cluster would ruin it and a restart would gain nothing. A start that fails leaves nothing running. What
//! durability and access rest on is given on the command line, where no configuration file overrides it.

use std::{fs::File, io, path::Path, process::Stdio, time::Duration};

use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    process::Child,
    time::{Instant, sleep, timeout},
};

use super::{
    cluster::{Cluster, LockFile, Occupant, same_file},
    error::PrivateError,
    greeting::{Address, Greeting, Unanswered, greet},
    server_log,
    server_user::run_to_end,
};

const POLL: Duration = Duration::from_millis(50);
/// Recovery after a crash may take minutes.
const READY_LIMIT: Duration = Duration::from_mins(5);
/// How long a server that says it is ready may leave its door shut.
const UNREACHABLE_LIMIT: Duration = Duration::from_secs(10);
/// How long the processes of a server that was killed may take to let go of its memory and files.
const LETTING_GO_LIMIT: Duration = Duration::from_secs(10);
const FAST_STOP_LIMIT: Duration = Duration::from_secs(25);
const IMMEDIATE_STOP_LIMIT: Duration = Duration::from_secs(5);

/// A server that takes connections.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) address: Address,
    pub(super) version: String,
    /// Absent when the server was adopted. Dropping it leaves the server running.
    child: Option<Child>,
}

impl Server {
    pub(super) async fn start_or_adopt(cluster: &Cluster) -> Result<Self, PrivateError> {
        let mut give_up = None;
        loop {
            match cluster.occupant()? {
                Occupant::Server(found) => match adopt(cluster, &found).await? {
                    Some(server) => return Ok(server),
                    None => continue,
                },
                Occupant::LeftOver => {
                    tracing::info!(cluster = %cluster.path.display(), "removing the lock file of a dead server");
                    cluster.clear_left_over()?;
                }
                Occupant::Nobody => {}
            }
            match launch(cluster).await {
                Err(PrivateError::Exited { tail, .. })
                    if says_not_yet_let_go(&tail)
                        && Instant::now()
                            < *give_up.get_or_insert_with(|| Instant::now() + LETTING_GO_LIMIT) =>
                {
                    sleep(4 * POLL).await;
                }
                launched => return launched,
            }
        }
    }

    pub(super) fn is_adopted(&self) -> bool {
        self.child.is_none()
    }

    pub(super) async fn stop(mut self, cluster: &Cluster) -> Result<(), PrivateError> {
        if matches!(cluster.occupant()?, Occupant::Server(_))
            && !ask_to_stop(cluster, "fast", FAST_STOP_LIMIT).await?
        {
            tracing::warn!(cluster = %cluster.path.display(), "PostgreSQL is slow to stop: stopping it at once");
            if !ask_to_stop(cluster, "immediate", IMMEDIATE_STOP_LIMIT).await? {
                let (path, log) = (cluster.path.clone(), cluster.log.clone());
                return Err(PrivateError::StillRunning { path, log });
            }
        }
        if let Some(child) = &mut self.child
            && timeout(IMMEDIATE_STOP_LIMIT, child.wait()).await.is_err()
        {
            tracing::warn!(cluster = %cluster.path.display(), "PostgreSQL has stopped, but its process is not gone");
        }
        Ok(())
    }
}

/// A server that was started but has not yet answered: dropped before it does, it is told to stop.
struct Unanswering(Option<Child>);

impl Unanswering {
    fn has_exited(&mut self) -> io::Result<bool> {
        self.0.as_mut().map_or(Ok(true), |child| Ok(child.try_wait()?.is_some()))
    }

    fn answered(mut self) -> Option<Child> {
        self.0.take()
    }
}

impl Drop for Unanswering {
    fn drop(&mut self) {
        let pid = self.0.as_ref().and_then(Child::id).and_then(|id| i32::try_from(id).ok());
        if let Some(pid) = pid.and_then(Pid::from_raw)
            && let Err(error) = kill_process(pid, Signal::INT)
        {
            tracing::warn!(%error, "could not tell the unfinished PostgreSQL to stop");
        }
    }
}

async fn launch(cluster: &Cluster) -> Result<Server, PrivateError> {
    cluster.clear_socket()?;
    let log = server_log::open(&cluster.log).map_err(PrivateError::folder("write", &cluster.log))?;
    let log_began_at = log.metadata().map_or(0, |log| log.len());
    let mut starting = Unanswering(Some(spawn(cluster, &log)?));
    let address = Address::new(cluster.socket_folder.clone());
    let deadline = Instant::now() + READY_LIMIT;
    loop {
        let is_ready = matches!(cluster.occupant()?, Occupant::Server(LockFile { ready: true, .. }));
        let unanswered = match greet_when(is_ready, &address).await {
            Ok(greeting) => {
                let version = greeting.version;
                return Ok(Server { address, version, child: starting.answered() });
            }
            Err(unanswered) => unanswered,
        };
        if starting.has_exited().map_err(PrivateError::folder("watch the server of", &cluster.path))? {
            let (path, log) = (cluster.path.clone(), cluster.log.clone());
            return Err(PrivateError::Exited { path, tail: server_log::tail(&log, log_began_at), log });
        }
        wait_or_give_up(cluster, unanswered, deadline, READY_LIMIT).await?;
    }
}

fn spawn(cluster: &Cluster, log: &File) -> Result<Child, PrivateError> {
    let user = cluster.folder.user();
    let program = cluster.binaries.tool("postgres");
    let quoted_folder = cluster.socket_folder.to_string_lossy().replace('"', "\"\"");
    let mut postgres = user.command(&program);
    postgres.arg("-D").arg(&cluster.path);
    for setting in [
        "listen_addresses=",
        &format!("unix_socket_directories=\"{quoted_folder}\""),
        "unix_socket_permissions=0700",
        "port=5432",
        "fsync=on",
        "full_page_writes=on",
        "log_destination=stderr",
        "logging_collector=off",
        "cluster_name=rollcall",
    ] {
        postgres.args(["-c", setting]);
    }
    let outputs = log.try_clone().and_then(|stdout| Ok((stdout, log.try_clone()?)));
    let (stdout, stderr) = outputs.map_err(PrivateError::folder("write", &cluster.log))?;
    postgres.stdout(Stdio::from(stdout)).stderr(Stdio::from(stderr));
    let failed = |source| PrivateError::Program { program, user: user.name().to_owned(), source };
    postgres.spawn().map_err(failed)
}

/// Waits for the server that is there to answer. Nothing comes back when it went away instead.
async fn adopt(cluster: &Cluster, found: &LockFile) -> Result<Option<Server>, PrivateError> {
    let mut since = Instant::now();
    let mut current = LockFile { socket_folder: found.socket_folder.clone(), ..*found };
    loop {
        let address = Address {
            socket_folder: current.socket_folder.clone().unwrap_or_else(|| cluster.socket_folder.clone()),
            port: current.port.unwrap_or(Address::PORT),
        };
        let unanswered = match greet_when(current.ready, &address).await {
            Ok(greeting) => {
                return match unfit(&greeting, &cluster.path) {
                    None => Ok(Some(Server { address, version: greeting.version, child: None })),
                    Some(reason) => {
                        Err(PrivateError::Unfit { path: cluster.path.clone(), pid: current.pid, reason })
                    }
                };
            }
            Err(unanswered) => unanswered,
        };
        match cluster.occupant()? {
            Occupant::Server(now) => {
                if now.ready != current.ready {
                    since = Instant::now();
                }
                current = now;
            }
            _ => return Ok(None),
        }
        let limit = if current.ready { UNREACHABLE_LIMIT } else { READY_LIMIT };
        wait_or_give_up(cluster, unanswered, since + limit, limit).await?;
    }
}

/// A server that says it is not ready is not asked: it would only fill its log with refusals.
async fn greet_when(is_ready: bool, address: &Address) -> Result<Greeting, Unanswered> {
    if is_ready { greet(address).await } else { Err(Unanswered::Yet(None)) }
}

fn unfit(greeting: &Greeting, cluster: &Path) -> Option<String> {
    if !same_file(Path::new(&greeting.data_directory), cluster) {
        return Some(format!("its socket is that of {}", greeting.data_directory));
    }
    if greeting.fsync != "on" {
        return Some("fsync is off".to_owned());
    }
    (!greeting.listen_addresses.is_empty()).then(|| format!("it listens on {}", greeting.listen_addresses))
}

async fn wait_or_give_up(
    cluster: &Cluster,
    unanswered: Unanswered,
    deadline: Instant,
    limit: Duration,
) -> Result<(), PrivateError> {
    let source = match unanswered {
        Unanswered::ForEver(source) => {
            return Err(PrivateError::Refused { path: cluster.path.clone(), source });
        }
        Unanswered::Yet(source) => source,
    };
    if Instant::now() >= deadline {
        return Err(PrivateError::NotReady {
            path: cluster.path.clone(),
            log: cluster.log.clone(),
            limit,
            source,
        });
    }
    sleep(POLL).await;
    Ok(())
}

/// Tells whether it did stop. `pg_ctl` is not left to wait for it: it takes a dead process that nobody has
/// buried for a running server.
async fn ask_to_stop(cluster: &Cluster, mode: &str, limit: Duration) -> Result<bool, PrivateError> {
    let user = cluster.folder.user();
    let program = cluster.binaries.tool("pg_ctl");
    let mut pg_ctl = user.command(&program);
    pg_ctl.args(["stop", "-W", "-m", mode, "-D"]).arg(&cluster.path);
    let deadline = Instant::now() + limit;
    let asked = run_to_end(&mut pg_ctl, limit).await;
    while matches!(cluster.occupant()?, Occupant::Server(_)) {
        if Instant::now() >= deadline {
            // Only now does it matter whether the question was put.
            asked.map_err(|source| PrivateError::Program {
                program,
                user: user.name().to_owned(),
                source,
            })?;
            return Ok(false);
        }
        sleep(POLL).await;
    }
    Ok(true)
}

/// Whether the end of the log tells of a former server's remains. The words are `PostgreSQL`'s in the C locale.
fn says_not_yet_let_go(tail: &str) -> bool {
    ["already exists", "still in use", "is empty", "Address already in use"]
        .iter()
        .any(|words| tail.contains(words))
}
