//! Verbs that work on journals (`sites`, `replay`, `minimize`, `merge`, `report`), on runs (`report`, `diff`), and `step`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::backend::BackendArg;
use super::reports::{Reports, RunReports};
use super::sweep::{GuestArgs, GuestsError};
use super::workloads::WorkloadArgs;
use crate::plan::duration;
use crate::plan::sweep::Guests;
use crate::sweep::replay::ReplayPlan;

/// Show the allocation sites that a workload reaches, by module
#[derive(Args)]
#[command(
    after_help = "The sites are those of a journal, or those that a command reaches: it is run a few times, and nothing fails."
)]
pub(super) struct SitesArgs {
    /// A sweep's journal
    #[arg(value_name = "JOURNAL", required_unless_present = "command", conflicts_with = "command")]
    pub(super) journal: Option<PathBuf>,

    /// Show each site with its stack
    #[arg(short, long)]
    pub(super) verbose: bool,

    /// The vmlinux with debug information, for source lines in stacks
    #[arg(long, value_name = "FILE", requires = "verbose")]
    pub(super) vmlinux: Option<PathBuf>,

    /// Exclude kernel threads and softirqs
    #[arg(long, conflicts_with = "journal")]
    pub(super) no_kthreads: bool,

    /// The workload
    #[arg(last = true, value_name = "CMD")]
    pub(super) command: Vec<OsString>,
}

/// Try to reproduce a finding of a sweep
#[derive(Args)]
#[command(after_help = "Exit codes: 0 reproduced, 1 not reproduced, 2 wrong input, 3 something is missing, \
4 interrupted, 75 the kernel was damaged before all tries were made")]
pub(super) struct ReplayArgs {
    /// The sweep's journal
    journal: PathBuf,

    /// The finding: its id, or the start of its title
    finding: String,

    /// How many tries to make
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..))]
    tries: u32,

    /// A task that has not returned from the kernel for this long hangs
    #[arg(long, value_name = "TIME", default_value = "45s", value_parser = duration::parse)]
    hang: Duration,

    /// Continue after the kernel has killed a task
    #[arg(long)]
    keep_going: bool,

    /// Write the failure into the kernel's log before each try
    ///
    /// As a sweep with --kmsg does. A finding of several failures is written as they happen.
    #[arg(long)]
    kmsg: bool,

    #[command(flatten)]
    backend: BackendArg,

    #[command(flatten)]
    named: WorkloadArgs,

    #[command(flatten)]
    guests: GuestArgs,
}

impl ReplayArgs {
    pub(super) fn into_plan(self) -> Result<(ReplayPlan, Option<Guests>), GuestsError> {
        let Self { journal, finding, tries, hang, keep_going, kmsg, backend, named, guests } = self;
        let file = named.find()?;
        let (backend, sites, spared) = (backend.backend.unwrap_or_default(), Vec::new(), Vec::new());
        let plan = ReplayPlan { journal, finding, tries, sites, hang, keep_going, kmsg, backend, spared, port: false };
        // A damaged kernel of this machine can't be replaced between tries, so a process of its own would be of no use.
        Ok((plan, guests.into_guests(file.as_ref())?.filter(|guests| guests.engine.boots())))
    }
}

/// Merge the journals of several machines
#[derive(Args)]
pub(super) struct MergeArgs {
    /// Journals of the same kernel and workload
    #[arg(required = true, value_name = "JOURNAL")]
    pub(super) journals: Vec<PathBuf>,

    /// Write to this file; default: standard output
    #[arg(short, long, value_name = "FILE")]
    pub(super) output: Option<PathBuf>,
}

/// Show what a sweep found, or what a run did
#[derive(Args)]
#[command(
    after_help = "Exit codes: 0 no findings, or the file is of a run; 1 findings; 2 wrong input; 5 no site was failed; 74 input or output failed"
)]
pub(super) struct ReportArgs {
    /// A sweep's journal, or a run's JSON lines (--format json --output FILE)
    #[arg(value_name = "FILE")]
    pub(super) file: PathBuf,

    /// Only this finding: its id, or the start of its title
    #[arg(value_name = "ID")]
    pub(super) finding: Option<String>,

    #[command(flatten)]
    pub(super) reports: Reports,

    #[command(flatten)]
    pub(super) runs: RunReports,
}

/// Compare two runs, or two sweeps
///
/// Of runs: the sites that are new, gone, or failed a different number of times. Of sweeps: the findings that are new, gone, or
/// come from other allocations; the sites that are new and gone, by function; the coverage of both.
#[derive(Args)]
#[command(after_help = "If both are of the same kernel, sites are compared by signature; otherwise by hook and the \
functions of their stacks. Findings are compared by title and by the call chain of the allocation.

Exit codes: 0 the same sites (runs) or findings (sweeps: their sites come and go); 1 some are new, gone or moved; 2 wrong input")]
pub(super) struct DiffArgs {
    /// JSON lines of the first run, or the first sweep's journal
    pub(super) a: PathBuf,

    /// JSON lines of the second run, or the second sweep's journal
    pub(super) b: PathBuf,

    /// Print one JSON object instead of text
    #[arg(long)]
    pub(super) json: bool,
}

/// Run a command of a script that a sweep retries as a whole
///
/// Use it where a sweep can't retry a single system call. The sweep injects at most one failure each time the command runs, and
/// reruns it until nothing fails. Without a sweep, the command just runs.
#[derive(Args)]
#[command(after_help = "Exit code: the command's own")]
pub(super) struct StepArgs {
    /// The command
    #[arg(last = true, required = true, value_name = "CMD")]
    pub(super) command: Vec<OsString>,
}
