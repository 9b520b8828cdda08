//! Files that are read again when they change.
//!
//! They are looked at again and again: notices of the system get lost on network folders, and a container's mounts are
//! changed by exchanging a link somewhere above the file. What has changed is read only once it has come to rest, so
//! that neither a half-written file nor a new certificate beside the old key is taken for a mistake.

use std::{
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

const LOOK_EVERY: Duration = Duration::from_millis(500);

#[derive(Clone)]
pub struct Files {
    paths: Vec<PathBuf>,
    /// As they were when they were last read.
    read: Vec<Option<Stamp>>,
    /// As they were when they were last looked at.
    seen: Vec<Option<Stamp>>,
}

impl Files {
    /// To be called before they are read, lest a change in between goes unseen.
    pub async fn about_to_be_read(paths: impl IntoIterator<Item = &Path>) -> Self {
        let paths: Vec<_> = paths.into_iter().map(Path::to_owned).collect();
        let read = stamps(&paths).await;
        Self { paths, seen: read.clone(), read }
    }

    /// Waits until they have changed, and twice in a row look alike.
    pub async fn change(&mut self) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let now = stamps(&self.paths).await;
            let at_rest = now == self.seen;
            self.seen = now;
            if at_rest && self.seen != self.read {
                self.read.clone_from(&self.seen);
                return;
            }
        }
    }
}

/// What changes with a file's content, whether it is written over or exchanged for another one.
#[derive(Clone, PartialEq)]
struct Stamp {
    device: u64,
    inode: u64,
    length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// Of a file that is not there, none.
async fn stamps(paths: &[PathBuf]) -> Vec<Option<Stamp>> {
    let mut stamps = Vec::with_capacity(paths.len());
    for path in paths {
        stamps.push(tokio::fs::metadata(path).await.ok().map(|file| Stamp {
            device: file.dev(),
            inode: file.ino(),
            length: file.size(),
            modified: (file.mtime(), file.mtime_nsec()),
            changed: (file.ctime(), file.ctime_nsec()),
        }));
    }
    stamps
}

#[cfg(test)]
mod tests {
    use std::fs;

    use futures_util::FutureExt as _;

    use super::*;

    const CHANGES: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn whatever_way_a_file_changes_it_is_noticed_and_only_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let other = folder.path().join("other");
        fs::write(&path, "one").unwrap();
        let mut files = Files::about_to_be_read([path.as_path()]).await;

        let changes: [&dyn Fn(); 5] = [
            &|| fs::write(&path, "longer").unwrap(),
            &|| {
                fs::write(&other, "longer").unwrap();
                fs::rename(&other, &path).unwrap();
            },
            &|| fs::remove_file(&path).unwrap(),
            &|| {
                fs::write(&other, "linked").unwrap();
                std::os::unix::fs::symlink(&other, &path).unwrap();
            },
            &|| fs::write(&other, "behind the link").unwrap(),
        ];
        for change in changes {
            change();
            tokio::time::timeout(CHANGES, files.change()).await.expect("the change is noticed");
            assert!(files.change().now_or_never().is_none());
        }
        // As nothing changes any more, nothing is noticed.
        assert!(tokio::time::timeout(LOOK_EVERY * 4, files.change()).await.is_err());
    }
}
