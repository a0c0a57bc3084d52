//! What a sweep found, or a run did, for people and for programs: made from its file, written in several forms.
//!
//! [`Report::new`] puts together what all forms of a sweep say; [`text`], [`ktap`], [`junit`], [`html`], [`json`] and [`sites`]
//! write it. [`run`] is about single runs, [`log`] about logs. [`open`] tells which of the two a file is.

mod html;
mod junit;
mod kind;
mod ktap;
pub mod log;
mod model;
mod phrase;
pub mod run;
mod sites;
mod text;

use std::io::{self, Write};

pub use html::html;
pub use junit::junit;
pub use kind::{Opened, WrongKind, open};
pub use ktap::ktap;
pub use model::{
    Config, CoverageClass, Found, Module, OddFailure, Report, SCHEMA, Share, SiteRow, Stacks, Sweep, Times,
};
pub use sites::sites;
pub use text::text;

/// The report as one JSON object; docs/sweep-formats.md says what is in it.
///
/// # Errors
/// It can't be written.
pub fn json(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, report)?;
    writeln!(out)?;
    out.flush()
}
