//! The copy level: process machinery, where a failure would end a script. Copies of the process make execve(), and page faults
//! fail, which the kernel tries again.

use super::{
    common::severity,
    spec::{Aim, Mode, RunSpec, Traced},
    stage::{Next, Ran, Severity, Stage},
    view::View,
};
use crate::journal::{Level, Signature};

/// Runs at this level until one brings nothing.
#[derive(Debug, Default)]
pub(super) struct Copies {
    runs: u32,
    done: bool,
}

/// A run in which these sites of process machinery may fail.
#[must_use]
pub fn copies(sites: Vec<Signature>, persistent: Option<u32>) -> RunSpec {
    let traced = Traced { limit: persistent.unwrap_or(1), copies: true, ..Traced::ONE };
    RunSpec { level: Level::COPY, aim: Aim::Named(sites), mode: Mode::Traced(traced), times: 1, patience: 1 }
}

impl Stage for Copies {
    fn propose(&mut self, view: &View<'_>) -> Option<Next> {
        if self.done || self.runs >= view.tuning().copy_runs {
            return None;
        }
        let machinery = |site| view.site(site).is_some_and(|site| site.place.is_machinery());
        let mut sites = view.left();
        // What may bring the machine down fails with fewer and fewer others: that is the whole level's.
        sites.retain(|site| machinery(*site) && view.state.suspicion().limit(*site).is_none());
        (!sites.is_empty()).then(|| Next::Run(copies(sites, view.setting.persistent)))
    }

    fn learn(&mut self, _view: &View<'_>, ran: &Ran<'_>) -> Severity {
        // Copies make a system call until nothing is left in it.
        self.done = ran.new == 0 || ran.result.is_well();
        self.runs += 1;
        severity(ran)
    }
}
