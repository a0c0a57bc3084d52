//! What every run of a sweep works with: the attached programs, the oracle, the notebook, the clock.

use std::{
    collections::BTreeMap,
    io::{IsTerminal as _, Write as _},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tracing::debug;

use super::{
    journal::{Record, Signature, record::RunEnd},
    lab::{Account, Counts, Lab},
    notebook::Notebook,
    oracle::{Complaint, kmsg::KernelLog, rearm, slabs::Settler, taint::Taint},
};
use crate::{exit::Result, kernel::KernelFiles, plan::sweep::SweepPlan};

/// How often progress is shown, on a terminal and elsewhere.
const PROGRESS: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(5)];

/// The state of a sweep.
pub struct Experiment {
    /// What is attached.
    pub lab: Lab,
    /// What the kernel says.
    pub oracle: KernelLog,
    /// What is known.
    pub notebook: Notebook,
    /// How many failures of a site there are in one call, where that is more than one.
    pub persistent: Option<u32>,
    start: Instant,
    budget: Option<Duration>,
    keep_going: bool,
    interrupted: Arc<AtomicBool>,
    shown: Option<Instant>,
    first_failures: u64,
    files: KernelFiles,
    /// None where the slab caches can't be seen.
    slabs: Option<Settler>,
    /// The kernel's taint flags so far; none when they can't be read.
    taint: Option<Taint>,
}

impl Experiment {
    /// Puts it together. `interrupted` is set by a signal.
    pub fn new(
        plan: &SweepPlan,
        lab: Lab,
        oracle: KernelLog,
        notebook: Notebook,
        start: Instant,
        interrupted: Arc<AtomicBool>,
    ) -> Self {
        let first_failures = notebook.failures();
        let SweepPlan { budget, keep_going, persistent, .. } = *plan;
        let files = KernelFiles::default();
        let taint = Taint::read(&files).ok();
        let slabs = Settler::new(files.clone()).ok();
        Self {
            lab,
            oracle,
            notebook,
            persistent,
            start,
            budget,
            keep_going,
            interrupted,
            shown: None,
            first_failures,
            files,
            slabs,
            taint,
        }
    }

    /// Writes a record that the next synced one takes along.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn note(&mut self, record: Record) -> Result<()> {
        self.notebook.write(record, false)
    }

    /// Writes a record, and returns when it can't be lost any more.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn sync(&mut self, record: Record) -> Result<()> {
        self.notebook.write(record, true)
    }

    /// Takes what the hook sent, and writes down what is new. `after`: the failure that came before.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn drain(&mut self, after: Option<Signature>) -> Result<()> {
        for site in self.lab.drain(after) {
            self.note(Record::Site(site))?;
        }
        Ok(())
    }

    /// After a run: how often sites were reached and failed in it. New ones are written down.
    ///
    /// # Errors
    /// When the table can't be read, or a record can't be written.
    pub fn account(&mut self) -> Result<BTreeMap<Signature, Counts>> {
        let Account { new, since } = self.lab.account()?;
        for site in new {
            self.note(Record::Site(site))?;
        }
        Ok(since)
    }

    /// Has checks that speak once speak again.
    pub fn rearm(&mut self) {
        // Without debugfs, or before 4.15, they stay silent.
        let _ = rearm::warn_once(&self.files);
    }

    /// Between runs: makes slab caches as empty as they can be. Where a cache takes a new slab is else a matter of what came before,
    /// and the sites of that come and go from run to run. A kernel that checks slabs does so then.
    pub fn empty_slabs(&mut self) {
        if let Some(Err(error)) = self.slabs.as_mut().map(Settler::empty) {
            debug!("can't empty the slab caches: {error}");
            self.slabs = None;
        }
    }

    /// After a run: the damage of which only the kernel's taint flags tell. `explained`: there were complaints in the run.
    pub fn tainted(&mut self, explained: bool) -> Option<Complaint> {
        let now = Taint::read(&self.files).ok()?;
        let before = self.taint.replace(now)?;
        now.since(before).complaint().filter(|_| !explained)
    }

    /// Whether the time is up, or the user wants an end.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.is_interrupted() || self.budget.is_some_and(|budget| self.start.elapsed() > budget)
    }

    /// Whether the user wants an end.
    #[must_use]
    pub fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }

    /// Set when the user wants an end.
    #[must_use]
    pub fn interrupt_flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.interrupted)
    }

    /// Since the sweep, or this part of it, began.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// What a kernel that can't be trusted any more means for a run.
    #[must_use]
    pub fn damaged(&self) -> Option<RunEnd> {
        (!self.keep_going).then_some(RunEnd::Damaged)
    }

    /// Shows how far it is, now and then.
    pub fn progress(&mut self) {
        let mut err = std::io::stderr();
        let terminal = err.is_terminal();
        if self.shown.is_some_and(|shown| shown.elapsed() < PROGRESS[usize::from(!terminal)]) {
            return;
        }
        self.shown = Some(Instant::now());
        let elapsed = self.start.elapsed();
        let failures = self.notebook.failures() - self.first_failures;
        let rate = failures as f64 / elapsed.as_secs_f64().max(0.001);
        let left = self
            .budget
            .map_or(String::new(), |budget| format!(", {} s left", budget.saturating_sub(elapsed).as_secs()));
        let line = format!(
            "{} of {} sites done, {rate:.0}/s, {} findings, {} s{left}",
            self.notebook.done(),
            self.notebook.sites(),
            self.notebook.findings(),
            elapsed.as_secs()
        );
        let _ = if terminal { write!(err, "\rsweep: {line}\x1b[K") } else { writeln!(err, "sweep: {line}") };
    }

    /// Ends the line of progress, if there is one, and says something.
    pub fn say(&mut self, message: std::fmt::Arguments<'_>) {
        let mut err = std::io::stderr();
        let clear = if err.is_terminal() && self.shown.is_some() { "\r\x1b[K" } else { "" };
        let _ = writeln!(err, "{clear}sweep: {message}");
    }
}
