//! Which sites a sweep is done with.

use std::collections::BTreeSet;

use super::runs::Runs;
use crate::journal::record::{Failed, Outcome, Record, RunEnd, Signature, Unreached};

/// Which sites a sweep is done with, and why.
#[derive(Clone, Debug, Default)]
pub struct Tested {
    /// Sites that failed, or that brought the machine down.
    finished: BTreeSet<Signature>,
    /// Sites that this part of the sweep gave up. The next part tries them again.
    given_up: BTreeSet<Signature>,
    /// Sites whose failure a system call returned as out of memory, or as another error, before it was retried.
    retryable: BTreeSet<Signature>,
    /// Sites for which a run was made in which nothing else could fail, but for what leads to them.
    alone: BTreeSet<Signature>,
    /// Two sites for which a run was made in which nothing else could fail: the first, then the other.
    pairs: BTreeSet<(Signature, Signature)>,
    failures: u64,
}

impl Tested {
    pub(super) fn apply(&mut self, record: &Record, runs: &Runs) {
        match record {
            Record::Begin(_) => self.given_up.clear(),
            Record::Failed(Failed { site, after, outcome, .. }) => {
                if after.is_none() && matches!(outcome, Outcome::Clean | Outcome::Misreported { .. }) {
                    self.retryable.insert(*site);
                }
                self.failures += 1;
                self.finished.insert(*site);
            }
            Record::Trouble(trouble) => self.finished.extend(runs.culprit(trouble).map(|(site, _)| site)),
            Record::Crash(crash) => {
                self.finished.extend(runs.crashed_alone(crash).map(|(site, _)| site));
                if !crash.is_on_purpose() {
                    self.tried(crash.run, runs);
                }
            }
            // A run that was cut off told nothing.
            Record::Ended(ended) if ended.end != RunEnd::Interrupted => self.tried(Some(ended.run), runs),
            Record::Unreached(Unreached { sites, .. }) => self.given_up.extend(sites),
            Record::Ended(_)
            | Record::Armed(_)
            | Record::Plain(_)
            | Record::Site(_)
            | Record::Scanned(_)
            | Record::Replayed(_)
            | Record::End(_) => {}
        }
    }

    /// A run is over: if it was of one site, or of two, these have been tried.
    fn tried(&mut self, run: Option<u32>, runs: &Runs) {
        if let Some((site, first)) = run.and_then(|run| runs.get(run)?.culprit()) {
            self.alone.insert(site);
            self.pairs.extend(first.map(|first| (first, site)));
        }
    }

    /// Whether a site failed, or brought the machine down.
    #[must_use]
    pub fn is_finished(&self, site: Signature) -> bool {
        self.finished.contains(&site)
    }

    /// Whether nothing more is to be done with a site in this part of the sweep.
    #[must_use]
    pub fn is_done(&self, site: Signature) -> bool {
        self.is_finished(site) || self.given_up.contains(&site)
    }

    /// How many sites failed.
    #[must_use]
    pub fn finished(&self) -> usize {
        self.finished.len()
    }

    /// Sites whose failure came back as the error of a system call, which was then retried.
    #[must_use]
    pub fn retryable(&self) -> Vec<Signature> {
        self.retryable.iter().copied().collect()
    }

    /// Whether a run was made in which nothing but this site, and what leads to it, could fail.
    #[must_use]
    pub fn was_alone(&self, site: Signature) -> bool {
        self.alone.contains(&site)
    }

    /// Whether a run was made in which nothing but these two sites could fail, in this order.
    #[must_use]
    pub fn was_pair(&self, first: Signature, then: Signature) -> bool {
        self.pairs.contains(&(first, then))
    }

    /// How many failures there were.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.failures
    }
}
