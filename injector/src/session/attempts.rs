//! The attempts of a sweep's tasks, in memory that the programs in the kernel see too.

use std::ptr::NonNull;

use aya::maps::Map;
use injector_common::attempt::{AFTER_CALL, Attempt, IN_CALL, MAX_ATTEMPTS, MAX_NAMED, NO_CALL, NOWHERE, PHASES, Slot};
use nix::sys::mman::munmap;

use super::shared;
use crate::exit::Result;

const BYTES: usize = size_of::<Slot>() * MAX_ATTEMPTS as usize;

/// What a task may have failed, and when its tracer wants to see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admission {
    /// At most so many failures in an attempt.
    pub limit: u32,
    /// Whatever may be failed is; else only what a failure leads to is failed after it.
    pub multi: bool,
    /// In execve(), too.
    pub exec: bool,
    /// It stops after calls that its tracer must see, by a signal; else it is expected to stop at every call.
    pub signals: bool,
}

/// What a task has to tell that has stopped, or is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttemptReport {
    /// What came between the last two calls, or after the last: see [`AttemptReport::in_order`].
    pub between: Attempt,
    /// The last call.
    pub call: Attempt,
    /// What that returned, if it has come back.
    pub result: i64,
}

impl AttemptReport {
    /// Both attempts, the earlier one first.
    #[must_use]
    pub fn in_order(&self) -> [Attempt; 2] {
        let Self { between, call, .. } = *self;
        if between.number < call.number { [between, call] } else { [call, between] }
    }
}

/// One slot per task, found by its tid. Nothing here is a system call.
#[derive(Debug)]
pub struct Attempts {
    memory: NonNull<Slot>,
}

impl Attempts {
    /// Maps the array.
    pub(super) fn new(map: &Map) -> Result<Self> {
        Ok(Self { memory: shared::in_memory(map, BYTES)?.cast() })
    }

    /// Gives a stopped task a slot, so that its calls are attempts from now on. False: that belongs to another task, so nothing
    /// will fail in this one.
    pub fn admit(&mut self, tid: u32, admission: Admission) -> bool {
        let old = self.read(tid);
        if old.tid != tid && old.tid != 0 {
            return false;
        }
        let Admission { limit, multi, exec, signals } = admission;
        let (multi, exec, signals) = (multi.into(), exec.into(), signals.into());
        self.write(tid, Slot { tid, limit, multi, exec, signals, opened: old.opened, ..Slot::NONE });
        true
    }

    /// Sets how many failures the next attempts of a task may have, which may be running.
    pub fn limit(&mut self, tid: u32, limit: u32) {
        let slot = self.slot(tid);
        if self.read(tid).tid == tid {
            // SAFETY: in bounds and aligned; one store, and the task only reads it.
            unsafe { (&raw mut (*slot).limit).write_volatile(limit) };
        }
    }

    /// Whether a task that has stopped by a signal did so for us.
    #[must_use]
    pub fn has_reason(&self, tid: u32) -> bool {
        let slot = self.read(tid);
        slot.tid == tid && slot.stopping != 0
    }

    /// Ends the attempts of a task that is stopped or gone, and says how they went; nothing more is failed in it until it makes
    /// its next call, or [goes on](Self::go_on).
    pub fn take(&mut self, tid: u32) -> AttemptReport {
        let slot = self.read(tid);
        if slot.tid != tid {
            return AttemptReport { between: Attempt::NONE, call: Attempt::NONE, result: 0 };
        }
        // What was told once is not told again.
        let attempts = [Attempt { tid, ..Attempt::NONE }; PHASES];
        self.write(tid, Slot { phase: NOWHERE, stopping: 0, awaited: 0, attempts, ..slot });
        AttemptReport { between: of(&slot, AFTER_CALL), call: of(&slot, IN_CALL), result: slot.result }
    }

    /// Begins the attempt of a stopped task that comes after the call `call`.
    pub fn go_on(&mut self, tid: u32, call: u64) {
        let mut slot = self.read(tid);
        if slot.tid != tid {
            return;
        }
        let (number, limit, multi) = (slot.next_number(), slot.limit, slot.multi);
        slot.attempts[AFTER_CALL as usize] = Attempt { tid, limit, number, call, multi, ..Attempt::NONE };
        slot.phase = AFTER_CALL;
        self.write(tid, slot);
    }

    /// Has a stopped task stop after its next call, whatever comes of it. `repeat`: the site to be failed first in that.
    pub fn await_next(&mut self, tid: u32, repeat: Option<u64>) {
        let slot = self.read(tid);
        if slot.tid == tid {
            self.write(tid, Slot { awaited: 1, repeat: repeat.unwrap_or(0), ..slot });
        }
    }

    /// The attempts of a task that have had failures and were not taken yet; it may be running.
    pub fn failed(&self, tid: u32) -> impl Iterator<Item = Attempt> {
        let slot = self.read(tid);
        let attempts = [of(&slot, AFTER_CALL), of(&slot, IN_CALL)];
        attempts.into_iter().filter(move |attempt| slot.tid == tid && attempt.failed > 0)
    }

    /// The call that a task is in, with failures in it that were not taken yet; it may be running.
    #[must_use]
    pub fn failed_in_call(&self, tid: u32) -> Option<Attempt> {
        let slot = self.read(tid);
        let attempt = of(&slot, IN_CALL);
        (slot.tid == tid && slot.phase == IN_CALL && attempt.failed > 0).then_some(attempt)
    }

    /// The number of the call that a task is in, which may be running.
    #[must_use]
    pub fn call(&self, tid: u32) -> Option<u64> {
        let slot = self.read(tid);
        let call = slot.attempts[IN_CALL as usize].call;
        (slot.tid == tid && slot.phase == IN_CALL && call != NO_CALL).then_some(call)
    }

    /// A number that changes whenever a task makes a call or comes back from one.
    #[must_use]
    pub fn progress(&self, tid: u32) -> u64 {
        self.read(tid).opened
    }

    /// Gives back the slot of a task that is gone.
    pub fn forget(&mut self, tid: u32) {
        let slot = self.read(tid);
        if slot.tid == tid {
            self.write(tid, Slot { opened: slot.opened, ..Slot::NONE });
        }
    }

    /// The slot of a task, whosever it is; what is being written is read as it is.
    fn read(&self, tid: u32) -> Slot {
        // SAFETY: in bounds and aligned.
        unsafe { self.slot(tid).read_volatile() }
    }

    fn write(&mut self, tid: u32, slot: Slot) {
        // SAFETY: in bounds and aligned; the task that could write to it is stopped or gone.
        unsafe { self.slot(tid).write_volatile(slot) };
    }

    fn slot(&self, tid: u32) -> *mut Slot {
        let index = tid & (MAX_ATTEMPTS - 1);
        // SAFETY: in bounds: there are MAX_ATTEMPTS of them, a power of two.
        unsafe { self.memory.add(index as usize).as_ptr() }
    }
}

impl Drop for Attempts {
    fn drop(&mut self) {
        // SAFETY: mapped by `new`, and nobody has a pointer any more. If it fails, it stays until the process ends.
        let _ = unsafe { munmap(self.memory.cast(), BYTES) };
    }
}

/// An attempt of a slot, without the names that earlier ones have left.
fn of(slot: &Slot, phase: u32) -> Attempt {
    let mut attempt = slot.attempts[phase as usize];
    attempt.sites[MAX_NAMED.min(attempt.failed as usize)..].fill(0);
    attempt
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous};

    use super::*;

    const ADMISSION: Admission = Admission { limit: 2, multi: false, exec: false, signals: true };

    /// In memory that no program sees.
    fn attempts() -> Attempts {
        let (bytes, access) = (NonZeroUsize::new(BYTES).unwrap(), ProtFlags::PROT_READ | ProtFlags::PROT_WRITE);
        // SAFETY: a fresh mapping.
        let memory = unsafe { mmap_anonymous(None, bytes, access, MapFlags::MAP_PRIVATE) }.unwrap();
        Attempts { memory: memory.cast() }
    }

    /// What the programs do when a task makes call 7, fails `failed` in it, and comes back.
    fn call(attempts: &mut Attempts, tid: u32, failed: &[u64]) {
        let mut slot = attempts.read(tid);
        let (number, limit) = (slot.next_number(), slot.limit);
        let mut attempt = Attempt { tid, limit, number, call: 7, failed: failed.len() as u32, ..Attempt::NONE };
        attempt.sites[..failed.len()].copy_from_slice(failed);
        slot.attempts[IN_CALL as usize] = attempt;
        slot.phase = IN_CALL;
        attempts.write(tid, slot);
    }

    #[test]
    fn two_tasks_do_not_share_a_slot() {
        let mut attempts = attempts();
        assert!(attempts.admit(5, ADMISSION) && attempts.admit(5, ADMISSION));
        assert!(!attempts.admit(5 + MAX_ATTEMPTS, ADMISSION));
        call(&mut attempts, 5, &[1]);
        assert_eq!(attempts.failed(5 + MAX_ATTEMPTS).count(), 0);
        assert_eq!(attempts.take(5 + MAX_ATTEMPTS).call, Attempt::NONE);
        attempts.limit(5 + MAX_ATTEMPTS, 0);
        attempts.forget(5 + MAX_ATTEMPTS);
        assert_eq!(attempts.read(5).limit, 2);
        attempts.forget(5);
        assert!(attempts.admit(5 + MAX_ATTEMPTS, ADMISSION));
    }

    #[test]
    fn what_was_told_once_is_not_told_again() {
        let mut attempts = attempts();
        attempts.admit(5, ADMISSION);
        call(&mut attempts, 5, &[1, 2]);
        assert_eq!(attempts.call(5), Some(7));
        assert_eq!(attempts.failed(5).map(|attempt| attempt.failed).collect::<Vec<_>>(), [2]);
        let report = attempts.take(5);
        assert_eq!((report.call.call, report.call.failed, report.between.failed), (7, 2, 0));
        assert_eq!((attempts.failed(5).count(), attempts.call(5)), (0, None));
        assert_eq!(attempts.take(5).call.failed, 0);
    }

    #[test]
    fn names_of_an_earlier_attempt_are_not_told() {
        let mut attempts = attempts();
        attempts.admit(5, ADMISSION);
        call(&mut attempts, 5, &[1, 2]);
        let mut slot = attempts.read(5);
        slot.attempts[IN_CALL as usize].failed = 1;
        attempts.write(5, slot);
        assert_eq!(attempts.take(5).call.sites[..3], [1, 0, 0]);
    }

    #[test]
    fn numbers_go_on_when_a_slot_changes_hands() {
        let mut attempts = attempts();
        attempts.admit(5, ADMISSION);
        attempts.go_on(5, 7);
        let first = attempts.read(5).attempts[AFTER_CALL as usize].number;
        assert_eq!(attempts.progress(5), 1);
        attempts.forget(5);
        attempts.admit(5, ADMISSION);
        attempts.go_on(5, 7);
        assert_ne!(attempts.read(5).attempts[AFTER_CALL as usize].number, first);
    }

    #[test]
    fn a_call_that_is_made_again_is_waited_for() {
        let mut attempts = attempts();
        attempts.admit(5, ADMISSION);
        attempts.await_next(5, Some(9));
        let slot = attempts.read(5);
        assert_eq!((slot.awaited, slot.repeat), (1, 9));
        attempts.take(5);
        assert_eq!(attempts.read(5).awaited, 0);
    }
}
