//! The multi level: several failures in each system call, and failures in kernel threads meanwhile. A system call that hides a
//! failure can't be retried, and each site behind such a failure would take a run of its own.

use std::collections::BTreeSet;

use super::{
    common::{each, is_abandoned, severity},
    spec::Traced,
    stage::{Next, Ran, Severity, Stage},
    view::View,
};
use crate::journal::Level;

/// Runs at this level until two of them are poor.
#[derive(Debug, Default)]
pub(super) struct Multi {
    runs: u32,
    poor: u32,
    done: bool,
}

impl Stage for Multi {
    fn propose(&mut self, view: &View<'_>) -> Option<Next> {
        let tuning = view.tuning();
        let barred = view.setting.persistent.is_some() || is_abandoned(view, &Level::MULTI);
        if self.done || self.runs >= tuning.multi_runs || barred {
            return None;
        }
        let traced = Traced { limit: tuning.multi_limit, several: true, ..Traced::ONE };
        Some(Next::Run(each(view, Level::MULTI, BTreeSet::new(), traced)))
    }

    fn learn(&mut self, view: &View<'_>, ran: &Ran<'_>) -> Severity {
        let tuning = view.tuning();
        // The whole runs that follow may reach what little is left. A run that broke off early says nothing of it.
        let is_poor = ran.new < tuning.worth || (ran.through && !view.is_worth(ran.new, tuning.multi_worth));
        self.poor = if is_poor { self.poor + 1 } else { 0 };
        self.done = self.poor > 1 || (is_poor && ran.result.is_well());
        self.runs += 1;
        severity(ran)
    }
}
