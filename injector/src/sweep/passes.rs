//! Passes: what is failed in one run of the workload under the tracer, and in which order; and whose a complaint is.

use std::{cmp::Reverse, collections::BTreeSet};

use tracing::debug;

use super::{
    Experiment,
    journal::{
        Signature,
        record::{Level, Place, RunEnd, Site},
    },
    pass::Terms,
    runs::{CROWD, Ran},
    search::{Choice, Ill, Search, Stopped},
    tracer::Manner,
    workload,
};
use crate::events::frames;
use crate::exit::Result;

/// At most so many passes fail one site per call.
const STRICT_PASSES: u32 = 12;
/// So often one of them repeats a failure that leads to others: each time it gets at one of those.
const REPEATS: u64 = 4;
/// At most so many passes fail several.
const CROWD_PASSES: u32 = 24;
/// At most so many passes fail what copies of processes do.
const COPY_PASSES: u32 = 8;
/// A run that reached so much of what the workload reaches by itself came to its end: some sites come and go.
const MOST: (usize, usize) = (4, 5);
/// At most so many suspects of a complaint are tried by themselves: it may take two of them together.
const MAX_TRIED: usize = 24;
/// A pass with fewer new failures is the last of its kind.
const WORTH: usize = 10;
/// So is one that brought less than one in so many of all that was failed by then: what is left comes cheaper in a crowd,
const STRICT_WORTH: usize = 8;
/// and what a crowd does not meet in the runs that follow.
const CROWD_WORTH: usize = 20;

/// What a pass brought.
struct Passed {
    stopped: Option<Stopped>,
    /// How many sites were failed that were not before.
    new: usize,
    /// The workload worked all the same.
    well: bool,
    /// It came to its end, whatever it said then.
    through: bool,
}

impl Search<'_> {
    /// Passes, until they bring no new failure: first one failure per call, each with a verdict of its own; then several
    /// in one call, since a call that hides a failure can't be made again, and what lies behind it would take a run each.
    pub(super) fn passes(&mut self) -> Result<Option<Stopped>> {
        let depth = if self.plan.persistent.is_some() { 1 } else { self.plan.depth };
        let strict = Manner { limit: self.plan.persistent.unwrap_or(1), depth, ..self.watching() };
        // What was failed again in a pass that broke off may have been the end of it.
        let mut last_words = BTreeSet::new();
        for pass in 0..STRICT_PASSES {
            // Failures that the kernel hid, and behind which there is more: once again, with room for a second failure.
            let mut deeper = if depth > 1 { self.deeper() } else { BTreeSet::new() };
            deeper.retain(|site| !last_words.contains(site));
            for site in &deeper {
                self.experiment.lab.allow_again(*site, REPEATS)?;
            }
            let Passed { stopped, new, well, through } = self.pass(strict, Level::SystemCall)?;
            if stopped.is_some() {
                return Ok(stopped);
            }
            for site in &deeper {
                self.experiment.lab.allow(*site, 0)?;
            }
            if !through && !deeper.is_empty() {
                last_words.extend(deeper);
                continue;
            }
            // Where a failure was the end of the workload, the next pass gets further. One that came to the end had a turn at
            // every call: what is left lies behind failures that the kernel hid.
            if new < WORTH || (through && !self.is_worth(new, STRICT_WORTH)) || (well && pass > 0 && deeper.is_empty())
            {
                break;
            }
        }
        if self.plan.persistent.is_none() {
            let crowd = Manner { limit: CROWD, depth: 1, crowd: true, ..strict };
            let mut poor = 0;
            for _ in 0..CROWD_PASSES {
                let Passed { stopped, new, well, through } = self.pass(crowd, Level::Crowd)?;
                if stopped.is_some() {
                    return Ok(stopped);
                }
                // What little is left may be had in the runs that follow; but one that broke off early says nothing of it.
                let is_poor = new < WORTH || (through && !self.is_worth(new, CROWD_WORTH));
                poor = if is_poor { poor + 1 } else { 0 };
                if poor > 1 || (poor > 0 && well) {
                    break;
                }
            }
        }
        self.resolve()
    }

    /// Passes for bare process machinery, where a failure would be the end of a script: exec by copies of the process, and page
    /// faults, which the kernel tries again.
    pub(super) fn copies(&mut self) -> Result<Option<Stopped>> {
        for _ in 0..COPY_PASSES {
            let machinery = |site: &Site| matches!(site.place, Place::Exec | Place::PageFault);
            let mut sites = self.left();
            // What may bring the machine down goes with fewer and fewer others.
            sites.retain(|site| self.experiment.notebook.batch_limit(*site).is_none());
            sites.retain(|site| self.experiment.lab.site(*site).is_some_and(machinery));
            if sites.is_empty() {
                break;
            }
            let ran = self.machinery(&sites)?;
            let Passed { stopped, new, well, .. } = self.passed(ran)?;
            // Copies make a call until nothing is left in it.
            if stopped.is_some() || new == 0 || well {
                return Ok(stopped);
            }
        }
        Ok(None)
    }

    /// A run under the tracer in which these sites may be failed, which are in bare process machinery.
    pub(super) fn machinery(&mut self, sites: &[Signature]) -> Result<Ran> {
        let limit = self.plan.persistent.unwrap_or(1);
        // Only at the entry of a call others can make it.
        let manner = Manner { limit, depth: 1, copies: true, signals: false, ..self.watching() };
        self.only(sites, manner, Level::Copy)
    }

    /// Fails sites once more that were failed before, for what that loses; several in one call, since nothing else is asked.
    ///
    /// # Errors
    /// When the journal can't be written.
    pub(super) fn again_for_leaks(&mut self, sites: &[Signature]) -> Result<Option<Stopped>> {
        let manner = Manner { limit: CROWD, depth: 1, crowd: true, ..self.watching() };
        let ran = self.only(sites, manner, Level::Crowd)?;
        Ok(self.passed(ran)?.stopped)
    }

    /// A pass in which failures are repeated.
    ///
    /// # Errors
    /// When the journal can't be written.
    pub(super) fn repeating_pass(&mut self) -> Result<RunEnd> {
        self.choose(Choice::Named)?;
        let run = self.begin_run(Level::SystemCall, None, None)?;
        // Each reading of the slab caches takes a while.
        let manner = Manner { limit: 1, depth: 1, deadline: self.deadline() * 10, ..self.watching() };
        let terms = Terms { repeating: true, ..Terms::named(Level::SystemCall) };
        Ok(self.traced(run, manner, terms)?.end)
    }

    /// Whether another pass is worth while after one that failed `new` sites for the first time: one in `part` of all.
    fn is_worth(&self, new: usize, part: usize) -> bool {
        new * part >= self.experiment.notebook.done()
    }

    /// Sites whose failure leads to sites that were not failed yet and that nothing else leads to.
    fn deeper(&self) -> BTreeSet<Signature> {
        let Experiment { notebook, lab, .. } = &self.experiment;
        let left = self.left().into_iter().filter_map(|site| lab.site(site));
        let in_calls = left.filter(|site| site.place != Place::PageFault);
        in_calls.filter_map(|site| site.after).filter(|first| !notebook.is_harmful(*first)).collect()
    }

    fn pass(&mut self, manner: Manner, level: Level) -> Result<Passed> {
        self.choose(Choice::Each)?;
        let run = self.begin_run(level, None, None)?;
        let ran = self.traced(run, manner, Terms::each(level))?;
        self.passed(ran)
    }

    fn passed(&mut self, Ran { end, status, found, new, reached }: Ran) -> Result<Passed> {
        debug!(failures = found.failures, new, ?end, "pass");
        let mut stopped = self.stopped(end)?;
        if stopped.is_none() && end == RunEnd::Finished {
            stopped = self.check_up(status, if found.sites.is_empty() { Ill::Surely } else { Ill::Untidy })?;
        }
        let well = status == Some(workload::STATUS);
        let all = self.experiment.notebook.recorded_sites();
        Ok(Passed { stopped, new, well, through: well || reached * MOST.1 >= all * MOST.0 })
    }

    /// Complaints that came when several failures might have been the cause: each of those by itself.
    fn resolve(&mut self) -> Result<Option<Stopped>> {
        for (title, mut suspects) in self.experiment.notebook.suspects() {
            // A site on whose path the complaint lies is the most likely one.
            let splat = self.experiment.notebook.splat(&title).unwrap_or_default().to_owned();
            let kinship = |site: &Signature| self.experiment.lab.site(*site).map_or(0, |site| kinship(site, &splat));
            suspects.sort_by_cached_key(|site| Reverse(kinship(site)));
            for site in suspects {
                let notebook = &self.experiment.notebook;
                if !notebook.is_unresolved(&title) || notebook.tried_suspects(&title) >= MAX_TRIED {
                    break;
                }
                if self.experiment.is_over() {
                    return Ok(Some(self.over()));
                }
                if let Some(stopped) = self.single(site)? {
                    return Ok(Some(stopped));
                }
            }
        }
        Ok(None)
    }

    /// After the machine went down in a pass: nobody knows at which site. What comes next among those not failed yet, and what
    /// was failed last, is failed by itself, with its name written down before.
    pub(super) fn after_crash(&mut self) -> Result<Option<Stopped>> {
        const NEXT: usize = 2;
        let Some(recent) = self.experiment.notebook.crashed().map(<[Signature]>::to_vec) else { return Ok(None) };
        let finished: BTreeSet<Signature> = self.experiment.notebook.finished_sites().into_iter().collect();
        let lab = &self.experiment.lab;
        let in_calls = |site: &&Signature| {
            lab.site(**site).is_some_and(|site| matches!(site.place, Place::SystemCall | Place::Other))
        };
        let next = lab.order().iter().filter(in_calls).filter(|site| !finished.contains(site)).take(NEXT);
        let suspects: Vec<Signature> = next.chain(&recent).copied().collect();
        for site in suspects {
            if self.experiment.is_over() {
                return Ok(Some(self.over()));
            }
            if let Some(stopped) = self.single(site)? {
                return Ok(Some(stopped));
            }
        }
        Ok(None)
    }

    /// A pass in which only one site may be failed.
    ///
    /// # Errors
    /// When the journal can't be written.
    pub(super) fn single(&mut self, site: Signature) -> Result<Option<Stopped>> {
        let manner = Manner { limit: 1, depth: 1, crowd: true, ..self.watching() };
        let Ran { end, .. } = self.only(&[site], manner, Level::Crowd)?;
        self.stopped(end)
    }
}

/// How many functions of a site's stack a splat mentions.
fn kinship(site: &Site, splat: &str) -> usize {
    site.stack.iter().filter(|frame| splat.contains(&format!("{}+", frames::function(frame)))).count()
}
