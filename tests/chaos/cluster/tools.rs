//! Where `PostgreSQL`'s programs are, and who runs them.

use std::{
    ffi::OsStr,
    fs,
    os::unix::fs::chown,
    path::{Path, PathBuf},
    process::Stdio,
};

use tokio::process::Command;

#[derive(Clone, Debug)]
pub struct Tools {
    folder: PathBuf,
    /// initdb refuses root: then somebody else runs the server.
    owner: Option<(u32, u32)>,
}

impl Tools {
    pub fn find() -> Self {
        Self { folder: folder(), owner: owner() }
    }

    pub fn is_root(&self) -> bool {
        self.owner.is_some()
    }

    /// Gives a path to the server's user.
    pub fn hand_over(&self, path: &Path) {
        if let Some((user, group)) = self.owner {
            chown(path, Some(user), Some(group)).expect("root may change an owner");
        }
    }

    /// Runs a program of `PostgreSQL`, with what it says in a file beside `place`.
    pub async fn run<S: AsRef<OsStr>>(
        &self,
        place: &Path,
        tool: &str,
        arguments: &[S],
    ) -> Result<(), String> {
        let mut command = Command::new(self.folder.join(tool));
        command.args(arguments).current_dir("/").stdin(Stdio::null());
        if let Some((user, group)) = self.owner {
            command.uid(user).gid(group);
        }
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PG") {
                command.env_remove(name);
            }
        }
        // Not a pipe: the server would inherit it, and reading its end would wait for ever.
        let output = place.with_extension(format!("{tool}.out"));
        let file = fs::File::create(&output).map_err(|error| error.to_string())?;
        let second = file.try_clone().map_err(|error| error.to_string())?;
        let status =
            command.stdout(second).stderr(file).status().await.map_err(|error| format!("{tool}: {error}"))?;
        if status.success() {
            return Ok(());
        }
        Err(format!("{tool} ended with {status}: {}", fs::read_to_string(output).unwrap_or_default()))
    }
}

/// The folder with initdb and postgres: in PATH, or where the packages of the systems put them.
fn folder() -> PathBuf {
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
    let complete = |folder: &PathBuf| {
        ["initdb", "postgres", "pg_ctl", "pg_basebackup"].iter().all(|tool| folder.join(tool).is_file())
    };
    folders.into_iter().find(complete).expect("PostgreSQL's initdb and postgres: install its package")
}

fn owner() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let find = |name: &str| {
        let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    Some(find("postgres").or_else(|| find("nobody")).expect("a user other than root"))
}
