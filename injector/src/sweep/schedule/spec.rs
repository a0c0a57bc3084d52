//! What a run is to do, and what came of it.

use std::collections::BTreeSet;

use crate::journal::{Level, Signature, record::RunEnd};

/// A run of the workload: all that whoever carries it out must know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunSpec {
    /// The name of its level, for the journal.
    pub level: Level,
    /// Which sites may fail.
    pub aim: Aim,
    /// How they fail.
    pub mode: Mode,
    /// At most so many failures of each named site.
    pub times: u64,
    /// The run may take so many times the usual time.
    pub patience: u32,
}

/// Which sites may fail in a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Aim {
    /// None: they are recorded.
    Nothing,
    /// Every site that has not failed yet.
    Each {
        /// Those that were seen. A site that was never seen may fail, too.
        known: Vec<Signature>,
        /// Sites that have failed, and fail again as the first of an attempt, for what that leads to.
        again: BTreeSet<Signature>,
        /// How often each of these fails again.
        repeats: u64,
    },
    /// These.
    Named(Vec<Signature>),
    /// Two in one attempt.
    Pair {
        /// It fails first, where it is reached first; once.
        first: Signature,
        /// It fails in the same attempt, once. It may be reached without the other, too.
        then: Signature,
    },
}

impl Aim {
    /// The sites that the journal names before the run.
    #[must_use]
    pub fn named(&self) -> Option<&[Signature]> {
        match self {
            Self::Nothing | Self::Each { .. } => None,
            Self::Named(sites) => Some(sites),
            Self::Pair { then, .. } => Some(std::slice::from_ref(then)),
        }
    }

    /// The site that fails before those that are named.
    #[must_use]
    pub fn first(&self) -> Option<Signature> {
        match self {
            Self::Pair { first, .. } => Some(*first),
            Self::Nothing | Self::Each { .. } | Self::Named(_) => None,
        }
    }

    /// One site is named, alone or with the one before it: whatever goes wrong in the run comes from there.
    #[must_use]
    pub fn is_single(&self) -> bool {
        self.named().is_some_and(|sites| sites.len() == 1)
    }

    /// The one site that may fail in the run, with none before it.
    #[must_use]
    pub fn only(&self) -> Option<Signature> {
        match self {
            Self::Named(sites) if sites.len() == 1 => sites.first().copied(),
            Self::Nothing | Self::Each { .. } | Self::Named(_) | Self::Pair { .. } => None,
        }
    }

    /// Only these sites may fail, whether they were seen before or not.
    #[must_use]
    pub fn is_named(&self) -> bool {
        self.named().is_some()
    }
}

/// How sites fail in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The workload runs under the tracer, which retries failed system calls.
    Traced(Traced),
    /// The workload runs alone. A site fails where it is reached: in any task, in kernel threads, in interrupts.
    Untraced,
}

/// How the tracer makes attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traced {
    /// At most so many failures in an attempt; 0: the tracer only watches.
    pub limit: u32,
    /// The same in an attempt that begins with a failure that repeats.
    pub depth: u32,
    /// Whatever may fail in an attempt does, up to the limit, and so does what kernel threads do meanwhile.
    pub several: bool,
    /// Copies of the process make the system calls that can't be retried.
    pub copies: bool,
    /// Each failure repeats, and the slab caches are watched.
    pub growth: bool,
}

impl Traced {
    /// One failure in each attempt.
    pub const ONE: Self = Self { limit: 1, depth: 1, several: false, copies: false, growth: false };
    /// None.
    pub const WATCH: Self = Self { limit: 0, depth: 0, ..Self::ONE };
}

/// What came of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunResult {
    /// Why it ended.
    pub end: RunEnd,
    /// The workload's exit status as a shell counts it; none if there was none.
    pub status: Option<i32>,
    /// The sites that failed.
    pub failed: BTreeSet<Signature>,
    /// How many of the recorded sites were reached.
    pub reached: usize,
    /// Sites in the order in which this boot reached them first.
    pub order: Vec<Signature>,
    /// The kernel complained of something new, or the workload failed under --expect-success. Then the failures of a run without
    /// a tracer are not in the journal, unless there was one alone: they come again.
    pub bad: bool,
}

impl RunResult {
    /// The workload worked all the same.
    #[must_use]
    pub fn is_well(&self) -> bool {
        self.end == RunEnd::Finished && self.status == Some(0)
    }
}
