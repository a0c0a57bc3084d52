//! Carries out what the scheduler says, on this machine's kernel: one run of the workload at a time, from the record that it
//! begins to the record that it has ended.

mod context;
mod injector;
mod monitor;
mod observer;
mod telling;
mod traced;
mod untraced;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

pub use context::{Ended, JournalError, SweepContext, begin, same, sweep};
use injector::Counts;
use monitor::Errors;
use observer::{Limits, Observer};
use telling::Telling;

use super::{
    Stopped,
    drive::Runner,
    priority::Modules,
    schedule::{Mode, Notice, RunResult, RunSpec, Scheduler, Setting, Tuning},
    tracer,
    workload::Workload,
};
use crate::{
    exit::{Context as _, Result},
    journal::{
        Record, Recorder, Signature, State, Verdict,
        record::{Armed, End, Ended as RunEnded, Failed, Level, Outcome, Trouble, WORKS_NO_MORE},
    },
    kernel::modules,
    oracle::{
        kmemleak::{Kmemleak, Leak},
        kmsg::KernelLog,
    },
    plan::sweep::SweepPlan,
    session::Attempts,
    sinks::Kmsg,
    target::OwnCgroup,
};

/// Runs of a workload on this machine's kernel.
pub struct KernelRunner<'a> {
    plan: &'a SweepPlan,
    tuning: Tuning,
    observer: Observer,
    attempts: Attempts,
    workload: Workload,
    /// How long the workload takes without injection.
    plain: Duration,
    /// Errors that its system calls return without injection.
    normal: Errors,
    /// Sites that are reached without the workload.
    background: BTreeSet<Signature>,
    /// Sites that failed since it was last seen that the workload works, the latest last.
    unproven: Vec<Signature>,
    /// Signals can stop tasks in time.
    signals: bool,
    /// What earlier parts of this sweep took, seconds.
    earlier: f64,
    /// The workload's. It must outlive the programs that look for it, so it is dropped last.
    cgroup: OwnCgroup,
}

impl<'a> KernelRunner<'a> {
    /// With everything attached and the workload prepared.
    ///
    /// # Errors
    /// The kernel's log can't be read.
    pub fn new(plan: &'a SweepPlan, context: SweepContext, recorder: Recorder, start: Instant) -> Result<Self> {
        let SweepContext { files, mut injector, attempts, cgroup, workload, plain, interrupted, spent } = context;
        let telling = plan.kmsg.then(|| Kmsg::open(&files)).transpose()?.map(Telling::new);
        let log = KernelLog::open_at_end().context("can't read the kernel's log, /dev/kmsg; run as root")?;
        for site in recorder.state().sites().values().filter_map(|site| site.info.as_ref()) {
            injector.remember(site.clone());
        }
        let earlier = recorder.state().spent_time();
        let budget = plan.budget.filter(|_| !context::is_virtual());
        let limits = Limits { start, budget, interrupted, spent, keep_going: plan.keep_going };
        Ok(Self {
            plan,
            tuning: Tuning::default(),
            observer: Observer::new(files, injector, (log, telling), recorder, limits),
            attempts,
            workload,
            plain,
            normal: Errors::new(),
            background: BTreeSet::new(),
            unproven: Vec::new(),
            signals: true,
            earlier,
            cgroup,
        })
    }

    /// What decides on this sweep.
    #[must_use]
    pub fn scheduler(&self) -> Scheduler {
        let SweepPlan { depth, persistent, shard, failing, leaks, .. } = *self.plan;
        // Without the list all modules are equal.
        let modules = modules::Modules::read(self.observer.files()).unwrap_or_default();
        Scheduler::new(Setting {
            depth,
            persistent,
            shard,
            failing,
            leaks,
            kmemleak: self.has_kmemleak(),
            modules: Modules::new(&modules),
            tuning: self.tuning.clone(),
            background: BTreeSet::new(),
            order: Vec::new(),
        })
    }

    /// The kernel has kmemleak.
    #[must_use]
    pub fn has_kmemleak(&self) -> bool {
        self.kmemleak().is_there()
    }

    fn kmemleak(&self) -> Kmemleak {
        Kmemleak::new(self.observer.files().clone())
    }

    /// The thresholds.
    #[must_use]
    pub fn tuning(&self) -> &Tuning {
        &self.tuning
    }

    /// Ends the sweep: nothing of it stays, and the journal says so.
    ///
    /// # Errors
    /// That of the sweep; the journal can't be written.
    pub fn end(&mut self, stopped: Result<Option<Stopped>>) -> Result<Option<Stopped>> {
        self.observer.injector.disarm();
        // Whatever came of it, nothing of the workload stays behind. But on a damaged kernel the clean-up may hang.
        let damaged = matches!(stopped, Ok(Some(Stopped::Damaged)));
        let cleaned = if damaged { Ok(true) } else { self.clean_up() };
        let stopped = stopped?;
        cleaned?;
        if !damaged {
            // Of all parts: those before this one wrote no end.
            let elapsed = self.earlier + self.observer.limits.start.elapsed().as_secs_f64();
            self.observer.sync(&Record::End(End { complete: stopped.is_none(), elapsed }))?;
        }
        Ok(stopped)
    }

    /// What the journal adds up to in the end.
    #[must_use]
    pub fn into_state(self) -> State {
        self.observer.recorder.into_state()
    }

    /// Takes the workload down. False: that failed.
    ///
    /// # Errors
    /// The workload's output can't be kept.
    pub fn clean_up(&mut self) -> Result<bool> {
        let clean = self.workload.clean_up()?;
        if !clean {
            self.observer.say(format_args!("--cleanup failed{}", self.workload.said()));
        }
        Ok(clean)
    }

    /// Writes down a leak of the last run, for a replay.
    ///
    /// # Errors
    /// It can't be written.
    pub fn note_leak(&mut self, leak: Leak) -> Result<()> {
        let run = self.observer.recorder.state().next_run().saturating_sub(1);
        self.observer.complain(run, leak.into(), None, Vec::new())
    }

    /// Writes down that the workload fails without injection. `why`: what it said. Without a clean-up it may well be a file of its
    /// own that is in its way, after a run that was cut short.
    fn works_no_more(&mut self, why: String) -> Result<()> {
        if self.plan.cleanup.is_none() {
            return Ok(());
        }
        let run = self.observer.recorder.state().next_run().saturating_sub(1);
        let (site, suspects) = match self.unproven.as_slice() {
            // An earlier run or part of the sweep broke it.
            [] => return Ok(()),
            [site] => (Some(*site), Vec::new()),
            sites => (None, sites.iter().rev().copied().take(self.tuning.suspects_tried).collect()),
        };
        let title = WORKS_NO_MORE.to_owned();
        let trouble = Trouble { run, verdict: Verdict::Wedged, title, splat: why, site, after: None, suspects };
        self.observer.sync(&Record::Trouble(trouble))
    }

    /// How long a run may take.
    fn deadline(&self, spec: &RunSpec) -> Duration {
        self.limit() * spec.patience
    }

    /// How long the workload may take, with or without injection.
    fn limit(&self) -> Duration {
        let Tuning { deadline_hangs, deadline_plains, .. } = self.tuning;
        self.plan.hang * deadline_hangs + self.plain * deadline_plains
    }

    /// Writes down that a run begins, and tells the hook which sites may fail in it.
    fn begin(&mut self, spec: &RunSpec) -> Result<u32> {
        self.observer.injector.aim(spec, self.plan.hit)?;
        let run = self.observer.recorder.state().next_run();
        // A run in which failures repeat has hundreds of suspects: if it brings the machine down, it is like a run of each site.
        let growth = matches!(spec.mode, Mode::Traced(traced) if traced.growth);
        let sites = spec.aim.named().filter(|_| !growth).map(<[_]>::to_vec);
        self.observer.sync(&Record::Armed(Armed { run, level: spec.level.clone(), sites, first: spec.aim.first() }))?;
        self.observer.tell_before(spec.aim.only());
        Ok(run)
    }

    /// Writes down that a run has ended.
    fn ended(&mut self, run: u32, start: Instant, result: &RunResult, hits: BTreeMap<Signature, u64>) -> Result<()> {
        let RunResult { end, status, .. } = *result;
        let elapsed = start.elapsed().as_secs_f64();
        let kernel_injected = self.observer.kernel_injected();
        self.observer.sync(&Record::Ended(RunEnded { run, end, elapsed, status, hits, kernel_injected }))?;
        self.observer.progress();
        Ok(())
    }

    /// How many of the recorded sites a run reached.
    fn reached(&self, counts: &BTreeMap<Signature, Counts>) -> usize {
        let state = self.observer.recorder.state();
        counts.iter().filter(|(site, counts)| counts.hits > 0 && state.hits(**site) > 0).count()
    }

    /// Writes down a failure that belongs to no system call.
    fn failed_anywhere(&mut self, run: u32, site: Signature, times: u64, outcome: Outcome) -> Result<()> {
        let failed = Failed {
            run,
            site,
            after: None,
            hit: self.plan.hit,
            times: u32::try_from(times).unwrap_or(u32::MAX),
            level: Level::WHOLE,
            call: self.observer.injector.call(site).cloned(),
            syscall: None,
            outcome,
        };
        self.observer.note(&Record::Failed(failed))
    }
}

impl Runner for KernelRunner<'_> {
    fn state(&self) -> &State {
        self.observer.recorder.state()
    }

    fn over(&self) -> Option<Stopped> {
        self.observer.over()
    }

    fn say(&mut self, notice: Notice) {
        match notice {
            Notice::SitesSeen(sites) => self.observer.say(format_args!("{sites} sites seen")),
            Notice::Leaks => self.observer.say(format_args!("looking for leaks")),
            Notice::Growth => self.observer.say(format_args!("repeating each failure, to see slab caches grow")),
        }
    }

    fn idle(&mut self) -> Result<BTreeSet<Signature>> {
        self.observer.empty_slabs();
        self.observer.injector.arm_recording(self.plan.hit);
        std::thread::sleep(self.tuning.idle);
        self.observer.injector.disarm();
        // They are no part of the inventory, so they are not in the journal.
        self.background = self.observer.injector.account()?.since.into_keys().collect();
        Ok(self.background.clone())
    }

    fn run(&mut self, spec: &RunSpec) -> Result<RunResult> {
        let result = match spec.mode {
            Mode::Traced(traced) => self.traced(spec, traced),
            Mode::Untraced => self.untraced(spec),
        }?;
        // What failed before it worked: the workload got over it.
        if result.is_well() {
            self.unproven.clear();
        }
        self.unproven.retain(|site| !result.failed.contains(site));
        self.unproven.extend(&result.failed);
        Ok(result)
    }

    fn reset(&mut self, prove: bool) -> Result<bool> {
        if !self.clean_up()? {
            return Ok(false);
        }
        if let Err(error) = self.workload.set_up() {
            self.observer.say(format_args!("{error:#}"));
            self.works_no_more(format!("{error:#}"))?;
            return Ok(false);
        }
        if !prove {
            return Ok(true);
        }
        let interrupted = Arc::clone(&self.observer.limits.interrupted);
        let limit = self.limit();
        let works = self.workload.uninjected(&self.cgroup, limit, || interrupted.load(Ordering::Relaxed));
        match works {
            Err(error) if !interrupted.load(Ordering::Relaxed) => {
                self.observer.say(format_args!("after failures and a reset, {error:#}"));
                self.works_no_more(format!("{error:#}"))?;
                Ok(false)
            }
            Ok(_) => {
                self.unproven.clear();
                Ok(true)
            }
            // Interrupted: that says nothing of the workload.
            Err(_) => Ok(true),
        }
    }

    fn scan(&mut self) -> Result<Vec<Leak>> {
        Ok(self.kmemleak().scan(Instant::now())?)
    }

    fn clear_leaks(&mut self) -> Result<()> {
        Ok(self.kmemleak().clear()?)
    }

    fn note(&mut self, record: &Record) -> Result<()> {
        self.observer.sync(record)
    }
}
