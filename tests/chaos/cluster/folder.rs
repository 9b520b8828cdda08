//! A throw-away folder that vanishes with this process, however that ends.
//!
//! A guardian, a tiny shell, reads from a pipe that this process holds. When the pipe closes, by a drop, an exit or
//! a SIGKILL, it ends the processes that were put into its care, stops every `PostgreSQL` that runs in the folder,
//! unmounts what was mounted there, and removes it. Invariant: nothing started here outlives us.

use std::{
    fs,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

const GUARDIAN: &str = r#"
cat >/dev/null
# a number may be somebody else's by now: only who names this folder on its command line is ours
ours() { ps -o args= -p "$1" 2>/dev/null | grep -q -F "$2"; }
for pid in $(ls "$1/pids"); do ours "$pid" "$1" && kill -9 "$pid" 2>/dev/null; done
find "$1" -name postmaster.pid 2>/dev/null | while read -r file; do
    pid=$(head -n 1 "$file")
    ours "$pid" "$1" || continue
    for child in $(ps -A -o pid=,ppid= | awk -v parent="$pid" '$2 == parent { print $1 }'); do
        kill -CONT "$child" 2>/dev/null
    done
    kill -CONT "$pid" 2>/dev/null
    kill -QUIT "$pid" 2>/dev/null
done
tries=0
while [ -e "$1" ] && [ "$tries" -lt 100 ]; do
    tries=$((tries + 1))
    grep -q " $1/disk " /proc/mounts 2>/dev/null && umount "$1/disk" 2>/dev/null
    grep -q " $1/disk " /proc/mounts 2>/dev/null || rm -rf "$1" 2>/dev/null
    [ -e "$1" ] && sleep 0.1
done
"#;

pub struct Folder {
    path: PathBuf,
    guardian: Child,
}

impl Folder {
    pub fn new() -> Self {
        // Below /tmp, wherever TMPDIR points: the path of a Unix socket may have 107 bytes at most.
        let path = tempfile::Builder::new()
            .prefix("rollcall-chaos-")
            .permissions(fs::Permissions::from_mode(0o755))
            .tempdir_in("/tmp")
            .expect("a folder below /tmp")
            .keep();
        fs::create_dir(path.join("pids")).unwrap();
        let guardian = Command::new("sh")
            .args(["-c", GUARDIAN, "guardian"])
            .arg(&path)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C goes to the whole group of the run, and must not end the one who clears up.
            .process_group(0)
            .spawn()
            .expect("a shell to guard the folder");
        Self { path, guardian }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Puts a process into the guardian's care.
    pub fn adopt(&self, pid: u32) {
        fs::write(self.path.join("pids").join(pid.to_string()), "").unwrap();
    }

    /// The process ended, and its number may soon be somebody else's.
    pub fn release(&self, pid: u32) {
        // The folder may be gone already when everything is dropped at once.
        let _ = fs::remove_file(self.path.join("pids").join(pid.to_string()));
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(self.guardian.stdin.take());
        let _ = self.guardian.wait();
    }
}
