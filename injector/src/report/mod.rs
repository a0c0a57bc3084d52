//! What a sweep found, for people and for programs: made from a journal, written in several forms.
//!
//! [`Report::new`] puts together what all forms say; [`text`], [`ktap`], [`junit`], [`html`], [`json`] and [`sites`] write it.

mod html;
mod junit;
mod ktap;
mod model;
mod phrase;
mod sites;
mod text;

use std::io::{self, Write};

pub use html::html;
pub use junit::junit;
pub use ktap::ktap;
pub use model::{Config, Found, Kept, Module, Odd, Report, SCHEMA, Share, SiteRow, Stacks, Sweep, Times};
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
