//! `injector sweep`

use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;

use super::RunOptions;
use super::backend::BackendArg;
use super::reports::Reports;
use crate::plan::StackPattern;
use crate::plan::duration;
use crate::plan::sweep::{Guests, Journal, Leaks, Shard, SweepPlan};

const SEARCH: &str = "Search";
const WORKLOAD: &str = "Workload";
const RECORD: &str = "Journal";
const GUESTS: &str = "Guests (QEMU, on this machine)";

pub(super) const AFTER: &str = "\
How it works: the workload runs once by itself, then to record every allocation site that it reaches, then under ptrace: \
each site is failed once, inside a system call, and the call is made again until it returns without a new failure, so \
that the unmodified workload goes on. What can't be failed that way (kernel threads, softirqs, exec, page faults) gets \
runs of its own. After each failure the kernel's log is looked at.

Examples:
  A script that does mkfs, mount, file operations and umount:
    injector sweep -- ./ext4-test.sh
  NFS only, for ten minutes, and a page to look at:
    injector sweep --only 'nfs*' --only 'rpc_*' --budget 10m --html nfs.html -- ./nfs-test.sh
  In guests, across kernel panics, with nobody present:
    injector sweep --vm bzImage --jobs 2 -- ./ext4-test.sh
  After a crash of the machine:
    injector sweep --resume -- ./ext4-test.sh
  One of four machines:
    injector sweep --shard 0/4 --journal part0.jsonl -- ./ext4-test.sh

Exit codes:
  0  every site survived
  1  there are findings (or an internal error, which is said)
  2  bad input: the workload fails by itself, the journal is of another kernel…
  3  something is missing on this machine
  4  interrupted; the journal is whole, --resume goes on
  75 the kernel is damaged: boot it again and --resume";

/// Fail every allocation site that a workload reaches, and say which of them break the kernel
#[derive(Args)]
#[command(after_long_help = AFTER, after_help = "Try --help for how it works, examples and exit codes.")]
pub(super) struct SweepArgs {
    /// Only sites with this function, glob or module in their stack; repeatable: any
    #[arg(long, value_name = "PATTERN", help_heading = SEARCH)]
    only: Vec<StackPattern>,

    /// Failures in one attempt: 1, or 2 to fail what only runs after a failure
    #[arg(long, value_name = "N", default_value = "2", value_parser = clap::value_parser!(u32).range(1..=2), help_heading = SEARCH)]
    depth: u32,

    /// Fail each site at its K-th hit within a system call
    #[arg(long, value_name = "K", default_value = "1", value_parser = clap::value_parser!(u32).range(1..), help_heading = SEARCH)]
    hit: u32,

    /// Fail all hits of a site within a system call, at most N
    ///
    /// Finds code that tries again for ever; code that does so on purpose is found too.
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "100", value_parser = clap::value_parser!(u32).range(2..), help_heading = SEARCH)]
    persistent: Option<u32>,

    /// Leave kernel threads and softirqs alone
    #[arg(long, help_heading = SEARCH)]
    no_kthreads: bool,

    /// Only this part of all sites, by signature: I/N, I from 0
    #[arg(long, value_name = "I/N", help_heading = SEARCH)]
    shard: Option<Shard>,

    /// Stop after this time, and say what is left
    #[arg(long, value_name = "TIME", value_parser = duration::parse, help_heading = SEARCH)]
    budget: Option<Duration>,

    /// A task that does not come back from the kernel for this long hangs
    ///
    /// Some waits that end are long: an NFS 4 client asks for a lock again after up to 30 s.
    #[arg(long, value_name = "TIME", default_value = "45s", value_parser = duration::parse, help_heading = SEARCH)]
    hang: Duration,

    /// How to look for leaks: auto (kmemleak, where it is there), slab, off
    ///
    /// slab: fails each site many times and watches the slab caches grow; for kernels without kmemleak.
    #[arg(long, value_name = "HOW", default_value = "auto", help_heading = SEARCH)]
    leaks: Leaks,

    /// Go on with a kernel that has crashed a task
    #[arg(long, help_heading = SEARCH)]
    keep_going: bool,

    #[command(flatten)]
    backend: BackendArg,

    /// A shell command that prepares the workload; nothing is failed in it
    ///
    /// Runs once, and again after a workload that got stuck was reset.
    #[arg(long, value_name = "CMD", help_heading = WORKLOAD)]
    setup: Option<String>,

    /// A shell command that takes down what the workload leaves, also when it got stuck
    #[arg(long, value_name = "CMD", help_heading = WORKLOAD)]
    cleanup: Option<String>,

    /// A workload that fails is a finding
    #[arg(long, help_heading = WORKLOAD)]
    expect_success: bool,

    /// Where everything is written down
    #[arg(long, value_name = "FILE", default_value = "sweep.jsonl", help_heading = RECORD)]
    journal: PathBuf,

    /// Go on with a journal that is there
    #[arg(long, help_heading = RECORD)]
    resume: bool,

    /// The journal is the host's; FILE is what it has so far
    #[arg(long, value_name = "FILE", hide = true, conflicts_with_all = ["resume", "vm"])]
    journal_port: Option<PathBuf>,

    #[command(flatten)]
    guests: GuestArgs,

    #[command(flatten)]
    reports: Reports,

    /// Say more of what is being done
    #[arg(short, long, help_heading = "Reports")]
    verbose: bool,

    /// The workload: a program or script that works, and cleans up after itself
    #[arg(last = true, required = true, value_name = "CMD", help_heading = WORKLOAD)]
    command: Vec<OsString>,
}

impl SweepArgs {
    pub(super) fn options(&self) -> RunOptions {
        RunOptions { ebpf_log: false, verbose: self.verbose }
    }

    pub(super) fn into_plan(self) -> (SweepPlan, Option<Guests>, Reports) {
        let Self {
            only,
            depth,
            hit,
            persistent,
            no_kthreads,
            shard,
            budget,
            hang,
            leaks,
            keep_going,
            backend: BackendArg { backend },
            setup,
            cleanup,
            expect_success,
            journal,
            resume,
            journal_port,
            guests,
            reports,
            verbose: _,
            command,
        } = self;
        let journal = match (journal_port, resume) {
            (Some(so_far), _) => Journal::Port { so_far: Some(so_far) },
            (None, true) => Journal::Resume(journal),
            (None, false) => Journal::New(journal),
        };
        let plan = SweepPlan {
            command,
            setup,
            cleanup,
            only,
            depth,
            hit,
            persistent,
            kthreads: !no_kthreads,
            shard,
            budget,
            hang,
            expect_success,
            keep_going,
            backend: backend.unwrap_or_default(),
            leaks,
            journal,
            failing: true,
        };
        (plan, guests.into_guests(), reports)
    }
}

/// Where guests come into it.
#[derive(Args)]
pub(super) struct GuestArgs {
    /// Do it in guests with this kernel; they may crash, it goes on
    #[arg(long, value_name = "BZIMAGE", help_heading = GUESTS)]
    vm: Option<PathBuf>,

    /// How many guests at a time; each does a part of the sites
    #[arg(long, value_name = "N", default_value = "1", requires = "vm", value_parser = clap::value_parser!(u32).range(1..=64), help_heading = GUESTS)]
    jobs: u32,

    /// Memory of a guest, MiB; its root is in it
    #[arg(long, value_name = "MB", default_value = "2048", requires = "vm", help_heading = GUESTS)]
    memory: u32,

    /// Processors of a guest
    #[arg(long, value_name = "N", default_value = "2", requires = "vm", help_heading = GUESTS)]
    cpus: u32,

    /// A file (with its libraries) or directory of this machine for the guests; repeatable
    #[arg(long, value_name = "FILE[:GUESTPATH]", requires = "vm", help_heading = GUESTS)]
    add: Vec<Added>,

    /// A program of this machine for the guests; repeatable
    #[arg(long, value_name = "PROGRAM", requires = "vm", help_heading = GUESTS)]
    with: Vec<String>,

    /// A word for the guest kernel's command line; repeatable
    #[arg(long, value_name = "WORD", requires = "vm", help_heading = GUESTS)]
    append: Vec<String>,
}

/// `FILE[:GUESTPATH]`
#[derive(Clone, Debug, PartialEq, Eq)]
struct Added(PathBuf, String);

impl FromStr for Added {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (file, place) = match text.split_once(':') {
            Some((file, place)) => (PathBuf::from(file), place.to_owned()),
            None => {
                let file = PathBuf::from(text);
                let absolute = std::path::absolute(&file).map_err(|error| format!("`{text}`: {error}"))?;
                (file, absolute.to_string_lossy().into_owned())
            }
        };
        if !place.starts_with('/') {
            return Err(format!("`{text}`: the path in the guest must be absolute"));
        }
        if !file.exists() {
            return Err(format!("`{text}`: there is no {}", file.display()));
        }
        Ok(Self(file, place))
    }
}

impl GuestArgs {
    pub(super) fn into_guests(self) -> Option<Guests> {
        let Self { vm, jobs, memory, cpus, add, with, append } = self;
        let added = add.into_iter().map(|Added(file, place)| (file, place)).collect();
        vm.map(|image| Guests { image, jobs, memory_mb: memory, cpus, added, programs: with, append })
    }
}
