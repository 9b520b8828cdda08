//! One replica: the real binary as a process of its own.

use std::{
    fs,
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use super::{
    folder::Folder,
    postgres::{DATABASE, SERVICE_ROLE},
    wait::wait_for,
    weather::Weather,
};

pub struct Replica {
    pub number: usize,
    pub port: u16,
    folder: Arc<Folder>,
    binary: PathBuf,
    database_port: u16,
    weather: Option<Weather>,
    child: Option<Child>,
}

impl Replica {
    /// A replica that reaches its database through a port on loopback. It is not started yet.
    pub fn new(folder: &Arc<Folder>, number: usize, binary: PathBuf, database_port: u16) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Self { number, port, folder: Arc::clone(folder), binary, database_port, weather: None, child: None }
    }

    /// It asks for health, and meets this weather, from its next start on.
    pub fn meet(&mut self, weather: Weather) {
        self.weather = Some(weather);
    }

    pub fn weather(&self) -> &Weather {
        self.weather.as_ref().expect("a replica that meets some weather")
    }

    pub fn base(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// All that it ever said, from one start to the next.
    pub fn log_file(&self) -> PathBuf {
        self.folder.path().join(format!("replica-{}.log", self.number))
    }

    pub fn data_dir(&self) -> PathBuf {
        self.folder.path().join(format!("replica-{}", self.number))
    }

    pub fn start(&mut self) {
        let file = fs::OpenOptions::new().create(true).append(true).open(self.log_file()).unwrap();
        let data = self.data_dir();
        fs::create_dir_all(&data).unwrap();
        self.kill();
        let mut command = Command::new(&self.binary);
        // the folder stands on the command line, so that whoever clears up knows the process
        command
            .args(["serve", "--data-dir"])
            .arg(&data)
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file);
        for (name, _) in std::env::vars_os() {
            let known = name.to_string_lossy();
            if known.starts_with("ROLLCALL_") || known.starts_with("PG") || known == "DATABASE_URL" {
                command.env_remove(&name);
            }
        }
        command
            .current_dir(self.folder.path())
            .env(
                "DATABASE_URL",
                format!("postgres://{SERVICE_ROLE}@127.0.0.1:{}/{DATABASE}", self.database_port),
            )
            .env("ROLLCALL_LISTEN", format!("127.0.0.1:{}", self.port))
            .env("ROLLCALL_CHECKER", if self.weather.is_some() { "on" } else { "off" })
            .envs(self.weather.iter().flat_map(Weather::settings))
            .env("ROLLCALL_LOG_FORMAT", "json")
            .env("ROLLCALL_LOG", "warn");
        let child = command.spawn().expect("the server can be started");
        self.folder.adopt(child.id());
        self.child = Some(child);
    }

    /// Waits until it can serve, and says when that was.
    pub async fn ready(&mut self, within: Duration) -> Option<Instant> {
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(1)).build().ok()?;
        let url = format!("{}/health/ready", self.base());
        wait_for(within, async || {
            let answer = http.get(&url).send().await.ok()?;
            (answer.status() == 200).then(Instant::now)
        })
        .await
    }

    pub fn signal(&self, signal: Signal) {
        let pid =
            self.child.as_ref().and_then(|child| i32::try_from(child.id()).ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid {
            let _ = kill_process(pid, signal);
        }
    }

    /// kill -9.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
            self.folder.release(child.id());
        }
    }

    /// SIGTERM, and the end of the process. An error where it did not end well.
    pub async fn stop(&mut self, within: Duration) -> Result<(), String> {
        self.signal(Signal::TERM);
        let Some(child) = self.child.as_mut() else { return Ok(()) };
        let status = wait_for(within, async || child.try_wait().ok().flatten()).await;
        let number = self.number;
        self.kill();
        match status {
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(format!("replica {number}: an orderly stop ended with {status}")),
            None => Err(format!("replica {number}: an orderly stop took longer than {within:?}")),
        }
    }

    /// Whether it ended although nobody asked it to.
    pub fn ended_by_itself(&mut self) -> Option<String> {
        let status = self.child.as_mut()?.try_wait().ok()??;
        Some(format!("replica {} ended by itself with {status}", self.number))
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.kill();
    }
}
