//! Watches a run under the tracer: writes down what came of each failure, and which failure a complaint comes from.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    time::Instant,
};

use injector_common::attempt::Attempt;
use nix::errno::Errno;
use tracing::warn;

use super::observer::Observer;
use crate::{
    exit::Result,
    journal::{
        Level, Record, Signature, Verdict,
        record::{Failed, Outcome, RunEnd, Syscall, Trouble},
    },
    oracle::{
        Complaint, Kind,
        slabs::{self, SlabReader, Slabs},
    },
    sweep::{
        classify, clock, hang,
        schedule::{Mode, RunSpec, Tuning},
        tracer::{self, Call, Error, Failure, Watcher},
    },
};

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
/// Errors that say which names there are.
const NAMES: &[Errno] =
    &[Errno::ENOENT, Errno::EEXIST, Errno::ENOTDIR, Errno::EISDIR, Errno::ENOTEMPTY, Errno::ENODATA];
/// What a run under the tracer showed, beside what is in the journal.
#[derive(Debug, Default)]
pub struct RunStats {
    /// Sites that failed.
    pub failed: BTreeSet<Signature>,
    /// Errors that system calls returned without a failure in them, and how often.
    pub errors: Errors,
}

/// How often which call returned which error.
pub type Errors = HashMap<(Call, Error), u32>;

/// What the watcher of a run must know of it.
#[derive(Debug)]
pub struct RunMode {
    /// Its number.
    pub run: u32,
    /// The name of its level.
    pub level: Level,
    /// [`Aim::is_single`](crate::sweep::schedule::Aim::is_single).
    single: bool,
    /// The site that fails first in an attempt, where the run is of two.
    first: Option<Signature>,
    /// Several may fail in one attempt, and in kernel threads meanwhile.
    several: bool,
    /// Failures repeat, to see slab caches grow.
    growth: bool,
    /// How many failures of a site there may be in one system call, where that is more than one.
    persistent: Option<u32>,
}

impl RunMode {
    /// Of a run with this number.
    #[must_use]
    pub fn new(run: u32, spec: &RunSpec, persistent: Option<u32>) -> Self {
        let (several, growth) = match spec.mode {
            Mode::Traced(traced) => (traced.several, traced.growth),
            Mode::Untraced => (false, false),
        };
        let single = spec.aim.is_single();
        let first = spec.aim.first();
        Self { run, level: spec.level.clone(), single, first, several, growth, persistent }
    }

    /// A complaint can only come from the last failure. Of several at once nobody knows which it was.
    fn are_certain(&self) -> bool {
        !self.several || self.single
    }
}

/// Watches a run under the tracer.
pub struct RunMonitor<'a> {
    observer: &'a mut Observer,
    mode: RunMode,
    tuning: &'a Tuning,
    /// What system calls return in a run without failures.
    normal: &'a Errors,
    /// How many attempts had a failure.
    failed: u64,
    last_failure: Option<Instant>,
    /// The same error, without a failure in between: how often.
    in_a_row: Option<(Error, u32)>,
    /// Failures of this run with those before them, latest first.
    recent: VecDeque<(Signature, Option<Signature>)>,
    stats: RunStats,
    /// Something failed in a kernel thread, and no system call was retried for it yet.
    elsewhere: bool,
    /// The kernel has complained.
    complained: bool,
    /// The site whose failure repeats, how often it did, and the slab caches meanwhile.
    repeated: Option<(Signature, u64, Vec<Slabs>)>,
}

impl<'a> RunMonitor<'a> {
    /// Watches a run. `normal`: errors that system calls return without any failure.
    pub fn new(observer: &'a mut Observer, mode: RunMode, tuning: &'a Tuning, normal: &'a Errors) -> Self {
        observer.rearm();
        Self {
            observer,
            mode,
            tuning,
            normal,
            failed: 0,
            last_failure: None,
            in_a_row: None,
            recent: VecDeque::new(),
            stats: RunStats::default(),
            elsewhere: false,
            complained: false,
            repeated: None,
        }
    }

    /// What the run showed.
    #[must_use]
    pub fn into_stats(self) -> RunStats {
        self.stats
    }

    /// The failures of an attempt are now the last ones, if they are not already.
    fn remember(&mut self, attempt: &Attempt) {
        for failure in failures(attempt, self.mode.first) {
            self.recent.retain(|known| *known != failure);
            self.recent.push_front(failure);
        }
        self.recent.truncate(self.tuning.late_suspects);
    }

    /// The last failures, latest first.
    fn suspects(&self) -> Vec<Signature> {
        self.recent.iter().map(|(site, _)| *site).collect()
    }

    /// Whether the last failure is the one that the kernel complains of. A warning that comes later, or from another task,
    /// may be the last one's or an earlier one's. What is worse is taken to be the last one's: every try of a suspect would
    /// cost a boot.
    fn is_certain(&self, verdict: Verdict, splat: &str, task: Option<u32>) -> bool {
        self.mode.are_certain()
            && (verdict >= Verdict::Hang
                || self.mode.growth
                || self.failed == 1
                || task.is_some_and(|tid| names_task(splat, tid)))
    }

    /// Writes down what the kernel complains of. `task`: whose attempt with a failure has just ended; `under_way`: attempts that
    /// had failures and are not over. Some: it is not fit for more.
    fn trouble(
        &mut self,
        complaints: Vec<Complaint>,
        task: Option<u32>,
        under_way: &[Attempt],
    ) -> Result<Option<RunEnd>> {
        let mut end = None;
        if !complaints.is_empty() {
            self.complained = true;
            // One of them may be a check that speaks once: the next failure may be another's.
            self.observer.rearm();
        }
        for complaint in complaints {
            // The kernel speaks before the task comes back from the call, if it ever does.
            let culprit = under_way.iter().find(|attempt| names_task(&complaint.splat, attempt.tid));
            let mut candidates: Vec<&Attempt> = culprit.into_iter().collect();
            if task.is_none() && culprit.is_none() {
                // It names nobody: then it may be of any of them.
                candidates.extend(under_way);
            }
            candidates.iter().for_each(|attempt| self.remember(attempt));
            let task = culprit.map(|attempt| attempt.tid).or(task);
            let verdict = Verdict::from(complaint.kind);
            let certain = candidates.len() < 2 && self.is_certain(verdict, &complaint.splat, task);
            let last = self.recent.front().copied().filter(|_| certain);
            if verdict >= Verdict::Hang && !complaint.title.starts_with(RETRIES) {
                end = self.observer.damaged();
            }
            let mut suspects: Vec<Signature> = self.suspects().into_iter().skip(last.is_some().into()).collect();
            if last.is_none()
                && let Some(attempt) = culprit
            {
                // Of an attempt with several failures any may be it, not only the last ones.
                let others = failures(attempt, None).into_iter().map(|(failed, _)| failed);
                suspects.extend(others.filter(|other| !suspects.contains(other)).collect::<Vec<_>>());
            }
            self.observer.complain(self.mode.run, complaint, last, suspects)?;
        }
        Ok(end)
    }
}

/// The failures of an attempt in order, each with the one that led to it. `pair`: the site that leads to the other, where the run
/// is of two.
fn failures(attempt: &Attempt, pair: Option<Signature>) -> Vec<(Signature, Option<Signature>)> {
    let named = (attempt.failed as usize).min(attempt.sites.len());
    let mut failures: Vec<(Signature, Option<Signature>)> = Vec::with_capacity(named);
    for site in attempt.sites[..named].iter().copied().map(Signature) {
        let first = failures.first().map(|(first, _)| *first);
        // Persistent failures are of one site.
        if first != Some(site) {
            // Of several, nobody knows which one led to it.
            failures.push((site, first.filter(|_| attempt.multi == 0 || first == pair)));
        }
    }
    failures
}

impl Watcher for RunMonitor<'_> {
    fn failed(&mut self, attempt: &Attempt, under_way: &[Attempt]) -> Result<Option<RunEnd>> {
        self.in_a_row = None;
        self.failed += 1;
        self.last_failure = Some(Instant::now());
        self.remember(attempt);
        self.observer.injector.heartbeat();
        // Of several failures nobody knows which one leads to a site that came up after them.
        let first = (attempt.multi == 0 || attempt.failed == 1).then_some(Signature(attempt.sites[0]));
        self.observer.drain(first)?;
        let in_attempt = |site: &Signature| attempt.sites.contains(&site.0);
        self.elsewhere |= !self.observer.injector.take_failed().iter().all(in_attempt);
        let mut complaints = self.observer.log.poll();
        if self.mode.growth {
            complaints.extend(self.growth(Signature(attempt.sites[0])));
        }
        self.trouble(complaints, Some(attempt.tid), under_way)
    }

    fn outcome(&mut self, failure: Failure) -> Result<()> {
        let Failure { attempt, call, result, mut outcome } = failure;
        if let (Outcome::NotRepeatable { error, then }, Some(call)) = (&outcome, call) {
            if error == then && (self.is_normal(call, then) || self.was_so_before(then)) {
                // That is what the call returns anyway.
                outcome = Outcome::Masked;
            } else if self.is_normal(call, then) {
                outcome = Outcome::of_error(error.clone());
            }
        }
        if self.mode.growth {
            // Known from before.
            return Ok(());
        }
        self.retries(&attempt)?;
        let failures = failures(&attempt, self.mode.first);
        if attempt.repeated != 0 && failures.len() == 1 {
            // Only done again to get at what lies behind it.
            self.stats.failed.insert(failures[0].0);
            return Ok(());
        }
        let syscall = call.map(|call| Syscall { name: call.name(), result });
        let last = failures.len().saturating_sub(1);
        for (i, (site, after)) in failures.into_iter().enumerate() {
            if i < last && attempt.multi == 0 {
                // The first of two has failed alone before.
                continue;
            }
            // The kernel went on to the next, so it got past this one.
            let outcome = if i < last { Outcome::Masked } else { outcome.clone() };
            self.stats.failed.insert(site);
            let failed = Failed {
                run: self.mode.run,
                site,
                after,
                hit: attempt.hit,
                times: if attempt.multi == 0 { attempt.failed - u32::from(after.is_some()) } else { 1 },
                level: self.mode.level.clone(),
                call: self.observer.injector.call(site).cloned(),
                syscall: syscall.clone(),
                outcome,
            };
            let record = Record::Failed(failed);
            if i < last { self.observer.note(&record)? } else { self.observer.sync(&record)? }
        }
        Ok(())
    }

    fn error(&mut self, call: Call, error: Error) -> Option<RunEnd> {
        *self.stats.errors.entry((call, error)).or_default() += 1;
        if !BROKEN.iter().any(|broken| Error::from(*broken) == error) || self.recent.is_empty() {
            return None;
        }
        let count = match self.in_a_row {
            Some((last, count)) if last == error => count + 1,
            _ => 1,
        };
        self.in_a_row = Some((error, count));
        let normal: u32 = self.normal.iter().filter(|((_, of), _)| *of == error).map(|(_, count)| count).sum();
        (count > self.tuning.stuck_after + normal).then_some(RunEnd::Stuck)
    }

    fn elsewhere(&mut self, call: Call, error: Error) -> Result<bool> {
        if self.normal.contains_key(&(call, error)) {
            return Ok(false);
        }
        self.observer.drain(None)?;
        for site in self.observer.injector.take_failed() {
            self.elsewhere = true;
            self.last_failure = Some(Instant::now());
            self.recent.push_front((site, None));
        }
        self.recent.truncate(self.tuning.late_suspects);
        Ok(std::mem::take(&mut self.elsewhere))
    }

    fn hangs(&mut self, tid: u32, attempt: Option<&Attempt>, call: Option<Call>) -> Result<()> {
        let stack = tracer::kernel_stack(tid);
        if let Some(attempt) = attempt {
            self.remember(attempt);
        }
        // Late complaints come first: they say more.
        let complaints = self.observer.log.poll();
        let explained = complaints.iter().any(|complaint| Verdict::from(complaint.kind) >= Verdict::Hang);
        self.trouble(complaints, None, &[])?;
        let call = call.map_or("user space".to_owned(), Call::name);
        let waits_in = hang::what_waits(&stack);
        let for_a_peer = waits_in.is_some_and(hang::is_for_a_peer);
        if !explained && !for_a_peer && !self.recent.is_empty() {
            let title = format!("task hung in {}", waits_in.unwrap_or(&call));
            let splat = format!("a task did not come back from {call}:\n{}", stack.join("\n"));
            self.trouble(vec![Complaint { kind: Kind::Hang, title, splat }], None, &[])?;
        }
        Ok(())
    }

    fn tick(&mut self, under_way: &[Attempt]) -> Result<Option<RunEnd>> {
        self.observer.injector.heartbeat();
        self.observer.drain(None)?;
        // What kernel threads were failed at; the others are told by their attempts.
        for site in self.observer.injector.take_failed() {
            self.elsewhere = true;
            self.last_failure = Some(Instant::now());
            if self.mode.several && !self.recent.iter().any(|(recent, _)| *recent == site) {
                self.recent.push_front((site, None));
            }
        }
        let complaints = self.observer.log.poll();
        if !complaints.is_empty()
            && let Some(end) = self.trouble(complaints, None, under_way)?
        {
            return Ok(Some(end));
        }
        self.observer.progress();
        Ok(self.observer.over().map(|_| RunEnd::Interrupted))
    }

    fn last_failure(&self) -> Option<Instant> {
        self.last_failure
    }
}

impl RunMonitor<'_> {
    /// Whether a system call returns an error without injection now and then.
    fn is_normal(&self, call: Call, error: &str) -> bool {
        self.normal.keys().any(|(of, normal)| *of == call && normal.to_string() == error)
    }

    /// Whether an error that a call returns with a failure and without is none of that failure's doing: it says which names there
    /// are; or something is broken, and other calls of this run have returned it, too.
    fn was_so_before(&self, error: &str) -> bool {
        let is = |errno: &Errno| Error::from(*errno).to_string() == error;
        let seen = || self.stats.errors.keys().any(|(_, seen)| seen.to_string() == error);
        NAMES.iter().any(is) || (BROKEN.iter().any(is) && seen())
    }

    /// A call that comes to the same site again and again, however often that fails, would never come back.
    fn retries(&mut self, attempt: &Attempt) -> Result<()> {
        let site = Signature(attempt.sites[0]);
        let Some(limit) = self.mode.persistent.filter(|limit| attempt.failed >= *limit) else { return Ok(()) };
        let function = self.observer.injector.site(site).and_then(classify::caller).unwrap_or_default();
        let title = format!("{RETRIES} in {function}");
        let splat = format!("{limit} failures of the same site in one call, and it tried again after each");
        self.trouble(vec![Complaint { kind: Kind::Hang, title, splat }], None, &[]).map(drop)
    }

    /// Looks at the slab caches after the first, the middle and the last repeat of a failure.
    fn growth(&mut self, site: Signature) -> Vec<Complaint> {
        if self.repeated.as_ref().is_none_or(|(of, ..)| *of != site) {
            self.repeated = Some((site, 0, Vec::new()));
        }
        let Some((_, times, readings)) = &mut self.repeated else { return Vec::new() };
        *times += 1;
        let repeats = self.tuning.growth_repeats;
        if ![1, repeats / 2 + 1, repeats].contains(times) {
            return Vec::new();
        }
        match SlabReader::new(self.observer.files().clone()).and_then(|mut reader| reader.read()) {
            Ok(reading) => readings.push(reading),
            Err(error) => warn!("can't see slab caches grow: {error}"),
        }
        let [before, middle, after] = readings.as_slice() else { return Vec::new() };
        let function = self.observer.injector.site(site).and_then(classify::caller).unwrap_or_default();
        let grown = slabs::leaks([before, middle, after], repeats - 2, |_| 0);
        grown.iter().map(|growth| growth.complaint(&function, repeats)).collect()
    }

    /// Writes down which error nothing got past any more.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn wedged(&mut self) -> Result<()> {
        let (Some((error, _)), Some((site, after))) = (self.in_a_row, self.recent.front().copied()) else {
            return Ok(());
        };
        let error = error.to_string();
        if !self.mode.are_certain() {
            let title = Outcome::wedged_title(&error);
            let (run, verdict, suspects) = (self.mode.run, Verdict::Wedged, self.suspects());
            let trouble = Trouble { run, verdict, title, splat: String::new(), site: None, after: None, suspects };
            return self.observer.sync(&Record::Trouble(trouble));
        }
        let failed = Failed {
            run: self.mode.run,
            site,
            after,
            hit: 1,
            times: 1,
            level: self.mode.level.clone(),
            call: self.observer.injector.call(site).cloned(),
            syscall: None,
            outcome: Outcome::Wedged { error },
        };
        self.observer.sync(&Record::Failed(failed))
    }

    /// Makes slab caches as empty as they can be.
    pub fn empty_slabs(&mut self) {
        self.observer.empty_slabs();
    }

    /// Gives late complaints a moment, and writes them down.
    ///
    /// # Errors
    /// When they can't be written.
    pub fn settle(&mut self) -> Result<Option<RunEnd>> {
        let start = Instant::now();
        let mut end = None;
        loop {
            let complaints = self.observer.log.flush();
            let seen = self.trouble(complaints, None, &[])?;
            end = end.or(seen);
            if start.elapsed() > clock::MOMENT {
                break;
            }
            std::thread::sleep(clock::MOMENT / 2);
        }
        let damage = self.observer.tainted(self.complained);
        let seen = self.trouble(damage.into_iter().collect(), None, &[])?;
        Ok(end.or(seen))
    }
}

/// Whether a splat is of what a task did: `CPU: 1 UID: 0 PID: 531 Comm: mount`, `by task mount/531`, `pid: 531, name: mount`.
fn names_task(splat: &str, tid: u32) -> bool {
    let tid = tid.to_string();
    splat.match_indices(&tid).any(|(at, _)| {
        let digit = |c: Option<char>| c.is_some_and(|c| c.is_ascii_digit());
        let before = &splat[..at];
        let named = ["PID: ", "pid: ", "/"].iter().any(|prefix| before.ends_with(prefix));
        named && !digit(splat[at + tid.len()..].chars().next())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_a_splat_is() {
        let warning = "WARNING: CPU: 1 PID: 531 at fs/proc/generic.c:733 remove_proc_entry+0x116/0x180";
        assert!(names_task(warning, 531));
        assert!(!names_task(warning, 53) && !names_task(warning, 31) && !names_task(warning, 733));
        assert!(names_task("Read of size 8 at addr ffff888003a41a00 by task mount/531", 531));
        assert!(names_task("in_atomic(): 1, irqs_disabled(): 0, non_block: 0, pid: 531, name: mount", 531));
    }
}
