//! What a sweep writes into the kernel's log: see [`Kmsg`].

use std::collections::{BTreeSet, HashMap};

use crate::{
    events::Context,
    journal::{Signature, record::Site},
    plan::Hook,
    sinks::{self, Kmsg, Teller, Told},
};

/// A failure that the hook told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its site.
    pub site: Signature,
    /// Its hook.
    pub hook: Hook,
    /// In what kind of code.
    pub context: Context,
    /// Who asked for memory.
    pub task: Teller,
}

/// The failures of a sweep, for the kernel's log.
#[derive(Debug)]
pub struct Telling {
    kmsg: Kmsg,
    /// What was written before the run.
    before: BTreeSet<Signature>,
    /// The last failure of each site that was held back.
    held_back: HashMap<Signature, Told>,
}

impl Telling {
    /// Nothing written yet.
    #[must_use]
    pub fn new(kmsg: Kmsg) -> Self {
        Self { kmsg, before: BTreeSet::new(), held_back: HashMap::new() }
    }

    /// A run begins. `only`: the one site that can fail in it, if there is one.
    pub fn begin(&mut self, only: Option<&Site>, frames: impl FnOnce() -> Vec<String>) {
        self.before.clear();
        self.held_back.clear();
        let Some(Site { site, hook, context, .. }) = only else { return };
        let told = Told { hook: *hook, site: site.0, context: *context, task: None };
        if self.kmsg.tell(&told, frames) {
            self.before.insert(*site);
        }
    }

    /// A failure was made.
    pub fn failed(&mut self, seen: Seen, frames: impl FnOnce() -> Vec<String>) {
        let Seen { site, hook, context, task } = seen;
        if self.before.contains(&site) {
            return;
        }
        let told = Told { hook, site: site.0, context, task: Some(task) };
        if self.kmsg.tell(&told, frames) {
            self.held_back.remove(&site);
        } else {
            self.held_back.insert(site, told);
        }
    }

    /// The kernel complains, and this failure is blamed: it is written, if it was held back.
    pub fn blamed(&mut self, site: Signature, frames: impl FnOnce() -> Vec<String>) {
        if let Some(told) = self.held_back.remove(&site) {
            self.kmsg.tell_after_all(&told, frames());
        }
    }
}

impl Drop for Telling {
    /// Says what is not in the log.
    fn drop(&mut self) {
        if let Some(summary) = self.kmsg.summary() {
            sinks::announce(format_args!("{summary}"));
        }
    }
}
