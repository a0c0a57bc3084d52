//! Complaints that several failures may be the cause of: these fail alone, or together, until the cause is found.

use std::cmp::Reverse;

use super::{
    spec::{Aim, Mode, RunSpec, Traced},
    stage::{Next, Ran, Severity, Stage},
    view::View,
};
use crate::{
    events::frames,
    journal::{
        Level, Signature, Verdict,
        record::{Site, WORKS_NO_MORE},
    },
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

    fn learn(&mut self, view: &View<'_>, _ran: &Ran<'_>) -> Severity {
        // Only a workload that is set up again and run without injection tells whether it works.
        let broke = view.state.suspicion().unresolved().iter().any(|(title, _)| title == WORKS_NO_MORE);
        if broke { Severity::Doubtful } else { Severity::Expected }
    }
}

/// The next run for a complaint. The likeliest suspects fail alone. Then all fail in one run, then halves of those that failed
/// in a run in which the complaint came again, until one or two are left: these fail alone, and as a pair.
///
/// What is known is in the state only, so a boot goes on where the last one ended.
fn try_next(view: &View<'_>, title: &str, suspects: &[Signature]) -> Option<RunSpec> {
    let (tested, tuning) = (view.state.tested(), view.tuning());
    let splat = view.state.suspicion().splat(title).unwrap_or_default();
    let kinship = |site: &Signature| view.site(*site).map_or(0, |site| kinship(site, splat));
    let suspects: Vec<Signature> = suspects.iter().copied().take(tuning.suspects_tried).collect();
    let next_alone = |sites: &[Signature], most: usize| {
        // The likeliest is a site on whose path the complaint lies; of those that are equally likely, the first. Of two failures
        // the first may be the cause: it is tried alone before.
        let mut sites: Vec<(RunSpec, Signature)> = sites.iter().map(|site| (single(view, *site), *site)).collect();
        sites.sort_by_key(|(spec, site)| (spec.aim.first().is_some(), Reverse(kinship(site))));
        let first = sites.into_iter().take(most);
        first.filter(|(_, site)| !tested.was_alone(*site)).map(|(spec, _)| spec).find(|spec| is_safe(view, spec))
    };
    if let Some(spec) = next_alone(&suspects, tuning.suspects_alone) {
        return Some(spec);
    }
    let safe: Vec<Signature> = suspects.iter().copied().filter(|site| is_safe(view, &alone(*site))).collect();
    let (cause, is_known) = narrowed(view, title, &safe);
    if cause.len() > 2
        && let Some(sites) = next_group(view, &cause, is_known)
    {
        return Some(RunSpec { level: Level::GROUP, ..together(&sites, None) });
    }
    if let Some(spec) = next_alone(&cause, tuning.suspects_paired) {
        return Some(spec);
    }
    // What does not come again when all fail together does not come of two of them.
    let hopeless = !is_known && suspects.len() > 2;
    if hopeless || view.setting.depth < 2 || view.setting.persistent.is_some() {
        return None;
    }
    // A site that no uninjected run reaches comes second.
    let mut likely: Vec<Signature> = cause.into_iter().take(tuning.suspects_paired).collect();
    likely.sort_by_key(|site| view.state.hits(*site) > 0);
    let pairs = likely.iter().flat_map(|then| likely.iter().map(move |first| (*first, *then)));
    let untried = pairs.filter(|(first, then)| first != then && !tested.was_pair(*first, *then));
    untried.map(|(first, then)| pair(first, then)).find(|spec| is_safe(view, spec))
}

/// The fewest sites that led to a complaint when they failed in one run, and whether there was such a run; else all suspects.
fn narrowed(view: &View<'_>, title: &str, suspects: &[Signature]) -> (Vec<Signature>, bool) {
    let groups = view.state.suspicion().groups().iter();
    let of_it = groups.filter(|group| {
        let came = group.titles.iter().any(|came| came == title);
        came && !group.suspects.is_empty() && group.suspects.iter().all(|site| suspects.contains(site))
    });
    match of_it.min_by_key(|group| group.suspects.len()) {
        Some(group) => (group.suspects.clone(), true),
        None => (suspects.to_vec(), false),
    }
}

/// The next sites that fail together: all of them, as often as it takes to believe that the complaint does not come again; then
/// each half, then all but each quarter. None: nothing is left to try.
fn next_group(view: &View<'_>, cause: &[Signature], is_known: bool) -> Option<Vec<Signature>> {
    let mut all = cause.to_vec();
    all.sort_unstable();
    let tries =
        |sites: &[Signature]| view.state.suspicion().groups().iter().filter(|group| group.sites == sites).count();
    if !is_known {
        return (tries(&all) < view.tuning().suspects_together).then_some(all);
    }
    let (one, other) = all.split_at(all.len() / 2);
    let quarter = all.len().div_ceil(4);
    let all_but = |part: &[Signature]| all.iter().copied().filter(|site| !part.contains(site)).collect();
    let halves = [one.to_vec(), other.to_vec()].into_iter();
    let mut parts = halves.chain(all.chunks(quarter).map(all_but));
    parts.find(|sites| sites.len() > 1 && tries(sites) == 0)
}

/// How many functions of a site's stack a splat mentions.
fn kinship(site: &Site, splat: &str) -> usize {
    site.stack.iter().filter(|frame| splat.contains(&format!("{}+", frames::function(frame)))).count()
}
