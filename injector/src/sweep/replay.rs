//! Tries a finding again, alone: makes the same failure at the same hit, and looks whether the same comes of it. And finds the
//! fewest of several failures that together lead to a finding.

use std::{
    io,
    path::PathBuf,
    time::{Duration, Instant},
};

use injector_guest::port::DataPort;
use serde::{Deserialize, Serialize};

use super::{
    Stopped,
    drive::Runner as _,
    runner::{self, JournalError, KernelRunner, SweepContext},
    schedule::{RunResult, RunSpec, alone_spec, copy_spec, growth_spec, together_spec, whole_spec},
};
use crate::{
    exit::{Context as _, Result},
    journal::{
        self, Begin, Finding, Journal, Level, Record, Recorder, Signature, State, Verdict, Writer,
        record::{Replayed, RunEnd, Site, WORKS_NO_MORE},
    },
    kernel::KernelFiles,
    plan::{
        Backend, StackPattern,
        sweep::{self as plan, Leaks, SweepPlan},
    },
    sinks,
};

/// What is to be done again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplayPlan {
    /// Where the finding is written down.
    pub journal: PathBuf,
    /// Its id, or the beginning of its title.
    pub finding: String,
    /// How often.
    pub tries: u32,
    /// Only these failures instead of the finding's.
    pub sites: Vec<Signature>,
    /// A task that does not come back for this long hangs.
    pub hang: Duration,
    /// Go on with a kernel that has crashed a task.
    pub keep_going: bool,
    /// Failures go into the kernel's log.
    pub kmsg: bool,
    /// How hooks are attached.
    pub backend: Backend,
    /// No site with one of these in its stack fails.
    #[serde(with = "plan::text::list")]
    pub spared: Vec<StackPattern>,
    /// Results go to the host, through its port.
    pub port: bool,
}

/// What came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReplayCount {
    /// How often it was tried.
    pub tries: u32,
    /// How often the same came of it.
    pub reproduced: u32,
    /// Why it ended early.
    pub stopped: Option<Stopped>,
}

/// A finding with what is needed to get it again.
pub struct Again {
    /// The finding.
    pub finding: Finding,
    /// The sweep that found it.
    pub begin: Begin,
    /// The sites of the failures.
    pub sites: Vec<Signature>,
    level: Level,
    hit: u32,
    known: Vec<Site>,
}

impl Again {
    /// Looks a finding up.
    ///
    /// # Errors
    /// There is no such finding, or several.
    pub fn find(journal: &Journal, name: &str) -> Result<Self> {
        let state = State::of(journal);
        let all = state.findings();
        let finding = journal::find_finding(&all, name, &journal.name)?.clone();
        // The first failure that did it, with the one before it.
        let best = finding.failures.iter().max_by_key(|failure| failure.reproduced);
        let (sites, level, hit) = match best {
            Some(failure) => {
                let sites = failure.after.into_iter().chain([failure.site]).collect();
                (sites, failure.level.clone().unwrap_or(Level::RETRY), failure.hit.max(1))
            }
            None => (finding.suspects.clone(), Level::MULTI, 1),
        };
        let fits = |begin: &&Begin| begin.options.hit == hit;
        let begin = state.begins().iter().find(fits).or(state.begins().first());
        let begin = begin.cloned().ok_or_else(|| JournalError(format!("{} is empty", journal.name)))?;
        let known = sites.iter().filter_map(|site| state.site(*site)?.info.clone()).collect();
        Ok(Self { finding, begin, sites, level, hit, known })
    }

    /// The run that makes the same failures.
    fn spec(&self, persistent: Option<u32>) -> RunSpec {
        let sites = self.sites.clone();
        match sites.as_slice() {
            _ if self.level == Level::WHOLE => whole_spec(sites, persistent),
            _ if self.level == Level::COPY => copy_spec(sites, persistent),
            [site] if persistent.is_none() => alone_spec(*site),
            _ => together_spec(&sites, persistent),
        }
    }

    /// One try. What it lost is among its titles.
    fn once(&self, runner: &mut KernelRunner<'_>, persistent: Option<u32>) -> Result<RunResult> {
        let kmemleak = runner.has_kmemleak();
        if self.finding.verdict == Verdict::Leak && !kmemleak {
            // As many failures as it takes to see a slab cache grow.
            return runner.run(&growth_spec(self.sites.clone(), runner.tuning()));
        }
        let mut result = runner.run(&self.spec(persistent))?;
        let usable = !matches!(result.end, RunEnd::Damaged | RunEnd::Unkillable | RunEnd::Interrupted);
        // Only now it shows whether the workload still works. If it does not, this kernel is of no more use.
        if usable && self.finding.title == WORKS_NO_MORE && !runner.reset(true)? {
            result.end = RunEnd::Damaged;
        }
        if kmemleak && !matches!(result.end, RunEnd::Damaged | RunEnd::Unkillable) {
            for leak in runner.scan()? {
                runner.note_leak(leak)?;
            }
            runner.clear_leaks()?;
        }
        Ok(result)
    }

    /// The sweep that this is a part of.
    fn sweep_plan(&self, plan: &ReplayPlan) -> Result<SweepPlan> {
        let Begin { workload, options, guests, .. } = &self.begin;
        let only: Result<Vec<StackPattern>, _> = options.only.iter().map(|pattern| pattern.parse()).collect();
        Ok(SweepPlan {
            command: workload.command.iter().map(Into::into).collect(),
            workload: workload.name.clone(),
            guests: guests.clone(),
            setup: workload.setup.clone(),
            cleanup: workload.cleanup.clone(),
            only: only.context("the journal's --only")?,
            spared: plan.spared.clone(),
            depth: options.depth,
            hit: self.hit,
            persistent: options.persistent,
            kthreads: options.kthreads,
            shard: None,
            budget: None,
            hang: plan.hang,
            expect_success: options.expect_success,
            keep_going: plan.keep_going,
            backend: plan.backend,
            leaks: Leaks::Auto,
            journal: plan::Journal::Resume(plan.journal.clone()),
            kmsg: plan.kmsg,
            failing: true,
        })
    }
}

/// Tries a finding again. What comes of it is said, and added to the journal.
///
/// # Errors
/// [`JournalError`] when there is no such finding, or the journal is of another kernel or workload; those of a sweep.
pub fn replay(plan: &ReplayPlan) -> Result<ReplayCount> {
    let journal = journal::read(&plan.journal)?;
    let mut again = Again::find(&journal, &plan.finding)?;
    if !plan.sites.is_empty() {
        again.sites.clone_from(&plan.sites);
    }
    let sweep = again.sweep_plan(plan)?;
    let files = KernelFiles::default();
    let here = runner::begin(&sweep, &files)?;
    let here = Begin { options: again.begin.options.clone(), shard: again.begin.shard, ..here };
    runner::same(&journal, &again.begin, &here)
        .map_err(|differences| JournalError(format!("can't replay: {differences}")))?;
    let context = SweepContext::new(&sweep, files)?;
    // The tries are no part of the sweep: what the journal gets is their outcome.
    let mut recorder = Recorder::new(Writer::port(Box::new(io::sink())), State::default());
    for site in &again.known {
        recorder.write(&Record::Site(site.clone()))?;
    }
    let mut runner = KernelRunner::new(&sweep, context, recorder, Instant::now())?;
    let mut out = outcome_writer(plan, &journal)?;
    let mut tally = ReplayCount::default();
    for number in 1..=plan.tries {
        let RunResult { end, .. } = again.once(&mut runner, sweep.persistent)?;
        let titles = runner.state().suspicion().last_titles().to_vec();
        if end == RunEnd::Interrupted {
            tally.stopped = runner.over().or(Some(Stopped::Interrupted));
            break;
        }
        let reproduced = titles.contains(&again.finding.title);
        let what = if reproduced {
            "reproduced".to_owned()
        } else if titles.is_empty() {
            "nothing happened".to_owned()
        } else {
            format!("something else: {}", titles.join("; "))
        };
        sinks::announce(format_args!("try {number} of {}: {what}", plan.tries));
        tally.tries += 1;
        tally.reproduced += u32::from(reproduced);
        let site = *again.sites.last().context("a finding without a site")?;
        let after = (again.sites.len() > 1).then(|| again.sites[0]);
        let title = again.finding.title.clone();
        out.sync(&Record::Replayed(Replayed { title, site, after, tries: 1, reproduced: reproduced.into() }))?;
        tally.stopped = match end {
            RunEnd::Damaged | RunEnd::Unkillable => Some(Stopped::Damaged),
            RunEnd::Stuck | RunEnd::TimedOut if !runner.reset(false)? => Some(Stopped::Damaged),
            _ => runner.over(),
        };
        if tally.stopped.is_some() {
            break;
        }
    }
    if tally.stopped != Some(Stopped::Damaged) {
        runner.clean_up()?;
    }
    Ok(tally)
}

fn outcome_writer(plan: &ReplayPlan, journal: &Journal) -> Result<Writer> {
    Ok(if plan.port {
        Writer::port(Box::new(DataPort::open().context("can't open the port to the host's journal")?))
    } else {
        Writer::resume(&plan.journal, &journal.tail)?
    })
}

/// The fewest of some sites that still do it: `does` tries a set. Delta debugging by halves and complements (Zeller and
/// Hildebrandt, 2002). No subset of what is returned that leaves one out does it, as far as `does` can be relied on.
///
/// # Errors
/// Those of `does`.
pub fn fewest<T: Clone, E>(all: &[T], mut does: impl FnMut(&[T]) -> Result<bool, E>) -> Result<Vec<T>, E> {
    let mut set = all.to_vec();
    let mut parts = 2;
    while set.len() > 1 {
        let size = set.len().div_ceil(parts);
        let mut smaller = None;
        for start in (0..set.len()).step_by(size) {
            let end = (start + size).min(set.len());
            let part = set[start..end].to_vec();
            let rest: Vec<T> = set[..start].iter().chain(&set[end..]).cloned().collect();
            if does(&part)? {
                smaller = Some((part, 2));
                break;
            }
            if parts > 2 && !rest.is_empty() && does(&rest)? {
                smaller = Some((rest, parts - 1));
                break;
            }
        }
        match smaller {
            Some((less, next)) => (set, parts) = (less, next.max(2)),
            None if size == 1 => break,
            None => parts = (parts * 2).min(set.len()),
        }
    }
    Ok(set)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_fewest_are_found(size in 1usize..40, needed in proptest::collection::btree_set(0usize..40, 1..4)) {
            let all: Vec<usize> = (0..size.max(40)).collect();
            let mut tries = 0;
            let found = fewest(&all, |set| {
                tries += 1;
                Ok::<_, Infallible>(needed.iter().all(|site| set.contains(site)))
            });
            prop_assert_eq!(found.unwrap(), needed.into_iter().collect::<Vec<_>>());
            prop_assert!(tries < 200, "{}", tries);
        }
    }

    #[test]
    fn nothing_smaller_is_all() {
        let all = [1, 2, 3];
        assert_eq!(fewest(&all, |set| Ok::<_, Infallible>(set.len() == 3)), Ok(all.to_vec()));
        assert_eq!(fewest(&[7], |_| Ok::<_, Infallible>(false)), Ok(vec![7]));
    }
}
