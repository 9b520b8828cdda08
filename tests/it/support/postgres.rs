//! A real `PostgreSQL`, made for the tests and gone with them: Unix socket only, nothing synced.

use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Command;
use url::Url;

use super::Folder;

const CONFIGURATION: &str = "
listen_addresses = ''
max_connections = 300
fsync = off
synchronous_commit = on
full_page_writes = off
max_wal_size = 256MB
shared_buffers = 64MB
autovacuum_naptime = 10s
log_min_messages = fatal
";

pub struct Postgres {
    folder: Folder,
    tools: PathBuf,
    owner: Option<(u32, u32)>,
}

impl Postgres {
    pub async fn start_new() -> Self {
        let folder = Folder::new();
        let owner = owner();
        for name in ["data", "socket"] {
            let path = folder.path().join(name);
            fs::create_dir(&path).unwrap();
            if let Some((user, group)) = owner {
                chown(&path, Some(user), Some(group)).unwrap();
            }
        }
        let postgres = Self { folder, tools: tools(), owner };
        postgres.run("initdb", &["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "-N"]).await;
        let socket = format!("unix_socket_directories = '{}'\n", postgres.socket().display());
        let file = postgres.data().join("postgresql.conf");
        fs::write(&file, fs::read_to_string(&file).unwrap() + CONFIGURATION + &socket).unwrap();
        postgres.start().await;
        postgres
    }

    pub fn url(&self) -> Url {
        let socket = self.socket();
        Url::parse(&format!("postgres://postgres@localhost/postgres?host={}", socket.display())).unwrap()
    }

    pub async fn start(&self) {
        let log = self.data().join("log");
        self.run("pg_ctl", &["start", "-w", "-t", "60", "-s", "-l", &log.to_string_lossy()]).await;
    }

    /// Orderly, as before an upgrade: clients are cut off.
    pub async fn stop(&self) {
        self.run("pg_ctl", &["stop", "-w", "-s", "-m", "fast"]).await;
    }

    /// As if the machine had failed; the next start is a recovery.
    pub async fn crash(&self) {
        self.run("pg_ctl", &["stop", "-w", "-s", "-m", "immediate"]).await;
    }

    /// Connections stay open, and nothing answers any more: the worst way to be away.
    pub async fn freeze(&self) {
        self.signal_all(Signal::STOP).await;
    }

    pub async fn thaw(&self) {
        self.signal_all(Signal::CONT).await;
    }

    async fn signal_all(&self, signal: Signal) {
        let file = fs::read_to_string(self.data().join("postmaster.pid")).unwrap();
        let postmaster = file.lines().next().unwrap().trim().to_owned();
        // The postmaster first, so that it starts no further process meanwhile.
        send(&postmaster, signal);
        let processes = Command::new("ps").args(["-A", "-o", "pid=,ppid="]).output().await.unwrap();
        for line in String::from_utf8(processes.stdout).unwrap().lines() {
            let mut words = line.split_whitespace();
            if let (Some(pid), Some(parent)) = (words.next(), words.next())
                && parent == postmaster
            {
                send(pid, signal);
            }
        }
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    async fn run(&self, tool: &str, arguments: &[&str]) {
        let mut command = Command::new(self.tools.join(tool));
        command.arg("-D").arg(self.data()).args(arguments).current_dir("/");
        if let Some((user, group)) = self.owner {
            command.uid(user).gid(group);
        }
        // Not a pipe: the server would inherit it, and reading its end would wait for ever.
        let output = self.folder.path().join(format!("{tool}.out"));
        let file = fs::File::create(&output).unwrap();
        command.stdin(std::process::Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
        let status = command.status().await.unwrap();
        let said = fs::read_to_string(output).unwrap_or_default();
        assert!(status.success(), "{tool} {arguments:?}: {status}\n{said}");
    }
}

fn send(pid: &str, signal: Signal) {
    let pid = Pid::from_raw(pid.parse().unwrap()).unwrap();
    // A backend may have ended by itself meanwhile.
    let _ = kill_process(pid, signal);
}

/// The folder with initdb and postgres: in PATH, or where the packages of the systems put them.
fn tools() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    for (root, below) in
        [("/usr/lib/postgresql", "bin"), ("/opt/homebrew/opt", "bin"), ("/usr/local/opt", "bin")]
    {
        let mut found: Vec<PathBuf> = fs::read_dir(root)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path().join(below))
            .collect();
        found.sort();
        folders.extend(found.into_iter().rev());
    }
    let complete =
        |folder: &PathBuf| ["initdb", "postgres", "pg_ctl"].iter().all(|tool| folder.join(tool).is_file());
    folders.into_iter().find(complete).expect("PostgreSQL's initdb and postgres: install its package")
}

/// The user that runs the server: initdb refuses root.
fn owner() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let users = fs::read_to_string(Path::new("/etc/passwd")).unwrap();
    let find = |name: &str| {
        let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    Some(find("postgres").or_else(|| find("nobody")).expect("a user other than root"))
}
