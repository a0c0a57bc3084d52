//! The runs of a section: what was armed, and what can be blamed.

use std::collections::BTreeMap;

use super::record::{Armed, Crash, Ended, Record, Signature};

/// The runs of the section that is being folded.
#[derive(Clone, Debug, Default)]
pub(super) struct Runs {
    pub all: BTreeMap<u32, Run>,
    pub open: Option<u32>,
    pub highest: Option<u32>,
}

#[derive(Clone, Debug)]
pub(super) struct Run {
    pub armed: Armed,
    pub failed: Vec<(Signature, Option<Signature>)>,
}

impl Run {
    /// What may have brought a run down, the latest failure first; then what was armed and not seen to fail: the very
    /// failure that brings the machine down is never written.
    pub(super) fn suspects(&self) -> Vec<Signature> {
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

    /// The failure that all that happens in the run must come from.
    pub(super) fn culprit(&self) -> Option<(Signature, Option<Signature>)> {
        match self.armed.sites.as_deref() {
            Some(&[site]) => Some((site, self.armed.first)),
            _ => None,
        }
    }
}

impl Runs {
    pub(super) fn follow(&mut self, record: &Record) {
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
                // Whatever was going on, it is over.
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
