//! What a kernel complains about in its log.
//!
//! The crate takes text and returns [`Complaint`]s. It uses no kernel and no eBPF.
//!
//! | to change | file |
//! |---|---|
//! | what counts as a complaint, and its title: one row for each | `heads` |
//! | what is no complaint, and which panics are consequences | `titles` |
//! | which functions a title never names, by their role | `skip`, [`allocator`] |
//! | what may stand around the kernel's text in a line | [`Line`] |
//! | which lines belong to a report | `report` |
//! | which reports are of the same defect | `seen` |
//!
//! # What is a complaint
//! A complaint is what the kernel itself calls wrong: a fault, BUG(), WARN(), a report of a checker, a hang, a report of a
//! file system that data *on the disk* is damaged. An allocation failure legally leads to other messages, and these are no
//! complaints: the notes that it failed (page allocation failure, SLUB, FAULT_INJECTION), the OOM killer, an aborted
//! transaction, a file system that shuts itself down or goes read-only, a driver's polite message.

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
mod seen;
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
    /// Something is not as it must be, and the kernel goes on: WARN(), lockdep, sleeping in atomic context,
    /// UBSAN, metadata on disk that is damaged.
    Warning,
    /// Something does not end: a hung task, a lockup, an RCU stall.
    Hang,
    /// Code ran that must not run, or memory is corrupted: a fault, BUG(), a panic, KASAN's reports, SLUB's and the page
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
