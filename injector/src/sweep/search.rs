//! The order of a sweep: the inventory, passes, leaks, and runs for what is left; and what the end of a run means for it.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use tracing::debug;

use super::{
    Experiment,
    journal::{
        Record, Signature, State,
        record::{End, Level, Place, RunEnd, Site, Unreached},
    },
    notebook::Notebook,
    oracle::kmsg::KernelLog,
    order::Order,
    pass::{Errors, Terms},
    runs::Ran,
    start::Ready,
    workload::{self, Workload},
};
use crate::{
    exit::{Context as _, Result},
    plan::sweep::SweepPlan,
    session::Attempts,
    target::OwnCgroup,
};

/// At most so many runs look for sites.
const RECORD_RUNS: u32 = 3;
/// One new site among so many is steady enough: those that a slab's refill makes come and go for ever.
const STEADY: usize = 25;
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

/// Which sites may be failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// Each that was not yet, as the hook does with one that it has not met before; but for page faults.
    Each,
    /// Those that are named.
    Named,
}

/// What it means when a workload ends badly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ill {
    /// As good as nothing was failed in it: something is broken.
    Surely,
    /// Much was: it may have left something behind.
    Untidy,
    /// Something was: it is not reset yet.
    Perhaps,
}

/// Everything that a sweep works with.
pub struct Search<'a> {
    pub(super) plan: &'a SweepPlan,
    pub(super) experiment: Experiment,
    pub(super) attempts: Attempts,
    pub(super) workload: Workload,
    /// How long the workload takes by itself.
    pub(super) plain: Duration,
    /// Errors that its calls return by themselves.
    pub(super) normal: Errors,
    /// Which sites may be failed in the next run.
    choice: Choice,
    /// Sites that are there without the workload.
    pub(super) background: BTreeSet<Signature>,
    /// What earlier parts of this sweep took, seconds.
    earlier: f64,
    /// Tasks can be stopped by signals.
    pub(super) signals: bool,
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
    pub fn new(plan: &'a SweepPlan, ready: Ready, notebook: Notebook, start: Instant) -> Result<Self> {
        let Ready { mut lab, attempts, cgroup, workload, plain, interrupted } = ready;
        let oracle = KernelLog::open_at_end().context("can't read the kernel's log, /dev/kmsg; run as root")?;
        for site in notebook.known_sites() {
            lab.remember(site.clone());
        }
        let earlier = notebook.spent_time();
        let experiment = Experiment::new(plan, lab, oracle, notebook, start, interrupted);
        let (normal, background) = (Errors::new(), BTreeSet::new());
        let (choice, signals, ailing) = (Choice::Each, true, 0);
        Ok(Self {
            plan,
            experiment,
            attempts,
            workload,
            plain,
            normal,
            choice,
            background,
            earlier,
            signals,
            ailing,
            cgroup,
        })
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

    /// Has the hook fail each site that is left, or none but those that are named after this.
    ///
    /// # Errors
    /// When the table of sites is full.
    pub(super) fn choose(&mut self, choice: Choice) -> Result<()> {
        if choice == self.choice {
            return Ok(());
        }
        self.choice = choice;
        for site in self.left() {
            let page_fault = self.experiment.lab.site(site).is_some_and(|site| site.place == Place::PageFault);
            self.experiment.lab.allow(site, u64::from(choice == Choice::Each && !page_fault))?;
        }
        Ok(())
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
        // Of all parts: those before this one wrote down no end.
        let elapsed = self.earlier + self.experiment.elapsed().as_secs_f64();
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
        if let Some(stopped) = self.copies()? {
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
        self.experiment.empty_slabs();
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
            if round > 0 && new * STEADY <= sites {
                break;
            }
        }
        self.experiment.say(format_args!("{} sites seen", self.experiment.notebook.sites()));
        Ok(None)
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
    /// server that is gone, a mount that stays): at once if `ill` says so, or after a few such runs, it is reset and has to work
    /// again by itself, or what follows would reach nothing, and say nothing.
    ///
    /// # Errors
    /// When the journal can't be written.
    pub(super) fn check_up(&mut self, status: Option<i32>, ill: Ill) -> Result<Option<Stopped>> {
        const PATIENCE: u32 = 4;
        if status == Some(workload::STATUS) {
            self.ailing = 0;
            return Ok(None);
        }
        if ill == Ill::Untidy {
            // What was failed says that it still gets somewhere.
            return Ok((!self.reset()?).then_some(Stopped::Damaged));
        }
        self.ailing += 1;
        if self.ailing < PATIENCE && ill == Ill::Perhaps {
            return Ok(None);
        }
        if !self.reset()? {
            return Ok(Some(Stopped::Damaged));
        }
        self.ailing = 0;
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

    /// Sites that were never failed, and could be; those first that matter most.
    pub(super) fn left(&self) -> Vec<Signature> {
        let Experiment { notebook, lab, .. } = &self.experiment;
        let finished: BTreeSet<Signature> = notebook.finished_sites().into_iter().collect();
        let mut left: Vec<&Site> = lab
            .sites()
            .filter(|site| !finished.contains(&site.site) && !self.background.contains(&site.site))
            .filter(|site| self.plan.shard.is_none_or(|shard| shard.has(site.site)))
            .collect();
        let order = Order::now(lab.sites(), notebook);
        left.sort_by_cached_key(|site| order.rank(site, notebook.hits(site.site)));
        left.into_iter().map(|site| site.site).collect()
    }

    /// Gives sites up.
    pub(super) fn give_up(&mut self, sites: Vec<Signature>, why: &str) -> Result<()> {
        if sites.is_empty() {
            return Ok(());
        }
        self.experiment.sync(Record::Unreached(Unreached { sites, why: why.to_owned() }))
    }
}
