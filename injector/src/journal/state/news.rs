//! Whether a boot brought the sweep forward.

use super::runs::Runs;
use crate::journal::record::{Armed, Level, Record};

/// Counts that only grow: who wants to know what a boot brought compares them before and after.
#[derive(Clone, Debug, Default)]
pub struct News {
    /// How many records said something new.
    count: u64,
    /// How often a sweep said that it is over.
    ends: u64,
    /// What could fail in the run in which the machine went down last.
    down: Option<Armed>,
}

impl News {
    /// `runs`: after this record.
    pub(super) fn apply(&mut self, record: &Record, runs: &Runs) {
        let is_news = match record {
            // A boot that goes down in the same run as the one before it brought nothing.
            Record::Armed(armed) => {
                let same = |down: &Armed| *down == Armed { run: down.run, ..armed.clone() };
                armed.level != Level::RECORD && !self.down.as_ref().is_some_and(same)
            }
            Record::Crash(crash) => {
                let run = crash.run.and_then(|run| runs.get(run));
                self.down = run.map(|run| run.armed.clone());
                false
            }
            Record::End(_) => {
                self.ends += 1;
                true
            }
            Record::Site(_)
            | Record::Failed(_)
            | Record::Trouble(_)
            | Record::Unreached(_)
            | Record::Scanned(_)
            | Record::Replayed(_) => true,
            // Every boot begins, and may make runs without failures.
            Record::Begin(_) | Record::Plain(_) | Record::Ended(_) => false,
        };
        self.count += u64::from(is_news);
    }

    /// How many records said something new.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// How often a sweep said that it is over.
    #[must_use]
    pub fn ends(&self) -> u64 {
        self.ends
    }
}
