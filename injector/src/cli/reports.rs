//! In which forms the outcome of a sweep or a run is wanted.

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

    /// A page for browsers into this file
    #[arg(long, value_name = "FILE", help_heading = REPORTS)]
    pub html: Option<PathBuf>,

    /// The kernel with debug information, for source lines
    ///
    /// It must have the build id of the kernel under test. Without it they come from a vmlinux beside the image of --vm, or
    /// where distributions have them, if that is the same kernel's; else there are none.
    #[arg(long, value_name = "FILE", help_heading = REPORTS)]
    pub vmlinux: Option<PathBuf>,
}

const RUNS: &str = "Reports of runs";

/// The forms that only the report of a run has.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct RunReports {
    /// Text on standard output, which is what there is without any of these
    #[arg(long, conflicts_with_all = ["folded", "csv", "json", "ktap"], help_heading = REPORTS)]
    pub text: bool,

    /// Folded stacks on standard output, for flame graph tools: frames;from;outside;in COUNT
    #[arg(long, conflicts_with_all = ["csv", "json", "ktap"], help_heading = RUNS)]
    pub folded: bool,

    /// A table of sites on standard output, as comma-separated values
    #[arg(long, conflicts_with_all = ["json", "ktap"], help_heading = RUNS)]
    pub csv: bool,

    /// A flame graph of the failures' stacks into this file
    #[arg(long, value_name = "FILE", help_heading = RUNS)]
    pub flamegraph: Option<PathBuf>,

    /// How many sites the text shows, most frequent first; 0: all [default: 10]
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
