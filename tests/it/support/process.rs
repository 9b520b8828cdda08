//! The real binary, as an operator runs it.

use std::fs;
use std::net::TcpListener;
use std::ops::Deref;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::{Client, Folder, PATIENCE, wait_until};

pub struct Process {
    child: Child,
    folder: Arc<Folder>,
    output: PathBuf,
    client: Client,
    pub port: u16,
}

impl Process {
    /// Starts `rollcall serve` with its data in the folder, and waits for nothing.
    pub fn serve(folder: &Arc<Folder>, environment: &[(&str, &str)]) -> Self {
        let port = free_port();
        let listen = format!("127.0.0.1:{port}");
        let output = folder.path().join(format!("output-{port}"));
        let file = fs::File::create(&output).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_rollcall"));
        command.arg("serve").stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
        command.current_dir(folder.path());
        let data = folder.path().join("data");
        let mut all =
            vec![("ROLLCALL_LISTEN", listen.as_str()), ("ROLLCALL_DATA_DIR", data.to_str().unwrap())];
        all.extend(environment);
        let child = prepare(&mut command, &all).spawn().unwrap();
        folder.adopt(child.id());
        let client = Client::new(&format!("http://{listen}"));
        Self { child, folder: Arc::clone(folder), output, client, port }
    }

    /// Waits until it can serve, and fails at once when it ended instead.
    pub async fn ready(mut self) -> Self {
        let said = "the server is ready";
        wait_until(PATIENCE * 2, said, async || {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("the server ended with {status}:\n{}", self.output());
            }
            let ready = self.client.try_get("/health/ready").await.is_some_and(|reply| reply.status == 200);
            ready.then_some(())
        })
        .await;
        self
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// kill -9, and nothing of it is left.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, and the end of the process.
    pub async fn stop(mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.ended(PATIENCE).await
    }

    pub async fn ended(&mut self, deadline: Duration) -> ExitStatus {
        let output = self.output.clone();
        let ended = wait_until(deadline, "the server ends", async || self.child.try_wait().unwrap());
        let ended = ended.await;
        if !ended.success() {
            // Kept for the reader of a failed test; what a passing test prints is not shown.
            let said = fs::read_to_string(output).unwrap_or_default();
            eprintln!("the server ended with {ended}:\n{said}");
        }
        ended
    }

    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// All that it said so far, on both streams.
    pub fn output(&self) -> String {
        fs::read_to_string(&self.output).unwrap_or_default()
    }
}

impl Deref for Process {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.folder.release(self.child.id());
        if std::thread::panicking() {
            eprintln!("the server on port {} said:\n{}", self.port, self.output());
        }
    }
}

/// Runs a command of the binary to its end.
pub fn run(command: &mut Command, environment: &[(&str, &str)]) -> Output {
    prepare(command, environment).stdin(Stdio::null()).output().unwrap()
}

/// What the developer has set for himself must not reach the tests.
fn prepare<'a>(command: &'a mut Command, environment: &[(&str, &str)]) -> &'a mut Command {
    for (name, _) in std::env::vars_os() {
        let known = name.to_string_lossy();
        if known.starts_with("ROLLCALL_") || known.starts_with("PG") || known == "DATABASE_URL" {
            command.env_remove(&name);
        }
    }
    command.envs(environment.iter().copied())
}

/// Below the ports that the machine gives to whoever asks for any: nobody takes it before the server does.
fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let number = std::process::id().wrapping_mul(97) + NEXT.fetch_add(1, Ordering::Relaxed);
        let port = 10_000 + u16::try_from(number % 20_000).unwrap();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
