//! The options of a run, and the plan that they make.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::RunOptions;
use super::backend::BackendArg;
use super::filter::{FILTERS, FilterArgs, FilterError, HOOKS};
use super::live::LiveArgs;
use super::policy::{POLICY, PolicyArgs};
use crate::output::{self as files, OutputError};
use crate::plan::file::{FileError, NotText};
use crate::plan::number::{self, NotANumber};
use crate::plan::{
    ContainerName, Format, Limits, Output, PidNamespaceName, Plan, PlanError, PlanFile, RuleDraft, Target, duration,
    file, task,
};
use crate::run::LiveOptions;

const TARGET: &str = "Target (any of them; with a filter and without a target, the whole machine)";
/// What a `[[rule]]` of a plan file has too.
pub(super) const RULE: [&str; 3] = [HOOKS, FILTERS, POLICY];
const RUN: &str = "Run";
const OUTPUT: &str = "Output";

#[derive(Args)]
pub(super) struct RunArgs {
    #[command(flatten)]
    filter: FilterArgs,

    #[command(flatten)]
    target: TargetArgs,

    #[command(flatten)]
    policy: PolicyArgs,

    /// Take hooks, filters and policy from this file, which can have several rules
    ///
    /// `injector plan` prints options as such a file. Target, --duration and --ttl may stand in it too; here, they win. Of
    /// several rules, the first that fails a call does.
    #[arg(long, value_name = "FILE", help_heading = RUN)]
    plan: Option<PathBuf>,

    /// Fail nothing; count what would fail, and show where
    ///
    /// The summary says how many failures per second there would be, and lists their sites. Try this first:
    /// --dry-run --duration 10s
    #[arg(long, help_heading = RUN)]
    dry_run: bool,

    /// Report the outcome of each failure: what its system call returned
    ///
    /// The outcome is ENOMEM, another error, success (the failure was masked), or a signal that killed the task. A failure
    /// outside of a system call is marked as such.
    #[arg(long, help_heading = RUN)]
    outcome: bool,

    #[command(flatten)]
    backend: BackendArg,

    /// The vmlinux with debug information, for --site FILE:LINE
    ///
    /// It must have the build id of this kernel. The default is a vmlinux in the places where distributions install it.
    #[arg(long, value_name = "FILE", help_heading = RUN)]
    vmlinux: Option<PathBuf>,

    /// End after this time: 10s, 500ms, 2m
    ///
    /// Failures stop and the summary is written. The command gets a SIGTERM, and a SIGKILL 5 s later.
    #[arg(long, value_name = "TIME", value_parser = duration::parse, allow_negative_numbers = true, help_heading = RUN)]
    duration: Option<Duration>,

    /// Stop failures if the injector has shown no sign of life for this long [default: 5s]
    ///
    /// From 100ms to 1h. Failures must not go on when the injector hangs or is stopped.
    #[arg(long, value_name = "TIME", value_parser = duration::parse, allow_negative_numbers = true, help_heading = RUN)]
    ttl: Option<Duration>,

    #[command(flatten)]
    live: LiveArgs,

    /// text, or json (one object per line)
    #[arg(long, value_name = "FORMAT", default_value = "text", help_heading = OUTPUT)]
    format: Format,

    /// Write failures and summary to this file
    ///
    /// Without it, they go to standard output, or to standard error when there is a command.
    #[arg(short, long, value_name = "FILE", help_heading = OUTPUT)]
    output: Option<PathBuf>,

    /// How many sites the summary shows; 0: all
    #[arg(long, value_name = "N", value_parser = count, default_value = "10", allow_negative_numbers = true, help_heading = OUTPUT)]
    top: usize,

    /// Print no line per failure, only the summary
    #[arg(short, long, help_heading = OUTPUT)]
    quiet: bool,

    /// Write each failure into the kernel's log, as the kernel's own fault injection does
    ///
    /// FAULT_INJECTION: forcing a failure, the name (failslab, fail_page_alloc, fail_make_request, fail_function), the task and
    /// the call trace go to /dev/kmsg, for tools that read the log: syzkaller's reports, NIPA, `injector log`. A block follows
    /// its failure as fast as the injector sees it. So a splat that the failure leads to can stand before it. At most 10 blocks
    /// go there in 5 s; in the end the run says how many were left out. What reads the log (journald) allocates memory
    /// for it: choose a target that it is not in.
    #[arg(long, help_heading = OUTPUT)]
    kmsg: bool,

    /// Show the diagnostics of the eBPF programs
    #[arg(long, help_heading = OUTPUT)]
    ebpf_log: bool,

    /// Print more diagnostics
    #[arg(short, long, help_heading = OUTPUT)]
    verbose: bool,
}

#[derive(Args)]
struct TargetArgs {
    /// The whole machine, without a filter too
    ///
    /// With a filter, the whole machine is the target if no other is named.
    #[arg(long, help_heading = TARGET)]
    all: bool,

    /// A process with all its threads; repeatable
    ///
    /// Its children are targets only with --follow: --pid "$(pidof -s nginx)" --follow
    #[arg(long = "pid", value_name = "PID", value_parser = task::parse_pid, allow_negative_numbers = true, help_heading = TARGET)]
    pids: Vec<u32>,

    /// Make children of each --pid targets too, and their children, from fork on
    ///
    /// Children that exist already are no targets. A command and a --cgroup do not need this option: their children are in the
    /// same cgroup.
    #[arg(long, help_heading = TARGET)]
    follow: bool,

    /// The directory of a cgroup (v2), descendants included; repeatable
    ///
    /// For example a service: --cgroup /sys/fs/cgroup/system.slice/nginx.service
    #[arg(long = "cgroup", value_name = "PATH", help_heading = TARGET)]
    cgroups: Vec<PathBuf>,

    /// A container, by its id, 4 digits of it at least; repeatable
    ///
    /// It is found by its cgroup, which Docker, Podman, containerd and CRI-O name after the id: --container 3f2a9c. The names that
    /// they give to containers are not there; `docker inspect -f '{{.Id}}' NAME` and `crictl ps` print ids. Containers of LXC and
    /// systemd-nspawn have their name. What runs in the container later is in its cgroup, too.
    #[arg(long = "container", value_name = "ID", help_heading = TARGET)]
    containers: Vec<ContainerName>,

    /// All that is in the PID namespace of a process, or of a file; repeatable
    ///
    /// Namespaces inside of it are part of it. A container has such a namespace, unless it shares the host's, and so has what
    /// `unshare --pid --fork` starts: --pidns "$(docker inspect -f '{{.State.Pid}}' NAME)", --pidns /proc/1234/ns/pid. What comes
    /// in later, by fork or by nsenter, is a target, too.
    #[arg(long = "pidns", value_name = "PID|PATH", allow_negative_numbers = true, help_heading = TARGET)]
    pid_namespaces: Vec<PidNamespaceName>,

    /// A command: it runs in a cgroup of its own, and the injector exits with its status
    ///
    /// Failures start with the command's first instruction (its execve does not fail) and stop when it ends. Standard output is
    /// the command's; the injector writes to standard error, or to --output.
    #[arg(last = true, value_name = "CMD", help_heading = TARGET)]
    command: Vec<OsString>,
}

/// With `--plan`, the options that make a rule exclude it: each is named if it is given.
pub(super) fn plan_excludes_rules(command: clap::Command) -> clap::Command {
    let of_a_rule = |arg: &clap::Arg| arg.get_help_heading().is_some_and(|heading| RULE.contains(&heading));
    command.mut_args(|arg| if of_a_rule(&arg) { arg.conflicts_with("plan") } else { arg })
}

/// Why the options make no plan.
#[derive(Debug, thiserror::Error)]
pub(super) enum ArgsError {
    #[error(transparent)]
    Filter(#[from] FilterError),
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    NotText(#[from] NotText),
    #[error(transparent)]
    Output(#[from] OutputError),
}

fn count(text: &str) -> Result<usize, NotANumber> {
    number::parse(text, "a number of sites; write a whole number, or 0 for all")
}

impl RunArgs {
    pub(super) fn options(&self) -> RunOptions {
        RunOptions { ebpf_log: self.ebpf_log, verbose: self.verbose }
    }

    pub(super) fn live(&self) -> LiveOptions {
        self.live.options()
    }

    pub(super) fn into_plan(self) -> Result<Plan, ArgsError> {
        let Self {
            filter,
            target,
            policy,
            plan,
            dry_run,
            outcome,
            backend: BackendArg { backend },
            vmlinux,
            duration,
            ttl,
            live: _,
            format,
            output,
            top,
            quiet,
            kmsg,
            ebpf_log: _,
            verbose: _,
        } = self;
        let target = target.into_target();
        let output = Output { format, path: output, top, quiet, kmsg };
        if let Some(path) = plan {
            files::distinct(&[path.as_path()], &output.path.iter().map(PathBuf::as_path).collect::<Vec<_>>())?;
            let mut file = PlanFile::read(&path)?;
            let follow = target.follow || file.target.follow;
            if target.is_named() {
                file.target = target;
            } else {
                file.target.follow = follow;
            }
            file.duration = duration.or(file.duration);
            file.ttl = ttl.or(file.ttl);
            file.dry_run |= dry_run;
            file.outcome |= outcome;
            file.backend = backend.or(file.backend);
            return Ok(Plan { vmlinux, ..file.into_plan(output)? });
        }
        let (hooks, functions, filter) = filter.into_parts()?;
        let (policy, probability, once_per_site) = policy.into_parts();
        let rule = RuleDraft { name: None, hooks, functions, filter, policy, probability, once_per_site };
        let plan = Plan {
            rules: vec![rule.finish(&target)?],
            backend: backend.unwrap_or_default(),
            target,
            limits: Limits { duration, ttl: ttl.unwrap_or(Limits::DEFAULT_TTL) },
            dry_run,
            outcome,
            vmlinux,
            output,
        };
        plan.validate()?;
        Ok(plan)
    }

    /// The same as a plan file.
    pub(super) fn into_plan_file(self) -> Result<String, ArgsError> {
        Ok(file::to_toml(&self.into_plan()?)?)
    }
}

impl TargetArgs {
    fn into_target(self) -> Target {
        let Self { all, pids, follow, cgroups, containers, pid_namespaces, command } = self;
        let command = (!command.is_empty()).then_some(command);
        Target { all, pids, cgroups, containers, pid_namespaces, command, follow }
    }
}

/// Print the options of a run as a plan file, or check such a file
///
/// What is printed is what --plan reads: only what differs from the defaults. A command and the output options do not belong
/// into it. With --plan, the file is read, checked, and printed in that form. This needs neither root nor a kernel that can
/// be injected into.
#[derive(Args)]
#[command(
    override_usage = "injector plan [OPTIONS] [-- CMD…]\n       injector plan --plan FILE [-- CMD…]",
    after_help = "Exit codes: 0 it is a plan, 2 it is not, and why"
)]
pub(super) struct PlanArgs {
    #[command(flatten)]
    pub(super) run: RunArgs,
}
