//! What a task's stop means, and what follows from it.

use injector_common::attempt::{Attempt, NO_CALL};
use nix::{
    sys::{
        signal::{Signal, kill},
        wait::WaitStatus,
    },
    unistd::Pid,
};

use super::{
    Call, Error, Failure, Pending, Task, TraceMode, Tracer, Watcher,
    calls::{self, Position, Sender},
    copies, status_of,
};
use crate::{
    exit::Result,
    journal::record::{Outcome, RunEnd},
    session::{Admission, AttemptReport},
    sweep::retry_step as step,
    target,
};

impl<W: Watcher> Tracer<'_, W> {
    /// Takes a stop, or an end, and lets the task go on. Some: the run is to be ended.
    pub(super) fn stop(&mut self, status: WaitStatus) -> Result<Option<RunEnd>> {
        match status {
            WaitStatus::Exited(pid, code) => self.gone(pid, target::CommandEnd::Exited(code)),
            WaitStatus::Signaled(pid, signal, _) => self.gone(pid, target::CommandEnd::Killed(signal)),
            WaitStatus::PtraceSyscall(pid) => {
                let end = self.at_call(pid);
                if !self.is_held(pid) {
                    self.resume(pid, None);
                }
                end
            }
            WaitStatus::PtraceEvent(pid, _, _) => {
                self.resume(pid, None);
                Ok(None)
            }
            WaitStatus::Stopped(pid, signal) => {
                // The first stop of a new task is the kernel's doing; it may come before we hear of the fork.
                if !self.tasks.contains_key(&pid.as_raw()) {
                    self.adopt(pid);
                }
                let task = self.tasks.entry(pid.as_raw()).or_insert_with(Task::new);
                let first = std::mem::replace(&mut task.fresh, false);
                if first && let Some(copy) = task.copy {
                    self.begin_copy(pid, copy);
                }
                let mut end = Ok(None);
                let mut ours = first && signal == Signal::SIGSTOP;
                if let Some(sender) = calls::sender(pid) {
                    // Another signal may come first, and lead elsewhere.
                    if self.attempts.has_reason(pid.as_raw().unsigned_abs()) {
                        end = self.exit(pid, None);
                    }
                    ours |= signal == Signal::SIGSTOP && sender == Sender::Kernel;
                }
                self.resume(pid, (!ours).then_some(signal));
                end
            }
            _ => Ok(None),
        }
    }

    fn gone(&mut self, pid: Pid, outcome: target::CommandEnd) -> Result<Option<RunEnd>> {
        if pid == self.root {
            self.outcome = Some(outcome);
        }
        let tid = pid.as_raw().unsigned_abs();
        let report = self.attempts.take(tid);
        let AttemptReport { between, call: attempt, .. } = report;
        self.attempts.forget(tid);
        let task = self.tasks.remove(&pid.as_raw());
        let mut end = None;
        if let Some(task) = task {
            let call = call_of(&attempt).or(call_of(&between));
            self.settle_all(task.earlier, call, None)?;
            // A copy that comes back from its call with an error may have a signal waiting that kills it.
            let failed = attempt.failed > 0 || between.failed > 0 || task.pending.is_some();
            match task.pending {
                Some(Pending { attempt, error }) if task.copy.is_some() => {
                    let result = Some(error.result());
                    self.watcher.outcome(Failure { attempt, call, result, outcome: copies::fate(outcome) })?;
                }
                Some(pending) => self.settle(pending, call, None)?,
                None => {}
            }
            for attempt in report.in_order().into_iter().filter(|attempt| attempt.failed > 0) {
                self.count_step(task.step, &attempt);
                end = end.or(self.tell(&attempt)?);
                // Else nobody is left who could be told.
                let outcome = if task.copy.is_some() { copies::fate(outcome) } else { Outcome::Masked };
                let call = call_of(&attempt);
                self.watcher.outcome(Failure { attempt, call, result: None, outcome })?;
            }
            if let Some(copy) = task.copy {
                self.copy_is_gone(pid, copy, failed);
            }
        }
        Ok(end)
    }

    fn at_call(&mut self, pid: Pid) -> Result<Option<RunEnd>> {
        match calls::position(pid) {
            Ok(Position::Entry(call)) => {
                self.entry(pid, call);
                Ok(None)
            }
            Ok(Position::Exit(result)) => self.exit(pid, Some(result)),
            // Killed while it was stopped.
            Ok(Position::None) | Err(_) => Ok(None),
        }
    }

    /// A task is about to make a call.
    fn entry(&mut self, pid: Pid, call: Call) {
        let task = self.tasks.entry(pid.as_raw()).or_insert_with(Task::new);
        if call.is_exec() && task.copy.is_none() && task.original.is_none() {
            self.copy(pid, call);
        }
    }

    /// Gives a stopped task its attempts.
    pub(super) fn admit(&mut self, pid: Pid) {
        let TraceMode { several, signals, .. } = self.mode;
        let exec = self.tasks.get(&pid.as_raw()).is_some_and(|task| task.copy.is_some());
        let admission = Admission { limit: self.limit(pid), multi: several, exec, signals };
        let admitted = self.attempts.admit(pid.as_raw().unsigned_abs(), admission);
        if exec && !admitted {
            // A copy that nothing can be failed in would run the program.
            let _ = kill(pid, Signal::SIGKILL);
        }
    }

    /// How many failures an attempt of a task may have.
    fn limit(&self, pid: Pid) -> u32 {
        let TraceMode { limit, depth, .. } = self.mode;
        if limit > 0 && self.may_fail(pid) { limit.max(depth) } else { 0 }
    }

    /// Has that be so from its next attempt on.
    pub(super) fn set_limit(&mut self, pid: i32) {
        let limit = self.limit(Pid::from_raw(pid));
        self.attempts.limit(pid.unsigned_abs(), limit);
    }

    /// A task that we did not know: a child of one that we do.
    fn adopt(&mut self, pid: Pid) {
        let mut task = Task::new();
        if !self.steps.is_empty() || self.are_copying() {
            let parent = status_of(pid.as_raw(), "PPid");
            task.copy = parent.and_then(|parent| self.as_copy(parent, pid));
            task.step = parent.and_then(|parent| {
                let step = self.tasks.get(&parent).and_then(|task| task.step);
                step.or_else(|| self.steps.contains_key(&parent).then_some(parent))
            });
        }
        self.tasks.insert(pid.as_raw(), task);
        self.admit(pid);
    }

    /// A step has one failure at a time; who repeats it has none.
    fn may_fail(&self, pid: Pid) -> bool {
        let step = self.tasks.get(&pid.as_raw()).and_then(|task| task.step);
        let spent = step.and_then(|step| self.steps.get(&step)).is_some_and(|failures| *failures >= self.mode.limit);
        !spent && !self.steps.contains_key(&pid.as_raw())
    }

    fn count_step(&mut self, step: Option<i32>, attempt: &Attempt) {
        let Some(step) = step else { return };
        let Some(failures) = self.steps.get_mut(&step) else { return };
        *failures += attempt.failed;
        let tasks: Vec<i32> =
            self.tasks.iter().filter(|(_, task)| task.step == Some(step)).map(|(tid, _)| *tid).collect();
        tasks.into_iter().for_each(|tid| self.set_limit(tid));
    }

    /// A script's step begins or ends. Says how many failures the one before had.
    fn ask(&mut self, pid: Pid, asked: u64) -> u64 {
        let failures = self.steps.insert(pid.as_raw(), 0).unwrap_or(0);
        if asked == step::END {
            self.steps.remove(&pid.as_raw());
        }
        self.set_limit(pid.as_raw());
        failures.into()
    }

    /// Between two calls a task drops its last references, which may be a whole file system's end: that is an attempt
    /// too, but there is nothing to retry.
    fn between(&mut self, step: Option<i32>, attempt: Attempt) -> Result<Option<RunEnd>> {
        if attempt.failed == 0 {
            return Ok(None);
        }
        self.count_step(step, &attempt);
        let end = self.tell(&attempt)?;
        let call = call_of(&attempt);
        self.watcher.outcome(Failure { attempt, call, result: None, outcome: Outcome::Masked })?;
        Ok(end)
    }

    /// A task has come back from a call. `result`: what that returned, where ptrace tells.
    fn exit(&mut self, pid: Pid, result: Option<i64>) -> Result<Option<RunEnd>> {
        let tid = pid.as_raw().unsigned_abs();
        let report = self.attempts.take(tid);
        let AttemptReport { between, call: attempt, .. } = report;
        let result = result.unwrap_or(report.result);
        let Some(step) = self.tasks.get(&pid.as_raw()).map(|task| task.step) else { return Ok(None) };
        // It came before the call, or the call has nothing to tell; else it is told after that.
        let first = between.number < attempt.number || attempt.failed == 0;
        let mut end = if first { self.between(step, between)? } else { None };
        if self.back_from_ours(pid, result) {
            return Ok(end);
        }
        let Some(call) = call_of(&attempt) else { return Ok(end) };
        if self.mode.signals {
            self.stops += 1;
            self.late += u32::from(calls::is_past(pid, call, result));
        }
        if let Some(asked) = call.step(pid) {
            let failures = self.ask(pid, asked);
            let _ = calls::answer(pid, call, result, failures);
            return Ok(end);
        }
        let Some(task) = self.tasks.get_mut(&pid.as_raw()) else { return Ok(end) };
        let copy = task.copy;
        let pending = task.pending.take();
        let error = Error::of(result);

        if let Some(pending) = pending {
            // A failure further on says that the call got past the first one.
            let then = error.filter(|_| attempt.failed == 0);
            if attempt.failed > 0 && pending.error.outcome() != Outcome::Clean {
                // Whether that error was the failure's is seen when none is left.
                task.earlier.push(pending);
            } else {
                self.settle(pending, Some(call), then)?;
            }
            if attempt.failed == 0 {
                self.settle_earlier(pid, Some(call), error)?;
            }
        } else if let Some(error) = error
            && attempt.failed == 0
            && copy.is_none()
        {
            if self.mode.several
                && step.is_none()
                && call.can_be_repeated()
                && self.ending.is_none()
                && self.watcher.elsewhere(call, error)?
                && calls::repeat(pid, call, result).is_ok()
            {
                return Ok(end);
            }
            end = end.or(self.watcher.error(call, error));
        }
        if copy.is_some() {
            return self.copy_is_back(pid, call, attempt, error);
        }
        if attempt.failed > 0 {
            self.count_step(step, &attempt);
            let seen = self.tell(&attempt)?;
            end = end.or(seen);
            match error {
                Some(error) if step.is_none() && call.can_be_repeated() && end.is_none() && self.ending.is_none() => {
                    return self.again(pid, attempt, call, error);
                }
                _ => {
                    self.settle_earlier(pid, Some(call), None)?;
                    let outcome = error.map_or(Outcome::Masked, Error::outcome);
                    self.watcher.outcome(Failure { attempt, call: Some(call), result: Some(result), outcome })?;
                }
            }
        }
        if !first {
            let seen = self.between(step, between)?;
            end = end.or(seen);
        }
        if (!call.is_exec() || self.mode.copies) && self.ending.is_none() {
            self.attempts.go_on(tid, call.0);
        }
        Ok(end)
    }

    /// Retries the system call: with the same failure first, if that leads to sites that nothing else leads to.
    pub(super) fn again(&mut self, pid: Pid, attempt: Attempt, call: Call, error: Error) -> Result<Option<RunEnd>> {
        if calls::repeat(pid, call, error.result()).is_err() {
            // Killed while it was stopped, or not there any more.
            self.settle_earlier(pid, Some(call), None)?;
            let outcome = error.outcome();
            self.watcher.outcome(Failure { attempt, call: Some(call), result: None, outcome })?;
            return Ok(None);
        }
        let repeat = (attempt.fresh > 0 && self.mode.depth > 1).then_some(attempt.sites[0]);
        self.attempts.await_next(pid.as_raw().unsigned_abs(), repeat);
        if let Some(task) = self.tasks.get_mut(&pid.as_raw()) {
            task.pending = Some(Pending { attempt, error });
        }
        Ok(None)
    }

    /// The call of earlier attempts has come back for the last time.
    fn settle_earlier(&mut self, pid: Pid, call: Option<Call>, then: Option<Error>) -> Result<()> {
        let earlier = self.tasks.get_mut(&pid.as_raw()).map(|task| std::mem::take(&mut task.earlier));
        self.settle_all(earlier.unwrap_or_default(), call, then)
    }

    /// The call of these attempts has come back for the last time: with the error `then`, if any, and no failure in it.
    fn settle_all(&mut self, earlier: Vec<Pending>, call: Option<Call>, then: Option<Error>) -> Result<()> {
        for Pending { attempt, error } in earlier {
            let outcome = match then.filter(|then| *then == error) {
                Some(then) => Outcome::NotRepeatable { error: error.to_string(), then: then.to_string() },
                None => error.outcome(),
            };
            let result = Some(error.result());
            self.watcher.outcome(Failure { attempt, call, result, outcome })?;
        }
        Ok(())
    }

    /// What came of a failure is known when its system call has been retried, and then returned the error `then`, if any.
    fn settle(&mut self, pending: Pending, call: Option<Call>, then: Option<Error>) -> Result<()> {
        let Pending { attempt, error } = pending;
        let outcome = match then {
            Some(then) => Outcome::NotRepeatable { error: error.to_string(), then: then.to_string() },
            None => error.outcome(),
        };
        let result = Some(error.result());
        self.watcher.outcome(Failure { attempt, call, result, outcome })
    }
}

/// The call that an attempt is, or comes after.
fn call_of(attempt: &Attempt) -> Option<Call> {
    (attempt.call != NO_CALL).then_some(Call(attempt.call))
}
