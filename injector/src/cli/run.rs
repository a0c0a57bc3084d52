//! The options of a run, and the plan that they make.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::RunOptions;
use crate::plan::gfp::GfpError;
use crate::plan::order::OrderError;
use crate::plan::{
    Filter, Format, GfpFilter, GfpScope, GfpValue, Hook, Limits, OrderRange, Output, Plan, PlanError, Policy,
    Probability, Rule, StackFilter, StackPath, StackPattern, Target, duration,
};

const FILTERS: &str = "Filters (a call must pass all of them)";
const TARGET: &str = "Target (any of them; without one, the whole machine)";
const POLICY: &str = "Policy";
const OUTPUT: &str = "Output";

#[derive(Args)]
pub(super) struct RunArgs {
    /// What to attach to: slab (kmalloc, kmem_cache_alloc), page (alloc_pages)
    ///
    /// A slab allocation that needs new pages is seen by the page hook as well.
    #[arg(long = "hook", value_name = "HOOK,…", value_delimiter = ',', default_value = "slab,page", help_heading = FILTERS)]
    hooks: Vec<Hook>,

    /// GFP flags, e.g. NOFS, 'KERNEL,!ZERO'; repeatable: any
    ///
    /// NOFS NOIO KERNEL ATOMIC NOWAIT USER HIGHUSER (see below), single flags (ZERO, __GFP_ZERO), ! negates. Inside one
    /// value, names joined with `,` `|` or `+` must all hold; of several --gfp, any may.
    #[arg(long, value_name = "VALUE", help_heading = FILTERS)]
    gfp: Vec<GfpValue>,

    /// Which flags --gfp looks at: effective (scopes included) or raw (the argument)
    ///
    /// File systems mostly say NOFS with memalloc_nofs_save(), not in the argument. `effective` is the argument without
    /// __GFP_FS inside such a scope, and without __GFP_IO and __GFP_FS inside a memalloc_noio_save() scope.
    #[arg(long, value_name = "SCOPE", default_value = "effective", help_heading = FILTERS)]
    gfp_scope: GfpScope,

    /// Orders: 3, 0..=3 or 0..4
    ///
    /// An allocation of order n is 2^n pages. For slab calls it is the order that their object size needs. --order,
    /// --order-lt and --order-gt can be combined: all must hold.
    #[arg(long, value_name = "RANGE", allow_negative_numbers = true, help_heading = FILTERS)]
    order: Option<OrderRange>,

    /// Orders less than N
    #[arg(long, value_name = "N", value_parser = OrderRange::parse_less_than, allow_negative_numbers = true, help_heading = FILTERS)]
    order_lt: Option<OrderRange>,

    /// Orders greater than N
    #[arg(long, value_name = "N", value_parser = OrderRange::parse_greater_than, allow_negative_numbers = true, help_heading = FILTERS)]
    order_gt: Option<OrderRange>,

    /// Some caller is in this function, glob or module; repeatable: any
    ///
    /// A symbol (nfs4_do_open, with the copies that the compiler made of it), a glob ('xfs_*', with * ? [a-z] [!a-z])
    /// or a module ('[nfs]'). Code that is built into the kernel belongs to no module: use a glob.
    #[arg(long, value_name = "PATTERN", help_heading = FILTERS)]
    stack: Vec<StackPattern>,

    /// No caller is in this function, glob or module; repeatable: none
    #[arg(long, value_name = "PATTERN", help_heading = FILTERS)]
    not_stack: Vec<StackPattern>,

    /// A process with all its threads; repeatable
    #[arg(long = "pid", value_name = "PID", value_parser = pid, allow_negative_numbers = true, help_heading = TARGET)]
    pids: Vec<u32>,

    /// A cgroup (v2) by its directory, descendants included; repeatable
    #[arg(long = "cgroup", value_name = "PATH", help_heading = TARGET)]
    cgroups: Vec<PathBuf>,

    /// A command: runs in a cgroup of its own, its exit status is passed on
    ///
    /// Failures start with its first instruction (its own execve is not hit) and end with it. It owns standard output;
    /// the injector writes to standard error, or to --output.
    #[arg(last = true, value_name = "CMD", help_heading = TARGET)]
    command: Vec<OsString>,

    /// How likely a match fails: 0.01, 1% or 1/1000
    ///
    /// 0 is never, 1 is always; the resolution is 2^-32. The default is 1 where there is a target or --times; without
    /// either, the option is required.
    #[arg(long = "prob", value_name = "P", allow_negative_numbers = true, help_heading = POLICY)]
    probability: Option<Probability>,

    /// Fail N matches, not more
    ///
    /// Exact on any number of CPUs. The run ends when they are used up, unless it has a command.
    #[arg(long, value_name = "N", value_parser = times, allow_negative_numbers = true, help_heading = POLICY)]
    times: Option<u64>,

    /// End after this time: 10s, 500ms, 2m
    #[arg(long, value_name = "TIME", value_parser = duration::parse, allow_negative_numbers = true, help_heading = POLICY)]
    duration: Option<Duration>,

    /// Stop failing when the injector has not been heard of for this long
    ///
    /// From 100ms to 1h. An injector that hangs or is stopped must not keep the machine without memory.
    #[arg(
        long,
        value_name = "TIME",
        value_parser = duration::parse,
        default_value = "5s",
        allow_negative_numbers = true,
        help_heading = POLICY
    )]
    ttl: Duration,

    /// text or json (one object a line)
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

    /// No line per failure, the summary only
    #[arg(short, long, help_heading = OUTPUT)]
    quiet: bool,

    /// Show diagnostics of the eBPF side
    #[arg(long, help_heading = OUTPUT)]
    ebpf_log: bool,

    /// Say more of what is being done
    #[arg(short, long, help_heading = OUTPUT)]
    verbose: bool,
}

/// Why the options make no plan.
#[derive(Debug, thiserror::Error)]
pub(super) enum ArgsError {
    #[error("--gfp: {0}")]
    Gfp(#[from] GfpError),
    #[error("--order, --order-lt, --order-gt: {0}")]
    Order(#[from] OrderError),
    #[error(transparent)]
    Plan(#[from] PlanError),
}

/// A number that isn't one.
#[derive(Debug, thiserror::Error)]
#[error("`{text}` is not {what}")]
struct NotANumber {
    text: String,
    what: &'static str,
}

fn number<T: std::str::FromStr>(text: &str, what: &'static str) -> Result<T, NotANumber> {
    text.trim().parse().map_err(|_| NotANumber { text: text.to_owned(), what })
}

fn pid(text: &str) -> Result<u32, NotANumber> {
    number(text, "a process id; write the number of a running process")
}

fn times(text: &str) -> Result<u64, NotANumber> {
    number(text, "a number of failures; write a whole number, 1 or more")
}

fn count(text: &str) -> Result<usize, NotANumber> {
    number(text, "a number of sites; write a whole number, or 0 for all")
}

impl RunArgs {
    pub(super) fn options(&self) -> RunOptions {
        RunOptions { ebpf_log: self.ebpf_log, verbose: self.verbose }
    }

    pub(super) fn into_plan(self) -> Result<Plan, ArgsError> {
        let Self {
            hooks,
            gfp,
            gfp_scope,
            order,
            order_lt,
            order_gt,
            stack,
            not_stack,
            pids,
            cgroups,
            command,
            probability,
            times,
            duration,
            ttl,
            format,
            output,
            top,
            quiet,
            ebpf_log: _,
            verbose: _,
        } = self;
        let orders = [order, order_lt, order_gt].into_iter().flatten();
        let filter = Filter {
            gfp: GfpFilter::any_of(gfp)?,
            gfp_scope,
            order: orders.into_iter().try_fold(OrderRange::ALL, OrderRange::intersection)?,
            stack: StackFilter {
                any_of: stack.into_iter().map(StackPath::from).collect(),
                none_of: not_stack,
                ..StackFilter::default()
            },
            ..Filter::default()
        };
        let target = Target { pids, cgroups, command: (!command.is_empty()).then_some(command), follow: false };
        let mut policy = Policy { times, ..Policy::default() };
        policy.probability = match probability {
            Some(probability) => probability,
            None => policy.default_probability(&target)?,
        };
        let output = Output { format, path: output, top, quiet };
        let plan = Plan {
            rules: vec![Rule::new(hooks, filter, policy)],
            target,
            limits: Limits { duration, ttl },
            dry_run: false,
            outcome: false,
            output,
        };
        plan.validate()?;
        Ok(plan)
    }
}
