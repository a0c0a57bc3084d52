//! The retry level: one failure in each system call. A system call that returns an error is retried until it returns without
//! a failure, so one run of an unmodified script walks through hundreds of sites, each with a verdict of its own.

use std::collections::BTreeSet;

use super::{
    common::{depth, each, is_abandoned, severity},
    nested,
    spec::Traced,
    stage::{Next, Ran, Severity, Stage},
    view::View,
};
use crate::journal::{Level, Signature};

/// Runs at this level until they bring little.
#[derive(Debug, Default)]
pub(super) struct Retry {
    runs: u32,
    /// Failures that repeat in the run under way, for what lies behind them.
    repeating: BTreeSet<Signature>,
    /// Failures that repeated in earlier runs.
    repeated: BTreeSet<Signature>,
    /// Failures that repeated in runs that broke off: one of them may be why.
    suspicious: BTreeSet<Signature>,
    done: bool,
}

impl Retry {
    /// Failures that repeat in the next run: the kernel hid them, and there is more behind them, so there is room for a second
    /// failure.
    fn next_repeating(&self, view: &View<'_>) -> BTreeSet<Signature> {
        let mut leading = if depth(view) > 1 { nested::leading(view) } else { BTreeSet::new() };
        leading.retain(|site| !self.suspicious.contains(site));
        leading
    }
}

impl Stage for Retry {
    fn propose(&mut self, view: &View<'_>) -> Option<Next> {
        if self.done || self.runs >= view.tuning().retry_runs || is_abandoned(view, &Level::RETRY) {
            return None;
        }
        let persistent = view.setting.persistent;
        let depth = depth(view);
        self.repeating = self.next_repeating(view);
        let traced = Traced { limit: persistent.unwrap_or(1), depth, ..Traced::ONE };
        Some(Next::Run(each(view, Level::RETRY, self.repeating.clone(), traced)))
    }

    fn learn(&mut self, view: &View<'_>, ran: &Ran<'_>) -> Severity {
        let Ran { result, new, through } = *ran;
        let tuning = view.tuning();
        if !through && !self.repeating.is_empty() {
            self.suspicious.append(&mut self.repeating);
        } else {
            // Where a failure ended the workload, the next run gets further. A run that came to its end had a turn at every
            // system call: what is left lies behind failures that the kernel hid.
            let little = new < tuning.worth || (through && !view.is_worth(new, tuning.retry_worth));
            let nothing_hidden = result.is_well() && self.runs > 0 && self.repeating.is_empty();
            self.repeated.append(&mut self.repeating);
            // A small workload brings little from the start. What lies behind its failures has a turn all the same.
            let behind = !self.next_repeating(view).is_empty();
            let few = new > 0 && nested::sites(view).len() <= tuning.nested_few;
            self.done = (little || nothing_hidden) && !(behind && (self.repeated.is_empty() || few));
        }
        self.runs += 1;
        severity(ran)
    }
}
