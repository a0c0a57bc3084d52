//! Verbs that work on journals: `sites`, `replay`, `minimize`, `merge`, `report`; and `step`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::reports::Reports;
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

    /// Results go to the host
    #[arg(long, hide = true)]
    journal_port: bool,

    #[command(flatten)]
    guests: GuestArgs,
}

impl ReplayArgs {
    pub(super) fn into_plan(self) -> (ReplayPlan, Option<Guests>) {
        let Self { journal, finding, tries, sites, hang, keep_going, journal_port, guests } = self;
        let plan = ReplayPlan { journal, finding, tries, sites, hang, keep_going, port: journal_port };
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

/// Show what a sweep found
#[derive(Args)]
#[command(after_help = "Exit codes: 0 no findings, 1 findings, 2 bad input")]
pub(super) struct ReportArgs {
    /// The sweep's journal
    pub(super) journal: PathBuf,

    #[command(flatten)]
    pub(super) reports: Reports,
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
