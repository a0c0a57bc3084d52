//! Sites behind other failures: only the handling of a failure reaches them. They fail second in an attempt, after the failure
//! that leads to them.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    common::{depth, is_abandoned, severity},
    spec::{Aim, Mode, RunSpec, Traced},
    stage::{Next, Ran, Severity, Stage},
    view::View,
};
use crate::{
    events::frames,
    journal::{
        Level, Signature,
        record::{Place, Site},
    },
};

/// Runs in which the failures repeat that lead to sites that are left.
#[derive(Debug, Default)]
pub(super) struct Nested {
    /// It is for sites that nobody had seen when the whole level began. They are worth another run only where they are few:
    /// each run brings some three, and takes as long as one that brings dozens.
    latecomers: bool,
    runs: u32,
    done: bool,
}

impl Nested {
    /// For what the whole level saw first.
    pub fn latecomers() -> Self {
        Self { latecomers: true, ..Self::default() }
    }
}

impl Stage for Nested {
    fn propose(&mut self, view: &View<'_>) -> Option<Next> {
        let over = self.done || self.runs >= view.tuning().nested_runs;
        if over || depth(view) < 2 || is_abandoned(view, &Level::RETRY) {
            return None;
        }
        if self.latecomers && sites(view).len() > view.tuning().nested_few {
            return None;
        }
        let left = left(view);
        let again: BTreeSet<Signature> = left.iter().flat_map(|(_, leading)| leading.iter().copied()).collect();
        if again.is_empty() {
            return None;
        }
        let known = left.into_iter().map(|(site, _)| site).collect();
        let repeats = view.tuning().nested_repeats;
        let mode = Mode::Traced(Traced { depth: depth(view), ..Traced::ONE });
        let aim = Aim::Each { known, again, repeats };
        Some(Next::Run(RunSpec { level: Level::RETRY, aim, mode, times: 1, patience: 1 }))
    }

    fn learn(&mut self, view: &View<'_>, ran: &Ran<'_>) -> Severity {
        self.runs += 1;
        self.done = ran.new == 0 || sites(view).len() > view.tuning().nested_few;
        severity(ran)
    }
}

/// Sites that have not failed and that only failures reach.
pub(super) fn sites<'a>(view: &View<'a>) -> Vec<&'a Site> {
    let left = view.left().into_iter().filter_map(|site| view.site(site));
    let nested = left.filter(|site| {
        let reached = view.state.hits(site.site) > 0 && site.after.is_none();
        !reached && matches!(site.place, Place::SystemCall | Place::Other)
    });
    nested.collect()
}

/// Sites that have not failed and that only failures reach, each with the failures that lead to it: the one that is known to,
/// else those that are closest to it.
pub(super) fn left(view: &View<'_>) -> Vec<(Signature, Vec<Signature>)> {
    let nested = sites(view);
    if nested.is_empty() {
        return Vec::new();
    }
    // By the functions on the way to the allocation: they are on the way to what its failure leads to, too, at other offsets.
    let mut harmless: BTreeMap<Vec<&str>, Vec<Signature>> = BTreeMap::new();
    for site in view.state.sites().values().filter_map(|site| site.info.as_ref()) {
        let suspicion = view.state.suspicion();
        // A guess must do no damage, not even behind another guess.
        let harmful = suspicion.is_harmful(site.site) || suspicion.is_harmful_second(site.site);
        let may = view.state.tested().is_finished(site.site) && !harmful;
        if may && matches!(site.place, Place::SystemCall | Place::Other) {
            let path = path(site);
            for from in 0..path.len() {
                harmless.entry(path[from..].to_vec()).or_default().push(site.site);
            }
        }
    }
    let guesses = view.tuning().nested_guesses;
    let closest = |site: &Site| -> Vec<Signature> {
        let path = path(site);
        let mut found: Vec<Signature> = Vec::new();
        // The longest common path first.
        for from in 1..path.len() {
            for other in harmless.get(&path[from..]).into_iter().flatten() {
                if found.len() < guesses && !found.contains(other) {
                    found.push(*other);
                }
            }
        }
        found
    };
    let leading = |site: &Site| match site.after {
        Some(first) => is_repeatable(view, first).then_some(first).into_iter().collect(),
        None => closest(site),
    };
    nested.into_iter().map(|site| (site.site, leading(site))).collect()
}

/// The functions on the way to a site, innermost first.
fn path(site: &Site) -> Vec<&str> {
    frames::callers(&site.stack).iter().map(|frame| frames::function(frame)).collect()
}

/// The failures that are known to lead to sites that are left.
pub(super) fn leading(view: &View<'_>) -> BTreeSet<Signature> {
    let left = view.left().into_iter().filter_map(|site| view.site(site));
    let retried = left.filter(|site| site.place != Place::PageFault);
    retried.filter_map(|site| site.after).filter(|first| is_repeatable(view, *first)).collect()
}

/// Whether a failure may come again in a run that the workload does not notice. A page fault's is not retried where the kernel
/// itself writes to the task's memory: the task gets SIGSEGV (__rseq_handle_notify_resume() in kernel/rseq.c, 6.12).
fn is_repeatable(view: &View<'_>, first: Signature) -> bool {
    let is_machinery = view.site(first).is_some_and(|site| site.place.is_machinery());
    !is_machinery && !view.state.suspicion().is_harmful(first)
}
