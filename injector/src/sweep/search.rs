//! The order of a sweep: the workload by itself, the inventory, passes, and runs for what is left.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, atomic::AtomicBool},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use tracing::debug;

use super::{
    Experiment,
    journal::{
        Record, Signature, State,
        record::{Armed, End, Ended, Failed, Level, Outcome, Place, RunEnd, Site, Unreached},
    },
    lab::Lab,
    notebook::Notebook,
    oracle::kmsg::KernelLog,
    pass::{Errors, Pass, Terms, Yield},
    tracer::{self, Manner},
    workload::Workload,
};
use crate::{
    events::frames,
    plan::sweep::SweepPlan,
    session::Attempts,
    target::{self, OwnCgroup},
};

/// At most so many runs look for sites.
const RECORD_RUNS: u32 = 3;
/// One new site among so many is steady enough.
const STEADY: usize = 50;
/// At most so many passes fail one site per call.
const STRICT_PASSES: u32 = 2;
/// At most so many passes fail several.
const CROWD_PASSES: u32 = 12;
/// How many.
const CROWD: u32 = 32;
/// A pass with fewer new failures is the last.
const CROWD_WORTH: u64 = 5;
/// What is seen in this time without the workload has nothing to do with it.
const IDLE: Duration = Duration::from_millis(300);

/// Why a sweep stopped before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// By the user.
    Interrupted,
    /// The time was up.
    Budget,
    /// The kernel is damaged; after a boot it can go on.
    Damaged,
}

/// What a pass brought.
struct Passed {
    stopped: Option<Stopped>,
    found: Yield,
}

/// How a run under the tracer went.
struct Ran {
    end: RunEnd,
    /// Of the workload.
    status: Option<i32>,
    found: Yield,
}

/// Everything that a sweep works with.
pub struct Search<'a> {
    pub(super) plan: &'a SweepPlan,
    pub(super) experiment: Experiment,
    pub(super) attempts: Attempts,
    pub(super) workload: Workload,
    /// How long the workload takes by itself.
    pub(super) plain: Duration,
    /// Its exit status by itself.
    pub(super) plain_status: i32,
    /// Errors that its calls return by themselves.
    normal: Errors,
    /// Sites that are there without the workload.
    background: BTreeSet<Signature>,
    /// Runs in a row that did not end as the workload does by itself.
    ailing: u32,
    /// The workload's; the last to go.
    pub(super) cgroup: OwnCgroup,
}

impl<'a> Search<'a> {
    /// With everything attached and the workload prepared.
    ///
    /// # Errors
    /// The kernel's log can't be read.
    pub fn new(
        plan: &'a SweepPlan,
        (mut lab, attempts, cgroup): (Lab, Attempts, OwnCgroup),
        workload: Workload,
        notebook: Notebook,
        start: Instant,
        interrupted: Arc<AtomicBool>,
    ) -> Result<Self> {
        let oracle = KernelLog::open_at_end().context("can't read the kernel's log, /dev/kmsg; run as root")?;
        for site in notebook.known_sites() {
            lab.remember(site);
        }
        let plain = notebook.plain().map_or(Duration::ZERO, |plain| Duration::from_secs_f64(plain.elapsed));
        let plain_status = notebook.plain().map_or(0, |plain| plain.status);
        let experiment = Experiment::new(plan, lab, oracle, notebook, start, interrupted);
        let (normal, background) = (Errors::new(), BTreeSet::new());
        Ok(Self { plan, experiment, attempts, workload, plain, plain_status, normal, background, ailing: 0, cgroup })
    }

    /// Takes down what is left.
    ///
    /// # Errors
    /// When there can be no output.
    pub fn finish(&mut self) -> Result<()> {
        self.experiment.lab.disarm();
        if !self.workload.clean_up()? {
            self.experiment.say(format_args!("--cleanup failed{}", self.workload.said()));
        }
        Ok(())
    }

    /// What is known in the end.
    #[must_use]
    pub fn into_state(self) -> State {
        self.experiment.notebook.into_state()
    }

    /// A run in which only these sites may be failed, each once. Says what the kernel complained of.
    ///
    /// # Errors
    /// When the journal can't be written.
    pub fn trial(&mut self, sites: &[Signature], level: Level) -> Result<(RunEnd, Vec<String>)> {
        let end = if level == Level::Run {
            self.batch(sites)?.0
        } else {
            let times = self.plan.persistent.unwrap_or(1);
            let limit = times.max(u32::try_from(sites.len()).unwrap_or(CROWD));
            self.only(sites, Manner { limit, depth: 1, crowd: self.plan.persistent.is_none(), ..self.watching() })?
        };
        if !matches!(end, RunEnd::Damaged | RunEnd::Unkillable) {
            self.leaks_of_run()?;
        }
        Ok((end, self.experiment.notebook.last_titles().to_vec()))
    }

    /// A pass in which only these sites may be failed, each once.
    fn only(&mut self, sites: &[Signature], manner: Manner) -> Result<RunEnd> {
        for site in sites {
            self.experiment.lab.allow(*site, 1)?;
        }
        let run = self.begin_run(Level::Crowd, Some(sites.to_vec()), None)?;
        let Ran { end, .. } = self.traced(run, manner, Terms::named(Level::Crowd))?;
        for site in sites {
            self.experiment.lab.allow(*site, 0)?;
        }
        Ok(end)
    }

    /// All of it. None: it came to its end.
    ///
    /// # Errors
    /// The workload fails by itself, or the journal can't be written.
    pub fn run(&mut self) -> Result<Option<Stopped>> {
        let stopped = self.all();
        self.experiment.lab.disarm();
        // Whatever came of it: nothing of the workload stays behind; but on a damaged kernel that may hang.
        if !matches!(stopped, Ok(Some(Stopped::Damaged))) {
            self.finish()?;
        }
        let stopped = stopped?;
        let elapsed = self.experiment.elapsed().as_secs_f64();
        if stopped != Some(Stopped::Damaged) {
            self.experiment.sync(Record::End(End { complete: stopped.is_none(), elapsed }))?;
        }
        Ok(stopped)
    }

    fn all(&mut self) -> Result<Option<Stopped>> {
        if let Some(stopped) = self.inventory()? {
            return Ok(Some(stopped));
        }
        if !self.plan.failing {
            return Ok(None);
        }
        self.forget_leaks()?;
        if let Some(stopped) = self.after_crash()? {
            return Ok(Some(stopped));
        }
        if let Some(stopped) = self.passes()? {
            return Ok(Some(stopped));
        }
        if let Some(stopped) = self.leaks()? {
            return Ok(Some(stopped));
        }
        if let Some(stopped) = self.growth()? {
            return Ok(Some(stopped));
        }
        self.batches()
    }

    /// How long a run may take.
    pub(super) fn deadline(&self) -> Duration {
        self.plan.hang * 2 + self.plain * 20
    }

    /// Runs without failures, until no new site appears.
    fn inventory(&mut self) -> Result<Option<Stopped>> {
        self.experiment.lab.arm(Level::Record, 1, self.plan.hit);
        std::thread::sleep(IDLE);
        self.experiment.lab.disarm();
        // They are no part of the inventory.
        self.background = self.experiment.lab.account()?.since.into_keys().collect();
        for site in self.experiment.notebook.finished_sites() {
            self.experiment.lab.allow(site, 0)?;
        }
        for site in self.background.clone() {
            self.experiment.lab.allow(site, 0)?;
        }
        for round in 0..RECORD_RUNS {
            let before = self.experiment.notebook.sites();
            let run = self.begin_run(Level::Record, None, None)?;
            let Ran { end, found, .. } = self.traced(run, self.watching(), Terms::each(Level::Record))?;
            self.normal = found.errors;
            if let Some(stopped) = self.stopped(end)? {
                return Ok(Some(stopped));
            }
            let sites = self.experiment.notebook.sites();
            let new = sites - before;
            debug!(round, new, "recorded");
            // Some sites come and go with the state of slabs and free lists: that never ends.
            if round > 0 && new * STEADY <= sites {
                break;
            }
        }
        self.experiment.say(format_args!("{} sites seen", self.experiment.notebook.sites()));
        Ok(None)
    }

    /// After the machine went down in a pass: nobody knows at which site. What comes next among those not failed yet, and what
    /// was failed last, is failed by itself, with its name written down before.
    fn after_crash(&mut self) -> Result<Option<Stopped>> {
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
        let end = self.only(&[site], Manner { limit: 1, depth: 1, crowd: true, ..self.watching() })?;
        self.stopped(end)
    }

    /// Watches, and fails nothing.
    fn watching(&self) -> Manner {
        Manner { limit: 0, depth: 0, crowd: false, hang: self.plan.hang, deadline: self.deadline() }
    }

    /// Passes, until they bring no new failure: first one failure per call, each with a verdict of its own; then several
    /// in one call, since a call that hides a failure can't be made again, and what lies behind it would take a run each.
    fn passes(&mut self) -> Result<Option<Stopped>> {
        let depth = if self.plan.persistent.is_some() { 1 } else { self.plan.depth };
        let strict = Manner { limit: self.plan.persistent.unwrap_or(1), depth, ..self.watching() };
        for _ in 0..STRICT_PASSES {
            let Passed { stopped, found } = self.pass(strict, Level::SystemCall)?;
            if stopped.is_some() {
                return Ok(stopped);
            }
            if found.failures == 0 {
                break;
            }
        }
        // Failures that the kernel hid, and behind which there is more: once again, with room for a second failure.
        let mut before = BTreeSet::new();
        for _ in 0..STRICT_PASSES {
            let deeper = self.deeper();
            if depth < 2 || deeper.is_empty() || deeper == before {
                break;
            }
            for site in &deeper {
                self.experiment.lab.allow(*site, 1)?;
            }
            let Passed { stopped, .. } = self.pass(Manner { limit: depth, ..strict }, Level::SystemCall)?;
            if stopped.is_some() {
                return Ok(stopped);
            }
            for site in &deeper {
                self.experiment.lab.allow(*site, 0)?;
            }
            before = deeper;
        }
        if self.plan.persistent.is_none() {
            let crowd = Manner { limit: CROWD, depth: 1, crowd: true, ..strict };
            for _ in 0..CROWD_PASSES {
                let Passed { stopped, found } = self.pass(crowd, Level::Crowd)?;
                if stopped.is_some() {
                    return Ok(stopped);
                }
                // What little is left may be had in the runs that follow.
                if found.failures < CROWD_WORTH {
                    break;
                }
            }
        }
        self.resolve()
    }

    /// A pass in which failures are repeated.
    ///
    /// # Errors
    /// When the journal can't be written.
    pub(super) fn repeating_pass(&mut self) -> Result<RunEnd> {
        let run = self.begin_run(Level::SystemCall, None, None)?;
        // Each reading of the slab caches takes a while.
        let manner = Manner { limit: 1, depth: 1, deadline: self.deadline() * 10, ..self.watching() };
        let terms = Terms { repeating: true, ..Terms::named(Level::SystemCall) };
        Ok(self.traced(run, manner, terms)?.end)
    }

    /// Sites whose failure leads to sites that were not failed yet and that nothing else leads to.
    fn deeper(&self) -> BTreeSet<Signature> {
        let notebook = &self.experiment.notebook;
        let unfailed = self.experiment.lab.sites().filter(|site| !notebook.was_failed(site.site));
        unfailed.filter_map(|site| site.after).collect()
    }

    fn pass(&mut self, manner: Manner, level: Level) -> Result<Passed> {
        let run = self.begin_run(level, None, None)?;
        let Ran { end, status, found } = self.traced(run, manner, Terms::each(level))?;
        debug!(failures = found.failures, ?level, ?end, "pass");
        let mut stopped = self.stopped(end)?;
        if stopped.is_none() && end == RunEnd::Finished {
            stopped = self.check_up(status, true)?;
        }
        Ok(Passed { stopped, found })
    }

    /// Complaints that came when several failures might have been the cause: each of those by itself.
    fn resolve(&mut self) -> Result<Option<Stopped>> {
        for (title, mut suspects) in self.experiment.notebook.suspects() {
            // A site on whose path the complaint lies is the most likely one.
            let splat = self.experiment.notebook.splat(&title).unwrap_or_default().to_owned();
            let kinship = |site: &Signature| self.experiment.lab.site(*site).map_or(0, |site| kinship(site, &splat));
            suspects.sort_by_cached_key(|site| Reverse(kinship(site)));
            for site in suspects {
                if !self.experiment.notebook.is_unresolved(&title) {
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

    /// Writes down that a run begins.
    pub(super) fn begin_run(
        &mut self,
        level: Level,
        sites: Option<Vec<Signature>>,
        first: Option<Signature>,
    ) -> Result<u32> {
        let run = self.experiment.notebook.next_run();
        self.experiment.sync(Record::Armed(Armed { run, level, sites, first }))?;
        Ok(run)
    }

    /// A run under the tracer, from its first instruction to what it leaves behind.
    fn traced(&mut self, run: u32, manner: Manner, terms: Terms) -> Result<Ran> {
        let start = Instant::now();
        let Self { plan, experiment, attempts, workload, normal, cgroup, .. } = self;
        let mut command = workload.start(cgroup)?;
        experiment.lab.arm(terms.level, terms.allowed, plan.hit);
        let mut pass = Pass::new(experiment, run, terms, normal);
        let traced = tracer::run(&mut command, cgroup, attempts, &mut pass, manner);
        let settled = pass.settle();
        if let Ok(traced) = &traced
            && traced.end == RunEnd::Stuck
        {
            pass.wedged()?;
        }
        let mut found = pass.into_yield();
        experiment.lab.disarm();
        let (traced, settled) = (traced?, settled?);
        if traced.end == RunEnd::Unkillable {
            command.give_up();
        }
        let end = settled.unwrap_or(traced.end);
        let hits = self.account(run, terms.level, &mut found)?;
        let status = traced.outcome.map(target::Outcome::code);
        let elapsed = start.elapsed().as_secs_f64();
        self.experiment.sync(Record::Ended(Ended { run, end, elapsed, status, hits }))?;
        Ok(Ran { end, status, found })
    }

    /// After a run: how often each site was reached, if that was its purpose; and the failures that no attempt told of.
    fn account(&mut self, run: u32, level: Level, found: &mut Yield) -> Result<BTreeMap<Signature, u64>> {
        let mut hits = BTreeMap::new();
        for (site, counts) in self.experiment.account()? {
            if level == Level::Record && counts.hits > 0 && !self.background.contains(&site) {
                hits.insert(site, counts.hits);
            }
            if counts.failures > 0 && !found.sites.contains(&site) {
                found.failures += 1;
                self.whole_run_failure(run, site, counts.failures, Outcome::Masked)?;
            }
        }
        Ok(hits)
    }

    /// Writes down a failure that belongs to no system call.
    pub(super) fn whole_run_failure(&mut self, run: u32, site: Signature, times: u64, outcome: Outcome) -> Result<()> {
        let failed = Failed {
            run,
            site,
            after: None,
            hit: self.plan.hit,
            times: u32::try_from(times).unwrap_or(u32::MAX),
            level: Level::Run,
            call: self.experiment.lab.call(site).cloned(),
            syscall: None,
            outcome,
        };
        self.experiment.note(Record::Failed(failed))
    }

    /// What the end of a run means for the sweep; resets the workload if it is needed.
    pub(super) fn stopped(&mut self, end: RunEnd) -> Result<Option<Stopped>> {
        match end {
            RunEnd::Finished => {}
            RunEnd::Damaged | RunEnd::Unkillable => return Ok(Some(Stopped::Damaged)),
            RunEnd::Interrupted => return Ok(Some(self.over())),
            RunEnd::Stuck | RunEnd::TimedOut => {
                debug!(?end, "reset");
                if !self.reset()? {
                    return Ok(Some(Stopped::Damaged));
                }
            }
        }
        Ok(self.experiment.is_over().then(|| self.over()))
    }

    /// Takes note of how a run ended. A workload that ends badly has met a failure, or something that an earlier one broke (a
    /// server that is gone, a mount that stays): `at_once`, or after a few such runs, it is reset and has to work
    /// again by itself, or what follows would reach nothing, and say nothing.
    ///
    /// # Errors
    /// When the journal can't be written.
    pub(super) fn check_up(&mut self, status: Option<i32>, at_once: bool) -> Result<Option<Stopped>> {
        const PATIENCE: u32 = 4;
        if status == Some(self.plain_status) {
            self.ailing = 0;
            return Ok(None);
        }
        self.ailing += 1;
        if !at_once && self.ailing < PATIENCE {
            return Ok(None);
        }
        self.ailing = 0;
        if !self.reset()? {
            return Ok(Some(Stopped::Damaged));
        }
        let interrupted = self.experiment.interrupt_flag();
        let is_interrupted = || interrupted.load(std::sync::atomic::Ordering::Relaxed);
        match self.workload.by_itself(&self.cgroup, self.deadline(), is_interrupted) {
            Ok(_) => Ok(None),
            Err(_) if is_interrupted() => Ok(Some(self.over())),
            Err(error) => {
                self.experiment.say(format_args!("after failures and a reset, {error:#}"));
                Ok(Some(Stopped::Damaged))
            }
        }
    }

    /// Takes the workload down and sets it up again. False when that does not work any more.
    fn reset(&mut self) -> Result<bool> {
        if !self.workload.clean_up()? {
            self.experiment.say(format_args!("--cleanup failed{}", self.workload.said()));
            return Ok(false);
        }
        if let Err(error) = self.workload.set_up() {
            self.experiment.say(format_args!("{error:#}"));
            return Ok(false);
        }
        Ok(true)
    }

    /// Why it is over.
    pub(super) fn over(&self) -> Stopped {
        if self.experiment.is_interrupted() { Stopped::Interrupted } else { Stopped::Budget }
    }

    /// Sites that were never failed, and could be.
    pub(super) fn left(&self) -> Vec<Signature> {
        let finished: BTreeSet<Signature> = self.experiment.notebook.finished_sites().into_iter().collect();
        let mut left: Vec<(Place, u64, Signature)> = self
            .experiment
            .lab
            .sites()
            .filter(|site| !finished.contains(&site.site) && !self.background.contains(&site.site))
            .filter(|site| self.plan.shard.is_none_or(|shard| shard.has(site.site)))
            .map(|site| (site.place, self.experiment.notebook.hits(site.site), site.site))
            .collect();
        // Kernel threads first, bare process machinery last; rare sites before those that everybody reaches.
        left.sort_by_key(|(place, hits, site)| (order(*place), *hits, *site));
        left.into_iter().map(|(_, _, site)| site).collect()
    }

    /// Gives sites up.
    pub(super) fn give_up(&mut self, sites: Vec<Signature>, why: &str) -> Result<()> {
        if sites.is_empty() {
            return Ok(());
        }
        self.experiment.sync(Record::Unreached(Unreached { sites, why: why.to_owned() }))
    }
}

/// How many functions of a site's stack a splat mentions.
fn kinship(site: &Site, splat: &str) -> usize {
    site.stack.iter().filter(|frame| splat.contains(&format!("{}+", frames::function(frame)))).count()
}

fn order(place: Place) -> u32 {
    match place {
        Place::SystemCall => 0,
        Place::Other => 1,
        Place::Kthread => 2,
        Place::Interrupt => 3,
        Place::Exec => 4,
        Place::PageFault => 5,
    }
}
