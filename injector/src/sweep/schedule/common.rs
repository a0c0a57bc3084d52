//! What stages under the tracer have in common.

use std::collections::BTreeSet;

use super::{
    spec::{Aim, Mode, RunSpec, Traced},
    stage::{Ran, Severity},
    view::View,
};
use crate::journal::{Level, Signature, record::Place};

/// A run in which each site that is left may fail.
pub(super) fn each(view: &View<'_>, level: Level, again: BTreeSet<Signature>, traced: Traced) -> RunSpec {
    let page_fault = |site| view.site(site).is_some_and(|site| site.place == Place::PageFault);
    let known = view.left().into_iter().filter(|site| !page_fault(*site)).collect();
    let repeats = view.tuning().nested_repeats;
    RunSpec { level, aim: Aim::Each { known, again, repeats }, mode: Mode::Traced(traced), times: 1, patience: 1 }
}

/// Whether a level is abandoned, since the machine goes down in its runs and nobody knows at which site.
pub(super) fn is_abandoned(view: &View<'_>, level: &Level) -> bool {
    view.state.suspicion().unexplained(level) >= view.tuning().unexplained_crashes
}

/// What a bad end means after a run with or without failures.
pub(super) fn severity(ran: &Ran<'_>) -> Severity {
    if ran.result.failed.is_empty() { Severity::Broken } else { Severity::Untidy }
}

/// At most so many failures in one attempt.
pub(super) fn depth(view: &View<'_>) -> u32 {
    if view.setting.persistent.is_some() { 1 } else { view.setting.depth }
}
