//! Runs the workload under ptrace. Each of its system calls is an attempt. A system call that had a failure and returned an error
//! is retried: the program never learns of it, and one run of an unmodified script walks through all sites of every call.
//!
//! A task stops only after calls that are to be seen, by a signal that the program at the call's end sends it (injector-ebpf,
//! calls.rs): two stops at each call cost a script of short calls as much as all else together. Then, as at an exit stop of
//! ptrace's own, the instruction pointer goes back by the length of the system-call instruction and the accumulator gets the
//! call's number back; all other registers still hold the arguments (arch/x86/entry/entry_64.S, 6.12: only rcx and r11 are
//! clobbered).

mod calls;
mod copies;
mod error;
mod stops;

use std::{
    collections::HashMap,
    io,
    time::{Duration, Instant},
};

use injector_common::attempt::Attempt;
use nix::{
    errno::Errno,
    sys::{
        ptrace,
        signal::Signal,
        wait::{WaitPidFlag, waitpid},
    },
    unistd::Pid,
};

use super::clock::{TICK, Ticker, held_up};
use crate::{
    exit::{Context as _, Result},
    journal::record::{Outcome, RunEnd},
    session::Attempts,
    target::{self, Command, OwnCgroup},
};

pub use calls::Call;
use copies::{Original, ProcessCopy};
pub use error::Error;

/// After this long a workload that was killed is given up.
const KILL_PATIENCE: Duration = Duration::from_secs(10);

/// How a pass makes its attempts.
#[derive(Clone, Copy, Debug)]
pub struct TraceMode {
    /// How many failures an attempt may have; 0: the workload is only watched.
    pub limit: u32,
    /// The same where the first was failed before, and is failed again to get at what lies behind it.
    pub depth: u32,
    /// Whatever may be failed in an attempt is, up to the limit.
    pub several: bool,
    /// Copies of the process make the system calls that can't be retried (execve), until nothing is left in them that may fail.
    pub copies: bool,
    /// A task stops only after calls that are to be seen; else at each, before and after it, as copies need it.
    pub signals: bool,
    /// A task that has not come back from a call for this long hangs.
    pub hang: Duration,
    /// The whole run may take this long.
    pub deadline: Duration,
}

/// A failure, or two, of one attempt, with what came of it.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The failures.
    pub attempt: Attempt,
    /// The call.
    pub call: Option<Call>,
    /// What the call returned.
    pub result: Option<i64>,
    /// What that means.
    pub outcome: Outcome,
}

/// Who is told what the tracer sees, and may end the run.
pub trait Watcher {
    /// An attempt in which something was failed is over: the moment to look at the kernel. `under_way`: attempts of other tasks
    /// that had failures and are not over.
    ///
    /// # Errors
    /// Ends the run.
    fn failed(&mut self, attempt: &Attempt, under_way: &[Attempt]) -> Result<Option<RunEnd>>;
    /// What came of it is known.
    ///
    /// # Errors
    /// Ends the run.
    fn outcome(&mut self, result: Failure) -> Result<()>;
    /// A call returned an error, and nothing had been failed in it.
    fn error(&mut self, call: Call, error: Error) -> Option<RunEnd>;
    /// A call returned an error, and nothing had been failed in it: whether that may come from a failure in a kernel thread
    /// that worked for it, so that it is worth while to retry it.
    ///
    /// # Errors
    /// Ends the run.
    fn elsewhere(&mut self, call: Call, error: Error) -> Result<bool>;
    /// A task hangs: with a failure in the call that it is in, or without one of its own.
    ///
    /// # Errors
    /// Ends the run.
    fn hangs(&mut self, tid: u32, attempt: Option<&Attempt>, call: Option<Call>) -> Result<()>;
    /// Some time has passed. `under_way`: attempts that had failures and are not over.
    ///
    /// # Errors
    /// Ends the run.
    fn tick(&mut self, under_way: &[Attempt]) -> Result<Option<RunEnd>>;
    /// When something was failed the last time, as far as that is known.
    fn last_failure(&self) -> Option<Instant>;
}

/// How a traced run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traced {
    /// Why.
    pub end: RunEnd,
    /// Of the workload itself.
    pub outcome: Option<target::CommandEnd>,
    /// Signals often came when tasks were back in user space: that is no way to stop them.
    pub late: bool,
}

/// A task of the workload.
#[derive(Debug)]
struct Task {
    /// The attempt before, which had a failure; its system call is being retried.
    pending: Option<Pending>,
    /// Attempts of the same call before that one whose errors the call may also return without injection.
    earlier: Vec<Pending>,
    /// Since when it has neither stopped nor begun a call, nor come back from one.
    since: Instant,
    /// How far it was then.
    progress: u64,
    /// It is new: its first stop is not a signal.
    fresh: bool,
    /// The step of the script that it belongs to: the process that repeats it. That one is itself never failed.
    step: Option<i32>,
    /// Copies of it are making its call.
    original: Option<Original>,
    /// It is such a copy.
    copy: Option<ProcessCopy>,
}

/// An attempt with a failure whose system call is being retried.
#[derive(Debug)]
struct Pending {
    attempt: Attempt,
    error: Error,
}

impl Task {
    fn new() -> Self {
        Self {
            pending: None,
            earlier: Vec::new(),
            since: Instant::now(),
            progress: 0,
            fresh: true,
            step: None,
            original: None,
            copy: None,
        }
    }
}

/// A workload under ptrace.
pub struct Tracer<'a, W> {
    attempts: &'a mut Attempts,
    watcher: &'a mut W,
    mode: TraceMode,
    tasks: HashMap<i32, Task>,
    root: Pid,
    outcome: Option<target::CommandEnd>,
    /// Steps that are being repeated as a whole, by the process that does it: failures of the current attempt.
    steps: HashMap<i32, u32>,
    /// Why the run is being ended, and since when.
    ending: Option<(RunEnd, Instant)>,
    last_event: Instant,
    /// How many stops there were by signals, and how many of them after the task had left the call.
    stops: u32,
    late: u32,
}

/// Runs a command that has been started and is stopped, to its end and that of all that it started.
///
/// # Errors
/// When the watcher ends it, or the kernel does not let us trace.
pub fn run<W: Watcher>(
    command: &mut Command,
    cgroup: &OwnCgroup,
    attempts: &mut Attempts,
    watcher: &mut W,
    mode: TraceMode,
) -> Result<Traced> {
    let root = Pid::from_raw(command.pid());
    let options = ptrace::Options::PTRACE_O_TRACESYSGOOD
        | ptrace::Options::PTRACE_O_TRACEFORK
        | ptrace::Options::PTRACE_O_TRACEVFORK
        | ptrace::Options::PTRACE_O_TRACECLONE
        | ptrace::Options::PTRACE_O_TRACEEXEC
        | ptrace::Options::PTRACE_O_EXITKILL;
    ptrace::setoptions(root, options).context("can't trace the workload")?;
    let mut tracer = Tracer {
        attempts,
        watcher,
        mode,
        tasks: HashMap::new(),
        steps: HashMap::new(),
        root,
        outcome: None,
        ending: None,
        last_event: Instant::now(),
        stops: 0,
        late: 0,
    };
    tracer.tasks.insert(root.as_raw(), Task { fresh: false, ..Task::new() });
    tracer.admit(root);
    // Makes waitpid() return now and then.
    let _ticker = Ticker::start()?;
    let result = tracer.go(cgroup);
    let (tasks, outcome) = (std::mem::take(&mut tracer.tasks), tracer.outcome);
    for tid in tasks.keys() {
        tracer.attempts.forget(tid.unsigned_abs());
    }
    if let Some(outcome) = outcome {
        command.has_ended(outcome);
    }
    if result.is_err() {
        cgroup.kill();
    }
    result
}

impl<W: Watcher> Tracer<'_, W> {
    fn go(&mut self, cgroup: &OwnCgroup) -> Result<Traced> {
        let start = Instant::now();
        self.resume(self.root, None);
        let mut last_tick = Instant::now();
        loop {
            match waitpid(None, Some(WaitPidFlag::__WALL)) {
                Ok(status) => {
                    self.last_event = Instant::now();
                    if let Some(end) = self.stop(status)? {
                        self.end(end, cgroup);
                    }
                }
                Err(Errno::EINTR) => {}
                Err(Errno::ECHILD) => break,
                Err(error) => return Err(error).context("can't wait for the workload"),
            }
            // What a workload leaves running has no more to say.
            if self.outcome.is_some() && !self.tasks.is_empty() {
                self.end(RunEnd::Finished, cgroup);
            }
            let between = last_tick.elapsed();
            if between >= TICK {
                last_tick = Instant::now();
                self.excuse(held_up(between));
                if let Some(end) = self.tick(start)? {
                    self.end(end, cgroup);
                }
            }
            if let Some((_, since)) = self.ending
                && since.elapsed() > KILL_PATIENCE
            {
                return Ok(self.traced(RunEnd::Unkillable));
            }
        }
        Ok(self.traced(self.ending.map_or(RunEnd::Finished, |(end, _)| end)))
    }

    fn traced(&self, end: RunEnd) -> Traced {
        const SELDOM: u32 = 4;
        Traced { end, outcome: self.outcome, late: self.late * SELDOM > self.stops }
    }

    /// We were held up for that long: tasks that stood stopped before us, or on a machine that stood still, did not hang.
    fn excuse(&mut self, time: Duration) {
        let now = Instant::now();
        let later = |since: Instant| since.checked_add(time).map_or(now, |since| since.min(now));
        self.last_event = later(self.last_event);
        for task in self.tasks.values_mut() {
            task.since = later(task.since);
        }
    }

    fn end(&mut self, end: RunEnd, cgroup: &OwnCgroup) {
        if self.ending.is_none() {
            self.ending = Some((end, Instant::now()));
            for tid in self.tasks.keys() {
                self.attempts.limit(tid.unsigned_abs(), 0);
            }
            cgroup.kill();
        }
    }

    fn tick(&mut self, start: Instant) -> Result<Option<RunEnd>> {
        if self.ending.is_some() {
            return Ok(None);
        }
        let under_way = self.under_way();
        let seen = self.watcher.tick(&under_way)?;
        if seen.is_some() {
            return Ok(seen);
        }
        let hang = self.mode.hang;
        self.look_around();
        // While failures go on in kernel threads, a task that waits for them does not hang: each may cost it a delay.
        let failure = self.watcher.last_failure();
        let is_long = |since: Instant| failure.map_or(since, |failure| failure.max(since)).elapsed() > hang;
        let hanging = self.tasks.iter().find_map(|(tid, task)| {
            let tid = tid.unsigned_abs();
            let attempt = self.attempts.failed_in_call(tid)?;
            is_long(task.since).then_some((tid, attempt, Call(attempt.call)))
        });
        if let Some((tid, attempt, call)) = hanging {
            self.watcher.hangs(tid, Some(&attempt), Some(call))?;
            return Ok(Some(RunEnd::TimedOut));
        }
        if is_long(self.last_event) {
            // Whoever waits for a child is not the one that hangs.
            let call = |tid: &i32| self.attempts.call(tid.unsigned_abs()).map(Call);
            let blocked = self.tasks.iter().map(|(tid, task)| (*tid, call(tid), task.since));
            let blocked = blocked.min_by_key(|(_, call, since)| (call.is_some_and(Call::waits_for_children), *since));
            if let Some((tid, call, _)) = blocked {
                self.watcher.hangs(tid.unsigned_abs(), None, call)?;
            }
            return Ok(Some(RunEnd::TimedOut));
        }
        // Slow, but not stuck.
        Ok((start.elapsed() > self.mode.deadline).then_some(RunEnd::TimedOut))
    }

    /// Which tasks have come further since the last look: most of what they do makes no stop.
    fn look_around(&mut self) {
        for (tid, task) in &mut self.tasks {
            let progress = self.attempts.progress(tid.unsigned_abs());
            if progress != task.progress {
                task.progress = progress;
                task.since = Instant::now();
                self.last_event = task.since;
            }
        }
    }

    /// Attempts that had failures and are not over.
    fn under_way(&self) -> Vec<Attempt> {
        self.tasks.keys().flat_map(|tid| self.attempts.failed(tid.unsigned_abs())).collect()
    }

    /// Tells of an attempt that is over and had a failure.
    fn tell(&mut self, attempt: &Attempt) -> Result<Option<RunEnd>> {
        let under_way = self.under_way();
        self.watcher.failed(attempt, &under_way)
    }

    /// Lets a stopped task go on. One that is gone meanwhile needs nothing.
    fn resume(&mut self, pid: Pid, signal: Option<Signal>) {
        if let Some(task) = self.tasks.get_mut(&pid.as_raw()) {
            task.since = Instant::now();
        }
        let _ = if self.mode.signals { ptrace::cont(pid, signal) } else { ptrace::syscall(pid, signal) };
    }
}

/// A number that /proc says of a task: `PPid`.
fn status_of(pid: i32, field: &str) -> Option<i32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?.trim().parse().ok()
}

/// The kernel stack of a task, innermost first; empty when it can't be had.
#[must_use]
pub fn kernel_stack(tid: u32) -> Vec<String> {
    let read = || -> io::Result<String> { std::fs::read_to_string(format!("/proc/{tid}/stack")) };
    let text = read().unwrap_or_default();
    // `[<0>] schedule+0x5b/0x110`
    text.lines().filter_map(|line| line.split_once("] ").map(|(_, frame)| frame.to_owned())).collect()
}
