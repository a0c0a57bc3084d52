//! What a sweep found, or a run did, for people and for programs: made from its file, written in several forms.
//!
//! [`Report::new`] puts together what all forms of a sweep say; [`TEXT`] and [`FORMS`] are these forms, and [`sites`] lists the
//! sites alone. [`run`] is about single runs, [`log`] about logs. [`open`] tells whether a file is of a run or of a sweep.

pub mod campaign;
mod diff;
pub mod export;
mod html;
mod junit;
mod kcidb;
mod kind;
pub mod known;
mod ktap;
mod lava;
pub mod log;
mod mail;
mod model;
mod phrase;
mod results;
pub mod run;
mod sarif;
mod sites;
mod static_sites;
mod text;

use std::io::{self, Write};

pub use diff::SweepDiff;
pub use html::html;
pub use junit::junit;
pub use kcidb::kcidb;
pub use kind::{NoFindings, OfTwoKinds, Opened, WrongKind, open};
pub use ktap::ktap;
pub use lava::lava;
pub use mail::mail;
pub use model::{
    Config, CoverageClass, Found, Module, OddFailure, Report, SCHEMA, Share, SiteRow, Stacks, Sweep, Times,
};
pub use sarif::sarif;
pub use sites::sites;
pub use static_sites::StaticSites;
pub use text::text;

/// A form of a sweep's report.
#[derive(Clone, Copy, Debug)]
pub struct Form {
    /// The long option that chooses it, without dashes.
    pub option: &'static str,
    /// The option's help.
    pub help: &'static str,
    /// Where it goes.
    pub to: Destination,
    /// The stacks that it shows.
    pub stacks: Stacks,
    /// Writes it.
    pub write: fn(&Report, &mut dyn Write) -> io::Result<()>,
}

/// Where a form goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// To standard output, instead of all other forms of this kind.
    Stdout,
    /// To a file that the option names.
    File,
}

/// The form on standard output if no other is chosen.
pub static TEXT: Form = Form {
    option: "text",
    help: "Text on standard output (the default)",
    to: Destination::Stdout,
    stacks: Stacks::Findings,
    write: text,
};

/// The forms that an option of their own chooses, in the order of the help.
pub static FORMS: [Form; 9] = [
    Form {
        option: "ktap",
        help: "KTAP on standard output instead of text",
        to: Destination::Stdout,
        stacks: Stacks::None,
        write: ktap,
    },
    Form {
        option: "json",
        help: "One JSON object on standard output instead of text",
        to: Destination::Stdout,
        stacks: Stacks::All,
        write: json,
    },
    Form {
        option: "list",
        help: "The findings as a list for --known, on standard output instead of text",
        to: Destination::Stdout,
        stacks: Stacks::None,
        write: known::write_list,
    },
    Form {
        option: "mail",
        help: "A mail to maintainers on standard output instead of text, for each finding; it is not sent",
        to: Destination::Stdout,
        stacks: Stacks::Findings,
        write: mail,
    },
    Form {
        option: "lava",
        help: "Lines for LAVA on standard output instead of text: NAME pass|fail|skip",
        to: Destination::Stdout,
        stacks: Stacks::None,
        write: lava,
    },
    Form {
        option: "kcidb",
        help: "Write a kcidb report (KernelCI), version 5.3, to this file",
        to: Destination::File,
        stacks: Stacks::None,
        write: kcidb,
    },
    Form {
        option: "sarif",
        help: "Write the findings with a source line as SARIF 2.1.0 to this file (see --vmlinux)",
        to: Destination::File,
        stacks: Stacks::Findings,
        write: sarif,
    },
    Form {
        option: "junit",
        help: "Write JUnit XML to this file",
        to: Destination::File,
        stacks: Stacks::None,
        write: junit,
    },
    Form {
        option: "html",
        help: "Write an HTML page to this file",
        to: Destination::File,
        stacks: Stacks::All,
        write: html,
    },
];

/// A form is its option; functions can't be compared.
impl PartialEq for Form {
    fn eq(&self, other: &Self) -> bool {
        self.option == other.option
    }
}

impl Eq for Form {}

/// The report as one JSON object; docs/sweep-formats.md says what is in it.
///
/// # Errors
/// It can't be written.
pub fn json(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, report)?;
    writeln!(out)?;
    out.flush()
}
