//! `injector sweep`

use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use injector_guest::{Clock, EngineChoice, Root, engines};
use injector_kernels::{Stock, selection::Wanted, stock};

use super::RunOptions;
use super::backend::BackendArg;
use super::reports::Reports;
use super::workloads::WorkloadArgs;
use crate::exit::{ExitCode, HasExitCode as _};
use crate::plan::StackPattern;
use crate::plan::duration;
use crate::plan::sweep::{GuestKernel, Guests, Journal, Leaks, Shard, SweepPlan};
use crate::plan::workload::{Commands, WorkloadFile};
use crate::workloads::WorkloadsError;

const SEARCH: &str = "Search";
pub(super) const WORKLOAD: &str = "Workload";
const RECORD: &str = "Journal";
const GUESTS: &str = "Guests (on this machine)";

pub(super) const AFTER: &str = "\
How it works: the workload first runs without injection, and then to record every allocation site that it reaches. Then \
it runs under ptrace: each site fails once, inside a system call, and the call is retried until it returns without a new \
failure, so that the unmodified workload goes on. Sites that can't fail this way (kernel threads, softirqs, exec, page \
faults) get runs of their own. After each failure the sweep reads the kernel's log.

Examples:
  A script that does mkfs, mount, file operations and umount:
    injector sweep -- ./ext4-test.sh
  NFS only, for ten minutes, with an HTML report:
    injector sweep --only 'nfs*' --only 'rpc_*' --budget 10m --html nfs.html -- ./nfs-test.sh
  In guests, unattended, across kernel panics:
    injector sweep --vm bzImage --jobs 2 -- ./ext4-test.sh
  A workload of the catalogue, on Debian's stock kernel with all drivers:
    injector sweep --vm debian:7.3-amd64 --workload device-mapper
  On Debian's stock kernel, whatever kernel this machine has:
    injector sweep --vm debian:7.3 -- ./ext4-test.sh
  In guests of virtme-ng, which have this machine's files:
    injector sweep --vm bzImage --engine virtme-ng -- ./ext4-test.sh
  After a crash of the machine:
    injector sweep --resume -- ./ext4-test.sh
  On one of four machines:
    injector sweep --shard 0/4 --journal part0.jsonl -- ./ext4-test.sh

Exit codes:
  0  no findings
  1  findings
  2  bad input: the workload fails without injection, the journal is of another kernel…
  3  something is missing on this machine
  4  interrupted; the journal is whole, --resume goes on
  5  no site was failed: nothing was tested
  70 internal error
  74 input or output failed, for example on a full disk
  75 the kernel is damaged: boot it again and --resume";

/// Fail every allocation site that a workload reaches, and report those that break the kernel
#[derive(Args)]
#[command(after_long_help = AFTER, after_help = "Try --help for how it works, examples and exit codes.")]
pub(super) struct SweepArgs {
    /// Only sites with this function, glob or module in their stack; repeatable, any of them
    #[arg(long, value_name = "PATTERN", help_heading = SEARCH)]
    only: Vec<StackPattern>,

    /// Failures in one attempt: 1, or 2 to also fail sites that are reached only after a failure
    #[arg(long, value_name = "N", default_value = "2", value_parser = clap::value_parser!(u32).range(1..=2), help_heading = SEARCH)]
    depth: u32,

    /// Fail each site at its K-th hit within a system call
    #[arg(long, value_name = "K", default_value = "1", value_parser = clap::value_parser!(u32).range(1..), help_heading = SEARCH)]
    hit: u32,

    /// Fail all hits of a site within a system call, at most N
    ///
    /// Finds code that retries for ever, including code that does so on purpose.
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "100", value_parser = clap::value_parser!(u32).range(2..), help_heading = SEARCH)]
    persistent: Option<u32>,

    /// Do not fail sites in kernel threads and softirqs
    #[arg(long, help_heading = SEARCH)]
    no_kthreads: bool,

    /// Only this part of the sites, by signature: I/N, with I from 0
    #[arg(long, value_name = "I/N", help_heading = SEARCH)]
    shard: Option<Shard>,

    /// Stop after this time, and list what is left
    #[arg(long, value_name = "TIME", value_parser = duration::parse, help_heading = SEARCH)]
    budget: Option<Duration>,

    /// A task hangs that does not return from the kernel for this long [default: 45s]
    ///
    /// The workload without injection, --setup and --cleanup may each take ten times as long. Some waits are long and end: an
    /// NFS 4 client retries to get a lock after up to 30 s.
    #[arg(long, value_name = "TIME", value_parser = duration::parse, help_heading = SEARCH)]
    hang: Option<Duration>,

    /// How to look for leaks: auto (kmemleak, if the kernel has it), slab, off
    ///
    /// slab: fail each site many times and watch the slab caches grow; for kernels without kmemleak.
    #[arg(long, value_name = "HOW", default_value = "auto", help_heading = SEARCH)]
    leaks: Leaks,

    /// Go on after the kernel has crashed a task
    #[arg(long, help_heading = SEARCH)]
    keep_going: bool,

    #[command(flatten)]
    backend: BackendArg,

    #[command(flatten)]
    named: WorkloadArgs,

    /// A shell command that prepares the workload; nothing fails in it
    ///
    /// It runs once, and again after a workload that got stuck was reset.
    #[arg(long, value_name = "CMD", help_heading = WORKLOAD)]
    setup: Option<String>,

    /// A shell command that takes down what the workload leaves, also after it got stuck
    #[arg(long, value_name = "CMD", help_heading = WORKLOAD)]
    cleanup: Option<String>,

    /// Report a workload that fails as a finding
    #[arg(long, help_heading = WORKLOAD)]
    expect_success: bool,

    /// The record of the sweep
    #[arg(long, value_name = "FILE", default_value = "sweep.jsonl", help_heading = RECORD)]
    journal: PathBuf,

    /// Go on with an existing journal
    #[arg(long, help_heading = RECORD)]
    resume: bool,

    /// Write failures into the kernel's log, as the kernel's own fault injection does
    ///
    /// FAULT_INJECTION: forcing a failure, the name (failslab, fail_page_alloc) and the call trace go to /dev/kmsg of the kernel
    /// under test, for tools that read the log. Where a run can fail only one site, its block goes there before the run; so a
    /// splat follows its cause. In other runs it follows the failure as fast as the sweep sees it, and a splat can stand
    /// before it. At most 10 blocks go there in 5 s, but the failure that a complaint is blamed on is always written.
    #[arg(long, help_heading = RECORD)]
    kmsg: bool,

    #[command(flatten)]
    guests: GuestArgs,

    #[command(flatten)]
    reports: Reports,

    /// Print more about what is being done
    #[arg(short, long, help_heading = "Reports")]
    verbose: bool,

    /// The workload: a program or script that works and cleans up after itself
    #[arg(last = true, required_unless_present = "workload", conflicts_with = "workload", value_name = "CMD", help_heading = WORKLOAD)]
    command: Vec<OsString>,
}

impl SweepArgs {
    pub(super) fn options(&self) -> RunOptions {
        RunOptions { ebpf_log: false, verbose: self.verbose }
    }

    pub(super) fn into_plan(self) -> Result<(SweepPlan, Option<Guests>, Reports), GuestsError> {
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
            named,
            setup,
            cleanup,
            expect_success,
            journal,
            resume,
            kmsg,
            guests,
            reports,
            verbose: _,
            command,
        } = self;
        let file = named.find()?;
        let given = guests.arguments();
        let guests = guests.into_guests(file.as_ref())?;
        let journal = if resume { Journal::Resume(journal) } else { Journal::New(journal) };
        let mut plan = SweepPlan {
            command,
            workload: named.workload,
            guests: given.iter().map(|word| word.to_string_lossy().into_owned()).collect(),
            setup,
            cleanup,
            only,
            spared: Vec::new(),
            depth,
            hit,
            persistent,
            kthreads: !no_kthreads,
            shard,
            budget,
            hang: hang.unwrap_or(SweepPlan::DEFAULT_HANG),
            expect_success,
            keep_going,
            backend: backend.unwrap_or_default(),
            leaks,
            journal,
            kmsg,
            failing: true,
        };
        if let Some(file) = &file {
            let own_root = guests.as_ref().is_some_and(|guests| guests.engine.root() == Root::Images);
            let Commands { run, setup, cleanup } = file.commands(own_root);
            plan.command = run.into_iter().map(OsString::from).collect();
            plan.setup = plan.setup.or(setup);
            plan.cleanup = plan.cleanup.or(cleanup);
            plan.only.extend(file.only.iter().cloned());
            plan.budget = plan.budget.or(file.budget);
            plan.hang = hang.or(file.hang).unwrap_or(SweepPlan::DEFAULT_HANG);
        }
        Ok((plan, guests, reports))
    }
}

/// The options of guests.
#[derive(Args)]
pub(super) struct GuestArgs {
    /// Run in guests that boot this kernel: an image, or Debian's stock kernel, as in debian:7.3
    ///
    /// A guest that crashes is replaced. A distribution's image brings its modules, if they are where the distribution puts
    /// them (/boot/vmlinuz-RELEASE and /lib/modules/RELEASE), and injector_hooks, if there are headers too. A stock kernel of
    /// Debian is fetched from Debian's archive, once, into the user's cache directory. debian:7.3 is the one for virtual
    /// machines; debian:7.3-amd64 has all drivers.
    #[arg(long, value_name = "KERNEL", help_heading = GUESTS)]
    vm: Option<VmKernel>,

    /// The directory with the modules of the image, as /lib/modules/RELEASE
    #[arg(long, value_name = "DIR", requires = "vm", help_heading = GUESTS)]
    modules: Option<PathBuf>,

    /// What runs the guests [default: qemu with --vm]
    #[arg(long, value_name = "ENGINE", help_heading = GUESTS, long_help = engine_help())]
    engine: Option<EngineChoice>,

    /// How many guests run at the same time; each does a part of the sites
    #[arg(long, value_name = "N", default_value = "1", requires = "vm", value_parser = clap::value_parser!(u32).range(1..=64), help_heading = GUESTS)]
    jobs: u32,

    /// Memory of a guest in MiB; a root in memory takes part of it [default: 2048]
    #[arg(long, value_name = "MB", requires = "vm", help_heading = GUESTS)]
    memory: Option<u32>,

    /// Processors of a guest [default: 1 in virtual time, otherwise 2]
    #[arg(long, value_name = "N", requires = "vm", value_parser = clap::value_parser!(u32).range(1..=64), help_heading = GUESTS)]
    cpus: Option<u32>,

    /// Put this file (with its libraries) or directory into the guests; repeatable
    #[arg(long, value_name = "FILE[:GUESTPATH]", requires = "vm", help_heading = GUESTS)]
    add: Vec<Added>,

    /// Put this program of this machine into the guests; repeatable
    #[arg(long, value_name = "PROGRAM", requires = "vm", help_heading = GUESTS)]
    with: Vec<String>,

    /// Of the kernel's modules, put only this one and what it needs into the guests; repeatable
    ///
    /// NAME is a module's name, as in dm-mod, or a directory of the kernel's source, as in net/sched/, for all that is below it.
    /// `modprobe NAME` loads it. The modules are those of a distribution's kernel, of --modules, or of the build tree that the
    /// image of --vm is in. Without this option the guests get all modules of a distribution's kernel but those of hardware that
    /// no guest has.
    #[arg(long, value_name = "NAME", requires = "vm", help_heading = GUESTS)]
    with_module: Vec<Wanted>,

    /// Give the guests this device; repeatable
    ///
    /// DEVICE is what QEMU's -device takes, as in virtio-net-pci, or another option of QEMU's with its value, as in
    /// "-drive if=none,id=d,driver=null-co,size=64M".
    #[arg(long, value_name = "DEVICE", requires = "vm", allow_hyphen_values = true, help_heading = GUESTS)]
    device: Vec<String>,

    /// Add this word to the guest kernel's command line; repeatable
    #[arg(long, value_name = "WORD", requires = "vm", help_heading = GUESTS)]
    append: Vec<String>,

    /// The clock of emulated guests: virtual or real
    ///
    /// virtual: the clock counts instructions, and jumps to the next timer when the guest waits. So
    /// waiting takes no time, and runs repeat better. Budgets and the times of reports are this
    /// machine's. Under KVM and other engines the clock is always real.
    #[arg(long, value_name = "CLOCK", default_value = "virtual", hide_possible_values = true, requires = "vm", help_heading = GUESTS)]
    time: GuestTime,
}

/// `virtual` or `real`
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum GuestTime {
    Virtual,
    Real,
}

fn engine_help() -> String {
    format!("What runs the guests [default: qemu with --vm]\n\n{}", engines::help())
}

/// Options of guests that do not go together.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum GuestsError {
    /// An engine that boots has no kernel.
    #[error("--engine {0:?} boots a kernel; name its image: --vm BZIMAGE")]
    NoKernel(EngineChoice),
    /// A kernel of Debian's has its own modules.
    #[error("--vm {0} brings its modules; leave out --modules")]
    Modules(Stock),
    /// The modules of another kernel can't be put into a root that is this machine's.
    #[error("under --engine {0:?} the guests have this machine's modules; name an image, and leave out --modules")]
    NoModules(EngineChoice),
    /// An engine that boots nothing has one.
    #[error("--engine {0:?} boots no kernel; leave out --vm")]
    Kernel(EngineChoice),
    /// The workload can't be used.
    #[error("{text}")]
    Workload {
        /// Why.
        text: String,
        /// Bad input, or something is missing.
        code: ExitCode,
    },
    /// Files cannot be put into a root that is this machine's.
    #[error("under --engine {0:?} the guests have this machine's files; leave out --add and --with")]
    NoRoot(EngineChoice),
}

impl From<WorkloadsError> for GuestsError {
    fn from(error: WorkloadsError) -> Self {
        Self::Workload { text: error.to_string(), code: error.exit_code() }
    }
}

impl GuestsError {
    /// What it ends the program with.
    pub(super) fn code(&self) -> ExitCode {
        if let Self::Workload { code, .. } = self { *code } else { ExitCode::USAGE }
    }
}

/// What `--vm` takes.
#[derive(Clone, Debug, PartialEq, Eq)]
enum VmKernel {
    Image(PathBuf),
    Stock(Stock),
}

impl FromStr for VmKernel {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if stock::is_meant(text) { text.parse().map(Self::Stock) } else { Ok(Self::Image(text.into())) }
    }
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
    /// How many guests run at the same time.
    pub(super) fn jobs(&self) -> u32 {
        self.jobs
    }

    /// The same options for another command line, but how many run at the same time.
    pub(super) fn arguments(&self) -> Vec<OsString> {
        let Self { vm, modules, engine, jobs: _, memory, cpus, add, with, with_module, device, append, time } = self;
        let mut all: Vec<OsString> = Vec::new();
        let mut option = |name: &str, value: OsString| all.extend([OsString::from(name), value]);
        match vm {
            Some(VmKernel::Image(image)) => option("--vm", image.into()),
            Some(VmKernel::Stock(stock)) => option("--vm", stock.to_string().into()),
            None => {}
        }
        if let Some(modules) = modules {
            option("--modules", modules.into());
        }
        if let Some(engine) = engine {
            option("--engine", engine.name().into());
        }
        for (name, number) in [("--memory", memory), ("--cpus", cpus)] {
            if let Some(number) = number {
                option(name, number.to_string().into());
            }
        }
        for Added(file, guest) in add {
            let mut text = file.clone().into_os_string();
            text.push(format!(":{guest}"));
            option("--add", text);
        }
        let modules = with_module.iter().map(ToString::to_string).collect::<Vec<_>>();
        for (name, values) in
            [("--with", with), ("--with-module", &modules), ("--device", device), ("--append", append)]
        {
            for value in values {
                option(name, value.into());
            }
        }
        if *time == GuestTime::Real {
            option("--time", "real".into());
        }
        all
    }

    /// The guests, with what a workload needs; none if the sweep runs in this process.
    pub(super) fn into_guests(self, workload: Option<&WorkloadFile>) -> Result<Option<Guests>, GuestsError> {
        let Self { vm, modules, engine, jobs, memory, cpus, add, with, with_module, device, append, time } = self;
        let engine = match (engine, &vm) {
            (None, None) => return Ok(None),
            (None, Some(_)) => EngineChoice::QEMU,
            (Some(engine), None) if engine.boots() => return Err(GuestsError::NoKernel(engine)),
            (Some(engine), Some(_)) if !engine.boots() => return Err(GuestsError::Kernel(engine)),
            (Some(engine), _) => engine,
        };
        if engine.root() == Root::Host && !(add.is_empty() && with.is_empty()) {
            return Err(GuestsError::NoRoot(engine));
        }
        let kernel = match (vm, modules) {
            (Some(VmKernel::Stock(_)), _) | (Some(_), Some(_)) if engine.root() == Root::Host => {
                return Err(GuestsError::NoModules(engine));
            }
            (Some(VmKernel::Stock(stock)), Some(_)) => return Err(GuestsError::Modules(stock)),
            (Some(VmKernel::Stock(stock)), None) => Some(GuestKernel::Stock(stock)),
            (Some(VmKernel::Image(image)), modules) => Some(GuestKernel::Image { image, modules }),
            (None, _) => None,
        };
        let added = add.into_iter().map(|Added(file, place)| (file, place)).collect();
        let clock = match time {
            GuestTime::Virtual => Clock::Virtual,
            GuestTime::Real => Clock::Host,
        };
        let mut guests = Guests {
            engine,
            kernel,
            jobs,
            memory_mb: memory.unwrap_or(Guests::DEFAULT_MEMORY_MB),
            cpus,
            added,
            programs: with,
            modules: with_module,
            options: Vec::new(),
            devices: device,
            append,
            clock,
        };
        if let Some(file) = workload {
            guests.need(file, memory.is_some());
        }
        Ok(Some(guests))
    }
}
