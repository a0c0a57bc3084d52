//! Complaints that several failures may be the cause of: each of these fails alone.

use std::cmp::Reverse;

use super::{
    spec::{Aim, Mode, RunSpec, Traced},
    stage::{Next, Ran, Severity, Stage},
    view::View,
};
use crate::{
    events::frames,
    journal::{Level, Signature, Verdict, record::Site},
};

/// Tries suspects until one leads to the complaint again.
#[derive(Debug, Default)]
pub(super) struct Suspects;

/// A run in which only this site may fail, once.
#[must_use]
pub fn alone(site: Signature) -> RunSpec {
    let traced = Traced { several: true, ..Traced::ONE };
    let aim = Aim::Named(vec![site]);
    RunSpec { level: Level::MULTI, aim, mode: Mode::Traced(traced), times: 1, patience: 1 }
}

/// A run in which two sites fail in one attempt: the first leads to the other.
#[must_use]
pub(super) fn pair(first: Signature, then: Signature) -> RunSpec {
    let mode = Mode::Traced(Traced { limit: 2, several: true, ..Traced::ONE });
    RunSpec { aim: Aim::Pair { first, then }, mode, ..alone(then) }
}

/// A run in which only this site may fail, and what leads to it if only a failure does.
pub(super) fn single(view: &View<'_>, site: Signature) -> RunSpec {
    let first = view.site(site).and_then(|site| site.after).filter(|_| view.state.hits(site) == 0);
    first.map_or_else(|| alone(site), |first| pair(first, site))
}

/// Whether a run of one or two sites is not known to damage the kernel. Else it would end the boot each time, and say nothing
/// new.
pub(super) fn is_safe(view: &View<'_>, spec: &RunSpec) -> bool {
    let suspicion = view.state.suspicion();
    spec.aim.named().unwrap_or_default().iter().all(|site| match spec.aim.first() {
        Some(first) => !suspicion.is_harmful_pair(first, *site),
        None => !suspicion.is_harmful(*site),
    })
}

/// A run in which only these sites may fail, each once and all in one attempt; `persistent`: each so often.
#[must_use]
pub fn together(sites: &[Signature], persistent: Option<u32>) -> RunSpec {
    let limit = persistent.unwrap_or(1).max(u32::try_from(sites.len()).unwrap_or(u32::MAX));
    let traced = Traced { limit, several: persistent.is_none(), ..Traced::ONE };
    RunSpec { mode: Mode::Traced(traced), aim: Aim::Named(sites.to_vec()), ..alone(Signature(0)) }
}

impl Stage for Suspects {
    fn propose(&mut self, view: &View<'_>) -> Option<Next> {
        // kmemleak was not asked after these runs: the leaks' own stage does that.
        let is_leak = |title: &str| view.state.suspicion().verdict(title) == Some(Verdict::Leak);
        let unresolved = view.state.suspicion().unresolved().iter().filter(|(title, _)| !is_leak(title));
        unresolved.into_iter().find_map(|(title, suspects)| try_next(view, title, suspects)).map(Next::Run)
    }

    fn learn(&mut self, _view: &View<'_>, _ran: &Ran<'_>) -> Severity {
        Severity::Expected
    }
}

/// The next run for a complaint: each suspect alone, then the likeliest of them in pairs.
fn try_next(view: &View<'_>, title: &str, suspects: &[Signature]) -> Option<RunSpec> {
    let (tested, tuning) = (view.state.tested(), view.tuning());
    let (tried, untried): (Vec<Signature>, Vec<Signature>) = suspects.iter().partition(|site| tested.was_alone(**site));
    let untried: Vec<Signature> = untried.into_iter().filter(|site| is_safe(view, &single(view, *site))).collect();
    if tried.len() < tuning.suspects_tried {
        // The likeliest is a site on whose path the complaint lies; of those that are equally likely, the first.
        let splat = view.state.suspicion().splat(title).unwrap_or_default();
        let kinship = |site: &Signature| view.site(*site).map_or(0, |site| kinship(site, splat));
        let runs = untried.iter().map(|site| (single(view, *site), kinship(site)));
        // Of two failures the first may be the cause: it is tried alone before.
        if let Some((spec, _)) = runs.min_by_key(|(spec, kinship)| (spec.aim.first().is_some(), Reverse(*kinship))) {
            return Some(spec);
        }
    }
    if view.setting.depth < 2 || view.setting.persistent.is_some() {
        return None;
    }
    // A site that no uninjected run reaches comes second.
    let mut likely: Vec<Signature> = suspects.iter().copied().take(tuning.suspects_paired).collect();
    likely.sort_by_key(|site| view.state.hits(*site) > 0);
    let pairs = likely.iter().flat_map(|then| likely.iter().map(move |first| (*first, *then)));
    let untried = pairs.filter(|(first, then)| first != then && !tested.was_pair(*first, *then));
    untried.map(|(first, then)| pair(first, then)).find(|spec| is_safe(view, spec))
}

/// How many functions of a site's stack a splat mentions.
fn kinship(site: &Site, splat: &str) -> usize {
    site.stack.iter().filter(|frame| splat.contains(&format!("{}+", frames::function(frame)))).count()
}
