//! The search for code paths that don't survive a failed allocation: reaches every site, fails it, watches the kernel.
//!
//! [`search`] has the order of things: the workload by itself, record runs (the inventory), `passes` under the [`tracer`] in
//! which a system call that was failed is made again, `leaks`, `batch`es of what a pass can't reach. `runs` has a single run
//! under the tracer, `pass` what is made of its failures. Everything is written to the [`journal`] before and after it
//! happens; what a sweep knows is a fold over that.

mod batch;
pub mod clock;
mod experiment;
pub mod identity;
mod lab;
mod leaks;
mod notebook;
mod order;
mod pass;
mod passes;
pub mod place;
pub mod replay;
mod runs;
pub mod search;
mod start;
pub mod step;
pub mod tracer;
mod waits;
mod workload;

pub use experiment::Experiment;
pub use start::{Ended, JournalError, sweep};
// The old paths, until every user has the new ones.
pub use crate::{guests as vm, journal, journal::Verdict, oracle};
pub use workload::WorkloadError;
