//! Who `PostgreSQL` runs as, and in what surroundings.
//!
//! `PostgreSQL` refuses root. Started by root, it therefore runs as a user who can do little else; started
//! by anybody else, it runs as they do. Every program of `PostgreSQL` is run through here, so that none of
//! them ever has root's rights, rollcall's environment (which may hold secrets) or its working folder.

use std::{
    env, fs, io,
    os::unix::fs::{MetadataExt, lchown},
    path::Path,
    process::{Output, Stdio},
    time::Duration,
};

use rustix::process::{getegid, geteuid};
use tokio::{process::Command, time::timeout};

use super::error::PrivateError;

/// Tried in this order when rollcall is root and no cluster says who owns it.
const UNPRIVILEGED: [&str; 2] = ["postgres", "nobody"];

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ServerUser {
    name: String,
    uid: u32,
    gid: u32,
    /// Whether rollcall is someone else, who has to become this user to run something as them.
    differs: bool,
}

impl ServerUser {
    /// An existing cluster keeps its owner, even when a better user has been added to the system since.
    pub(super) fn choose(cluster: &Path) -> Result<Self, PrivateError> {
        let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
        if !geteuid().is_root() {
            return Ok(Self::ourselves(&passwd));
        }
        let owner = fs::symlink_metadata(cluster).ok().filter(|found| found.uid() != 0);
        let user = match owner {
            Some(owner) => Some(Self::of_owner(&passwd, owner.uid(), owner.gid())),
            None => UNPRIVILEGED.iter().find_map(|wanted| Self::named(&passwd, wanted)),
        };
        user.ok_or_else(|| PrivateError::NoServerUser { path: cluster.to_owned() })
    }

    fn ourselves(passwd: &str) -> Self {
        let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
        Self { differs: false, ..Self::of_owner(passwd, uid, gid) }
    }

    fn of_owner(passwd: &str, uid: u32, gid: u32) -> Self {
        let known = entries(passwd).find(|entry| entry.uid == uid);
        known.unwrap_or_else(|| Self { name: uid.to_string(), uid, gid, differs: true })
    }

    fn named(passwd: &str, wanted: &str) -> Option<Self> {
        entries(passwd).find(|entry| entry.name == wanted && entry.uid != 0)
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn uid(&self) -> u32 {
        self.uid
    }

    /// Whether rollcall is root and this is the lesser user it runs `PostgreSQL` as.
    pub(super) fn differs(&self) -> bool {
        self.differs
    }

    /// Whether this user may pass through a folder, going by its mode. Supplementary groups do not count:
    /// they are dropped before `PostgreSQL` runs.
    pub(super) fn may_pass(&self, folder: &fs::Metadata) -> bool {
        let needed = if folder.uid() == self.uid {
            0o100
        } else if folder.gid() == self.gid {
            0o010
        } else {
            0o001
        };
        folder.mode() & needed != 0
    }

    /// Makes what rollcall has just created this user's own.
    pub(super) fn take(&self, path: &Path) -> io::Result<()> {
        if self.differs { lchown(path, Some(self.uid), Some(self.gid)) } else { Ok(()) }
    }

    /// A program to be run as this user. It has a process group of its own: a Ctrl-C is meant for rollcall,
    /// which then stops its server in order.
    pub(super) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env_clear().envs([("LANG", "C"), ("LC_ALL", "C"), ("TZ", "UTC")]);
        if let Some(path) = env::var_os("PATH") {
            command.env("PATH", path);
        }
        command.current_dir("/").process_group(0).stdin(Stdio::null());
        if self.differs {
            // The standard library drops root's supplementary groups together with its uid.
            command.uid(self.uid).gid(self.gid);
        }
        command
    }
}

/// Runs a program to its end, which must come within the limit: then, or when nobody waits any more, it is
/// killed.
pub(super) async fn run_to_end(command: &mut Command, limit: Duration) -> io::Result<Output> {
    match timeout(limit, command.kill_on_drop(true).output()).await {
        Ok(ended) => ended,
        Err(_) => Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("it did not end within {} seconds", limit.as_secs()),
        )),
    }
}

fn entries(passwd: &str) -> impl Iterator<Item = ServerUser> {
    passwd.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?.to_owned();
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        Some(ServerUser { name, uid, gid, differs: true })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\n\
                          broken line\n\
                          nobody:x:65534:65533:nobody:/:/sbin/nologin\n\
                          postgres:x:101:104:PostgreSQL:/var/lib/postgresql:/bin/bash\n";

    #[test]
    fn a_user_is_read_from_the_passwd_file() {
        let nobody = ServerUser::named(PASSWD, "nobody").unwrap();
        assert_eq!((nobody.uid, nobody.gid), (65534, 65533));
        assert_eq!(ServerUser::named(PASSWD, "somebody"), None);
    }

    #[test]
    fn root_under_another_name_is_not_unprivileged() {
        assert_eq!(ServerUser::named("postgres:x:0:0::/:/bin/sh\n", "postgres"), None);
    }

    #[test]
    fn an_owner_without_an_entry_goes_by_number() {
        let known = ServerUser::of_owner(PASSWD, 101, 7);
        assert_eq!((known.name(), known.gid), ("postgres", 104));
        let unknown = ServerUser::of_owner(PASSWD, 4242, 7);
        assert_eq!((unknown.name(), unknown.uid(), unknown.gid), ("4242", 4242, 7));
    }
}
