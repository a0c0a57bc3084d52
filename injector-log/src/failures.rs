//! The injected failures of which a log tells.
//!
//! | who injected | what the log says |
//! |---|---|
//! | the kernel's own failslab, fail_page_alloc… (lib/fault-inject.c fail_dump) | `FAULT_INJECTION: forcing a failure.`, then `name failslab, interval 1, …` and, at verbose 2, a call trace |

use serde::Serialize;

use super::{frame, skip::Culprit};

const FIRST: &str = "FAULT_INJECTION: forcing a failure";
/// A block has so many lines at most, and other lines in the middle of it.
const MOST_LINES: usize = 200;
/// Different failures that are told apart.
const MOST_FAILURES: usize = 4096;

/// Injected failures of the same capability at the same function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// Who injected: `failslab`.
    pub name: String,
    /// Who asked for what failed; none where the kernel printed no call trace.
    pub function: Option<String>,
    /// The number of the first one's first line.
    pub first_line: u64,
    /// How many.
    pub count: u64,
}

/// All of a log.
#[derive(Clone, Debug, Default)]
pub(crate) struct Failures(Vec<Failure>);

impl Failures {
    /// One more.
    pub(crate) fn add(&mut self, block: Option<Block>) {
        let Some(Block { name, culprit, first_line, .. }) = block else { return };
        let function = culprit.sure().map(str::to_owned);
        let same = self.0.iter_mut().find(|failure| failure.name == name && failure.function == function);
        if let Some(failure) = same {
            failure.count += 1;
        } else if self.0.len() < MOST_FAILURES {
            self.0.push(Failure { name, function, first_line, count: 1 });
        }
    }

    /// In the order of the log.
    pub(crate) fn all(&self) -> &[Failure] {
        &self.0
    }
}

/// What the kernel writes of one failure.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    name: String,
    culprit: Culprit,
    in_trace: bool,
    lines: usize,
    first_line: u64,
}

impl Block {
    /// The block that such a line begins.
    pub(crate) fn begins(line: &str, number: u64) -> Option<Self> {
        line.starts_with(FIRST).then(|| Self {
            name: "fault injection".to_owned(),
            culprit: Culprit::default(),
            in_trace: false,
            lines: 0,
            first_line: number,
        })
    }

    /// Whether the line is still of it.
    pub(crate) fn take(&mut self, line: &str) -> bool {
        self.lines += 1;
        if self.lines == 1 {
            let name = line.strip_prefix("name ").and_then(|rest| rest.split(',').next());
            if let Some(name) = name {
                name.clone_into(&mut self.name);
            }
            return true;
        }
        let is_frame = frame::is_frame(line);
        if let Some(function) = frame::function(line) {
            self.culprit.see(function);
        }
        let stays = self.lines < MOST_LINES && (is_frame || !self.in_trace) && line.trim() != "</TASK>";
        self.in_trace |= is_frame;
        stays && !line.starts_with(FIRST)
    }
}
