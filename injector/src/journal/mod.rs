//! The append-only record of a sweep. What is about to be failed is in it, synced, before it is armed.
//!
//! [`Writer`] appends, [`read`] reads, [`State`] is what the records add up to, [`differences()`] tells whether a journal
//! belongs to this kernel and workload, [`merge`] unites the journals of several machines.

mod differences;
mod findings;
mod level;
mod merge;
mod reader;
pub mod record;
mod recorder;
mod state;
mod verdict;
mod writer;

use std::{
    fmt,
    io::{self, Write},
};

pub use differences::{Difference, What, differences};
pub use findings::{Finding, FindingFailure, NoFinding, find_finding};
pub use level::Level;
pub use merge::{Incompatible, merge};
pub(crate) use reader::what_is_wrong;
pub use reader::{ReadError, parse_line, read, read_from};
pub use record::{Begin, Record, Signature};
pub use recorder::Recorder;
pub use state::{Counts, Misreport, News, SiteState, State, Suspicion, Tested, Unscanned};
pub use verdict::Verdict;
pub use writer::{WriteError, Writer, to_line};

/// A journal that was read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Journal {
    /// Where it came from, for messages.
    pub name: String,
    /// What the sweeps wrote.
    pub sections: Vec<Section>,
    /// What is wrong with the lines.
    pub remarks: Vec<Remark>,
    /// Where it ends.
    pub tail: Tail,
}

/// What one sweep wrote.
#[derive(Clone, Debug, PartialEq)]
pub struct Section {
    /// Its first line.
    pub begin: Begin,
    /// All other lines; a [`Record::Begin`] among them is where the sweep was resumed.
    pub records: Vec<Record>,
}

/// Where a journal's file ends: [`Writer::resume`] goes on there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tail {
    /// Bytes that were read.
    pub length: u64,
    /// Bytes up to the end of the last whole line; what follows is a torn one.
    pub whole: u64,
    /// The last whole line has its newline.
    pub ended: bool,
}

/// Something that is wrong with a journal that can be used all the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remark {
    /// There is nothing in it.
    Empty,
    /// The last line has no end: whatever wrote it went down in the middle. It is ignored.
    Torn {
        /// Its number, from 1.
        line: u64,
    },
    /// This line is no record. The others are kept.
    Corrupt {
        /// Its number, from 1.
        line: u64,
        /// What is wrong.
        why: String,
    },
    /// Records that can't be used, because the line that says of which sweep they are is lost.
    Stray {
        /// Number of the first, from 1.
        line: u64,
        /// How many.
        records: usize,
    },
    /// The first line of a section is lost; a later one that says the same was used.
    Headless {
        /// Number of the line that was used, from 1.
        line: u64,
    },
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the journal is empty"),
            Self::Torn { line } => write!(f, "line {line}, the last one, is torn; it is ignored"),
            Self::Corrupt { line, why } => write!(f, "line {line} is corrupt and left out: {why}"),
            Self::Stray { line, records: 1 } => {
                write!(f, "line {line} is left out: the line that says of which sweep it is is lost")
            }
            Self::Stray { line, records } => write!(
                f,
                "{records} records from line {line} on are left out: the line that says of which sweep they are is lost"
            ),
            Self::Headless { line } => {
                write!(f, "the first line of a sweep is lost; line {line}, where it was resumed, stands in for it")
            }
        }
    }
}

impl Section {
    /// All its lines in order.
    pub fn lines(&self) -> impl Iterator<Item = Record> {
        std::iter::once(Record::Begin(Box::new(self.begin.clone()))).chain(self.records.iter().cloned())
    }

    /// Every beginning: the first, and one for each time the sweep was resumed.
    pub fn begins(&self) -> impl Iterator<Item = &Begin> {
        std::iter::once(&self.begin).chain(self.records.iter().filter_map(|record| match record {
            Record::Begin(begin) => Some(&**begin),
            _ => None,
        }))
    }
}

impl Journal {
    /// The first line, which says of which kernel and workload the journal is. A merged journal has several that agree
    /// in that.
    #[must_use]
    pub fn begin(&self) -> Option<&Begin> {
        self.sections.first().map(|section| &section.begin)
    }

    /// Writes it as [`read`] reads it.
    ///
    /// # Errors
    /// It can't be written.
    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        for record in self.sections.iter().flat_map(Section::lines) {
            out.write_all(to_line(&record)?.as_bytes())?;
        }
        out.flush()
    }
}

#[cfg(test)]
pub(super) mod tests;
