//! What has to be done from time to time: remembering where this replica stands, and forgetting old keys.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::follower::{Anchor, Follower};
use crate::domain::Revision;
use crate::store::{Database, Lane, StoreError, idempotency};

const EVERY: Duration = Duration::from_secs(1);
/// How often old idempotency keys are looked for, counted in turns.
const FORGET_EVERY: u64 = 60;
const FILE: &str = "anchor.json";

/// The file in which a replica keeps where it stood, so that after a restart it notices a log that has lost its end.
pub struct AnchorFile {
    path: PathBuf,
    written: Option<Anchor>,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    log: Uuid,
    epoch: i32,
    /// Revisions and the hashes of the batches that end there, in hexadecimal digits.
    marks: Vec<(Revision, String)>,
}

impl AnchorFile {
    pub fn within(folder: &Path) -> Self {
        Self { path: folder.join(FILE), written: None }
    }

    /// None where there is none, or none that can be read: then the log is taken as it is.
    pub fn read(&self) -> Option<Anchor> {
        let text = match std::fs::read_to_string(&self.path) {
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

    /// Whole or not at all: a half-written file would say nothing.
    async fn write(&mut self, anchor: Anchor) -> io::Result<()> {
        if self.written.as_ref() == Some(&anchor) {
            return Ok(());
        }
        let Anchor { log, epoch, ref marks } = anchor;
        let marks = marks.iter().map(|(revision, hash)| (*revision, to_hex(hash))).collect();
        let kept = Kept { log, epoch, marks };
        let new = self.path.with_extension(format!("{}.new", std::process::id()));
        if let Some(folder) = self.path.parent() {
            tokio::fs::create_dir_all(folder).await?;
        }
        tokio::fs::write(&new, serde_json::to_vec(&kept)?).await?;
        tokio::fs::rename(&new, &self.path).await?;
        self.written = Some(anchor);
        Ok(())
    }

    fn complain(&self, error: &io::Error, what: &str) {
        tracing::warn!(error = crate::telemetry::chain(error), file = %self.path.display(), "the anchor {what}");
    }
}

/// Runs until it is stopped, and then remembers once more.
pub async fn run_upkeep(
    follower: Arc<Follower>,
    mut file: AnchorFile,
    database: Database,
    stop: CancellationToken,
) {
    let mut lane = Lane::new(database);
    let mut writable = true;
    for turn in 1_u64.. {
        let stopping = tokio::select! {
            () = stop.cancelled() => true,
            () = tokio::time::sleep(EVERY) => false,
        };
        if let Some(anchor) = follower.anchor() {
            let result = file.write(anchor).await;
            if let (true, Err(error)) = (writable, &result) {
                file.complain(error, "cannot be written");
            }
            writable = result.is_ok();
        }
        if stopping {
            return;
        }
        if turn % FORGET_EVERY == 0
            && let Err(error) = forget(&mut lane).await
        {
            tracing::debug!(
                error = crate::telemetry::chain(&error),
                "old idempotency keys were not forgotten"
            );
        }
    }
}

async fn forget(lane: &mut Lane) -> Result<(), StoreError> {
    let mut connection = lane.take().await?;
    idempotency::forget_old(&mut connection).await?;
    lane.give_back(connection);
    Ok(())
}

fn to_hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // writing to a String cannot fail
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes().chunks(2);
    digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_anchor_survives_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = AnchorFile::within(&folder.path().join("deep"));
        assert_eq!(file.read(), None);
        let anchor = Anchor {
            log: Uuid::nil(),
            epoch: 2,
            marks: vec![(7, vec![]), (1_000_000_007, vec![0, 15, 255])],
        };
        file.write(anchor.clone()).await.unwrap();
        assert_eq!(AnchorFile::within(&folder.path().join("deep")).read(), Some(anchor));
        for broken in ["", "{}", r#"{"log":"x"}"#] {
            std::fs::write(&file.path, broken).unwrap();
            assert_eq!(file.read(), None, "{broken}");
        }
    }

    #[test]
    fn hexadecimal_leads_back() {
        let bytes: Vec<u8> = (0..=255).collect();
        assert_eq!(from_hex(&to_hex(&bytes)), Some(bytes));
        assert_eq!(from_hex("0g"), None);
    }
}
