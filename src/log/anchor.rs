//! Where this replica stood, kept over a restart: so it notices a log that has lost its end meanwhile.
//!
//! Two files. `anchor.last` holds the last batch and is written in place at each, before anybody is told of it: a few
//! bytes that the operating system keeps for a process that is killed. `anchor.json` holds the batches before it, from
//! which follows how much was lost, and is written anew each second.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{domain::Revision, store::epoch::Mark, telemetry};

const MARKS_FILE: &str = "anchor.json";
const LAST_FILE: &str = "anchor.last";
/// A line of fixed length, so that a shorter one leaves nothing of a longer one behind.
const LINE: usize = 160;

/// What the log has to know if it is still the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anchor {
    pub log: Uuid,
    pub epoch: i32,
    /// The last batches that were seen, ascending.
    pub marks: Vec<Mark>,
}

impl Anchor {
    pub fn revision(&self) -> Revision {
        self.marks.last().map_or(0, |(revision, _)| *revision)
    }
}

/// The files of a data folder. Where they cannot be written, that is told once, and the registry goes on.
pub struct Anchors {
    folder: Option<PathBuf>,
    last: Option<File>,
    complained: AtomicBool,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    log: Uuid,
    epoch: i32,
    /// Revisions and the hashes of the batches that end there, in hexadecimal digits.
    marks: Vec<(Revision, String)>,
}

impl Anchors {
    pub fn within(folder: &Path) -> Self {
        let mut this =
            Self { folder: Some(folder.to_owned()), last: None, complained: AtomicBool::new(false) };
        let opened = std::fs::create_dir_all(folder).and_then(|()| {
            File::options().read(true).write(true).create(true).truncate(false).open(folder.join(LAST_FILE))
        });
        match opened {
            Ok(file) => this.last = Some(file),
            Err(error) => this.complain(&error, "cannot be opened"),
        }
        this
    }

    /// For one that remembers nothing.
    pub fn nowhere() -> Self {
        Self { folder: None, last: None, complained: AtomicBool::new(false) }
    }

    /// What the last run left. None where there is nothing that can be read: then the log is taken as it is.
    pub fn read(&self) -> Option<Anchor> {
        let marks = self.read_marks();
        let Some((log, epoch, last)) = self.read_last() else { return marks };
        let mut anchor =
            marks.filter(|anchor| anchor.log == log).unwrap_or(Anchor { log, epoch, marks: Vec::new() });
        if last.0 > anchor.revision() {
            anchor.marks.push(last);
        }
        anchor.epoch = anchor.epoch.max(epoch);
        Some(anchor)
    }

    /// Cheap enough for every batch.
    pub fn note_last(&self, log: Uuid, epoch: i32, revision: Revision, hash: &[u8]) {
        let Some(file) = &self.last else { return };
        let line =
            format!("{:<width$}\n", format!("{log} {epoch} {revision} {}", to_hex(hash)), width = LINE - 1);
        if let Err(error) = file.write_all_at(line.as_bytes(), 0) {
            self.complain(&error, "cannot be written");
        }
    }

    /// Whole or not at all: a half-written file would say nothing.
    pub async fn write_marks(&self, anchor: &Anchor) {
        let Some(folder) = &self.folder else { return };
        let Anchor { log, epoch, marks } = anchor;
        let marks = marks.iter().map(|(revision, hash)| (*revision, to_hex(hash))).collect();
        let kept = Kept { log: *log, epoch: *epoch, marks };
        let written = async {
            let new = folder.join(format!("{MARKS_FILE}.{}", std::process::id()));
            tokio::fs::write(&new, serde_json::to_vec(&kept)?).await?;
            tokio::fs::rename(&new, folder.join(MARKS_FILE)).await
        };
        if let Err(error) = written.await {
            self.complain(&error, "cannot be written");
        }
    }

    fn read_marks(&self) -> Option<Anchor> {
        let text = match std::fs::read_to_string(self.folder.as_ref()?.join(MARKS_FILE)) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                self.complain(&error, "cannot be read");
                return None;
            }
        };
        let kept = serde_json::from_str::<Kept>(&text).ok();
        let anchor = kept.and_then(|Kept { log, epoch, marks }| {
            let marks = marks.into_iter().map(|(revision, hash)| Some((revision, from_hex(&hash)?)));
            Some(Anchor { log, epoch, marks: marks.collect::<Option<_>>()? })
        });
        if anchor.is_none() {
            self.complain(&io::Error::from(io::ErrorKind::InvalidData), "is not understood, and passed over");
        }
        anchor
    }

    fn read_last(&self) -> Option<(Uuid, i32, Mark)> {
        let mut line = [0; LINE];
        self.last.as_ref()?.read_exact_at(&mut line, 0).ok()?;
        let mut words = std::str::from_utf8(&line).ok()?.split_whitespace();
        let (log, epoch) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        let (revision, hash) = (words.next()?.parse().ok()?, from_hex(words.next()?)?);
        Some((log, epoch, (revision, hash)))
    }

    fn complain(&self, error: &io::Error, what: &str) {
        if self.complained.swap(true, Ordering::Relaxed) {
            return;
        }
        let folder = self.folder.as_deref().unwrap_or(Path::new("")).display();
        tracing::warn!(error = telemetry::chain(error), %folder, "the anchor {what}: a lost end of the log may go unnoticed");
    }
}

fn to_hex(bytes: &[u8]) -> String {
    const DIGITS: [char; 16] =
        ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    let digit = |nibble: u8| DIGITS.get(usize::from(nibble)).copied().unwrap_or_default();
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes().chunks(2);
    digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn anchor(marks: &[Revision]) -> Anchor {
        let marks = marks.iter().map(|revision| (*revision, vec![0, 15, 255])).collect();
        Anchor { log: Uuid::nil(), epoch: 2, marks }
    }

    #[tokio::test]
    async fn an_anchor_survives_its_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep");
        let anchors = Anchors::within(&path);
        assert_eq!(anchors.read(), None);
        anchors.note_last(Uuid::nil(), 2, 7, &[0, 15, 255]);
        assert_eq!(Anchors::within(&path).read(), Some(anchor(&[7])));
        anchors.write_marks(&anchor(&[5, 7])).await;
        anchors.note_last(Uuid::nil(), 2, 1_000_000_007, &[0, 15, 255]);
        assert_eq!(Anchors::within(&path).read(), Some(anchor(&[5, 7, 1_000_000_007])));
        anchors.note_last(Uuid::max(), 1, 3, &[1]);
        let other = Anchor { log: Uuid::max(), epoch: 1, marks: vec![(3, vec![1])] };
        assert_eq!(Anchors::within(&path).read(), Some(other));
        for broken in ["", "{}", r#"{"log":"x"}"#] {
            std::fs::write(path.join(MARKS_FILE), broken).unwrap();
            std::fs::write(path.join(LAST_FILE), broken).unwrap();
            assert_eq!(Anchors::within(&path).read(), None, "{broken}");
        }
    }

    #[tokio::test]
    async fn a_folder_that_cannot_be_written_stops_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a-file");
        std::fs::write(&file, "").unwrap();
        let anchors = Anchors::within(&file);
        anchors.note_last(Uuid::nil(), 1, 1, &[]);
        anchors.write_marks(&anchor(&[1])).await;
        assert_eq!(anchors.read(), None);
        assert_eq!(Anchors::nowhere().read(), None);
    }

    #[test]
    fn hexadecimal_leads_back() {
        let bytes: Vec<u8> = (0..=255).collect();
        assert_eq!(from_hex(&to_hex(&bytes)), Some(bytes));
        assert_eq!(from_hex("0g"), None);
    }
}
