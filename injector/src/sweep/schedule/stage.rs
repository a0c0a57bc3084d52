//! A part of a sweep, as the scheduler sees it; what it can propose, and what can come of that.

use std::{collections::BTreeSet, fmt::Debug};

use super::{
    spec::{RunResult, RunSpec},
    view::View,
};
use crate::{
    journal::{Record, Signature},
    oracle::kmemleak::Leak,
    sweep::Stopped,
};

/// What to do next.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// Tell the user.
    Say(Notice),
    /// Record for a moment without the workload.
    Idle,
    /// Run the workload.
    Run(RunSpec),
    /// Take the workload down and set it up again; `prove`: it must then work without injection.
    Reset {
        /// It must work.
        prove: bool,
    },
    /// Ask kmemleak what was lost.
    Scan,
    /// Have kmemleak forget what was lost by now.
    ClearLeaks,
    /// Write this into the journal.
    Note(Record),
    /// The sweep ends; none: there is nothing left to do.
    End(Option<Stopped>),
}

/// What came of it.
#[derive(Clone, Debug, PartialEq)]
pub enum Came {
    /// It was done.
    Done,
    /// [`Next::Idle`]: sites that are reached without the workload.
    Idled(BTreeSet<Signature>),
    /// [`Next::Run`].
    Ran(RunResult),
    /// [`Next::Reset`]: whether the workload can be used again.
    Reset(bool),
    /// [`Next::Scan`].
    Scanned(Vec<Leak>),
}

/// What the user is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Recording is over.
    SitesSeen(usize),
    /// kmemleak looks for leaks.
    Leaks,
    /// Failures repeat, to see slab caches grow.
    Growth,
}

/// A part of a sweep.
pub(super) trait Stage: Debug + Send {
    /// What to do next; none: this stage has nothing more to do.
    fn propose(&mut self, view: &View<'_>) -> Option<Next>;

    /// What the result of a run means for this stage. Returns how bad it is if the workload ended badly.
    fn learn(&mut self, view: &View<'_>, ran: &Ran<'_>) -> Severity;

    /// What kmemleak found.
    fn learn_leaks(&mut self, _view: &View<'_>, _leaks: Vec<Leak>) {}
}

/// A run that is over.
#[derive(Clone, Copy)]
pub(super) struct Ran<'a> {
    pub result: &'a RunResult,
    /// How many sites failed that had not failed before.
    pub new: usize,
    /// The run came to the workload's end, or near it.
    pub through: bool,
}

/// What it means when the workload ends badly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Severity {
    /// Nothing: it was expected to.
    Expected,
    /// Failures came, and the last one is not the only suspect: it is looked at after a few such runs.
    Perhaps,
    /// Failures came, and may have left something behind: it is reset.
    Untidy,
    /// Next to nothing failed, so something is broken.
    Broken,
    /// Whatever its end: it must prove that the workload still works.
    Doubtful,
}
