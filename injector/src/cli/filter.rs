//! The options that say which calls match.

use std::num::NonZeroU32;

use clap::Args;

use crate::plan::gfp::GfpError;
use crate::plan::order::OrderError;
use crate::plan::{
    CachePattern, CommPattern, Contexts, Filter, Function, GfpFilter, GfpScope, GfpValue, Hook, Kthreads, OrderRange,
    SiteName, SizeRange, StackFilter, StackPath, StackPattern, Syscall, TaskFilter, stack, task,
};

pub(super) const HOOKS: &str = "Hooks (what to attach to)";
pub(super) const FILTERS: &str = "Filters (a call must pass all of them)";

/// The help of `--hook`, made from the table of hooks.
fn hook_help() -> String {
    let has = |hook: &Hook| {
        let facts = [(hook.has_gfp(), "gfp"), (hook.has_size(), "order, size"), (hook.has_cache(), "cache")];
        let facts: Vec<&str> = facts.into_iter().filter_map(|(has, fact)| has.then_some(fact)).collect();
        if facts.is_empty() { "(none)".to_owned() } else { facts.join(", ") }
    };
    let rows = Hook::NAMED.map(|hook| (hook, hook.row().map_or("", |row| row.help)));
    let width = rows.iter().map(|(_, help)| help.chars().count()).max().unwrap_or_default();
    let lines: Vec<String> =
        rows.iter().map(|(hook, help)| format!("  {hook:<9}  {help:<width$}  {}", has(hook))).collect();
    format!(
        "\
{summary}

{rows}

The right column lists the facts that filters can use. A call that lacks a fact never matches a filter on it: with \
--size, no bio fails. A slab allocation that needs new pages also reaches the page hook.

--hook bio --errno EIO makes block devices fail with I/O errors.

[default: slab,page; with --function, none]",
        summary = hook_summary(),
        rows = lines.join("\n")
    )
}

fn hook_summary() -> String {
    format!("Allocators, or other places that can fail: {}", Hook::names())
}

#[derive(Args)]
pub(super) struct FilterArgs {
    #[arg(
        long = "hook",
        value_name = "HOOK,…",
        value_delimiter = ',',
        help = format!("{} [default: slab,page]", hook_summary()),
        long_help = hook_help(),
        help_heading = HOOKS
    )]
    hooks: Vec<Hook>,

    /// Any function that the kernel lists as injectable, and its error: open_ctree=ENOSPC; repeatable
    ///
    /// `injector hooks` lists them. System calls are among them: openat=EINTR. The error is an error number (ENOMEM or 12), NULL
    /// or TRUE, depending on the function's type. The default is --errno, or what the type allows. With --function and without
    /// --hook, only the functions are hooks.
    #[arg(long = "function", value_name = "NAME[=ERROR]", help_heading = HOOKS)]
    functions: Vec<Function>,

    /// GFP flags, e.g. NOFS, 'KERNEL,!ZERO'; repeatable: any
    ///
    /// A value is NOFS, NOIO, KERNEL, ATOMIC, NOWAIT, USER, HIGHUSER (see below) or a single flag (ZERO, __GFP_ZERO). ! negates.
    /// Names joined with `,` `|` or `+` must all match. If --gfp is repeated, one of the values must match.
    #[arg(long, value_name = "VALUE", help_heading = FILTERS)]
    gfp: Vec<GfpValue>,

    /// Which flags --gfp looks at: effective (scopes included) or raw (the argument)
    ///
    /// File systems mostly ask for NOFS by memalloc_nofs_save(), not in the argument. Inside such a scope, `effective` is the
    /// argument without __GFP_FS. Inside a memalloc_noio_save() scope it is the argument without __GFP_IO and __GFP_FS.
    #[arg(long, value_name = "SCOPE", default_value = "effective", help_heading = FILTERS)]
    gfp_scope: GfpScope,

    /// Orders: 3, 0..=3 or 0..4
    ///
    /// An allocation of order n has 2^n pages. The order of a slab call is the one that its object size needs. --order,
    /// --order-lt and --order-gt can be combined; all must match.
    #[arg(long, value_name = "RANGE", allow_negative_numbers = true, help_heading = FILTERS)]
    order: Option<OrderRange>,

    /// Orders less than N
    ///
    /// --order-lt 4 is --order 0..4: allocations of up to 8 pages, which the page allocator almost never fails.
    #[arg(long, value_name = "N", value_parser = OrderRange::parse_less_than, allow_negative_numbers = true, help_heading = FILTERS)]
    order_lt: Option<OrderRange>,

    /// Orders greater than N
    ///
    /// --order-gt 3 is --order 4.. : costly allocations, for which callers should have a fallback.
    #[arg(long, value_name = "N", value_parser = OrderRange::parse_greater_than, allow_negative_numbers = true, help_heading = FILTERS)]
    order_gt: Option<OrderRange>,

    /// Sizes in bytes: 64, 64..=256, 1K..8K, 4096..
    ///
    /// The size of a slab call is the object size of its cache (a kmalloc() of 100 bytes has 128). The size of a page call is 4096
    /// bytes times 2^order. K, M and G are powers of 1024.
    #[arg(long, value_name = "RANGE", allow_negative_numbers = true, help_heading = FILTERS)]
    size: Option<SizeRange>,

    /// The slab cache, by name or glob: dentry, 'kmalloc-*'; repeatable: any
    ///
    /// Names are those of /proc/slabinfo. The kernel may merge caches of the same size; then one name stands for all of them.
    /// Booting with slab_nomerge avoids that.
    #[arg(long = "cache", value_name = "GLOB", help_heading = FILTERS)]
    caches: Vec<CachePattern>,

    /// Only this site, by its signature or by the line that asks for memory; repeatable: any
    ///
    /// A signature is 16 hexadecimal digits, as summaries, reports and `injector sites JOURNAL -v` show them. It means hook and
    /// call chain of one build of the kernel, on every boot. A line is fs/jbd2/journal.c:1234: any call of the allocator that is
    /// made there, inlined functions included. It needs the kernel's vmlinux (--vmlinux), and code that is built in. A rule has
    /// signatures (at most 8) or lines.
    #[arg(long = "site", value_name = "SITE", help_heading = FILTERS)]
    sites: Vec<SiteName>,

    /// A caller is in this function, glob or module, or callers are in several in order; repeatable: any
    ///
    /// A symbol (nfs4_do_open, with the copies that the compiler made of it), a glob ('xfs_*', with * ? [a-z] [!a-z])
    /// or a module ('[nfs]'). Code that is built into the kernel belongs to no module: use a glob.
    ///
    /// Several patterns with `..` between them are a path, the outermost caller first. Other callers may be between them:
    /// 'nfs4_do_open..rpc_*' is every rpc_* that is called below nfs4_do_open. A path has at most 4 patterns.
    ///
    /// nfs4_do_open+0x10-0x40 is a part of a function; 0xffffffff81000000-0xffffffff81001000 is a range of addresses of this
    /// boot. The call instruction must be inside; the end is excluded.
    #[arg(long, value_name = "PATTERN", help_heading = FILTERS)]
    stack: Vec<StackPath>,

    /// No caller is in this function, glob or module; repeatable: none
    ///
    /// Patterns are those of --stack, without paths. --not-stack handle_mm_fault excludes page faults.
    #[arg(long, value_name = "PATTERN", help_heading = FILTERS)]
    not_stack: Vec<StackPattern>,

    /// The direct caller of the allocator is in this function, glob or module; repeatable: any
    ///
    /// Patterns are those of --stack, without paths. --caller alloc_inode matches what alloc_inode() itself allocates, not what
    /// the functions that it calls allocate.
    #[arg(long, value_name = "PATTERN", help_heading = FILTERS)]
    caller: Vec<StackPattern>,

    /// How many callers --stack and --not-stack look at, from --caller's on
    ///
    /// --stack 'ext4_*' --stack-depth 3 matches what ext4 allocates almost directly. The default is all callers.
    #[arg(long, value_name = "N", value_parser = stack::parse_depth, allow_negative_numbers = true, help_heading = FILTERS)]
    stack_depth: Option<NonZeroU32>,

    /// The call is made inside one of these system calls: openat,mount
    ///
    /// Names are those of `man 2 syscalls`. What a kernel thread does later for a system call is not inside it.
    #[arg(long = "syscall", value_name = "NAME,…", value_delimiter = ',', help_heading = FILTERS)]
    syscalls: Vec<Syscall>,

    /// The task's name, or a glob: mount, 'kworker/*'; repeatable: any
    ///
    /// Names are those of /proc/PID/comm, which the kernel cuts off after 15 bytes. A thread may have a name of its own.
    #[arg(long = "comm", value_name = "GLOB", help_heading = FILTERS)]
    comms: Vec<CommPattern>,

    /// The task's user: 1000 or 0,1000
    ///
    /// The real user id, as a number; at most 8. --uid 1000 excludes daemons and kernel threads, which run as root.
    #[arg(long = "uid", value_name = "UID,…", value_delimiter = ',', value_parser = task::parse_uid, allow_negative_numbers = true, help_heading = FILTERS)]
    uids: Vec<u32>,

    /// Exclude these processes with all their threads: 1234,5678
    ///
    /// At most 8. This keeps a service alive while the rest of the machine fails: --not-pid "$(pidof sshd | tr ' ' ,)". The
    /// children of such a process are not excluded.
    #[arg(long = "not-pid", value_name = "PID,…", value_delimiter = ',', value_parser = task::parse_pid, allow_negative_numbers = true, help_heading = FILTERS)]
    not_pids: Vec<u32>,

    /// Match `only` kernel threads, or `exclude` them
    ///
    /// Writeback, journals and work queues run in kernel threads. With a target, they match only if they belong to it.
    #[arg(long, value_name = "WHICH", help_heading = FILTERS)]
    kthreads: Option<Kthreads>,

    /// The context of the call: task,softirq,hardirq,nmi
    ///
    /// An interrupt can hit any task. So with a target or a filter on the task, only calls in task context match, and this option
    /// can't add others. Without those, the default is all.
    #[arg(long = "context", value_name = "CONTEXT,…", help_heading = FILTERS)]
    contexts: Option<Contexts>,
}

/// Why the options make no filter.
#[derive(Debug, thiserror::Error)]
pub(super) enum FilterError {
    #[error("--gfp: {0}")]
    Gfp(#[from] GfpError),
    #[error("--order, --order-lt, --order-gt: {0}")]
    Order(#[from] OrderError),
}

impl FilterArgs {
    pub(super) fn into_parts(self) -> Result<(Vec<Hook>, Vec<Function>, Filter), FilterError> {
        let Self {
            hooks,
            functions,
            gfp,
            gfp_scope,
            order,
            order_lt,
            order_gt,
            size,
            caches,
            sites,
            stack,
            not_stack,
            caller,
            stack_depth,
            syscalls,
            comms,
            uids,
            not_pids,
            kthreads,
            contexts,
        } = self;
        let orders = [order, order_lt, order_gt].into_iter().flatten();
        let filter = Filter {
            gfp: GfpFilter::any_of(gfp)?,
            gfp_scope,
            order: orders.into_iter().try_fold(OrderRange::ALL, OrderRange::intersection)?,
            size: size.unwrap_or_default(),
            caches,
            sites,
            stack: StackFilter { any_of: stack, none_of: not_stack, caller, depth: stack_depth },
            syscalls,
            task: TaskFilter { comms, uids, not_pids },
            kthreads: kthreads.unwrap_or_default(),
            contexts,
        };
        Ok((hooks, functions, filter))
    }
}
