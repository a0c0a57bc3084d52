//! What a run is observed with: the programs' reports, the kernel's log and flags, the clock; and where it is written down.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tracing::debug;

use super::{
    injector::{Account, Counts, Injector},
    telling::Telling,
};
use crate::{
    exit::Result,
    journal::{
        Record, Recorder, Signature,
        record::{RunEnd, Trouble},
    },
    kernel::KernelFiles,
    oracle::{Complaint, kmsg::KernelLog, rearm, slabs::SlabReader, taint::Taint},
    sinks::Progress,
    sweep::Stopped,
};

/// When a sweep ends early.
#[derive(Clone, Debug)]
pub struct Limits {
    /// When this part of the sweep began.
    pub start: Instant,
    /// The sweep ends after this time. None in virtual time, which says nothing of the time that a user gives: there the
    /// controller says when it is over.
    pub budget: Option<Duration>,
    /// A signal sets it.
    pub interrupted: Arc<AtomicBool>,
    /// The controller's signal sets it: the budget is used up.
    pub spent: Arc<AtomicBool>,
    /// The sweep goes on with a damaged kernel.
    pub keep_going: bool,
}

impl Limits {
    /// Why the sweep should end now.
    #[must_use]
    pub fn over(&self) -> Option<Stopped> {
        if self.interrupted.load(Ordering::Relaxed) {
            return Some(Stopped::Interrupted);
        }
        let over = self.budget.is_some_and(|budget| self.start.elapsed() > budget);
        (over || self.spent.load(Ordering::Relaxed)).then_some(Stopped::Budget)
    }
}

/// Observes runs, and writes down what they show.
pub struct Observer {
    /// The attached programs.
    pub injector: Injector,
    /// The kernel's log.
    pub log: KernelLog,
    /// The journal.
    pub recorder: Recorder,
    /// When the sweep ends early.
    pub limits: Limits,
    /// What goes into the kernel's log; none where that is not wanted.
    telling: Option<Telling>,
    files: KernelFiles,
    progress: Progress,
    /// How many failures the journal had before this part of the sweep.
    earlier_failures: u64,
    /// None where the slab caches can't be read.
    slabs: Option<SlabReader>,
    /// The kernel's taint flags so far; none where they can't be read.
    taint: Option<Taint>,
    /// What the kernel's own fault injection has failed so far.
    kernel_injected: u64,
}

impl Observer {
    /// From what was attached and opened.
    pub fn new(
        files: KernelFiles,
        injector: Injector,
        (log, telling): (KernelLog, Option<Telling>),
        recorder: Recorder,
        limits: Limits,
    ) -> Self {
        let taint = Taint::read(&files).ok();
        let slabs = SlabReader::new(files.clone()).ok();
        let earlier_failures = recorder.state().tested().failures();
        let progress = Progress::new("sweep");
        Self {
            injector,
            log,
            recorder,
            limits,
            telling,
            files,
            progress,
            earlier_failures,
            slabs,
            taint,
            kernel_injected: 0,
        }
    }

    /// The files of the kernel.
    #[must_use]
    pub fn files(&self) -> &KernelFiles {
        &self.files
    }

    /// Writes a record that the next synced one takes along.
    ///
    /// # Errors
    /// It can't be written.
    pub fn note(&mut self, record: &Record) -> Result<()> {
        Ok(self.recorder.write(record)?)
    }

    /// Writes a record, and returns when it can't be lost any more.
    ///
    /// # Errors
    /// It can't be written.
    pub fn sync(&mut self, record: &Record) -> Result<()> {
        Ok(self.recorder.sync(record)?)
    }

    /// Writes down a complaint. `culprit`: the failure that it comes from, with the one before it.
    ///
    /// # Errors
    /// It can't be written.
    pub fn complain(
        &mut self,
        run: u32,
        complaint: Complaint,
        culprit: Option<(Signature, Option<Signature>)>,
        suspects: Vec<Signature>,
    ) -> Result<()> {
        let Complaint { kind, title, splat } = complaint;
        if let Some(telling) = &mut self.telling {
            for site in culprit.into_iter().flat_map(|(site, after)| after.into_iter().chain([site])) {
                telling.blamed(site, || self.injector.kernel_stack(site));
            }
        }
        let (site, after) = culprit.map_or((None, None), |(site, after)| (Some(site), after));
        self.note(&Record::Trouble(Trouble { run, verdict: kind.into(), title, splat, site, after, suspects }))
    }

    /// Takes what the hook sent, and writes down new sites. `after`: the failure that came before.
    ///
    /// # Errors
    /// A record can't be written.
    pub fn drain(&mut self, after: Option<Signature>) -> Result<()> {
        for site in self.injector.drain(after) {
            self.note(&Record::Site(site))?;
        }
        self.tell();
        Ok(())
    }

    /// A run begins: the failure of the only site that can fail in it goes into the kernel's log.
    pub fn tell_before(&mut self, only: Option<Signature>) {
        if let Some(telling) = &mut self.telling {
            let Some(site) = only else { return telling.begin(None, Vec::new) };
            telling.begin(self.injector.site(site), || self.injector.kernel_stack(site));
        }
    }

    /// The failures that were seen go into the kernel's log.
    fn tell(&mut self) {
        if let Some(telling) = &mut self.telling {
            for seen in self.injector.take_seen() {
                let site = seen.site;
                telling.failed(seen, || self.injector.kernel_stack(site));
            }
        }
    }

    /// After a run: how often sites were reached and failed in it. New sites are written down.
    ///
    /// # Errors
    /// The table can't be read, or a record can't be written.
    pub fn account(&mut self) -> Result<BTreeMap<Signature, Counts>> {
        let Account { new, since } = self.injector.account()?;
        self.tell();
        for site in new {
            self.note(&Record::Site(site))?;
        }
        Ok(since)
    }

    /// Has checks that speak once speak again.
    pub fn rearm(&mut self) {
        // Without debugfs, or before 4.15, they stay silent.
        let _ = rearm::warn_once(&self.files);
    }

    /// Between runs: makes slab caches as empty as they can be. Otherwise it depends on earlier runs where a cache takes a new
    /// slab, and the sites of that come and go. A kernel that checks slabs does so then.
    pub fn empty_slabs(&mut self) {
        if let Some(Err(error)) = self.slabs.as_mut().map(SlabReader::empty) {
            debug!("can't empty the slab caches: {error}");
            self.slabs = None;
        }
    }

    /// After a run: damage that only the kernel's taint flags tell of. `explained`: the run had complaints.
    pub fn tainted(&mut self, explained: bool) -> Option<Complaint> {
        let now = Taint::read(&self.files).ok()?;
        let before = self.taint.replace(now)?;
        now.since(before).complaint().filter(|_| !explained)
    }

    /// How many allocations the kernel's own fault injection failed since this was last asked, as far as its log says.
    pub fn kernel_injected(&mut self) -> u64 {
        let all = self.log.injected();
        all - std::mem::replace(&mut self.kernel_injected, all)
    }

    /// Why the sweep should end now.
    #[must_use]
    pub fn over(&self) -> Option<Stopped> {
        self.limits.over()
    }

    /// How a run ends on a kernel that can't be trusted any more.
    #[must_use]
    pub fn damaged(&self) -> Option<RunEnd> {
        (!self.limits.keep_going).then_some(RunEnd::Damaged)
    }

    /// Shows how far the sweep is, now and then.
    pub fn progress(&mut self) {
        let Self { recorder, limits, earlier_failures, progress, .. } = self;
        progress.show(|| {
            let state = recorder.state();
            let elapsed = limits.start.elapsed();
            let failures = state.tested().failures() - *earlier_failures;
            let rate = failures as f64 / elapsed.as_secs_f64().max(0.001);
            let left = |budget: Duration| format!(", {} s left", budget.saturating_sub(elapsed).as_secs());
            format!(
                "{} of {} sites done, {rate:.0}/s, {} findings, {} s{}",
                state.tested().finished(),
                state.sites().len(),
                state.suspicion().titles(),
                elapsed.as_secs(),
                limits.budget.map_or(String::new(), left)
            )
        });
    }

    /// Tells the user something, above the line of progress.
    pub fn say(&mut self, message: std::fmt::Arguments<'_>) {
        self.progress.say(message);
    }
}
