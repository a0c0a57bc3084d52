//! A pass: one run of the workload under the tracer, in which every site that may still be failed is failed once, and each
//! failure is looked at by itself.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    time::Instant,
};

use injector_common::attempt::Attempt;
use nix::errno::Errno;
use tracing::warn;

use super::{
    Experiment, Verdict, clock,
    journal::{
        Record, Signature,
        record::{Failed, Level, Outcome, RunEnd, Syscall, Trouble},
    },
    oracle::{
        Complaint,
        slabs::{self, Settler, Slabs},
    },
    place,
    tracer::{self, Call, Error, Failure, Watcher},
    waits,
};
use crate::exit::Result;
use crate::kernel::KernelFiles;

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
/// Errors that say which names there are.
const NAMES: &[Errno] =
    &[Errno::ENOENT, Errno::EEXIST, Errno::ENOTDIR, Errno::EISDIR, Errno::ENOTEMPTY, Errno::ENODATA];
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
pub type Errors = HashMap<(Call, Error), u32>;

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
    /// How many attempts had a failure.
    failed: u64,
    last_failure: Option<Instant>,
    /// The same error, without a failure in between: how often.
    in_a_row: Option<(Error, u32)>,
    /// Failures of this run with those before them, latest first.
    recent: VecDeque<(Signature, Option<Signature>)>,
    found: Yield,
    /// Something was failed in a kernel thread, and no call was made again for it yet.
    elsewhere: bool,
    /// The kernel has complained.
    complained: bool,
    /// The site whose failure is being repeated, how often it was, and the slab caches meanwhile.
    repeated: Option<(Signature, u64, Vec<Slabs>)>,
}

impl<'a> Pass<'a> {
    /// Follows run number `run`. `normal`: errors that calls return without any failure.
    pub fn new(experiment: &'a mut Experiment, run: u32, terms: Terms, normal: &'a Errors) -> Self {
        let (recent, found) = (VecDeque::new(), Yield::default());
        let (in_a_row, repeated) = (None, None);
        let (elsewhere, complained) = (false, false);
        experiment.rearm();
        Self {
            experiment,
            run,
            terms,
            normal,
            failed: 0,
            last_failure: None,
            in_a_row,
            recent,
            found,
            elsewhere,
            complained,
            repeated,
        }
    }

    /// What it found out.
    #[must_use]
    pub fn into_yield(self) -> Yield {
        self.found
    }

    /// The failures of an attempt are now the last ones, if they are not already.
    fn remember(&mut self, attempt: &Attempt) {
        for failure in failures(attempt) {
            self.recent.retain(|known| *known != failure);
            self.recent.push_front(failure);
        }
        self.recent.truncate(SUSPECTS);
    }

    /// The last failures, latest first.
    fn suspects(&self) -> Vec<Signature> {
        self.recent.iter().map(|(site, _)| *site).collect()
    }

    /// Whether the last failure is the one that the kernel complains of. A warning that comes later, or from another task,
    /// may be the last one's or an earlier one's. What is worse is taken to be the last one's: every try of a suspect would
    /// cost a boot.
    fn is_certain(&self, verdict: Verdict, splat: &str, task: Option<u32>) -> bool {
        self.terms.are_certain()
            && (verdict >= Verdict::Hang
                || self.terms.repeating
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
            self.experiment.rearm();
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
            let (site, after) = last.map_or((None, None), |(site, after)| (Some(site), after));
            if verdict >= Verdict::Hang && !complaint.title.starts_with(RETRIES) {
                end = self.experiment.damaged();
            }
            let mut suspects: Vec<Signature> = self.suspects().into_iter().skip(site.is_some().into()).collect();
            if site.is_none()
                && let Some(attempt) = culprit
            {
                // Of a crowd's attempt any failure may be it, not only the last ones.
                let others = failures(attempt).into_iter().map(|(failed, _)| failed);
                suspects.extend(others.filter(|other| !suspects.contains(other)).collect::<Vec<_>>());
            }
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
            failures.push((site, first.filter(|_| attempt.multi == 0)));
        }
    }
    failures
}

impl Watcher for Pass<'_> {
    fn failed(&mut self, attempt: &Attempt, under_way: &[Attempt]) -> Result<Option<RunEnd>> {
        self.in_a_row = None;
        self.failed += 1;
        self.last_failure = Some(Instant::now());
        self.remember(attempt);
        self.experiment.lab.heartbeat();
        self.experiment.drain((attempt.multi == 0).then_some(Signature(attempt.sites[0])))?;
        let in_attempt = |site: &Signature| attempt.sites.contains(&site.0);
        self.elsewhere |= !self.experiment.lab.take_failed().iter().all(in_attempt);
        let mut complaints = self.experiment.oracle.poll();
        if self.terms.repeating {
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
        if self.terms.repeating {
            // Known from before.
            return Ok(());
        }
        self.retries(&attempt)?;
        let failures = failures(&attempt);
        if attempt.repeated != 0 && failures.len() == 1 {
            // Only done again to get at what lies behind it.
            self.found.sites.insert(failures[0].0);
            return Ok(());
        }
        let syscall = call.map(|call| Syscall { name: call.name(), result });
        let last = failures.len().saturating_sub(1);
        for (i, (site, after)) in failures.into_iter().enumerate() {
            if i < last && attempt.multi == 0 {
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
                times: if attempt.multi == 0 { attempt.failed - u32::from(after.is_some()) } else { 1 },
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

    fn error(&mut self, call: Call, error: Error) -> Option<RunEnd> {
        *self.found.errors.entry((call, error)).or_default() += 1;
        if !BROKEN.iter().any(|broken| Error::from(*broken) == error) || self.recent.is_empty() {
            return None;
        }
        let count = match self.in_a_row {
            Some((last, count)) if last == error => count + 1,
            _ => 1,
        };
        self.in_a_row = Some((error, count));
        let normal: u32 = self.normal.iter().filter(|((_, of), _)| *of == error).map(|(_, count)| count).sum();
        (count > STUCK_AFTER + normal).then_some(RunEnd::Stuck)
    }

    fn elsewhere(&mut self, call: Call, error: Error) -> Result<bool> {
        if self.normal.contains_key(&(call, error)) {
            return Ok(false);
        }
        self.experiment.drain(None)?;
        for site in self.experiment.lab.take_failed() {
            self.elsewhere = true;
            self.last_failure = Some(Instant::now());
            self.recent.push_front((site, None));
        }
        self.recent.truncate(SUSPECTS);
        Ok(std::mem::take(&mut self.elsewhere))
    }

    fn hangs(&mut self, tid: u32, attempt: Option<&Attempt>, call: Option<Call>) -> Result<()> {
        let stack = tracer::kernel_stack(tid);
        if let Some(attempt) = attempt {
            self.remember(attempt);
        }
        // Late complaints come first: they say more.
        let complaints = self.experiment.oracle.poll();
        let explained = complaints.iter().any(|complaint| Verdict::from(complaint.kind) >= Verdict::Hang);
        self.trouble(complaints, None, &[])?;
        let call = call.map_or("user space".to_owned(), Call::name);
        let waits_in = waits::what_waits(&stack);
        let for_a_peer = waits_in.is_some_and(waits::is_for_a_peer);
        if !explained && !for_a_peer && !self.recent.is_empty() {
            let title = format!("task hung in {}", waits_in.unwrap_or(&call));
            let splat = format!("a task did not come back from {call}:\n{}", stack.join("\n"));
            self.trouble(vec![Complaint { kind: super::oracle::Kind::Hang, title, splat }], None, &[])?;
        }
        Ok(())
    }

    fn tick(&mut self, under_way: &[Attempt]) -> Result<Option<RunEnd>> {
        self.experiment.lab.heartbeat();
        self.experiment.drain(None)?;
        // What kernel threads were failed at; the others are told by their attempts.
        for site in self.experiment.lab.take_failed() {
            self.elsewhere = true;
            self.last_failure = Some(Instant::now());
            if self.terms.level == Level::Crowd && !self.recent.iter().any(|(recent, _)| *recent == site) {
                self.recent.push_front((site, None));
            }
        }
        let complaints = self.experiment.oracle.poll();
        if !complaints.is_empty()
            && let Some(end) = self.trouble(complaints, None, under_way)?
        {
            return Ok(Some(end));
        }
        self.experiment.progress();
        Ok(self.experiment.is_over().then_some(RunEnd::Interrupted))
    }

    fn last_failure(&self) -> Option<Instant> {
        self.last_failure
    }
}

impl Pass<'_> {
    /// Whether a call returns an error by itself now and then.
    fn is_normal(&self, call: Call, error: &str) -> bool {
        self.normal.keys().any(|(of, normal)| *of == call && normal.to_string() == error)
    }

    /// Whether an error that a call returns with a failure and without is none of that failure's doing: it says which names there
    /// are; or something is broken, and other calls of this run have returned it, too.
    fn was_so_before(&self, error: &str) -> bool {
        let is = |errno: &Errno| Error::from(*errno).to_string() == error;
        let seen = || self.found.errors.keys().any(|(_, seen)| seen.to_string() == error);
        NAMES.iter().any(is) || (BROKEN.iter().any(is) && seen())
    }

    /// A call that comes to the same site again and again, however often that fails, would never come back.
    fn retries(&mut self, attempt: &Attempt) -> Result<()> {
        let site = Signature(attempt.sites[0]);
        let Some(limit) = self.experiment.persistent.filter(|limit| attempt.failed >= *limit) else { return Ok(()) };
        let function = self.experiment.lab.site(site).and_then(place::caller).unwrap_or_default();
        let title = format!("{RETRIES} in {function}");
        let splat = format!("{limit} failures of the same site in one call, and it tried again after each");
        self.trouble(vec![Complaint { kind: super::oracle::Kind::Hang, title, splat }], None, &[]).map(drop)
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
        let error = error.to_string();
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

    /// Makes slab caches as empty as they can be.
    pub fn empty_slabs(&mut self) {
        self.experiment.empty_slabs();
    }

    /// Gives late complaints a moment, and writes them down.
    ///
    /// # Errors
    /// When they can't be written.
    pub fn settle(&mut self) -> Result<Option<RunEnd>> {
        let start = Instant::now();
        let mut end = None;
        loop {
            let complaints = self.experiment.oracle.flush();
            let seen = self.trouble(complaints, None, &[])?;
            end = end.or(seen);
            if start.elapsed() > clock::MOMENT {
                break;
            }
            std::thread::sleep(clock::MOMENT / 2);
        }
        let damage = self.experiment.tainted(self.complained);
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
