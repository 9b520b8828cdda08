//! What can be wrong with the settings, said so that the reader knows which one to change and to what.
//!
//! Invariant: no text here, and no `Debug` of it, holds a secret. That is why a bad `DATABASE_URL` is never
//! quoted, and why the complaint about a broken file gives the place and not the line.

use std::{fmt, io, net::SocketAddr, path::PathBuf};

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    Default,
    File(PathBuf),
    Environment,
    Flag,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("by default"),
            Self::File(path) => write!(f, "in the file {}", path.display()),
            Self::Environment => f.write_str("in the environment"),
            Self::Flag => f.write_str("on the command line"),
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    #[error("{name} is {value:?} {origin}, but it takes {allowed}")]
    Value { name: &'static str, value: String, origin: Origin, allowed: &'static str },

    #[error("{name} {origin} is not usable: {reason}; it takes {allowed}")]
    Secret { name: &'static str, reason: &'static str, origin: Origin, allowed: &'static str },

    #[error("{name} holds bytes that are not UTF-8")]
    NotUnicode { name: String },

    #[error("cannot read the settings file {}", path.display())]
    Unreadable { path: PathBuf, source: io::Error },

    #[error("the settings file {} is not valid TOML{place}", path.display())]
    NotToml { path: PathBuf, place: String },

    #[error("the settings file {} has the unknown key {key:?}{}", path.display(), did_you_mean(*suggestion))]
    UnknownKey { path: PathBuf, key: String, suggestion: Option<&'static str> },

    #[error(
        "ROLLCALL_LISTEN is {listen}, where other machines may reach it, and then ROLLCALL_AUTH must be said: \
         with ROLLCALL_AUTH=on callers must show who they are (set ROLLCALL_ROOT_TOKEN for yourself), \
         ROLLCALL_AUTH=off lets everybody who reaches that address read and change everything; \
         otherwise listen on 127.0.0.1"
    )]
    NotLoopback { listen: SocketAddr },

    #[error("{name} is set {origin}, but {needed} is not: the one says nothing without the other")]
    Lone { name: &'static str, origin: Origin, needed: &'static str },

    #[error("there is no home folder to keep data in: set ROLLCALL_DATA_DIR to the path of a folder")]
    NoHome,
}

/// `; did you mean …?`, or nothing.
pub fn did_you_mean(suggestion: Option<&'static str>) -> String {
    suggestion.map(|name| format!("; did you mean {name}?")).unwrap_or_default()
}
