//! Leaks: what kmemleak finds after the runs, and whose failure lost it.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, VecDeque},
};

use super::{
    common::severity,
    spec::{Aim, Mode, RunSpec, Traced},
    stage::{Next, Notice, Ran, Severity, Stage},
    suspects,
    view::View,
};
use crate::{
    events::frames,
    journal::{
        Record, Signature, Verdict,
        record::{RunEnd, Scanned, Site, Trouble},
    },
    oracle::{Complaint, kmemleak::Leak},
};

/// What was lost before the first failure is not ours.
#[derive(Debug, Default)]
pub(super) struct Forget {
    step: u32,
}

impl Stage for Forget {
    fn propose(&mut self, view: &View<'_>) -> Option<Next> {
        self.step += 1;
        match self.step {
            _ if !view.setting.asks_kmemleak() => None,
            1 => Some(Next::Scan),
            2 => Some(Next::ClearLeaks),
            _ => None,
        }
    }

    fn learn(&mut self, _view: &View<'_>, _ran: &Ran<'_>) -> Severity {
        Severity::Expected
    }
}

/// Scans; then, for each place that lost something, the sites closest to it fail alone, until one loses it again.
#[derive(Debug, Default)]
pub(super) struct Leaks {
    begun: bool,
    scanned: bool,
    queue: VecDeque<Next>,
    /// The titles of what was found, with the runs that are still to be made for it.
    found: VecDeque<(String, VecDeque<RunSpec>)>,
    /// The failure that is tried now, with the one before it.
    trying: Option<(Signature, Option<Signature>)>,
    cleared: bool,
    /// Sites that fail once more, since a boot ended before kmemleak was asked.
    missed: BTreeSet<Signature>,
    repeats: u32,
}

impl Stage for Leaks {
    fn propose(&mut self, view: &View<'_>) -> Option<Next> {
        if !view.setting.asks_kmemleak() {
            return None;
        }
        if !self.begun && view.state.unscanned().is_empty() && unresolved(view).next().is_none() {
            return None;
        }
        if !std::mem::replace(&mut self.begun, true) {
            self.begin(view);
        }
        if let Some(next) = self.queue.pop_front() {
            return Some(next);
        }
        if !self.scanned {
            return Some(Next::Scan);
        }
        while let Some((title, runs)) = self.found.front_mut() {
            let spec = runs.pop_front().filter(|_| !view.state.suspicion().is_confirmed(title));
            let Some(spec) = spec else {
                self.found.pop_front();
                continue;
            };
            let named = spec.aim.named().and_then(|sites| sites.first().copied());
            self.trying = named.map(|site| (site, spec.aim.first()));
            self.queue.extend([Next::Run(spec), Next::Scan]);
            return Some(Next::ClearLeaks);
        }
        (!std::mem::replace(&mut self.cleared, true)).then_some(Next::ClearLeaks)
    }

    fn learn(&mut self, view: &View<'_>, ran: &Ran<'_>) -> Severity {
        if self.trying.is_some() {
            return Severity::Expected;
        }
        // A run that broke off did not get to all of them.
        let tuning = view.tuning();
        self.missed.retain(|site| !ran.result.failed.contains(site));
        self.repeats += 1;
        let broke_off = ran.result.end == RunEnd::Stuck && !ran.result.failed.is_empty();
        if broke_off && !self.missed.is_empty() && self.repeats < tuning.leak_repeats {
            self.queue.push_back(Next::Run(again(&self.missed, tuning.multi_limit)));
        }
        severity(ran)
    }

    fn learn_leaks(&mut self, view: &View<'_>, leaks: Vec<Leak>) {
        if let Some(tried) = self.trying.take() {
            let title = self.found.front().map(|(title, _)| title.clone()).unwrap_or_default();
            if let Some(again) = leaks.into_iter().find(|leak| leak.title == title) {
                self.queue.push_back(trouble(view, again, Some(tried), Vec::new()));
            }
            return;
        }
        self.scanned = true;
        let scanned = Record::Scanned(Scanned { leaks: leaks.len() });
        for leak in leaks {
            let suspects = closest(view, &leak);
            self.found.retain(|(title, _)| *title != leak.title);
            self.found.push_back((leak.title.clone(), runs(view, &suspects)));
            self.queue.push_back(trouble(view, leak, None, suspects));
        }
        // Not before all of them are written: if that is cut off, the next part asks again.
        self.queue.push_back(Next::Note(scanned));
    }
}

impl Leaks {
    fn begin(&mut self, view: &View<'_>) {
        self.queue.push_back(Next::Say(Notice::Leaks));
        // Leaks that an earlier part of the sweep found, and no failure for.
        self.found = unresolved(view).map(|(title, suspects)| (title.to_owned(), runs(view, suspects))).collect();
        // Boots that went down could not be scanned: what failed in them fails once more, all together, since nothing else is
        // asked.
        let missed = view.state.unscanned().missed().iter().copied();
        let is_safe = |site: &Signature| {
            suspects::is_safe(view, &suspects::alone(*site)) && suspects::is_safe(view, &suspects::single(view, *site))
        };
        self.missed = missed.filter(is_safe).collect();
        if !self.missed.is_empty() {
            self.queue.push_back(Next::Run(again(&self.missed, view.tuning().multi_limit)));
        }
    }
}

/// Leaks that no failure is known for, with their suspects.
fn unresolved<'a>(view: &View<'a>) -> impl Iterator<Item = (&'a str, &'a [Signature])> {
    let suspicion = view.state.suspicion();
    let leaks = suspicion.unresolved().iter().filter(|(title, _)| suspicion.verdict(title) == Some(Verdict::Leak));
    leaks.map(|(title, suspects)| (title.as_str(), suspects.as_slice()))
}

/// The runs that may lose the same again: each suspect fails alone; then those fail in pairs of which nobody knows what leads to
/// them.
fn runs(view: &View<'_>, suspects: &[Signature]) -> VecDeque<RunSpec> {
    let mut runs: VecDeque<RunSpec> = suspects.iter().map(|site| suspects::single(view, *site)).collect();
    if view.setting.depth > 1 && view.setting.persistent.is_none() {
        let unknown = |site: &&Signature| {
            view.state.hits(**site) == 0 && view.site(**site).is_some_and(|site| site.after.is_none())
        };
        let pairs = suspects.iter().filter(unknown).flat_map(|then| suspects.iter().map(move |first| (*first, *then)));
        let pairs = pairs.filter(|(first, then)| first != then).take(view.tuning().leak_pairs);
        runs.extend(pairs.map(|(first, then)| suspects::pair(first, then)));
    }
    runs.retain(|spec| suspects::is_safe(view, spec));
    // Of two failures the first may be the one that loses something: it is tried alone before.
    runs.make_contiguous().sort_by_key(|spec| spec.aim.first().is_some());
    runs
}

/// A run in which sites fail once more, several in one attempt.
fn again(sites: &BTreeSet<Signature>, limit: u32) -> RunSpec {
    let mode = Mode::Traced(Traced { limit, several: true, ..Traced::ONE });
    RunSpec { aim: Aim::Named(sites.iter().copied().collect()), mode, ..suspects::alone(Signature(0)) }
}

/// What the journal says of a leak.
fn trouble(
    view: &View<'_>,
    leak: Leak,
    culprit: Option<(Signature, Option<Signature>)>,
    suspects: Vec<Signature>,
) -> Next {
    let (site, after) = culprit.map_or((None, None), |(site, after)| (Some(site), after));
    let Complaint { title, splat, .. } = leak.into();
    let run = view.state.next_run().saturating_sub(1);
    Next::Note(Record::Trouble(Trouble { run, verdict: Verdict::Leak, title, splat, site, after, suspects }))
}

/// Sites that failed on the path on which something was lost, the closest first.
fn closest(view: &View<'_>, leak: &Leak) -> Vec<Signature> {
    let functions: Vec<&str> = leak.backtrace.iter().map(|frame| frames::function(frame)).collect();
    let common = |site: &Site| site.stack.iter().filter(|frame| functions.contains(&frames::function(frame))).count();
    let sites = view.state.sites().values().filter_map(|site| site.info.as_ref());
    let failed = sites.filter(|site| view.state.tested().is_finished(site.site));
    let mut close: Vec<(usize, Signature)> = failed.map(|site| (common(site), site.site)).collect();
    close.sort_by_key(|(common, site)| (Reverse(*common), *site));
    close.into_iter().take(view.tuning().leak_suspects).map(|(_, site)| site).collect()
}
