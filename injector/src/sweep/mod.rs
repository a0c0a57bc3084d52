//! The search for code paths that do not survive a failed allocation: it reaches every site, makes it fail, and watches the
//! kernel.
//!
//! [`schedule`] decides what comes next, and [`runner`] does it; [`drive`] is the loop over the two. [`tracer`] runs the workload
//! under ptrace and retries its system calls. What a sweep knows is what its journal adds up to ([`crate::journal::State`]).

mod classify;
mod clock;
pub mod drive;
mod hang;
pub mod identity;
mod priority;
pub mod replay;
pub mod retry_step;
pub mod runner;
pub mod schedule;
pub mod tracer;
mod workload;

pub use runner::{Ended, JournalError, sweep};
pub use workload::WorkloadError;

/// Why a sweep stopped before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// The user interrupted it.
    Interrupted,
    /// The time was up.
    Budget,
    /// The kernel is damaged. After a boot the sweep can go on.
    Damaged,
}
