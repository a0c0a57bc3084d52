//! Without kmemleak: each failure repeats, and slab caches that grow show what is lost.

use super::{
    common::is_abandoned,
    spec::{Aim, Mode, RunSpec, Traced},
    stage::{Next, Notice, Ran, Severity, Stage},
    suspects::{alone, is_safe},
    tuning::Tuning,
    view::View,
};
use crate::{
    journal::{Level, Signature},
    plan::sweep::Leaks,
};

/// One run in which all failures repeat that a system call reported.
#[derive(Debug, Default)]
pub(super) struct Growth {
    said: bool,
    ran: bool,
}

/// The level of that run: as the retry level, but that failures repeat.
const GROWTH: Level = Level::named("growth");

/// A run in which the failures of these sites repeat.
#[must_use]
pub fn growth(sites: Vec<Signature>, tuning: &Tuning) -> RunSpec {
    let mode = Mode::Traced(Traced { growth: true, ..Traced::ONE });
    let (times, patience) = (tuning.growth_repeats, tuning.growth_patience);
    RunSpec { level: GROWTH, aim: Aim::Named(sites), mode, times, patience }
}

impl Stage for Growth {
    fn propose(&mut self, view: &View<'_>) -> Option<Next> {
        if view.setting.leaks != Leaks::Slab || view.setting.kmemleak || self.ran || is_abandoned(view, &GROWTH) {
            return None;
        }
        if !std::mem::replace(&mut self.said, true) {
            return Some(Next::Say(Notice::Growth));
        }
        self.ran = true;
        let mut sites = view.state.tested().retryable();
        sites.retain(|site| is_safe(view, &alone(*site)));
        Some(Next::Run(growth(sites, view.tuning())))
    }

    fn learn(&mut self, _view: &View<'_>, _ran: &Ran<'_>) -> Severity {
        Severity::Expected
    }
}
