//! Uninjected runs that record which sites the workload reaches: the inventory.

use super::{
    spec::{Aim, Mode, RunSpec, Traced},
    stage::{Next, Notice, Ran, Severity, Stage},
    view::View,
};
use crate::journal::Level;

/// Records until a run shows hardly any new sites. For a sweep that goes on after a reboot one run is mostly enough.
#[derive(Debug, Default)]
pub(super) struct Recording {
    idled: bool,
    runs: u32,
    sites: usize,
    steady: bool,
    said: bool,
}

impl Stage for Recording {
    fn propose(&mut self, view: &View<'_>) -> Option<Next> {
        let sites = view.state.sites().len();
        if !std::mem::replace(&mut self.idled, true) {
            return Some(Next::Idle);
        }
        if !self.steady && self.runs < view.tuning().record_runs {
            self.sites = sites;
            let mode = Mode::Traced(Traced::WATCH);
            return Some(Next::Run(RunSpec { level: Level::RECORD, aim: Aim::Nothing, mode, times: 0, patience: 1 }));
        }
        (!std::mem::replace(&mut self.said, true)).then_some(Next::Say(Notice::SitesSeen(sites)))
    }

    fn learn(&mut self, view: &View<'_>, _ran: &Ran<'_>) -> Severity {
        let sites = view.state.sites().len();
        let new = sites - self.sites;
        self.steady = new * view.tuning().steady <= sites;
        self.runs += 1;
        Severity::Expected
    }
}
