//! Verbs that work on journals: `sites`, `replay`, `minimize`, `merge`, `report`; on runs: `report`, `diff`; and `step`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::backend::BackendArg;
use super::reports::{Reports, RunReports};
use super::sweep::GuestArgs;
use crate::plan::duration;
use crate::plan::sweep::Guests;
use crate::sweep::replay::ReplayPlan;

/// Show the allocation sites that a workload reaches, by module
#[derive(Args)]
#[command(after_help = "Either of a journal, or of a command, which is then run a few times without any failure.")]
pub(super) struct SitesArgs {
    /// A sweep's journal
    #[arg(value_name = "JOURNAL", required_unless_present = "command", conflicts_with = "command")]
    pub(super) journal: Option<PathBuf>,

    /// Each site with its stack
    #[arg(short, long)]
    pub(super) verbose: bool,

    /// The kernel with debug information, for source lines in stacks
    #[arg(long, value_name = "FILE", requires = "verbose")]
    pub(super) vmlinux: Option<PathBuf>,

    /// Leave kernel threads and softirqs alone
    #[arg(long, conflicts_with = "journal")]
    pub(super) no_kthreads: bool,

    /// The workload
    #[arg(last = true, value_name = "CMD")]
    pub(super) command: Vec<OsString>,
}

/// Try a sweep's finding again, by itself
#[derive(Args)]
#[command(after_help = "Exit codes: 0 it was reproduced, 1 it was not, 2 bad input, 3 something is missing, \
4 interrupted, 75 the kernel is damaged before all tries were made")]
pub(super) struct ReplayArgs {
    /// The sweep's journal
    journal: PathBuf,

    /// The finding: its id, or the beginning of its title
    finding: String,

    /// How often
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..))]
    tries: u32,

    /// Only these sites, by signature, instead of the finding's
    #[arg(long, value_name = "SITE,…", value_delimiter = ',', hide = true)]
    sites: Vec<crate::sweep::journal::Signature>,

    /// A task that does not come back from the kernel for this long hangs
    #[arg(long, value_name = "TIME", default_value = "45s", value_parser = duration::parse)]
    hang: Duration,

    /// Go on with a kernel that has crashed a task
    #[arg(long)]
    keep_going: bool,

    #[command(flatten)]
    backend: BackendArg,

    /// Results go to the host
    #[arg(long, hide = true)]
    journal_port: bool,

    #[command(flatten)]
    guests: GuestArgs,
}

impl ReplayArgs {
    pub(super) fn into_plan(self) -> (ReplayPlan, Option<Guests>) {
        let Self { journal, finding, tries, sites, hang, keep_going, backend, journal_port, guests } = self;
        let backend = backend.backend.unwrap_or_default();
        let plan = ReplayPlan { journal, finding, tries, sites, hang, keep_going, backend, port: journal_port };
        (plan, guests.into_guests())
    }
}

/// Put the journals of several machines together
#[derive(Args)]
pub(super) struct MergeArgs {
    /// Journals, of the same kernel and workload
    #[arg(required = true, value_name = "JOURNAL")]
    pub(super) journals: Vec<PathBuf>,

    /// Where to; standard output if it is not given
    #[arg(short, long, value_name = "FILE")]
    pub(super) output: Option<PathBuf>,
}

/// Show what a sweep found, or what a run did
#[derive(Args)]
#[command(after_help = "Exit codes: 0 no findings, or a run; 1 findings; 2 bad input")]
pub(super) struct ReportArgs {
    /// A sweep's journal, or a run's JSON lines (--format json --output FILE)
    #[arg(value_name = "FILE")]
    pub(super) file: PathBuf,

    #[command(flatten)]
    pub(super) reports: Reports,

    #[command(flatten)]
    pub(super) runs: RunReports,
}

/// Show what two runs differ in: sites that are new, gone, or failed in another number
#[derive(Args)]
#[command(
    after_help = "Sites of the same kernel are compared by signature; of different kernels, by hook and functions of \
their stacks. Exit codes: 0 the same sites; 1 some are new or gone; 2 bad input"
)]
pub(super) struct DiffArgs {
    /// JSON lines of the run before
    pub(super) a: PathBuf,

    /// JSON lines of the run after
    pub(super) b: PathBuf,

    /// One JSON object instead of text
    #[arg(long)]
    pub(super) json: bool,
}

/// A command of a script that a sweep repeats as a whole
///
/// For what no single system call can be repeated in. The command has at most one failure each time it runs, and runs again
/// until it has none. Without a sweep around it, it just runs.
#[derive(Args)]
#[command(after_help = "Exit codes: the command's own")]
pub(super) struct StepArgs {
    /// The command
    #[arg(last = true, required = true, value_name = "CMD")]
    pub(super) command: Vec<OsString>,
}
