//! What one run did, for people and for programs: made from its JSON lines, written in several forms.
//!
//! [`read`] puts a [`Run`] together line by line, in a memory that does not grow with the number of failures; [`text`],
//! [`folded`], [`flamegraph`], [`csv`], [`html`] and [`json`] write it. [`Diff`] compares two.

mod csv;
mod diff;
mod flame;
mod folded;
mod html;
mod line;
mod model;
mod reader;
mod tally;
mod text;
mod words;

use std::io::{self, Write};

use serde::Serialize;

pub use csv::csv;
pub use diff::{By, Diff, Row, Side, Sums};
pub use flame::flamegraph;
pub use folded::folded;
pub use html::html;
pub use line::{Counters, InOrder, Start};
pub use model::{End, Rule, Run, SCHEMA, Site, Syscall};
pub use reader::{ReadError, read, read_from};
pub use tally::{COLUMNS, Span, Tally, Timeline};
pub use text::text;

/// A run, or what two differ in, as one JSON object; docs/run-formats.md says what is in it.
///
/// # Errors
/// It can't be written.
pub fn json(report: &impl Serialize, out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, report)?;
    writeln!(out)?;
    out.flush()
}
