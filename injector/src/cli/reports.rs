//! The options that choose the forms of a report.

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

    /// Write JUnit XML to this file
    #[arg(long, value_name = "FILE", help_heading = REPORTS)]
    pub junit: Option<PathBuf>,

    /// Write an HTML page to this file
    #[arg(long, value_name = "FILE", help_heading = REPORTS)]
    pub html: Option<PathBuf>,

    /// The vmlinux with debug information, for source lines
    ///
    /// It must have the build id of the kernel under test. The default is a vmlinux beside the image of --vm, or in the places
    /// where distributions install it, if the build id is the same. Otherwise the report has no source lines.
    #[arg(long, value_name = "FILE", help_heading = REPORTS)]
    pub vmlinux: Option<PathBuf>,
}

const RUNS: &str = "Reports of runs";

/// The forms that only the report of a run has.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct RunReports {
    /// Text on standard output (the default)
    #[arg(long, conflicts_with_all = ["folded", "csv", "json", "ktap"], help_heading = REPORTS)]
    pub text: bool,

    /// Folded stacks on standard output, for flame graph tools: frames;from;outside;in COUNT
    #[arg(long, conflicts_with_all = ["csv", "json", "ktap"], help_heading = RUNS)]
    pub folded: bool,

    /// A table of sites on standard output, as comma-separated values
    #[arg(long, conflicts_with_all = ["json", "ktap"], help_heading = RUNS)]
    pub csv: bool,

    /// Write a flame graph of the failures' stacks to this file
    #[arg(long, value_name = "FILE", help_heading = RUNS)]
    pub flamegraph: Option<PathBuf>,

    /// Show this many sites in the text, most frequent first; 0: all [default: 10]
    #[arg(long, value_name = "N", value_parser = sites, conflicts_with_all = ["folded", "csv", "json", "ktap"], help_heading = RUNS)]
    pub top: Option<usize>,
}

impl RunReports {
    /// The options that only a run's report has, and whether they are given.
    #[must_use]
    pub fn given(&self) -> [(bool, &'static str); 4] {
        let Self { text: _, folded, csv, flamegraph, top } = self;
        [(*folded, "--folded"), (*csv, "--csv"), (flamegraph.is_some(), "--flamegraph"), (top.is_some(), "--top")]
    }
}

fn sites(text: &str) -> Result<usize, String> {
    text.parse().map_err(|_| format!("`{text}` is not a number of sites; write a whole number, or 0 for all"))
}
