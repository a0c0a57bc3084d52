//! The whole level: for what is left. Many sites fail in one run of the workload, each once, wherever they are reached:
//! in interrupts, in kernel threads, in sites that come and go.

use std::collections::{BTreeMap, VecDeque};

use super::{
    bisect::Limits,
    spec::{Aim, Mode, RunSpec},
    stage::{Next, Ran, Severity, Stage},
    tuning::Tuning,
    view::View,
};
use crate::journal::{
    Level, Record, Signature,
    record::{RunEnd, Unreached},
};

/// Runs until every site that is left has failed or is given up.
#[derive(Debug, Default)]
pub(super) struct Whole {
    /// It is for sites that nobody had seen when the whole level began: each has one turn.
    latecomers: bool,
    begun: bool,
    left: Vec<Signature>,
    /// The sites of the run under way.
    group: Vec<Signature>,
    /// The last run ended early: such a workload makes a run for each failure, and new places in the code come first.
    short: bool,
    /// How often each site did not come up.
    misses: BTreeMap<Signature, u32>,
    limits: Limits,
    queue: VecDeque<Next>,
}

/// A run in which these sites fail, each so often.
#[must_use]
pub fn whole(sites: Vec<Signature>, persistent: Option<u32>) -> RunSpec {
    let times = u64::from(persistent.unwrap_or(1));
    RunSpec { level: Level::WHOLE, aim: Aim::Named(sites), mode: Mode::Untraced, times, patience: 1 }
}

impl Stage for Whole {
    fn propose(&mut self, view: &View<'_>) -> Option<Next> {
        if let Some(next) = self.queue.pop_front() {
            return Some(next);
        }
        if !std::mem::replace(&mut self.begun, true) {
            self.left = view.left();
        }
        if self.left.is_empty() {
            return None;
        }
        let novel = self.short.then(|| view.novel(&self.left)).filter(|novel| !novel.is_empty());
        self.group = self.limits.group(view, novel.as_deref().unwrap_or(&self.left), view.tuning().whole_sites);
        Some(Next::Run(whole(self.group.clone(), view.setting.persistent)))
    }

    fn learn(&mut self, view: &View<'_>, ran: &Ran<'_>) -> Severity {
        let result = ran.result;
        self.short = !ran.through;
        if result.bad && result.failed.len() != 1 {
            self.limits.halve(result.failed.iter());
        }
        if matches!(result.end, RunEnd::Finished | RunEnd::Stuck | RunEnd::TimedOut) {
            self.account(view, ran);
        }
        if result.failed.is_empty() { Severity::Broken } else { Severity::Perhaps }
    }
}

impl Whole {
    /// For sites that nobody had seen when the whole level began.
    pub fn latecomers() -> Self {
        Self { latecomers: true, ..Self::default() }
    }

    /// Who failed, who did not come up, who is given up.
    fn account(&mut self, view: &View<'_>, ran: &Ran<'_>) {
        let tuning = view.tuning();
        let (failed, well) = (&ran.result.failed, ran.result.is_well());
        self.left.retain(|site| !view.state.tested().is_done(*site));
        let poor = self.latecomers || is_poor(tuning, failed.len(), self.group.len(), well);
        for site in &self.group {
            // A site of a run that went wrong is looked for until it does not come up at all.
            let suspect = self.limits.of(view, *site).is_some();
            let missed = match (suspect, poor) {
                (true, _) => u32::from(failed.is_empty()),
                (false, false) => 0,
                (false, true) if failed.contains(site) => 0,
                (false, true) if well => tuning.whole_misses,
                (false, true) => 1,
            };
            let misses = self.misses.entry(*site).or_default();
            *misses = if missed > 0 { *misses + missed } else { 0 };
        }
        let gone = |site: &Signature| self.misses.get(site).is_some_and(|misses| *misses >= tuning.whole_misses);
        let (given_up, left) = self.left.iter().copied().partition(gone);
        self.left = left;
        self.give_up(given_up, "did not come up again");
    }

    fn give_up(&mut self, sites: Vec<Signature>, why: &str) {
        if !sites.is_empty() {
            self.queue.push_back(Next::Note(Record::Unreached(Unreached { sites, why: why.to_owned() })));
        }
    }
}

/// Whether a run that failed `failed` of its sites says that the others do not come up any more: it failed none, or it came to the
/// workload's end and failed few. Slab refills come up by chance, one or two a run, for as long as one likes to look. But a
/// failure that ends the workload early hides what would have come after it.
fn is_poor(tuning: &Tuning, failed: usize, sites: usize, well: bool) -> bool {
    failed == 0 || (well && failed * tuning.whole_few < sites)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_ended_early_says_nothing_of_what_it_did_not_reach() {
        let is_poor = |failed, sites, well| is_poor(&Tuning::default(), failed, sites, well);
        assert!(!is_poor(1, 512, false));
        assert!(is_poor(1, 512, true) && is_poor(25, 512, true));
        assert!(!is_poor(26, 512, true));
        assert!(is_poor(0, 1, true) && is_poor(0, 1, false));
        assert!(!is_poor(1, 20, true) && is_poor(1, 21, true));
    }
}
