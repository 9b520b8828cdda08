//! Finds an installed `PostgreSQL` server.
//!
//! Distributions put it in different places, often beside others and seldom on the PATH, and a machine
//! with only the client or its headers has a `pg_config` whose folder holds no server. So a folder counts
//! only when it holds every tool, the tools can be run by the user who will run them, and `postgres` itself
//! says that it is of a version that fits: that of the existing cluster, else the oldest supported or newer.

use std::{
    env, fs,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    error::PrivateError,
    server_user::{ServerUser, run_to_end},
};

const OLDEST_MAJOR: u32 = 14;
const TOOLS: [&str; 3] = ["initdb", "postgres", "pg_ctl"];
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// Where packagers install versions side by side: the parent, how its folders begin, and the way to `bin`.
const INSTALLATIONS: [(&str, &str, &str); 5] = [
    ("/usr/lib/postgresql", "", "bin"),
    ("/usr", "pgsql-", "bin"),
    ("/opt/homebrew/opt", "postgresql", "bin"),
    ("/usr/local/opt", "postgresql", "bin"),
    ("/Applications/Postgres.app/Contents/Versions", "", "bin"),
];

/// A folder with the tools of one version.
#[derive(Debug, Clone)]
pub(super) struct Binaries {
    dir: PathBuf,
    version: Version,
}

impl Binaries {
    /// Chooses the tools for a cluster, whose major version is given when it exists already.
    pub(super) async fn find(
        given: Option<&Path>,
        cluster: &Path,
        cluster_major: Option<u32>,
        user: &ServerUser,
    ) -> Result<Self, PrivateError> {
        let needed = match cluster_major {
            Some(major) => major.to_string(),
            None => format!("{OLDEST_MAJOR} or newer"),
        };
        if let Some(dir) = given {
            return Self::in_given(dir, cluster_major, user)
                .await
                .map_err(|reason| PrivateError::UnusableBinaries { dir: dir.to_owned(), reason, needed });
        }
        let mut candidates = Self::all_in(named_by_environment(user).await, user).await;
        let mut installed = Self::all_in(installation_folders(), user).await;
        installed.sort_by(|a, b| b.version.cmp(&a.version));
        candidates.append(&mut installed);
        let found = describe(&candidates);
        candidates
            .into_iter()
            .find(|candidate| candidate.version.fits(cluster_major))
            .ok_or_else(|| PrivateError::NoBinaries { needed, cluster: cluster.to_owned(), found })
    }

    pub(super) fn tool(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    async fn in_given(dir: &Path, cluster_major: Option<u32>, user: &ServerUser) -> Result<Self, String> {
        let dir = std::path::absolute(dir).map_err(|error| error.to_string())?;
        let binaries = Self::examine(dir, user).await?;
        if binaries.version.fits(cluster_major) {
            Ok(binaries)
        } else {
            Err(format!("it holds PostgreSQL {}", binaries.version))
        }
    }

    async fn all_in(dirs: Vec<PathBuf>, user: &ServerUser) -> Vec<Self> {
        let mut usable = Vec::new();
        for dir in dirs {
            if let Ok(binaries) = Self::examine(dir, user).await {
                usable.push(binaries);
            }
        }
        usable
    }

    async fn examine(dir: PathBuf, user: &ServerUser) -> Result<Self, String> {
        if let Some(missing) = TOOLS.iter().find(|tool| !dir.join(tool).is_file()) {
            return Err(format!("it holds no {missing}"));
        }
        let answer = ask(&dir.join("postgres"), "--version", user).await?;
        let version =
            Version::parse(&answer).ok_or_else(|| format!("its postgres gave as its version {answer:?}"))?;
        Ok(Self { dir, version })
    }
}

fn describe(found: &[Binaries]) -> String {
    if found.is_empty() {
        return "none was found".to_owned();
    }
    let found: Vec<String> =
        found.iter().map(|each| format!("{} in {}", each.version, each.dir.display())).collect();
    format!("found {}", found.join(", "))
}

/// The folder `pg_config` tells of, then those on the PATH. Relative entries are left out: the tools are run
/// from another working folder.
async fn named_by_environment(user: &ServerUser) -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let on_path: Vec<PathBuf> = env::split_paths(&path).filter(|dir| dir.is_absolute()).collect();
    let mut dirs = Vec::new();
    if let Some(pg_config) = on_path.iter().map(|dir| dir.join("pg_config")).find(|file| file.is_file())
        && let Ok(told) = ask(&pg_config, "--bindir", user).await
    {
        dirs.push(PathBuf::from(told));
    }
    dirs.extend(on_path);
    dirs
}

fn installation_folders() -> Vec<PathBuf> {
    INSTALLATIONS
        .iter()
        .flat_map(|(parent, prefix, bin)| side_by_side(Path::new(parent), prefix, bin))
        .collect()
}

fn side_by_side(parent: &Path, prefix: &str, bin: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(parent) else { return Vec::new() };
    entries
        .filter_map(Result::ok)
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
        .map(|entry| entry.path().join(bin))
        .collect()
}

async fn ask(program: &Path, question: &str, user: &ServerUser) -> Result<String, String> {
    let cannot =
        |reason: &str| format!("{} {question} fails as {}: {reason}", program.display(), user.name());
    let answer = run_to_end(user.command(program).arg(question), ANSWER_LIMIT)
        .await
        .map_err(|error| cannot(&error.to_string()))?;
    if !answer.status.success() {
        return Err(cannot(String::from_utf8_lossy(&answer.stderr).trim()));
    }
    Ok(String::from_utf8_lossy(&answer.stdout).trim().to_owned())
}

/// The fields are compared in their order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Version {
    major: u32,
    minor: u32,
}

impl Version {
    /// Reads `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`, and the like of `18beta1`.
    fn parse(answer: &str) -> Option<Self> {
        let number =
            answer.split_whitespace().find(|word| word.starts_with(|first: char| first.is_ascii_digit()))?;
        let mut parts = number.split(|letter: char| !letter.is_ascii_digit());
        let major = parts.next()?.parse().ok()?;
        let minor = parts.next().and_then(|part| part.parse().ok()).unwrap_or(0);
        Some(Self { major, minor })
    }

    fn fits(&self, cluster_major: Option<u32>) -> bool {
        self.major >= OLDEST_MAJOR && cluster_major.is_none_or(|needed| self.major == needed)
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}.{}", self.major, self.minor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(answer: &str) -> Option<(u32, u32)> {
        Version::parse(answer).map(|version| (version.major, version.minor))
    }

    #[test]
    fn a_version_is_read_from_what_postgres_says() {
        assert_eq!(version("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)"), Some((15, 18)));
        assert_eq!(version("postgres (PostgreSQL) 9.6.24"), Some((9, 6)));
        assert_eq!(version("postgres (PostgreSQL) 18beta1"), Some((18, 0)));
        assert_eq!(version("command not found"), None);
    }

    #[test]
    fn a_cluster_takes_its_own_version_only_and_a_new_one_any_that_is_supported() {
        let fifteen = Version { major: 15, minor: 2 };
        assert!(fifteen.fits(None));
        assert!(fifteen.fits(Some(15)));
        assert!(!fifteen.fits(Some(16)));
        assert!(!Version { major: 13, minor: 9 }.fits(None));
    }

    #[test]
    fn versions_are_ordered_as_numbers() {
        assert!(Version { major: 16, minor: 2 } < Version { major: 16, minor: 10 });
        assert!(Version { major: 9, minor: 6 } < Version { major: 14, minor: 0 });
    }

    #[test]
    fn versions_installed_side_by_side_are_found_by_the_beginning_of_their_names() {
        let parent = tempfile::tempdir().unwrap();
        for name in ["pgsql-15", "pgsql-16", "share"] {
            fs::create_dir(parent.path().join(name)).unwrap();
        }
        let mut found = side_by_side(parent.path(), "pgsql-", "bin");
        found.sort();
        assert_eq!(found, [parent.path().join("pgsql-15/bin"), parent.path().join("pgsql-16/bin")]);
    }
}
