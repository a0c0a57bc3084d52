//! In which forms a sweep's outcome is wanted.

use std::path::PathBuf;

use clap::Args;

const REPORTS: &str = "Reports";

/// The forms of a report.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct Reports {
    /// KTAP on standard output instead of text
    #[arg(long, conflicts_with = "json", help_heading = REPORTS)]
    pub ktap: bool,

    /// One JSON object on standard output instead of text
    #[arg(long, help_heading = REPORTS)]
    pub json: bool,

    /// JUnit XML into this file
    #[arg(long, value_name = "FILE", help_heading = REPORTS)]
    pub junit: Option<PathBuf>,

    /// A page with coverage and findings into this file
    #[arg(long, value_name = "FILE", help_heading = REPORTS)]
    pub html: Option<PathBuf>,

    /// The kernel with debug information, for source lines
    ///
    /// It must have the build id of the kernel under test. Without it they come from a vmlinux beside the image of --vm, or
    /// where distributions have them, if that is the same kernel's; else there are none.
    #[arg(long, value_name = "FILE", help_heading = REPORTS)]
    pub vmlinux: Option<PathBuf>,
}
