//! Runs a program of the folder that the operator allows. There is no shell, and nothing of this process' environment.

use std::{path::Path, process::Stdio};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    process::{Child, Command},
};

use super::{LONGEST_OUTPUT, Told};

/// By convention the exit code that says: alive, and not well.
const WARNING: i32 = 1;

pub(super) async fn run(folder: &Path, script: &str, args: &[String]) -> Told {
    let mut command = Command::new(folder.join(script));
    command
        .args(args)
        .current_dir(folder)
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return Told::failing(format!("'{script}' cannot be run: {error}")),
    };
    let _ended_with_the_attempt = Group::of(&child);
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let (status, out, err) = tokio::join!(child.wait(), head(out), head(err));
    let said = if out.trim().is_empty() { err } else { out };
    let said = said.trim();
    match status {
        Ok(status) if status.success() => Told::passing(),
        Ok(status) if status.code() == Some(WARNING) => Told::warning(format!("{status}: {said}")),
        Ok(status) => Told::failing(format!("{status}: {said}")),
        Err(error) => Told::failing(error.to_string()),
    }
}

/// A program and all that it has started. One that outlives its time takes them with it.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &Child) -> Self {
        Self(child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // as a rule there is nobody left
            let _gone = kill_process_group(group, Signal::KILL);
        }
    }
}

/// The beginning of what is said. The rest is read too, or its sender would wait for ever.
async fn head(pipe: Option<impl AsyncRead + Unpin>) -> String {
    let Some(mut pipe) = pipe else { return String::new() };
    let (mut kept, mut chunk) = (Vec::new(), [0; 4096]);
    while let Ok(count @ 1..) = pipe.read(&mut chunk).await {
        let room = LONGEST_OUTPUT.saturating_sub(kept.len());
        kept.extend(chunk.iter().take(count.min(room)));
    }
    String::from_utf8_lossy(&kept).into_owned()
}
