//! One `PostgreSQL` server, and all that can befall it.
//!
//! It syncs to disk like a real one, listens on a Unix socket alone, and is spoken to by the replicas through their
//! proxies only.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use sqlx::{ConnectOptions as _, Connection as _, PgConnection, postgres::PgConnectOptions};
use tokio::{process::Command, sync::OnceCell};

use super::{folder::Folder, tools::Tools, wait::wait_for};

/// The role that the replicas log in as. It is no superuser: what is kept for those is not theirs.
pub const SERVICE_ROLE: &str = "rollcall";
pub const DATABASE: &str = "registry";
/// Connections in all, of which superusers keep some for themselves.
pub const MAX_CONNECTIONS: usize = 100;
pub const RESERVED_CONNECTIONS: usize = 8;

/// The processes of a server notice within moments that the first of them is dead.
const GONE_WITHIN: Duration = Duration::from_secs(5);
const START_WITHIN: Duration = Duration::from_mins(1);

#[derive(Clone, Debug)]
pub struct Postgres {
    tools: Tools,
    data: PathBuf,
    socket: PathBuf,
    /// Its processes at the time when it was killed.
    killed: Arc<Mutex<Vec<i32>>>,
}

/// How a server is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// SIGKILL to the first process alone: the others notice and go by themselves.
    KillFirst,
    /// SIGKILL to all of it at once, as when a machine fails.
    KillAll,
    /// Without a checkpoint; the next start is a recovery.
    Immediate,
    /// In order, as before an upgrade: clients are cut off.
    Fast,
}

impl Postgres {
    /// Where a server is to be: its data in `data`, its socket in `socket`.
    pub fn at(tools: &Tools, data: PathBuf, socket: PathBuf) -> Self {
        fs::create_dir_all(&socket).unwrap();
        tools.hand_over(&socket);
        Self { tools: tools.clone(), data, socket, killed: Arc::default() }
    }

    pub fn tools(&self) -> &Tools {
        &self.tools
    }

    /// The file that clients connect to.
    pub fn socket_file(&self) -> PathBuf {
        self.socket.join(".s.PGSQL.5432")
    }

    /// Makes a fresh cluster. It is made once and then copied.
    pub async fn initialise(&self) -> Result<(), String> {
        static TEMPLATE: OnceCell<(Folder, PathBuf)> = OnceCell::const_new();
        let template = TEMPLATE.get_or_try_init(async || {
            let folder = Folder::new();
            let template =
                Self::at(&self.tools, folder.path().join("template"), folder.path().join("socket"));
            fs::create_dir_all(&template.data).map_err(|error| error.to_string())?;
            self.tools.hand_over(&template.data);
            template.make().await?;
            Ok::<_, String>((folder, template.data))
        });
        copy_files(&template.await?.1, &self.data).await
    }

    async fn make(&self) -> Result<(), String> {
        let data = self.data.to_string_lossy();
        let arguments = ["-D", &data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "-N"];
        self.tools.run(&self.socket, "initdb", &arguments).await
    }

    /// Writes the settings that the server starts with.
    pub fn configure(&self) {
        let reserved = RESERVED_CONNECTIONS;
        let settings = format!(
            "listen_addresses = ''\nunix_socket_directories = '{}'\nmax_connections = {MAX_CONNECTIONS}\n\
             superuser_reserved_connections = {reserved}\nfsync = on\nsynchronous_commit = on\n\
             wal_level = replica\nhot_standby = on\nmax_wal_senders = 4\nwal_keep_size = 64MB\n\
             max_wal_size = 512MB\nshared_buffers = 128MB\nautovacuum_naptime = 10s\nlog_min_messages = warning\n\
             restart_after_crash = on\n",
            self.socket.display()
        );
        fs::write(self.data.join("chaos.conf"), settings).unwrap();
        let file = self.data.join("postgresql.conf");
        let text = fs::read_to_string(&file).unwrap();
        if !text.contains("include 'chaos.conf'") {
            fs::write(&file, text + "\ninclude 'chaos.conf'\n").unwrap();
        }
    }

    /// Starts it, as often as it takes: the processes of the one before may need a moment to go.
    pub async fn start(&self) -> Result<(), String> {
        let begun = Instant::now();
        let data = self.data.to_string_lossy().into_owned();
        let log = self.log_file().to_string_lossy().into_owned();
        let arguments = ["start", "-D", &data, "-w", "-t", "60", "-s", "-l", &log];
        self.clear_away_killed().await;
        loop {
            match self.tools.run(&self.socket, "pg_ctl", &arguments).await {
                Ok(()) => return Ok(()),
                Err(error) if begun.elapsed() > START_WITHIN => return Err(error),
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    /// A killed process may stay for seconds as a zombie, and its lock file with it. Once none of them lives any more
    /// the file says nothing true.
    async fn clear_away_killed(&self) {
        let killed = std::mem::take(&mut *self.killed.lock().unwrap_or_else(PoisonError::into_inner));
        let all_gone = wait_for(GONE_WITHIN, async || killed.iter().all(|pid| !lives(*pid)).then_some(()));
        if !killed.is_empty() && all_gone.await.is_some() {
            let _ = fs::remove_file(self.data.join("postmaster.pid"));
        }
    }

    pub fn log_file(&self) -> PathBuf {
        self.socket.join("server.log")
    }

    pub async fn end(&self, how: End) -> Result<(), String> {
        let data = self.data.to_string_lossy().into_owned();
        let mode = match how {
            End::KillFirst | End::KillAll => {
                let processes = self.processes().await;
                let count = if how == End::KillFirst { 1 } else { processes.len() };
                for pid in &processes[..count.min(processes.len())] {
                    send(*pid, Signal::KILL);
                }
                *self.killed.lock().unwrap_or_else(PoisonError::into_inner) = processes;
                return Ok(());
            }
            End::Immediate => "immediate",
            End::Fast => "fast",
        };
        self.tools.run(&self.socket, "pg_ctl", &["stop", "-D", &data, "-w", "-s", "-m", mode]).await
    }

    /// Makes a standby the primary.
    pub async fn promote(&self) -> Result<(), String> {
        let data = self.data.to_string_lossy().into_owned();
        self.tools.run(&self.socket, "pg_ctl", &["promote", "-D", &data, "-w", "-s", "-t", "60"]).await
    }

    /// Copies a running server, reached through `port` on loopback, and makes this its standby.
    pub async fn copy_from(&self, port: u16) -> Result<(), String> {
        let data = self.data.to_string_lossy().into_owned();
        let port = port.to_string();
        let arguments = [
            "-D",
            &data,
            "-h",
            "127.0.0.1",
            "-p",
            &port,
            "-U",
            "postgres",
            "-R",
            "-X",
            "stream",
            "-c",
            "fast",
            "-N",
        ];
        self.tools.run(&self.socket, "pg_basebackup", &arguments).await?;
        self.configure();
        Ok(())
    }

    /// Copies the data of a server that does not run.
    pub async fn copy_files_of(&self, other: &Self) -> Result<(), String> {
        copy_files(&other.data, &self.data).await?;
        self.configure();
        Ok(())
    }

    /// Frees the place of a server that is not needed any more.
    pub fn remove(&self) {
        let _ = fs::remove_dir_all(&self.data);
    }

    pub async fn freeze(&self) {
        for pid in self.processes().await {
            send(pid, Signal::STOP);
        }
    }

    pub async fn thaw(&self) {
        for pid in self.processes().await.into_iter().rev() {
            send(pid, Signal::CONT);
        }
    }

    /// A superuser's connection, past the proxies.
    pub async fn connect(&self) -> Result<PgConnection, sqlx::Error> {
        self.connect_as("postgres").await
    }

    pub async fn connect_as(&self, role: &str) -> Result<PgConnection, sqlx::Error> {
        let options = PgConnectOptions::new()
            .socket(&self.socket)
            .username(role)
            .database(if role == SERVICE_ROLE { DATABASE } else { "postgres" })
            .application_name("chaos");
        let options = if role == SERVICE_ROLE { options } else { options.database(DATABASE) };
        PgConnection::connect_with(&options.disable_statement_logging()).await
    }

    /// A connection to the database that every server has.
    pub async fn connect_to_maintain(&self) -> Result<PgConnection, sqlx::Error> {
        let options = PgConnectOptions::new().socket(&self.socket).username("postgres").database("postgres");
        PgConnection::connect_with(&options.disable_statement_logging()).await
    }

    /// Waits until it answers, and says when that was.
    pub async fn accepting(&self, within: Duration) -> Option<Instant> {
        wait_for(within, async || {
            let asked = tokio::time::timeout(Duration::from_secs(1), async {
                let mut connection = self.connect_to_maintain().await.ok()?;
                sqlx::query("select 1").execute(&mut connection).await.ok()?;
                connection.close().await.ok()
            });
            asked.await.ok().flatten().map(|()| Instant::now())
        })
        .await
    }

    pub async fn runs(&self) -> bool {
        !self.processes().await.is_empty()
    }

    /// The first process before the others, so that it starts no further one meanwhile. None where the server does
    /// not run: the number in its lock file may be somebody else's by then.
    async fn processes(&self) -> Vec<i32> {
        let Ok(file) = fs::read_to_string(self.data.join("postmaster.pid")) else { return Vec::new() };
        let Some(Ok(first)) = file.lines().next().map(|line| line.trim().parse::<i32>()) else {
            return Vec::new();
        };
        let Ok(listing) = Command::new("ps").args(["-A", "-o", "pid=,ppid=,args="]).output().await else {
            return Vec::new();
        };
        let listing = String::from_utf8_lossy(&listing.stdout).into_owned();
        let folder = self.data.display().to_string();
        let (mut is_ours, mut children) = (false, Vec::new());
        for line in listing.lines() {
            let mut words = line.split_whitespace();
            let mut number = || words.next()?.parse::<i32>().ok();
            let (Some(pid), Some(parent)) = (number(), number()) else { continue };
            is_ours |= pid == first && line.contains(&folder);
            if parent == first {
                children.push(pid);
            }
        }
        if is_ours { std::iter::once(first).chain(children).collect() } else { Vec::new() }
    }
}

async fn copy_files(from: &Path, to: &Path) -> Result<(), String> {
    let mut command = Command::new("cp");
    command.arg("-a").arg(from.join(".")).arg(to);
    let output = command.output().await.map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("cp: {}", String::from_utf8_lossy(&output.stderr)))
}

/// Whether a process is there and not a zombie. Where nobody can tell, it is.
fn lives(pid: i32) -> bool {
    match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => !stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with(['Z', 'X'])),
        Err(_) => !Path::new("/proc/self/stat").exists(),
    }
}

fn send(pid: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid) {
        // it may have ended by itself meanwhile
        let _ = kill_process(pid, signal);
    }
}
