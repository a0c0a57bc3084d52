//! What a sweep does next: a pure machine over what the journal adds up to. It does no I/O and knows no clock.
//!
//! [`Scheduler::next`] says what to do, whoever does it says with [`Scheduler::learn`] what came of it. The sweep is a loop
//! over the two ([`super::drive`]); tests drive the same machine with a simulated kernel.
//!
//! A sweep is a list of [`Stage`]s, one file each, in the order of [`stages`]. A stage proposes what to do, and makes
//! something of the result. To add a way to fail sites, write such a file and add it to that list.

mod bisect;
mod common;
mod copies;
mod crash;
mod growth;
mod health;
mod leaks;
mod multi;
mod nested;
mod record;
mod rest;
mod retry;
mod spec;
mod stage;
mod suspects;
mod tuning;
mod view;
mod whole;

#[cfg(test)]
mod simulation;

use std::collections::VecDeque;

pub use copies::copies as copy_spec;
pub use growth::growth as growth_spec;
use health::{Health, Repair};
pub use spec::{Aim, Mode, RunResult, RunSpec, Traced};
pub use stage::{Came, Next, Notice};
use stage::{Ran, Stage};
pub use suspects::{alone as alone_spec, together as together_spec};
pub use tuning::Tuning;
pub use view::{Setting, View};
pub use whole::whole as whole_spec;

use super::Stopped;
use crate::journal::{State, record::RunEnd};

/// All of a sweep, in order.
fn stages(setting: &Setting) -> VecDeque<Box<dyn Stage>> {
    let mut all: Vec<Box<dyn Stage>> = vec![Box::<record::Recording>::default()];
    if setting.failing {
        all.push(Box::<leaks::Forget>::default());
        all.push(Box::<crash::AfterCrash>::default());
        all.push(Box::<retry::Retry>::default());
        all.push(Box::<multi::Multi>::default());
        all.push(Box::<suspects::Suspects>::default());
        all.push(Box::<leaks::Leaks>::default());
        all.push(Box::<growth::Growth>::default());
        all.push(Box::<copies::Copies>::default());
        all.push(Box::<nested::Nested>::default());
        all.push(Box::<whole::Whole>::default());
        // Whole runs reach sites that nobody has seen before.
        all.push(Box::new(nested::Nested::latecomers()));
        all.push(Box::new(whole::Whole::latecomers()));
        all.push(Box::<leaks::Leaks>::default());
        all.push(Box::<rest::Rest>::default());
    }
    all.into()
}

/// Says what to do next.
#[derive(Debug)]
pub struct Scheduler {
    setting: Setting,
    /// What is left to do; the first is under way.
    stages: VecDeque<Box<dyn Stage>>,
    health: Health,
    stopped: Option<Stopped>,
    /// How many sites had failed before the run that is under way.
    finished_before: usize,
}

impl Scheduler {
    /// At the beginning of a sweep, or of a part of it: what was done before is in the state.
    #[must_use]
    pub fn new(setting: Setting) -> Self {
        let stages = stages(&setting);
        Self { setting, stages, health: Health::default(), stopped: None, finished_before: 0 }
    }

    /// What to do next. `over`: why the sweep should end now.
    pub fn next(&mut self, state: &State, over: Option<Stopped>) -> Next {
        if let Some(stopped) = self.stopped.or(over) {
            return Next::End(Some(stopped));
        }
        if let Some(repair) = self.health.repair() {
            return Next::Reset { prove: repair == Repair::ResetAndProve };
        }
        while let Some(stage) = self.stages.front_mut() {
            if let Some(next) = stage.propose(&View { state, setting: &self.setting }) {
                self.finished_before = state.tested().finished();
                return next;
            }
            self.stages.pop_front();
            // The next stage begins with a workload that nothing ails.
            if !self.stages.is_empty() && self.health.end_stage() {
                return Next::Reset { prove: false };
            }
        }
        Next::End(None)
    }

    /// Takes note of what came of the last thing that [`Self::next`] said.
    pub fn learn(&mut self, state: &State, came: Came) {
        match came {
            Came::Done => {}
            Came::Idled(background) => self.setting.background = background,
            Came::Reset(true) => {}
            Came::Reset(false) => self.stopped = Some(Stopped::Damaged),
            Came::Scanned(leaks) => {
                if let Some(stage) = self.stages.front_mut() {
                    stage.learn_leaks(&View { state, setting: &self.setting }, leaks);
                }
            }
            Came::Ran(result) => self.ran(state, &result),
        }
    }

    fn ran(&mut self, state: &State, result: &RunResult) {
        self.setting.order.clone_from(&result.order);
        self.stopped = match result.end {
            RunEnd::Damaged | RunEnd::Unkillable => Some(Stopped::Damaged),
            // `next` is told why.
            RunEnd::Interrupted | RunEnd::Finished | RunEnd::Stuck | RunEnd::TimedOut => None,
        };
        let view = View { state, setting: &self.setting };
        let (part, whole) = view.tuning().through;
        let through = result.is_well() || result.reached * whole >= state.recorded_sites() * part;
        let new = state.tested().finished() - self.finished_before;
        let Some(stage) = self.stages.front_mut() else { return };
        let severity = stage.learn(&view, &Ran { result, new, through });
        self.health.ran(result, severity, self.setting.tuning.patience);
    }
}
