//! In what kind of code a call is made.

use serde::{Serialize, Serializer};

/// A set of contexts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contexts {
    /// On behalf of the task.
    pub task: bool,
    /// In a softirq, on top of whatever task.
    pub softirq: bool,
    /// In a hardware interrupt.
    pub hardirq: bool,
    /// In a non-maskable interrupt.
    pub nmi: bool,
}

impl Contexts {
    /// All of them.
    pub const ALL: Self = Self { task: true, softirq: true, hardirq: true, nmi: true };
    /// Task context.
    pub const TASK: Self = Self { task: true, softirq: false, hardirq: false, nmi: false };

    /// The names of those that are in it.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        let Self { task, softirq, hardirq, nmi } = self;
        [(task, "task"), (softirq, "softirq"), (hardirq, "hardirq"), (nmi, "nmi")]
            .into_iter()
            .filter_map(|(is_in, name)| is_in.then_some(name))
    }
}

impl Serialize for Contexts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.names())
    }
}

/// Whether kernel threads' calls match.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kthreads {
    /// As everybody's.
    #[default]
    Any,
    /// Only theirs.
    Only,
    /// Everybody's but theirs.
    Exclude,
}
