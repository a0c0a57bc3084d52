//! The attempts of a sweep's tasks, in memory that the hook sees too.

use std::ptr::NonNull;

use anyhow::Result;
use aya::maps::Map;
use injector_common::attempt::{Attempt, MAX_ATTEMPTS};
use nix::sys::mman::munmap;

use super::shared;

const BYTES: usize = size_of::<Attempt>() * MAX_ATTEMPTS as usize;

/// What an attempt may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opening {
    /// At most so many failures.
    pub limit: u32,
    /// The first of them at this site, however often that was failed before.
    pub repeat: Option<u64>,
    /// Whatever may be failed is; else only what a failure leads to is failed after it.
    pub crowd: bool,
}

/// One slot per task, found by its tid. Opening and closing an attempt is a store or two: no system call.
#[derive(Debug)]
pub struct Attempts {
    memory: NonNull<Attempt>,
    number: u64,
}

impl Attempts {
    /// Maps the array.
    pub(super) fn new(map: &Map) -> Result<Self> {
        Ok(Self { memory: shared::in_memory(map, BYTES)?.cast(), number: 0 })
    }

    /// Begins an attempt of a task that is stopped. False: its slot belongs to another task, so nothing will fail in it.
    pub fn open(&mut self, tid: u32, opening: Opening) -> bool {
        let slot = self.slot(tid);
        // SAFETY: in bounds and aligned; the task that could write to it is stopped.
        let old = unsafe { slot.read_volatile() };
        if old.tid != tid && old.tid != 0 {
            return false;
        }
        self.number += 1;
        let Opening { limit, repeat, crowd } = opening;
        let repeat = repeat.unwrap_or(0);
        let attempt = Attempt { tid, limit, number: self.number, repeat, crowd: crowd.into(), ..Attempt::NONE };
        // SAFETY: as above.
        unsafe { slot.write_volatile(attempt) };
        true
    }

    /// Ends the attempt of a task that is stopped or gone, and says how it went; what belongs to another task is none.
    pub fn close(&mut self, tid: u32) -> Attempt {
        let slot = self.slot(tid);
        // SAFETY: in bounds and aligned; the task that could write to it is stopped.
        let attempt = unsafe { slot.read_volatile() };
        if attempt.tid != tid {
            return Attempt::NONE;
        }
        // What was told once is not told again.
        // SAFETY: as above.
        unsafe { slot.write_volatile(Attempt { tid, number: attempt.number, ..Attempt::NONE }) };
        attempt
    }

    /// Looks at the attempt of a task that may be running.
    #[must_use]
    pub fn look(&self, tid: u32) -> Attempt {
        // SAFETY: in bounds and aligned; what is being written is read as it is.
        let attempt = unsafe { self.slot(tid).read_volatile() };
        if attempt.tid == tid { attempt } else { Attempt::NONE }
    }

    /// Gives back the slot of a task that is gone.
    pub fn forget(&mut self, tid: u32) {
        let slot = self.slot(tid);
        // SAFETY: in bounds and aligned.
        if unsafe { slot.read_volatile() }.tid == tid {
            // SAFETY: as above; the task is gone.
            unsafe { slot.write_volatile(Attempt::NONE) };
        }
    }

    fn slot(&self, tid: u32) -> *mut Attempt {
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
