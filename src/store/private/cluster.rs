//! The cluster on disk: makes it once, and tells who occupies it.
//!
//! A cluster appears under its name complete or not at all: it is made under another name, synced, and
//! renamed, so a kill at any moment leaves at most a left-over to sweep away.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::process::{Pid, test_kill_process};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::{binaries::Binaries, error::PrivateError, folder::DataFolder, server_user::run_to_end};

const SUPERUSER: &str = super::NAME;
/// What every name of an unfinished cluster begins with.
const UNFINISHED: &str = "postgres.new";
const INITDB_LIMIT: Duration = Duration::from_mins(3);
const SWEEP_LIMIT: Duration = Duration::from_secs(5);

/// A complete cluster, and all that is needed to run it.
#[derive(Debug)]
pub(super) struct Cluster {
    pub(super) path: PathBuf,
    pub(super) socket_folder: PathBuf,
    pub(super) log: PathBuf,
    pub(super) binaries: Binaries,
    pub(super) folder: DataFolder,
}

/// Who, going by the lock file that `PostgreSQL` keeps in a cluster, is at work in it.
#[derive(Debug)]
pub(super) enum Occupant {
    Nobody,
    /// The lock file is a dead server's, yet names a process that lives (its number was given out again, as
    /// happens at every second start in a container) or that nobody has buried. `PostgreSQL` would take it for
    /// a server.
    LeftOver,
    Server(LockFile),
}

/// What a running server tells of itself in `postmaster.pid`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LockFile {
    pub(super) pid: i32,
    pub(super) port: Option<u16>,
    pub(super) socket_folder: Option<PathBuf>,
    pub(super) ready: bool,
}

impl Cluster {
    pub(super) async fn prepare(folder: DataFolder, pg_bin: Option<&Path>) -> Result<Self, PrivateError> {
        let path = folder.cluster();
        let major = existing_major(&folder, &path)?;
        let binaries = Binaries::find(pg_bin, &path, major, folder.user()).await?;
        sweep_unfinished(folder.path()).await?;
        if major.is_none() {
            make(&folder, &binaries, &path).await?;
        }
        Ok(Self { path, socket_folder: folder.socket_folder()?, log: folder.log(), binaries, folder })
    }

    pub(super) fn occupant(&self) -> Result<Occupant, PrivateError> {
        let lock_file = self.lock_file();
        let text = match fs::read_to_string(&lock_file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Occupant::Nobody),
            Err(error) => return Err(PrivateError::folder("read", &lock_file)(error)),
        };
        let Some(told) = LockFile::parse(&text) else { return Ok(Occupant::LeftOver) };
        Ok(if !process_exists(told.pid) {
            Occupant::Nobody
        } else if self.is_served_by(told.pid) {
            Occupant::Server(told)
        } else {
            Occupant::LeftOver
        })
    }

    /// Removes a dead server's lock file. Should some of that server's own processes be left, `PostgreSQL`
    /// still notices them by the shared memory they hold, and refuses to start until they are gone.
    pub(super) fn clear_left_over(&self) -> Result<(), PrivateError> {
        remove_if_there(&self.lock_file())
    }

    /// Removes the socket of a dead server, which has a lock file like that of the cluster, with the same
    /// weakness. Only to be called when nobody is at work here.
    pub(super) fn clear_socket(&self) -> Result<(), PrivateError> {
        remove_if_there(&self.socket_folder.join(".s.PGSQL.5432"))?;
        remove_if_there(&self.socket_folder.join(".s.PGSQL.5432.lock"))
    }

    fn lock_file(&self) -> PathBuf {
        self.path.join("postmaster.pid")
    }

    /// A server works from within its cluster, wherever that has been moved to meanwhile. In a container,
    /// root may not be allowed to see that of another user's process, but anyone may see the command line.
    fn is_served_by(&self, pid: i32) -> bool {
        let process = PathBuf::from(format!("/proc/{pid}"));
        let Ok(status) = fs::read_to_string(process.join("stat")) else {
            // Without /proc (macOS) the lock file is believed, and the connection decides.
            return !Path::new("/proc/self/stat").exists();
        };
        // `pid (name) state …`, where the name may hold anything.
        let unburied =
            status.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with(['Z', 'X']));
        if unburied {
            return false;
        }
        if fs::read_link(process.join("cwd")).is_ok() {
            return same_file(&process.join("cwd"), &self.path);
        }
        let command_line = fs::read(process.join("cmdline")).unwrap_or_default();
        command_line
            .split(|byte| *byte == 0)
            .any(|argument| argument == self.path.as_os_str().as_encoded_bytes())
    }
}

impl LockFile {
    /// The lines are: process, cluster, start, port, socket folder, address, shared memory, state.
    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines().map(str::trim);
        // A single-user session writes its number with a minus.
        let pid = lines.next()?.parse::<i32>().ok()?.checked_abs().filter(|pid| *pid > 0)?;
        let port = lines.nth(2).and_then(|line| line.parse().ok());
        let socket_folder = lines.next().filter(|line| !line.is_empty()).map(PathBuf::from);
        let ready = lines.nth(2) == Some("ready");
        Some(Self { pid, port, socket_folder, ready })
    }
}

pub(super) fn same_file(one: &Path, other: &Path) -> bool {
    match (fs::metadata(one), fs::metadata(other)) {
        (Ok(one), Ok(other)) => (one.dev(), one.ino()) == (other.dev(), other.ino()),
        _ => false,
    }
}

fn process_exists(pid: i32) -> bool {
    // Not being allowed to signal it means that it is there.
    Pid::from_raw(pid).is_some_and(|pid| test_kill_process(pid) != Err(rustix::io::Errno::SRCH))
}

fn remove_if_there(path: &Path) -> Result<(), PrivateError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(PrivateError::folder("remove", path)(error))
        }
        _ => Ok(()),
    }
}

/// The major version of the cluster, if there is one. An empty folder counts as none: it may be a volume's.
fn existing_major(folder: &DataFolder, path: &Path) -> Result<Option<u32>, PrivateError> {
    let found = match fs::metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(PrivateError::folder("look into", path)(error)),
    };
    let is_empty = || fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none());
    if found.uid() != folder.user().uid() && !is_empty() {
        let user = folder.user().name().to_owned();
        return Err(PrivateError::OwnedByAnother { path: path.to_owned(), owner: found.uid(), user });
    }
    match fs::read_to_string(path.join("PG_VERSION")).map(|text| text.trim().parse()) {
        Ok(Ok(major)) => Ok(Some(major)),
        Err(error) if error.kind() == io::ErrorKind::NotFound && is_empty() => Ok(None),
        _ => Err(PrivateError::NotACluster { path: path.to_owned() }),
    }
}

/// The name is another each time: an initdb that has outlived its rollcall may still be writing to its own.
async fn make(folder: &DataFolder, binaries: &Binaries, path: &Path) -> Result<(), PrivateError> {
    let unfinished = folder.path().join(format!("{UNFINISHED}-{}", Uuid::new_v4().simple()));
    folder.make_private(&unfinished)?;
    let made = run_initdb(folder, binaries, &unfinished).await.and_then(|()| {
        fs::rename(&unfinished, path).map_err(PrivateError::folder("move the new cluster to", path))?;
        let synced = File::open(folder.path()).and_then(|parent| parent.sync_all());
        synced.map_err(PrivateError::folder("sync", folder.path()))
    });
    if made.is_err() {
        sweep_unfinished(folder.path()).await.ok();
    }
    made
}

async fn run_initdb(folder: &DataFolder, binaries: &Binaries, unfinished: &Path) -> Result<(), PrivateError> {
    let program = binaries.tool("initdb");
    let mut initdb = folder.user().command(&program);
    initdb.arg("-D").arg(unfinished).args(["-U", SUPERUSER, "-E", "UTF8", "--no-locale", "--data-checksums"]);
    // Whoever can enter the socket's folder is let in. Nothing listens on TCP; should someone make it do so,
    // nobody is.
    initdb.args(["--auth-local=trust", "--auth-host=reject"]);
    let user = folder.user().name().to_owned();
    let ended = run_to_end(&mut initdb, INITDB_LIMIT).await.map_err(|source| PrivateError::Program {
        program,
        user,
        source,
    })?;
    if ended.status.success() {
        return Ok(());
    }
    let output = String::from_utf8_lossy(&ended.stderr).trim().to_owned();
    Err(PrivateError::Initdb { path: folder.cluster(), output })
}

/// Tries again for a while: an initdb that has outlived its rollcall makes new files until it notices.
async fn sweep_unfinished(data_folder: &Path) -> Result<(), PrivateError> {
    let deadline = Instant::now() + SWEEP_LIMIT;
    loop {
        match remove_unfinished(data_folder) {
            Ok(()) => return Ok(()),
            Err(error) if Instant::now() >= deadline => {
                return Err(PrivateError::folder(
                    "remove what an earlier start left half-made in",
                    data_folder,
                )(error));
            }
            Err(_) => sleep(Duration::from_millis(100)).await,
        }
    }
}

fn remove_unfinished(data_folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(data_folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_file_of_a_server_is_read() {
        let text = "4711\n/data/postgres\n1700000000\n5432\n/data/socket\n\n  1234  56\nready   \n";
        let told = LockFile::parse(text).unwrap();
        assert_eq!((told.pid, told.port, told.ready), (4711, Some(5432), true));
        assert_eq!(told.socket_folder, Some(PathBuf::from("/data/socket")));
    }

    #[test]
    fn a_server_that_is_only_starting_has_told_less() {
        let told = LockFile::parse("4711\n/data/postgres\n1700000000\n5432\n\n").unwrap();
        assert_eq!(told, LockFile { pid: 4711, port: Some(5432), socket_folder: None, ready: false });
        assert_eq!(LockFile::parse("-4711\n").map(|told| told.pid), Some(4711));
    }

    #[test]
    fn what_is_no_lock_file_is_no_servers() {
        for text in ["", "\n", "postgres\n", "0\n"] {
            assert_eq!(LockFile::parse(text), None, "{text:?}");
        }
    }
}
