//! What a task can't do again, copies of it do: execve(), which fails past its point of no return by killing the task.
//!
//! At its entry the call becomes clone(). The copy makes the call with one failure in it, and is killed before the new program
//! runs. The original waits for it (a copy sends no signal when it ends), and makes the next one, until a copy meets nothing
//! more that may be failed; then it makes its call. Neither of them learns of all that.

use injector_common::attempt::Attempt;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{Call, Error, Failure, Tracer, Watcher, calls, status_of};
use crate::{
    arch::Registers,
    exit::Result,
    journal::record::{Outcome, RunEnd},
    target,
};

/// A task whose call is made by copies of it.
#[derive(Debug)]
pub(super) struct Original {
    /// As they were at the entry of its call.
    registers: Registers,
    stage: Stage,
    /// The last copy is gone; true: another one is worth while.
    gone: Option<bool>,
}

/// What a task does whose call is made by copies of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It makes a copy.
    Cloning,
    /// It stands still until this copy is gone.
    Held(i32),
    /// It takes note of its end, as one has to with a child.
    Reaping,
    /// It makes its call itself.
    Last,
}

/// A copy of a task.
#[derive(Clone, Copy, Debug)]
pub(super) struct ProcessCopy {
    of: i32,
    /// A failure was injected into it: the next one may get further.
    failed: bool,
}

impl<W: Watcher> Tracer<'_, W> {
    /// Has copies make the call at whose entry a task has stopped, if that is how such calls are to be made.
    pub(super) fn copy(&mut self, pid: Pid, call: Call) {
        let Some(task) = self.tasks.get_mut(&pid.as_raw()) else { return };
        let wanted = self.mode.copies && call.is_exec() && self.ending.is_none();
        if !wanted || task.copy.is_some() || task.step.is_some() || self.steps.contains_key(&pid.as_raw()) {
            return;
        }
        // A copy of a thread would be a child of its leader.
        if status_of(pid.as_raw(), "Tgid") != Some(pid.as_raw()) {
            return;
        }
        let Ok(registers) = Registers::of(pid) else { return };
        if clone(registers).set(pid).is_ok() {
            task.original = Some(Original { registers, stage: Stage::Cloning, gone: None });
            // Nothing of what it does for us is to fail.
            self.attempts.limit(pid.as_raw().unsigned_abs(), 0);
        }
    }

    /// Whether a task has to wait for its copy.
    pub(super) fn is_held(&self, pid: Pid) -> bool {
        let original = self.tasks.get(&pid.as_raw()).and_then(|task| task.original.as_ref());
        original.is_some_and(|original| matches!(original.stage, Stage::Held(_)))
    }

    /// The copy that a new child of a task is, if that is what it was made for. The child may stop before its parent comes
    /// back from clone(), or after.
    pub(super) fn as_copy(&self, parent: i32, child: Pid) -> Option<ProcessCopy> {
        let original = self.tasks.get(&parent)?.original.as_ref()?;
        let is_copy = matches!(original.stage, Stage::Cloning) || original.stage == Stage::Held(child.as_raw());
        is_copy.then_some(ProcessCopy { of: parent, failed: false })
    }

    /// Whether a new task may be a copy.
    pub(super) fn are_copying(&self) -> bool {
        self.mode.copies && self.tasks.values().any(|task| task.original.is_some())
    }

    /// At the first stop of a copy: lets it make the call.
    pub(super) fn begin_copy(&self, pid: Pid, copy: ProcessCopy) {
        let original = self.tasks.get(&copy.of).and_then(|task| task.original.as_ref());
        if let Some(Original { registers, .. }) = original {
            // Killed while it was stopped, else.
            let _ = calls::make(pid, *registers);
        }
    }

    /// A task comes back from a call that it made for us. False: it was its own.
    pub(super) fn back_from_ours(&mut self, pid: Pid, result: i64) -> bool {
        let Some(task) = self.tasks.get_mut(&pid.as_raw()) else { return false };
        let Some(original) = &mut task.original else { return false };
        match original.stage {
            Stage::Cloning => match i32::try_from(result) {
                Ok(child) if child > 0 => {
                    original.stage = Stage::Held(child);
                    if original.gone.is_some() {
                        self.reap(pid, child);
                    }
                }
                // It can't be copied.
                _ => self.make_last(pid),
            },
            Stage::Reaping => {
                let again = original.gone.take() == Some(true) && self.ending.is_none();
                if again && calls::make(pid, clone(original.registers)).is_ok() {
                    original.stage = Stage::Cloning;
                } else {
                    self.make_last(pid);
                }
            }
            Stage::Held(_) => {}
            Stage::Last => {
                task.original = None;
                self.set_limit(pid.as_raw());
                return false;
            }
        }
        true
    }

    /// The task itself makes its call.
    fn make_last(&mut self, pid: Pid) {
        let Some(task) = self.tasks.get_mut(&pid.as_raw()) else { return };
        if let Some(original) = &mut task.original {
            original.stage = Stage::Last;
            let _ = calls::make(pid, original.registers);
        }
    }

    /// A copy comes back from the call that it was made for. Its work is done, unless the call can be retried.
    ///
    /// # Errors
    /// When the watcher ends the run.
    pub(super) fn copy_is_back(
        &mut self,
        pid: Pid,
        call: Call,
        attempt: Attempt,
        error: Option<Error>,
    ) -> Result<Option<RunEnd>> {
        let mut end = None;
        let failed = attempt.failed > 0;
        if failed {
            end = self.tell(&attempt)?;
            if let Some(error) = error.filter(|_| end.is_none() && self.ending.is_none()) {
                return self.again(pid, attempt, call, error);
            }
            let outcome = error.map_or(Outcome::Masked, Error::outcome);
            self.watcher.outcome(Failure { attempt, call: Some(call), result: None, outcome })?;
        }
        if let Some(copy) = self.tasks.get_mut(&pid.as_raw()).and_then(|task| task.copy.as_mut()) {
            copy.failed = failed;
        }
        let _ = kill(pid, Signal::SIGKILL);
        Ok(end)
    }

    /// A copy is gone: its original goes on.
    pub(super) fn copy_is_gone(&mut self, pid: Pid, copy: ProcessCopy, killed_by_failure: bool) {
        let Some(task) = self.tasks.get_mut(&copy.of) else { return };
        let Some(original) = &mut task.original else { return };
        original.gone = Some(copy.failed || killed_by_failure);
        if original.stage == Stage::Held(pid.as_raw()) {
            let of = Pid::from_raw(copy.of);
            self.reap(of, pid.as_raw());
            self.resume(of, None);
        }
    }

    /// Has a task that has stopped after a call take note of the end of its copy.
    fn reap(&mut self, pid: Pid, copy: i32) {
        let Some(task) = self.tasks.get_mut(&pid.as_raw()) else { return };
        let Some(original) = &mut task.original else { return };
        original.stage = Stage::Reaping;
        let (child, options) = (u64::from(copy.unsigned_abs()), u64::from(libc::__WALL.unsigned_abs()));
        let _ = calls::make(pid, original.registers.calling(libc::SYS_wait4, [child, 0, options, 0, 0]));
    }
}

/// What a copy that was killed by a failure in its call has come to.
pub(super) fn fate(outcome: target::CommandEnd) -> Outcome {
    Outcome::ProgramFailed { status: outcome.code() }
}

/// clone() with no flags: a child with a memory of its own, as of fork(), but nobody is told when it ends.
fn clone(registers: Registers) -> Registers {
    registers.calling(libc::SYS_clone, [0; 5])
}
