//! The data folder: who holds it, who may enter it, and what lies where in it.
//!
//! The folder is rollcall's own. Two of its subfolders, the cluster and the socket, belong to the user
//! `PostgreSQL` runs as, and nobody else may enter them: that is the whole of the access control, since the
//! server trusts whoever reaches its socket. One rollcall holds the folder at a time; the lock is the
//! kernel's, so it ends with the process, however that ends.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use rustix::process::geteuid;
use uuid::Uuid;

use super::{error::PrivateError, server_user::ServerUser};

/// The address of a Unix socket holds 107 bytes on Linux and 103 on macOS.
const LONGEST_SOCKET_PATH: usize = 100;

#[derive(Debug)]
pub(super) struct DataFolder {
    path: PathBuf,
    user: ServerUser,
    _held: FolderLock,
}

impl DataFolder {
    /// Makes the folder if it is missing, locks it, and sees that the server's user can reach it.
    pub(super) fn open(data_dir: &Path) -> Result<Self, PrivateError> {
        let wanted = std::path::absolute(data_dir).map_err(PrivateError::folder("find", data_dir))?;
        create(&wanted).map_err(PrivateError::folder("make the data folder", &wanted))?;
        let path = wanted.canonicalize().map_err(PrivateError::folder("find", &wanted))?;
        if path.to_str().is_none() {
            return Err(PrivateError::NotUtf8 { path });
        }
        let held = FolderLock::take(&path)?;
        let user = ServerUser::choose(&path.join("postgres"))?;
        let folder = Self { path, user, _held: held };
        if folder.user.differs() {
            folder.let_server_user_pass()?;
        }
        Ok(folder)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn user(&self) -> &ServerUser {
        &self.user
    }

    pub(super) fn cluster(&self) -> PathBuf {
        self.path.join("postgres")
    }

    pub(super) fn log(&self) -> PathBuf {
        self.path.join("postgres.log")
    }

    /// The folder of the server's socket, made if it is missing. It lies in the data folder, unless that has
    /// too long a name for a socket.
    pub(super) fn socket_folder(&self) -> Result<PathBuf, PrivateError> {
        let path = socket_folder_for(&self.path);
        self.make_private(&path)?;
        Ok(path)
    }

    /// Makes a folder that only the server's user may enter, or sees that the existing one is such a folder:
    /// below /tmp anybody could have made it first, as a link or to look inside.
    pub(super) fn make_private(&self, path: &Path) -> Result<(), PrivateError> {
        let failed = |error| PrivateError::folder("make the folder", path)(error);
        match DirBuilder::new().mode(0o700).create(path) {
            Ok(()) => return self.user.take(path).map_err(failed),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(failed(error)),
        }
        let found = fs::symlink_metadata(path).map_err(failed)?;
        if found.is_dir() && found.mode() & 0o777 == 0o700 {
            if found.uid() == self.user.uid() {
                return Ok(());
            }
            if found.uid() == geteuid().as_raw() {
                // An earlier start ended between making it and giving it away.
                return self.user.take(path).map_err(failed);
            }
        }
        Err(PrivateError::SocketFolderTaken { path: path.to_owned(), user: self.user.name().to_owned() })
    }

    fn let_server_user_pass(&self) -> Result<(), PrivateError> {
        let failed = |error| PrivateError::folder("look at the way to", &self.path)(error);
        for parent in self.path.ancestors().skip(1) {
            if !self.user.may_pass(&fs::metadata(parent).map_err(failed)?) {
                return Err(PrivateError::BarredParent {
                    user: self.user.name().to_owned(),
                    parent: parent.to_owned(),
                    path: self.path.clone(),
                });
            }
        }
        let found = fs::metadata(&self.path).map_err(failed)?;
        if self.user.may_pass(&found) {
            return Ok(());
        }
        let passable = Permissions::from_mode(found.mode() & 0o7777 | 0o011);
        fs::set_permissions(&self.path, passable)
            .map_err(PrivateError::folder("let the server's user pass through", &self.path))
    }
}

/// Held from `take` to drop.
#[derive(Debug)]
struct FolderLock(File);

impl FolderLock {
    fn take(folder: &Path) -> Result<Self, PrivateError> {
        let path = folder.join("rollcall.lock");
        let failed = |error| PrivateError::folder("lock", &path)(error);
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(Self(file)),
            Err(TryLockError::WouldBlock) => Err(PrivateError::InUse { path: folder.to_owned() }),
            Err(TryLockError::Error(error)) => Err(failed(error)),
        }
    }
}

impl Drop for FolderLock {
    /// Closing the file would do, were there not, for a moment, a copy in each child that is being started.
    fn drop(&mut self) {
        if let Err(error) = self.0.unlock() {
            tracing::warn!(%error, "could not unlock the data folder; it is free when rollcall has ended");
        }
    }
}

/// Makes a folder and its missing parents. Root's are passable whatever the umask, since `PostgreSQL` has to
/// reach them as somebody else.
fn create(path: &Path) -> io::Result<()> {
    let (parent_mode, own_mode) = if geteuid().is_root() { (0o755, 0o711) } else { (0o777, 0o700) };
    let missing: Vec<&Path> = path.ancestors().take_while(|each| !each.is_dir()).collect();
    for folder in missing.into_iter().rev() {
        let mode = if folder == path { own_mode } else { parent_mode };
        DirBuilder::new().mode(mode).create(folder)?;
        if geteuid().is_root() {
            fs::set_permissions(folder, Permissions::from_mode(mode))?;
        }
    }
    Ok(())
}

fn socket_folder_for(data_folder: &Path) -> PathBuf {
    let inside = data_folder.join("socket");
    let address = inside.join(".s.PGSQL.5432").into_os_string().into_string().unwrap_or_default();
    if (1..=LONGEST_SOCKET_PATH).contains(&address.len()) && !address.contains(char::is_control) {
        return inside;
    }
    let (short, ..) =
        Uuid::new_v5(&Uuid::NAMESPACE_URL, data_folder.as_os_str().as_encoded_bytes()).as_fields();
    PathBuf::from(format!("/tmp/rollcall-{short:08x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_lies_in_the_data_folder_when_its_address_is_short_enough() {
        assert_eq!(socket_folder_for(Path::new("/var/lib/rollcall")), Path::new("/var/lib/rollcall/socket"));
    }

    #[test]
    fn the_socket_of_a_folder_with_a_long_name_lies_in_a_short_one_that_is_the_same_each_time() {
        let long = PathBuf::from("/data").join("x".repeat(90));
        let short = socket_folder_for(&long);
        assert!(short.starts_with("/tmp") && short.as_os_str().len() < 30, "{short:?}");
        assert_eq!(short, socket_folder_for(&long));
        assert_ne!(short, socket_folder_for(&long.join("y")));
    }
}
