//! A pass: one run of the workload under the tracer, in which every site that may still be failed is failed once, and each
//! failure is looked at by itself.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    time::{Duration, Instant},
};

use anyhow::Result;
use injector_common::attempt::Attempt;
use nix::errno::Errno;
use tracing::warn;

use super::{
    Experiment, Verdict,
    journal::{
        Record, Signature,
        record::{Failed, Level, Outcome, RunEnd, Syscall, Trouble},
    },
    oracle::{
        Complaint,
        slabs::{self, Settler, Slabs},
    },
    place,
    tracer::{self, Call, Failure, Watcher},
};
use crate::{events::frames, kernel::KernelFiles};

/// How often a failure is repeated to see a slab cache grow.
pub const REPEATS: u64 = 16;

/// How the title of a call begins that does not come back as long as its allocations fail. It does no damage.
const RETRIES: &str = "tries again for ever";

/// Errors that say that something is broken for good, when they come again and again.
const BROKEN: &[Errno] = &[
    Errno::EROFS,
    Errno::EIO,
    Errno::EUCLEAN,
    Errno::EBUSY,
    Errno::ESHUTDOWN,
    Errno::ESTALE,
    Errno::ENODEV,
    Errno::ENXIO,
    Errno::ENOSPC,
    Errno::ENOTCONN,
    Errno::EPIPE,
    Errno::ETIMEDOUT,
];
/// So often in a row, and the workload gets nowhere any more.
const STUCK_AFTER: u32 = 24;
/// How many earlier failures may be the cause of a complaint that comes later.
const SUSPECTS: usize = 8;

/// What a pass found out, beside what it wrote down.
#[derive(Debug, Default)]
pub struct Yield {
    /// How many failures there were.
    pub failures: u64,
    /// Where.
    pub sites: BTreeSet<Signature>,
    /// Errors that calls returned by themselves, and how often.
    pub errors: Errors,
}

/// How often which call returned which error.
pub type Errors = HashMap<(Call, i32), u32>;

/// How a run fails sites.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Where.
    pub level: Level,
    /// How many failures a site may have that nothing was said about.
    pub allowed: u64,
    /// Failures are repeated, to see slab caches grow.
    pub repeating: bool,
}

impl Terms {
    /// Of each site that nothing was said about, one failure where it is reached; none at the recording level.
    pub fn each(level: Level) -> Self {
        Self { level, allowed: 1, repeating: false }
    }

    /// Only of the sites that were named.
    pub fn named(level: Level) -> Self {
        Self { level, allowed: 0, repeating: false }
    }

    /// A complaint can only be of the last failure: of several at once nobody knows which it was.
    fn are_certain(self) -> bool {
        self.level != Level::Crowd || self.allowed == 0
    }
}

/// Follows a run under the tracer.
pub struct Pass<'a> {
    experiment: &'a mut Experiment,
    run: u32,
    terms: Terms,
    /// What calls return in a run without failures.
    normal: &'a Errors,
    /// The same error, without a failure in between: how often.
    in_a_row: Option<(Errno, u32)>,
    /// Failures of this run with those before them, latest first.
    recent: VecDeque<(Signature, Option<Signature>)>,
    found: Yield,
    /// The site whose failure is being repeated, how often it was, and the slab caches meanwhile.
    repeated: Option<(Signature, u64, Vec<Slabs>)>,
}

impl<'a> Pass<'a> {
    /// Follows run number `run`. `normal`: errors that calls return without any failure.
    pub fn new(experiment: &'a mut Experiment, run: u32, terms: Terms, normal: &'a Errors) -> Self {
        let (recent, found) = (VecDeque::new(), Yield::default());
        Self { experiment, run, terms, normal, in_a_row: None, recent, found, repeated: None }
    }

    /// What it found out.
    #[must_use]
    pub fn into_yield(self) -> Yield {
        self.found
    }

    /// The last failures, latest first.
    fn suspects(&self) -> Vec<Signature> {
        self.recent.iter().map(|(site, _)| *site).collect()
    }

    /// Writes down what the kernel complains of. Some: it is not fit for more.
    fn trouble(&mut self, complaints: Vec<Complaint>) -> Result<Option<RunEnd>> {
        let mut end = None;
        for complaint in complaints {
            let last = self.recent.front().copied().filter(|_| self.terms.are_certain());
            let (site, after) = last.map_or((None, None), |(site, after)| (Some(site), after));
            let verdict = Verdict::from(complaint.kind);
            if verdict >= Verdict::Hang && !complaint.title.starts_with(RETRIES) {
                end = self.experiment.damaged();
            }
            let suspects = self.suspects().into_iter().skip(site.is_some().into()).collect();
            let Complaint { title, splat, .. } = complaint;
            self.experiment.note(Record::Trouble(Trouble {
                run: self.run,
                verdict,
                title,
                splat,
                site,
                after,
                suspects,
            }))?;
        }
        Ok(end)
    }
}

/// The failures of an attempt in order, each with the one that led to it.
fn failures(attempt: &Attempt) -> Vec<(Signature, Option<Signature>)> {
    let named = (attempt.failed as usize).min(attempt.sites.len());
    let mut failures: Vec<(Signature, Option<Signature>)> = Vec::with_capacity(named);
    for site in attempt.sites[..named].iter().copied().map(Signature) {
        let first = failures.first().map(|(first, _)| *first);
        // Persistent failures are of one site.
        if first != Some(site) {
            failures.push((site, first.filter(|_| attempt.crowd == 0)));
        }
    }
    failures
}

impl Watcher for Pass<'_> {
    fn failed(&mut self, attempt: &Attempt) -> Result<Option<RunEnd>> {
        self.in_a_row = None;
        for failure in failures(attempt) {
            self.recent.push_front(failure);
        }
        self.recent.truncate(SUSPECTS);
        self.experiment.rearm();
        self.experiment.lab.heartbeat();
        self.experiment.drain((attempt.crowd == 0).then_some(Signature(attempt.sites[0])))?;
        self.experiment.lab.take_failed();
        let mut complaints = self.experiment.oracle.poll();
        if self.terms.repeating {
            complaints.extend(self.growth(Signature(attempt.sites[0])));
        }
        self.trouble(complaints)
    }

    fn outcome(&mut self, failure: Failure) -> Result<()> {
        let Failure { attempt, call, result, mut outcome } = failure;
        if let (Outcome::NotRepeatable { then, .. }, Some(call)) = (&outcome, call)
            && self.normal.keys().any(|(of, error)| *of == call && tracer::error_name(Errno::from_raw(*error)) == *then)
        {
            // That is what the call returns anyway.
            outcome = Outcome::Clean;
        }
        if self.terms.repeating {
            // Known from before.
            return Ok(());
        }
        self.retries(&attempt)?;
        let failures = failures(&attempt);
        if attempt.repeat != 0 && failures.len() == 1 {
            // Only done again to get at what lies behind it.
            return Ok(());
        }
        let syscall = call.map(|call| Syscall { name: call.name(), result });
        let last = failures.len().saturating_sub(1);
        for (i, (site, after)) in failures.into_iter().enumerate() {
            if i < last && attempt.crowd == 0 {
                // The first of two was failed by itself before.
                continue;
            }
            // The kernel went on to the next, so it got past this one.
            let outcome = if i < last { Outcome::Masked } else { outcome.clone() };
            self.found.failures += 1;
            self.found.sites.insert(site);
            let failed = Failed {
                run: self.run,
                site,
                after,
                hit: attempt.hit,
                times: if attempt.crowd == 0 { attempt.failed - u32::from(after.is_some()) } else { 1 },
                level: self.terms.level,
                call: self.experiment.lab.call(site).cloned(),
                syscall: syscall.clone(),
                outcome,
            };
            let record = Record::Failed(failed);
            if i < last { self.experiment.note(record)? } else { self.experiment.sync(record)? }
        }
        Ok(())
    }

    fn error(&mut self, call: Call, error: Errno) -> Option<RunEnd> {
        *self.found.errors.entry((call, error as i32)).or_default() += 1;
        if !BROKEN.contains(&error) || self.recent.is_empty() {
            return None;
        }
        let count = match self.in_a_row {
            Some((last, count)) if last == error => count + 1,
            _ => 1,
        };
        self.in_a_row = Some((error, count));
        let normal: u32 = self.normal.iter().filter(|((_, of), _)| *of == error as i32).map(|(_, count)| count).sum();
        (count > STUCK_AFTER + normal).then_some(RunEnd::Stuck)
    }

    fn hangs(&mut self, tid: u32, attempt: Option<&Attempt>, call: Option<Call>) -> Result<()> {
        let stack = tracer::kernel_stack(tid);
        if let Some(attempt) = attempt {
            for failure in failures(attempt) {
                self.recent.push_front(failure);
            }
        }
        // Late complaints come first: they say more.
        let complaints = self.experiment.oracle.poll();
        let explained = complaints.iter().any(|complaint| Verdict::from(complaint.kind) >= Verdict::Hang);
        self.trouble(complaints)?;
        let call = call.map_or("user space".to_owned(), Call::name);
        if !explained && !self.recent.is_empty() {
            let waits_in = stack.iter().map(|frame| frames::function(frame)).find(|name| !is_waiting(name));
            let title = format!("task hung in {}", waits_in.unwrap_or(&call));
            let splat = format!("a task did not come back from {call}:\n{}", stack.join("\n"));
            self.trouble(vec![Complaint { kind: super::oracle::Kind::Hang, title, splat }])?;
        }
        Ok(())
    }

    fn tick(&mut self) -> Result<Option<RunEnd>> {
        self.experiment.lab.heartbeat();
        self.experiment.drain(None)?;
        // What kernel threads were failed at; the others are told by their attempts.
        for site in self.experiment.lab.take_failed() {
            if self.terms.level == Level::Crowd && !self.recent.iter().any(|(recent, _)| *recent == site) {
                self.recent.push_front((site, None));
            }
        }
        let complaints = self.experiment.oracle.poll();
        if !complaints.is_empty()
            && let Some(end) = self.trouble(complaints)?
        {
            return Ok(Some(end));
        }
        self.experiment.progress();
        Ok(self.experiment.is_over().then_some(RunEnd::Interrupted))
    }
}

impl Pass<'_> {
    /// A call that comes to the same site again and again, however often that fails, would never come back.
    fn retries(&mut self, attempt: &Attempt) -> Result<()> {
        let site = Signature(attempt.sites[0]);
        let Some(limit) = self.experiment.persistent.filter(|limit| attempt.failed >= *limit) else { return Ok(()) };
        let function = self.experiment.lab.site(site).and_then(place::caller).unwrap_or_default();
        let title = format!("{RETRIES} in {function}");
        let splat = format!("{limit} failures of the same site in one call, and it tried again after each");
        self.trouble(vec![Complaint { kind: super::oracle::Kind::Hang, title, splat }]).map(drop)
    }

    /// Looks at the slab caches after the first, the middle and the last repeat of a failure.
    fn growth(&mut self, site: Signature) -> Vec<Complaint> {
        let files = KernelFiles::default();
        if self.repeated.as_ref().is_none_or(|(of, ..)| *of != site) {
            self.repeated = Some((site, 0, Vec::new()));
        }
        let Some((_, times, readings)) = &mut self.repeated else { return Vec::new() };
        *times += 1;
        if ![1, REPEATS / 2 + 1, REPEATS].contains(times) {
            return Vec::new();
        }
        match Settler::new(files).and_then(|mut settler| settler.read()) {
            Ok(reading) => readings.push(reading),
            Err(error) => warn!("can't see slab caches grow: {error}"),
        }
        let [before, middle, after] = readings.as_slice() else { return Vec::new() };
        let function = self.experiment.lab.site(site).and_then(place::caller).unwrap_or_default();
        let grown = slabs::leaks([before, middle, after], REPEATS - 2, |_| 0);
        grown.iter().map(|growth| growth.complaint(&function, REPEATS)).collect()
    }

    /// Writes down which error nothing got past any more.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn wedged(&mut self) -> Result<()> {
        let (Some((error, _)), Some((site, after))) = (self.in_a_row, self.recent.front().copied()) else {
            return Ok(());
        };
        let error = tracer::error_name(error);
        if !self.terms.are_certain() {
            let title = format!("{error} again and again");
            let (run, verdict, suspects) = (self.run, Verdict::Wedged, self.suspects());
            let trouble = Trouble { run, verdict, title, splat: String::new(), site: None, after: None, suspects };
            return self.experiment.sync(Record::Trouble(trouble));
        }
        let failed = Failed {
            run: self.run,
            site,
            after,
            hit: 1,
            times: 1,
            level: self.terms.level,
            call: self.experiment.lab.call(site).cloned(),
            syscall: None,
            outcome: Outcome::Wedged { error },
        };
        self.experiment.sync(Record::Failed(failed))
    }

    /// Gives late complaints a moment, and writes them down.
    ///
    /// # Errors
    /// When they can't be written.
    pub fn settle(&mut self) -> Result<Option<RunEnd>> {
        const MOMENT: Duration = Duration::from_millis(20);
        let start = Instant::now();
        let mut end = None;
        loop {
            let complaints = self.experiment.oracle.flush();
            let seen = self.trouble(complaints)?;
            end = end.or(seen);
            if start.elapsed() > MOMENT {
                return Ok(end);
            }
            std::thread::sleep(MOMENT / 2);
        }
    }
}

/// Functions that wait on behalf of their callers: the first frame that is none of them says what hangs.
fn is_waiting(function: &str) -> bool {
    const WAITING: &[&str] = &[
        "schedule",
        "io_schedule",
        "mutex_lock",
        "__mutex_lock",
        "rwsem_",
        "down_",
        "down",
        "__down",
        "wait_for_",
        "wait_woken",
        "__wait_",
        "wait_on_",
        "out_of_line_wait",
        "bit_wait",
        "folio_wait",
        "__folio_lock",
        "do_wait",
        "rt_mutex",
        "msleep",
        "usleep",
        "ptrace_",
        "context_switch",
        "__schedule",
        "preempt_schedule",
        "prepare_to_wait",
        "synchronize_",
        "percpu_rwsem",
        "flush_work",
        "__flush_work",
        "__flush_workqueue",
        "kthread_stop",
        "autoremove",
    ];
    WAITING.iter().any(|prefix| function.starts_with(prefix))
}
