//! Why a plan makes no sense, though each of its values does.

use std::time::Duration;

use super::{
    Contexts, Hook, Limits, MAX_RULES, OrderRange, Policy, Rule, SiteName, SizeRange, StackFilter, StackPath,
    StackPattern, TaskFilter, duration,
};
use crate::foreign::Foreign;

/// Why a plan makes no sense, though each of its values does. The messages call options as the command line does; the keys
/// of a plan file have the same names.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PlanError {
    /// Nothing to do.
    #[error("the plan has no rule; write one at least: [[rule]]")]
    NoRule,
    /// More than the kernel side runs.
    #[error("the plan has {0} rules; at most {MAX_RULES} are possible")]
    TooManyRules(usize),
    /// One of several rules without a name.
    #[error(
        "a rule has no name: where there are several, each needs one, for events and the summary; write name = \"…\""
    )]
    UnnamedRule,
    /// Not a name.
    #[error("rule name `{}` is not usable; write 1 to {} characters, none of them a control character", .0.escape_debug(), Rule::MAX_NAME)]
    RuleName(String),
    /// Which of them is meant?
    #[error("two rules are called `{0}`; give each a name of its own")]
    SameName(Foreign),
    /// Nothing to attach to.
    #[error("name a hook; hooks are: {}", Hook::names())]
    NoHook,
    /// A filter or policy on a fact that no attached hook's calls have.
    #[error("{option} can never match here: it is about {fact}, which only calls of {hooks} have")]
    NoSuchFact {
        /// The option.
        option: &'static str,
        /// The fact.
        fact: &'static str,
        /// The hooks that have it.
        hooks: String,
    },
    /// Every hook returns what its type demands.
    #[error(
        "--errno is of no use here: page can only return true, page-pool, vmalloc and percpu only NULL, and a function with an error of its own only that"
    )]
    NoErrno,
    /// Its callers never give up.
    #[error(
        "--errno EEXIST can't go with the hook filemap: it tells the kernel that another task has just added the folio, so it would look for that and try again for ever; write ENOMEM, which is what really happens, or another error"
    )]
    FilemapExists,
    /// Attached to twice.
    #[error("--function {0} is given twice; a rule fails a function in one way")]
    SameFunction(Foreign),
    /// The same, under another name.
    #[error("--function {0} and --function {1} are the same; a rule fails a function in one way")]
    SameSystemCall(Foreign, Foreign),
    /// A function that has a hook, with its guards.
    #[error("--function {function} is the hook {hook}; write --hook {hook}, and --errno for another error")]
    FunctionIsHook {
        /// The function.
        function: String,
        /// The hook.
        hook: Hook,
    },
    /// More than the kernel side runs.
    #[error("{0} functions are too many for one rule; at most {max} are possible", max = Rule::MAX_FUNCTIONS)]
    TooManyFunctions(usize),
    /// Would fail every allocation of the whole machine.
    #[error(
        "--prob is required here: without a target (--pid, --cgroup, -- CMD) or --times, every matching allocation of the whole machine would fail; try --prob 0.01"
    )]
    NoProbability,
    /// Nothing says that the whole machine is meant.
    #[error(
        "no target and no filter: this would fail allocations of the whole machine; name a target (--pid, --cgroup, -- CMD), or add --all if that is meant"
    )]
    NoTarget,
    /// All, and some.
    #[error("--all is the whole machine; leave it out, or leave out --pid, --cgroup and the command")]
    AllAndTarget,
    /// A path that got lost.
    #[error("--cgroup is empty; write the directory of a cgroup, as in /sys/fs/cgroup/system.slice")]
    EmptyCgroup,
    /// Asked for and excluded.
    #[error("{option} {wanted} and --not-stack {unwanted} exclude each other: no stack can match")]
    StackContradiction {
        /// `--stack` or `--caller`.
        option: &'static str,
        /// Its value.
        wanted: Box<StackPattern>,
        /// What excludes it.
        unwanted: Box<StackPattern>,
    },
    /// No size has the order.
    #[error("--size {size} and --order {order} exclude each other: no allocation of {hooks} has both")]
    SizeAndOrder {
        /// The sizes.
        size: SizeRange,
        /// The orders.
        order: OrderRange,
        /// The hooks whose calls have both.
        hooks: String,
    },
    /// Kernel threads are root's.
    #[error("--kthreads only and --uid exclude each other: kernel threads run as root; write --uid 0, or leave it out")]
    KthreadsOfUser,
    /// More than the kernel side follows.
    #[error(
        "{0} of the --stack values are paths of several functions (a..b); at most {paths} are possible",
        paths = StackFilter::MAX_PATHS
    )]
    TooManyPaths(usize),
    /// The hook has one list of each kind, and both would have to match.
    #[error("--site names signatures and lines in one rule; use one kind, or a plan file with a rule for each")]
    SitesOfTwoKinds,
    /// More than the kernel side compares.
    #[error("--site names {0} signatures; at most {max} are possible in a rule", max = SiteName::MAX_SIGNATURES)]
    TooManySites(usize),
    /// Nothing to look for.
    #[error("--stack-depth needs --stack or --not-stack: it says how far they look")]
    DepthAlone,
    /// In an interrupt, the task is whichever was there.
    #[error(
        "--context {contexts} can't go with {condition}: in an interrupt the task is a bystander; leave one of them out"
    )]
    Bystander {
        /// The contexts.
        contexts: Contexts,
        /// What asks for the task.
        condition: &'static str,
    },
    /// Kernel threads are never in one.
    #[error("--kthreads only and --syscall exclude each other: kernel threads make no system calls")]
    KthreadsInSyscall,
    /// Kernel threads are never in its cgroup.
    #[error("--kthreads only can't match here: no kernel thread belongs to the command; leave the command out")]
    KthreadsOfCommand,
    /// More than the kernel side compares.
    #[error("{count} {option} values are too many; at most {} are possible", TaskFilter::MAX_IDS)]
    TooManyIds {
        /// The option.
        option: &'static str,
        /// How many there are.
        count: usize,
    },
    /// Not a process.
    #[error("--pid 0 is not a process; name the id of a running one")]
    PidZero,
    /// Not a process.
    #[error("--not-pid 0 is not a process; name the id of a running one")]
    NotPidZero,
    /// Asked for and excluded.
    #[error("--pid {0} and --not-pid {0} exclude each other: no process is left")]
    PidContradiction(u32),
    /// Belongs to processes.
    #[error(
        "--follow goes with --pid: children of a command, and of what is in a cgroup, are in the cgroup too and belong to the target anyway"
    )]
    FollowWithoutPid,
    /// Two ways to say which.
    #[error("--every and --nth exclude each other; name all numbers with --nth, or leave it out")]
    EveryAndNth,
    /// Nothing to count.
    #[error("--nth-per needs --nth: it says whose matches --nth counts")]
    NthPerAlone,
    /// More than the kernel side compares.
    #[error("--nth has {0} numbers; at most {max} are possible", max = Policy::MAX_NTH)]
    TooManyNth(usize),
    /// Two ways to say how often.
    #[error("--once-per-site and --per-site exclude each other: the first is --per-site 1")]
    OnceAndPerSite,
    /// No failure at all.
    #[error("--times 0 would fail nothing; use --prob 0 to count matches without failing any")]
    TimesZero,
    /// No time at all.
    #[error("--duration {given} is too short: the run would end before it starts", given = duration::format(*.0))]
    DurationZero(Duration),
    /// Outside the bounds.
    #[error(
        "--ttl {given} is out of range; it goes from {min} to {max}",
        given = duration::format(*.0),
        min = duration::format(Limits::MIN_TTL),
        max = duration::format(Limits::MAX_TTL)
    )]
    Ttl(Duration),
    /// Nothing to tell.
    #[error("--kmsg and --dry-run exclude each other: a dry run fails nothing that the kernel's log could tell of")]
    KmsgDryRun,
    /// A command without a program.
    #[error("the command after -- is empty; write the program and its arguments")]
    EmptyCommand,
}

crate::exit::has_exit_code!(PlanError => USAGE);

/// How many of them are paths of several patterns.
pub(super) fn long_paths(paths: &[StackPath]) -> usize {
    paths.iter().filter(|path| path.patterns().len() > 1).count()
}
