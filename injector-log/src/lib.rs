//! What a kernel complains about in its log.
//!
//! This crate knows no kernel that runs: it takes text and returns [`Complaint`]s.
//!
//! # What is a complaint
//! What the kernel itself calls wrong: faults, BUG(), WARN(), reports of its checkers, hangs, and reports of a file
//! system that what is *on the disk* is damaged. Not what an allocation failure legally leads to: the notes that it failed
//! (page allocation failure, SLUB, FAULT_INJECTION), the OOM killer, an aborted transaction, a file system that shuts
//! itself down or goes read-only, a driver's polite message.

pub mod allocator;
mod failures;
mod frame;
mod head;
mod heads;
pub mod kmemleak;
mod line;
mod names;
pub mod reader;
mod report;
mod skip;
pub mod splat;
mod titles;

pub use failures::Failure;
pub use line::{Caller, Line, Origin};
use serde::{Deserialize, Serialize};
/// What is wrong, by rank.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Memory was lost.
    Leak,
    /// The kernel goes on, and says that something is not as it must be: WARN(), lockdep, sleeping in atomic context,
    /// UBSAN, metadata on disk that is damaged.
    Warning,
    /// Something does not come to an end: a hung task, a lockup, an RCU stall.
    Hang,
    /// Code ran that must not run, or memory is damaged: a fault, BUG(), a panic, KASAN's reports, SLUB's and the page
    /// allocator's consistency checks.
    Oops,
}

/// Something that the kernel complained about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Complaint {
    /// How bad it is.
    pub kind: Kind,
    /// What and where: `KASAN: slab-use-after-free in nfs4_put_stid`. The same for the same defect.
    pub title: String,
    /// What the kernel wrote, without level and time.
    pub splat: String,
}
