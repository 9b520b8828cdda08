//! The servers that are measured, each a process of its own.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};

use crate::{load::Wire, secured::Secured};

const READY_WITHIN: Duration = Duration::from_mins(1);
const READY: &str = "/health/ready";
const STOP_WITHIN: Duration = Duration::from_secs(30);
const TICKS_A_SECOND: f64 = 100.0;

/// Thousands of connections need as many descriptors, here and in the servers.
pub fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).unwrap();
}

/// Ended when it is dropped.
pub struct Program {
    child: Child,
    pub address: SocketAddr,
    /// From the start of the process until it was ready.
    pub ready_after: Duration,
}

impl Program {
    /// The registry, with further settings.
    pub async fn rollcall(database_url: &str, data_dir: &Path, settings: &[(&str, &str)]) -> Self {
        let address = free_address();
        let mut command = Self::serving(address, database_url, data_dir);
        command.envs(settings.iter().copied());
        Self::start(command, address, READY).await
    }

    pub async fn rollcall_over_tls(database_url: &str, data_dir: &Path, secured: &Secured) -> Self {
        let address = free_address();
        let mut command = Self::serving(address, database_url, data_dir);
        command.env("ROLLCALL_TLS_CERT", &secured.certificate).env("ROLLCALL_TLS_KEY", &secured.key);
        Self::start_over(command, address, READY, Some(secured)).await
    }

    fn serving(address: SocketAddr, database_url: &str, data_dir: &Path) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rollcall"));
        for (name, _) in std::env::vars_os() {
            let known = name.to_string_lossy();
            if known.starts_with("ROLLCALL_") || known.starts_with("PG") {
                command.env_remove(name);
            }
        }
        command
            .arg("serve")
            .env("DATABASE_URL", database_url)
            .env("ROLLCALL_LISTEN", address.to_string())
            .env("ROLLCALL_DATA_DIR", data_dir)
            .env("ROLLCALL_CHECKER", "off")
            .env("ROLLCALL_LOG", "error");
        command
    }

    /// This program as another server.
    pub async fn yardstick(arguments: &[&str]) -> Self {
        Self::yardstick_over(arguments, None).await
    }

    /// The same, which speaks TLS where that is given.
    pub async fn yardstick_over(arguments: &[&str], secured: Option<&Secured>) -> Self {
        let address = free_address();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg("--yardstick").arg(address.to_string()).args(arguments);
        Self::start_over(command, address, "/", secured).await
    }

    pub async fn start(command: Command, address: SocketAddr, asked: &str) -> Self {
        Self::start_over(command, address, asked, None).await
    }

    async fn start_over(
        mut command: Command,
        address: SocketAddr,
        asked: &str,
        secured: Option<&Secured>,
    ) -> Self {
        let begun = Instant::now();
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        let mut program = Self { child, address, ready_after: Duration::ZERO };
        let request = format!("GET {asked} HTTP/1.1\r\nHost: registry\r\n\r\n");
        while begun.elapsed() < READY_WITHIN {
            if let Some(status) = program.child.try_wait().unwrap() {
                panic!("{command:?} ended with {status}");
            }
            let answered = async {
                match secured {
                    None => Wire::connect(address).await?.ask(request.as_bytes()).await,
                    Some(secured) => secured.connect(address).await?.ask(request.as_bytes()).await,
                }
            }
            .await;
            if answered.is_ok_and(|status| status == 200) {
                program.ready_after = begun.elapsed();
                return program;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        panic!("{command:?} is not ready after {READY_WITHIN:?}");
    }

    /// What it has computed so far, in seconds.
    pub fn cpu(&self) -> f64 {
        cpu_of(Pid::from_child(&self.child))
    }

    /// Its memory, in bytes.
    pub fn memory(&self) -> f64 {
        self.of_status("VmRSS:")
    }

    /// The most that it ever had.
    pub fn highest_memory(&self) -> f64 {
        self.of_status("VmHWM:")
    }

    fn of_status(&self, name: &str) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() * 1024.0
    }

    /// It does nothing until it is let go on.
    pub fn pause(&self) {
        kill_process(Pid::from_child(&self.child), Signal::STOP).unwrap();
    }

    pub fn go_on(&self) {
        kill_process(Pid::from_child(&self.child), Signal::CONT).unwrap();
    }

    pub async fn stop(mut self) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::TERM).unwrap();
        let asked = Instant::now();
        while self.child.try_wait().unwrap().is_none() {
            assert!(asked.elapsed() < STOP_WITHIN, "a server does not stop");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// What a process has computed so far, in seconds; nothing if it has ended.
pub fn cpu_of(process: Pid) -> f64 {
    let Ok(stat) = fs::read_to_string(format!("/proc/{process}/stat")) else { return 0.0 };
    let fields: Vec<&str> = stat[stat.rfind(')').unwrap() + 2..].split(' ').collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / TICKS_A_SECOND
}

pub fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}
