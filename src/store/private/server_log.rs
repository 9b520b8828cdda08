//! What the server writes: a file beside the cluster, where only rollcall may write, and of which the end is
//! quoted when the server does not start.
//!
//! `PostgreSQL` writes little, so what a long time has gathered is put aside only at a start.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

const LARGEST: u64 = 16 << 20;
const TAIL_BYTES: u64 = 8 << 10;
const TAIL_LINES: usize = 20;

pub(super) fn open(path: &Path) -> io::Result<File> {
    if fs::metadata(path).is_ok_and(|log| log.len() > LARGEST) {
        let mut aside = path.as_os_str().to_owned();
        aside.push(".old");
        fs::rename(path, PathBuf::from(aside))?;
    }
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

/// The last lines since the position, which is where the log ended before the start in question.
pub(super) fn tail(log: &Path, began_at: u64) -> String {
    let mut bytes = Vec::new();
    let read = File::open(log).and_then(|mut file| {
        let start = file.metadata()?.len().saturating_sub(TAIL_BYTES).max(began_at);
        file.seek(SeekFrom::Start(start))?;
        file.read_to_end(&mut bytes)
    });
    if let Err(error) = read {
        return format!("(it cannot be read: {error})");
    }
    let text = String::from_utf8_lossy(&bytes);
    let mut lines: Vec<&str> = text.lines().rev().take(TAIL_LINES).collect();
    lines.reverse();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_is_what_was_written_since_and_not_too_much_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        fs::write(&log, format!("old\n{}last\n", "news\n".repeat(50))).unwrap();
        assert_eq!(tail(&log, 4).lines().count(), TAIL_LINES);
        assert!(tail(&log, 4).ends_with("news\nlast"));
        fs::write(&log, "old\nnew\n").unwrap();
        assert_eq!(tail(&log, 4), "new");
    }

    #[test]
    fn a_long_log_is_put_aside() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        File::create(&log).unwrap().set_len(LARGEST + 1).unwrap();
        assert_eq!(open(&log).unwrap().metadata().unwrap().len(), 0);
        assert!(folder.path().join("log.old").exists());
    }
}
