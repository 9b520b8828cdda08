//! What can go wrong with the private `PostgreSQL`, told to the operator.
//!
//! Nobody but the operator can mend these, and often at the very first start, so each message names the
//! path it is about and the next thing to do. The cause, where there is one, is the error's source.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

/// Why rollcall has no database of its own to offer.
#[derive(Debug, thiserror::Error)]
pub enum PrivateError {
    #[error("could not {doing} {path}: choose a folder that rollcall may write with ROLLCALL_DATA_DIR")]
    Folder { doing: &'static str, path: PathBuf, source: io::Error },

    #[error("the data folder {path} is not named in UTF-8: choose another with ROLLCALL_DATA_DIR")]
    NotUtf8 { path: PathBuf },

    #[error(
        "another rollcall is using the data folder {path}: stop it first, or choose another folder with \
         ROLLCALL_DATA_DIR"
    )]
    InUse { path: PathBuf },

    #[error(
        "PostgreSQL refuses to run as root, and its user {user} may not pass through {parent} to reach \
         {path}: choose a folder elsewhere with ROLLCALL_DATA_DIR, such as /var/lib/rollcall, or run \
         rollcall as an ordinary user"
    )]
    BarredParent { user: String, parent: PathBuf, path: PathBuf },

    #[error(
        "PostgreSQL refuses to run as root, and /etc/passwd has neither postgres nor nobody to run it in \
         {path}: add a user postgres, or run rollcall as an ordinary user"
    )]
    NoServerUser { path: PathBuf },

    #[error(
        "{path} belongs to the user id {owner}, but PostgreSQL would run as {user}: run rollcall as the \
         owner, or give it away with `chown -R {user} {path}`"
    )]
    OwnedByAnother { path: PathBuf, owner: u32, user: String },

    #[error("{path} is not empty, yet holds no PostgreSQL cluster: move what is in it elsewhere")]
    NotACluster { path: PathBuf },

    #[error(
        "{path} should be a folder with mode 0700 that belongs to {user}, since whoever can enter it can \
         reach the database: remove what is there and start again"
    )]
    SocketFolderTaken { path: PathBuf, user: String },

    #[error(
        "no PostgreSQL {needed} can be run here to keep {cluster} ({found}): set DATABASE_URL to use a \
         server that runs elsewhere, install the package postgresql, or set ROLLCALL_PG_BIN to the folder \
         that holds initdb, postgres and pg_ctl"
    )]
    NoBinaries { needed: String, cluster: PathBuf, found: String },

    #[error(
        "ROLLCALL_PG_BIN names {dir}, which will not do ({reason}): set it to the folder that holds initdb, \
         postgres and pg_ctl of PostgreSQL {needed}, or leave it out to have them searched for"
    )]
    UnusableBinaries { dir: PathBuf, reason: String, needed: String },

    #[error(
        "initdb could not make a PostgreSQL cluster in {path}; mend what it says and start again:\n{output}"
    )]
    Initdb { path: PathBuf, output: String },

    #[error("could not run {program}: see that it can be executed by {user}")]
    Program { program: PathBuf, user: String, source: io::Error },

    #[error("PostgreSQL did not start in {path}; mend what the end of {log} says and start again:\n{tail}")]
    Exited { path: PathBuf, log: PathBuf, tail: String },

    #[error(
        "PostgreSQL in {path} took no connections within {} seconds: see {log}, and start again once the \
         cause is gone",
        .limit.as_secs()
    )]
    NotReady { path: PathBuf, log: PathBuf, limit: Duration, source: Option<sqlx::Error> },

    #[error(
        "a PostgreSQL that rollcall cannot use already runs in {path} as process {pid} ({reason}): stop it \
         with `kill -INT {pid}` and start again"
    )]
    Unfit { path: PathBuf, pid: i32, reason: String },

    #[error("PostgreSQL in {path} refused rollcall: undo changes to its roles, databases or pg_hba.conf")]
    Refused { path: PathBuf, source: sqlx::Error },

    #[error(
        "could not make the database rollcall in {path}: see {log}, and start again once the cause is gone"
    )]
    Database { path: PathBuf, log: PathBuf, source: sqlx::Error },

    #[error(
        "PostgreSQL in {path} would not stop, neither in order nor at once: see {log}, and stop it by hand"
    )]
    StillRunning { path: PathBuf, log: PathBuf },
}

impl PrivateError {
    /// For `map_err`: what was being done to which path when the system said no.
    pub(super) fn folder(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Folder { doing, path: path.to_owned(), source }
    }
}
