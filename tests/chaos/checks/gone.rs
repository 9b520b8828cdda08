//! Revisions that were given out and are no more: a database took over that did not have them.

use super::{fold::Fold, log::Kind};

#[derive(Clone, Debug, Default)]
pub struct Gone(Vec<(i64, i64)>);

impl Gone {
    /// Between the last revision that an epoch has in the log and the first of the next.
    pub fn of(fold: &Fold) -> Self {
        let begins = |entry: &super::log::Entry| matches!(entry.kind, Kind::EpochStarted { .. });
        let pairs = fold.entries.windows(2).filter(|pair| begins(&pair[1]));
        Self(pairs.map(|pair| (pair[0].revision, pair[1].revision)).collect())
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn has(&self, revision: i64) -> bool {
        self.touches(revision, revision)
    }

    /// Whether some revision from `first` to `last` is gone.
    pub fn touches(&self, first: i64, last: i64) -> bool {
        self.0.iter().any(|(before, after)| first < *after && last > *before)
    }
}
