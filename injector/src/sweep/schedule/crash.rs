//! After the machine went down in a run in which every site could fail: nobody knows at which.

use std::collections::VecDeque;

use super::{
    nested,
    spec::RunSpec,
    stage::{Next, Ran, Severity, Stage},
    suspects::{alone, is_safe, pair},
    view::View,
};
use crate::journal::{Signature, record::Place};

/// What failed last, and what comes next among the sites that have not failed, fails alone; then sites fail together with the
/// failure that leads to them. The journal names them before.
#[derive(Debug, Default)]
pub(super) struct AfterCrash {
    left: Option<VecDeque<RunSpec>>,
}

impl Stage for AfterCrash {
    fn propose(&mut self, view: &View<'_>) -> Option<Next> {
        let left = self.left.get_or_insert_with(|| suspects(view));
        left.pop_front().map(Next::Run)
    }

    fn learn(&mut self, _view: &View<'_>, _ran: &Ran<'_>) -> Severity {
        Severity::Expected
    }
}

fn suspects(view: &View<'_>) -> VecDeque<RunSpec> {
    let Some(crashed) = view.state.suspicion().crashed() else { return VecDeque::new() };
    let (tuning, tested) = (view.tuning(), view.state.tested());
    let in_call =
        |site: &Signature| view.site(*site).is_some_and(|site| matches!(site.place, Place::SystemCall | Place::Other));
    let order = view.setting.order.iter().copied();
    let next = order.filter(|site| in_call(site) && !tested.is_done(*site)).take(tuning.crash_next);
    let near: Vec<Signature> = next.chain(crashed.failed.iter().copied().take(tuning.crash_last)).collect();
    let mut runs: VecDeque<RunSpec> = near.iter().copied().map(alone).filter(|spec| is_safe(view, spec)).collect();
    if view.setting.depth > 1 && view.setting.persistent.is_none() {
        runs.extend(pairs(view, &near).into_iter().take(tuning.crash_pairs).map(|(first, then)| pair(first, then)));
    }
    runs
}

/// Sites that only failures lead to, each with what leads to it: as far as that is known, else what failed last and what comes
/// next. Those first whose failure was near the crash.
fn pairs(view: &View<'_>, near: &[Signature]) -> Vec<(Signature, Signature)> {
    let mut pairs = Vec::new();
    for (then, leading) in nested::left(view) {
        pairs.extend(leading.into_iter().map(|first| (first, then)));
        if view.site(then).is_some_and(|site| site.after.is_none()) {
            pairs.extend(near.iter().filter(|first| **first != then).map(|first| (*first, then)));
        }
    }
    let (tested, suspicion) = (view.state.tested(), view.state.suspicion());
    pairs.retain(|(first, then)| !suspicion.is_harmful_pair(*first, *then) && !tested.was_pair(*first, *then));
    pairs.sort_by_key(|(first, _)| !near.contains(first));
    pairs
}
