//! The runs of a section: what was armed in each, what failed, and what can be blamed.

use std::collections::BTreeMap;

use crate::journal::record::{Armed, Crash, Ended, Level, Record, Signature, Trouble};

/// The runs of the section that is being folded.
#[derive(Clone, Debug, Default)]
pub(in crate::journal) struct Runs {
    all: BTreeMap<u32, Run>,
    /// The run that began last and has no end.
    open: Option<u32>,
    highest: Option<u32>,
}

/// A run.
#[derive(Clone, Debug)]
pub(in crate::journal) struct Run {
    pub armed: Armed,
    /// What failed in it, in order, each with the failure before it in the same attempt.
    pub failed: Vec<(Signature, Option<Signature>)>,
}

impl Run {
    /// What may have brought the run down: its failures, the latest first, then the sites that were armed and did not fail
    /// as far as the journal knows. The failure that brings the machine down is never written.
    pub fn suspects(&self) -> Vec<Signature> {
        let mut all = Vec::new();
        let failed = self.failed.iter().rev().map(|(site, _)| *site);
        let armed = self.armed.sites.iter().flatten().copied();
        for site in failed.chain(armed) {
            if !all.contains(&site) {
                all.push(site);
            }
        }
        all
    }

    /// The only site that could fail in the run, and the one that failed before it in the same attempt: all that happens in
    /// the run comes from these.
    pub fn culprit(&self) -> Option<(Signature, Option<Signature>)> {
        match self.armed.sites.as_deref() {
            Some(&[site]) => Some((site, self.armed.first)),
            _ => None,
        }
    }

    /// Nothing fails in it.
    pub fn is_recording(&self) -> bool {
        self.armed.level == Level::RECORD
    }
}

impl Runs {
    /// A run by its number.
    pub fn get(&self, run: u32) -> Option<&Run> {
        self.all.get(&run)
    }

    /// The run that began and has not ended.
    pub fn open(&self) -> Option<&Run> {
        self.open.and_then(|run| self.get(run))
    }

    /// The failure that a complaint comes from, with the one before it.
    pub fn culprit(&self, trouble: &Trouble) -> Option<(Signature, Option<Signature>)> {
        trouble.site.map(|site| (site, trouble.after))
    }

    /// The failure that brought the machine down, with the one before it, if nothing else could fail in that run.
    pub fn crashed_alone(&self, crash: &Crash) -> Option<(Signature, Option<Signature>)> {
        crash.run.and_then(|run| self.get(run)?.culprit()).filter(|_| !crash.is_on_purpose())
    }

    /// A number that no run of the section has.
    pub fn next(&self) -> u32 {
        self.highest.map_or(1, |highest| highest.saturating_add(1))
    }

    pub fn apply(&mut self, record: &Record) {
        let number = match record {
            Record::Armed(armed) => {
                self.open = Some(armed.run);
                self.all.insert(armed.run, Run { armed: armed.clone(), failed: Vec::new() });
                Some(armed.run)
            }
            Record::Failed(failed) => {
                if let Some(run) = self.all.get_mut(&failed.run) {
                    run.failed.push((failed.site, failed.after));
                }
                Some(failed.run)
            }
            Record::Ended(Ended { run, .. }) => {
                self.open = self.open.filter(|open| open != run);
                Some(*run)
            }
            Record::Crash(Crash { run, .. }) => {
                // Whatever was going on is over.
                self.open = None;
                *run
            }
            Record::Trouble(trouble) => Some(trouble.run),
            Record::Begin(_)
            | Record::Plain(_)
            | Record::Site(_)
            | Record::Unreached(_)
            | Record::Scanned(_)
            | Record::Replayed(_)
            | Record::End(_) => None,
        };
        self.highest = self.highest.max(number);
    }
}
