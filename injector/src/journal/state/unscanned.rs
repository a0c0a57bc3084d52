//! What kmemleak was not asked for.

use std::collections::BTreeSet;

use super::{runs::Runs, suspicion::Suspicion};
use crate::journal::record::{Record, RunEnd, Signature};

/// Failures whose leaks nobody has looked for.
#[derive(Clone, Debug, Default)]
pub struct Unscanned {
    /// Since kmemleak was last asked, in this boot.
    now: BTreeSet<Signature>,
    /// In boots that ended before kmemleak was asked.
    missed: BTreeSet<Signature>,
    /// A run in which these fail again.
    again: Option<Again>,
}

/// A run in which sites fail again for what they lose.
#[derive(Clone, Copy, Debug)]
struct Again {
    run: u32,
    /// How many failures were known then to damage the kernel.
    harmful: usize,
    /// The run ended the boot.
    fatal: bool,
}

impl Unscanned {
    /// `runs` and `suspicion`: after this record.
    pub(super) fn apply(&mut self, record: &Record, runs: &Runs, suspicion: &Suspicion) {
        match record {
            Record::Begin(_) => self.boot(runs, suspicion),
            Record::Armed(armed) => {
                let sites = armed.sites.as_deref().filter(|sites| sites.len() > 1).unwrap_or_default();
                self.again = None;
                if sites.iter().any(|site| self.missed.contains(site)) {
                    self.again = Some(Again { run: armed.run, harmful: suspicion.harmful(), fatal: false });
                }
            }
            Record::Failed(failed) => {
                self.now.insert(failed.site);
            }
            Record::Ended(ended) => {
                if let Some(again) = self.again.as_mut().filter(|again| again.run == ended.run) {
                    again.fatal = matches!(ended.end, RunEnd::Damaged | RunEnd::Unkillable);
                }
            }
            Record::Crash(crash) => {
                if let Some(again) = &mut self.again {
                    again.fatal |= crash.run == Some(again.run) && !crash.is_on_purpose();
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
        // If nobody knows what ended the boot, none of what failed then fails a third time.
        let unknown = |again: &Again| again.fatal && suspicion.harmful() == again.harmful;
        if let Some(again) = self.again.take().filter(unknown) {
            let failed: BTreeSet<Signature> =
                runs.get(again.run).into_iter().flat_map(|run| run.failed.iter().map(|(site, _)| *site)).collect();
            self.missed.retain(|site| !failed.is_empty() && !failed.contains(site));
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
