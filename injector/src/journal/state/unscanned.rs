//! What kmemleak was not asked for.

use std::collections::{BTreeMap, BTreeSet};

use super::{runs::Runs, suspicion::Suspicion};
use crate::journal::record::{Level, Record, RunEnd, Signature};

/// Failures whose leaks nobody has looked for.
#[derive(Clone, Debug, Default)]
pub struct Unscanned {
    /// Since kmemleak was last asked, in this boot.
    now: BTreeSet<Signature>,
    /// In boots that ended before kmemleak was asked.
    missed: BTreeSet<Signature>,
    /// A run in which these fail again.
    again: Option<Again>,
    /// How often each failed again in a run that ended badly, with no scan after it.
    in_vain: BTreeMap<Signature, u32>,
}

/// So often a site may fail again in vain. The end of a boot counts twice.
const IN_VAIN: u32 = 3;

/// A run in which sites fail again for what they lose.
#[derive(Clone, Copy, Debug)]
struct Again {
    run: u32,
    /// How many failures were known then to damage the kernel.
    harmful: usize,
    /// How the run ended.
    end: End,
}

/// How such a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Not, or well.
    Well,
    /// The workload got nowhere any more, or failed. The reset that follows may fail, too.
    Badly,
    /// The boot ended with it.
    Fatally,
}

impl Unscanned {
    /// `runs` and `suspicion`: after this record.
    pub(super) fn apply(&mut self, record: &Record, runs: &Runs, suspicion: &Suspicion) {
        match record {
            Record::Begin(_) => self.boot(runs, suspicion),
            Record::Armed(armed) => {
                let sites = armed.sites.as_deref().unwrap_or_default();
                self.again = None;
                let suspects = armed.first.is_some() || armed.level == Level::GROUP;
                if !suspects && sites.iter().any(|site| self.missed.contains(site)) {
                    self.again = Some(Again { run: armed.run, harmful: suspicion.harmful(), end: End::Well });
                }
            }
            Record::Failed(failed) => {
                self.now.insert(failed.site);
            }
            Record::Ended(ended) => {
                if let Some(again) = self.again.as_mut().filter(|again| again.run == ended.run) {
                    again.end = match ended.end {
                        RunEnd::Damaged | RunEnd::Unkillable => End::Fatally,
                        RunEnd::Finished if ended.status == Some(0) => End::Well,
                        RunEnd::Interrupted => End::Well,
                        RunEnd::Finished | RunEnd::Stuck | RunEnd::TimedOut => End::Badly,
                    };
                }
            }
            Record::Crash(crash) => {
                let fatal = |again: &&mut Again| crash.run == Some(again.run) && !crash.is_on_purpose();
                if let Some(again) = self.again.as_mut().filter(fatal) {
                    again.end = End::Fatally;
                }
            }
            Record::Scanned(_) => *self = Self::default(),
            Record::Plain(_)
            | Record::Site(_)
            | Record::Trouble(_)
            | Record::Unreached(_)
            | Record::Replayed(_)
            | Record::End(_) => {}
        }
    }

    fn boot(&mut self, runs: &Runs, suspicion: &Suspicion) {
        self.missed.append(&mut self.now);
        let Some(again) = self.again.take() else { return };
        if again.end == End::Well || suspicion.harmful() > again.harmful {
            return;
        }
        // Nobody knows what ended the boot before kmemleak was asked, so what failed then does not fail again for ever.
        let failed: BTreeSet<Signature> =
            runs.get(again.run).into_iter().flat_map(|run| run.failed.iter().map(|(site, _)| *site)).collect();
        if failed.is_empty() && again.end == End::Fatally {
            self.missed.clear();
        }
        for site in failed {
            let times = self.in_vain.entry(site).or_default();
            *times += if again.end == End::Fatally { 2 } else { 1 };
            if *times >= IN_VAIN {
                self.missed.remove(&site);
            }
        }
    }

    /// Whether something failed, in this boot or before, that kmemleak was not asked for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.now.is_empty() && self.missed.is_empty()
    }

    /// Sites that failed in boots that ended before kmemleak was asked.
    #[must_use]
    pub fn missed(&self) -> &BTreeSet<Signature> {
        &self.missed
    }
}
