//! The table of what the kernel complains about: how each report begins, how far it reaches, what it is called.
//!
//! Patterns are anchored at the start of a line's text. So a driver's own message (`injector_test: WARNING: …`) is none of
//! them: the kernel's reports have no driver's name before them.

use super::{
    Kind,
    head::{Body, Class, Head, Named, head},
};

const MEMORY: (Kind, Class) = (Kind::Oops, Class::Memory);
const FAULT: (Kind, Class) = (Kind::Oops, Class::Fault);
const ATOMIC: (Kind, Class) = (Kind::Warning, Class::Atomic);
const HANG: (Kind, Class) = (Kind::Hang, Class::Hang);
const INTEGRITY: (Kind, Class) = (Kind::Warning, Class::Integrity);
const WARNING: (Kind, Class) = (Kind::Warning, Class::Other);
const DISK: (Kind, Class) = (Kind::Warning, Class::Disk);
const LEAK: (Kind, Class) = (Kind::Leak, Class::Other);
const OOPS: (Kind, Class) = (Kind::Oops, Class::Other);

/// `func+0x12/0x34`, in a pattern.
macro_rules! function {
    () => {
        r"(?<f>[A-Za-z_$][\w.$]*)\+0x"
    };
}

/// The first that matches counts.
pub(super) static HEADS: &[Head] = &[
    // -- checkers of memory
    head(
        concat!(r"^BUG: KASAN: ([\w-]+)(?: in ", function!(), ")?"),
        "KASAN: $1",
        MEMORY,
        Body::Rule,
        Named::Stack,
        "mm/kasan/report.c print_error_description",
    ),
    head(
        concat!(r"^BUG: KFENCE: ([\w -]+?)(?: in ", function!(), ".*| *$)"),
        "KFENCE: $1",
        MEMORY,
        Body::Rule,
        Named::Stack,
        "mm/kfence/report.c kfence_report_error",
    ),
    head(
        concat!(r"^BUG: KMSAN: ([\w-]+)(?: in ", function!(), ")?"),
        "KMSAN: $1",
        MEMORY,
        Body::Rule,
        Named::Stack,
        "mm/kmsan/report.c kmsan_report",
    ),
    head(
        concat!(r"^BUG: KCSAN: ([\w-]+) in (?:", function!(), r"|(?<g>[A-Za-z_]\w*))"),
        "KCSAN: $1",
        WARNING,
        Body::Rule,
        Named::Stack,
        "kernel/kcsan/report.c print_report",
    ),
    // -- the page allocator and SLUB
    head(
        r"^BUG (?<n>\S+) \((?:Not tainted|Tainted: [^)]*)\): Objects remaining (?:in \S+ )?on __kmem_cache_shutdown",
        "objects remaining in cache $n",
        LEAK,
        Body::TraceOrWarning,
        Named::Not,
        "mm/slub.c list_slab_objects",
    ),
    head(
        r"^BUG (?:\S+) \((?:Not tainted|Tainted: [^)]*)\): (.*?)(?:\. .*| \(?0x.*)?$",
        "SLUB: $1",
        MEMORY,
        Body::TraceOrWarning,
        Named::Stack,
        "mm/slub.c __slab_bug",
    ),
    head(
        r"^BUG: Bad page (state|map|cache) in process",
        "BUG: Bad page $1",
        MEMORY,
        Body::Trace,
        Named::Stack,
        "mm/page_alloc.c bad_page, mm/memory.c print_bad_pte, mm/filemap.c filemap_unaccount_folio",
    ),
    head(
        r"^BUG: Bad rss-counter state ",
        "BUG: Bad rss-counter state",
        OOPS,
        Body::Line,
        Named::Not,
        "kernel/fork.c check_mm",
    ),
    head(
        r"^BUG: non-zero (\w+) on freeing mm",
        "BUG: non-zero $1 on freeing mm",
        OOPS,
        Body::Line,
        Named::Not,
        "kernel/fork.c check_mm",
    ),
    // -- faults
    head(
        r"^BUG: kernel NULL pointer dereference, address",
        "BUG: kernel NULL pointer dereference",
        FAULT,
        Body::EndTrace,
        Named::Stack,
        "arch/x86/mm/fault.c show_fault_oops",
    ),
    head(
        r"^BUG: unable to handle (?:page fault for address|kernel)",
        "BUG: unable to handle page fault",
        FAULT,
        Body::EndTrace,
        Named::Stack,
        "arch/x86/mm/fault.c show_fault_oops",
    ),
    head(
        r"^(?i:Unable to handle kernel) (NULL pointer dereference|paging request)",
        "BUG: kernel $1",
        FAULT,
        Body::EndTrace,
        Named::Stack,
        "arch/arm64/mm/fault.c die_kernel_fault",
    ),
    head(
        r"^BUG: (?:\S+ )?stack guard page was hit",
        "BUG: stack guard page was hit",
        FAULT,
        Body::EndTrace,
        Named::Stack,
        "arch/x86/kernel/traps.c handle_stack_overflow",
    ),
    head(
        r"^(?:traps: )?PANIC: double fault",
        "PANIC: double fault",
        FAULT,
        Body::EndTrace,
        Named::Stack,
        "arch/x86/kernel/traps.c exc_double_fault",
    ),
    head(r"^kernel BUG at ", "kernel BUG", FAULT, Body::EndTrace, Named::Stack, "lib/bug.c __report_bug"),
    head(
        r"^Kernel BUG at ",
        "kernel BUG",
        FAULT,
        Body::EndTrace,
        Named::Stack,
        "lib/bug.c __report_bug, without CONFIG_DEBUG_BUGVERBOSE",
    ),
    head(
        r"^(?:Oops: )?((?:segment-related )?general protection fault).*: [0-9a-f]{4} \[#\d+\]",
        "$1",
        FAULT,
        Body::EndTrace,
        Named::Stack,
        "arch/x86/kernel/traps.c exc_general_protection, dumpstack.c __die_header",
    ),
    head(
        r"^(?:Oops: )?([A-Za-z][\w -]*?)(?:[,:] .*)?: [0-9a-f]{4} \[#\d+\]",
        "$1",
        FAULT,
        Body::EndTrace,
        Named::Stack,
        "arch/x86/kernel/dumpstack.c __die_header (before 6.10 without `Oops: ` except for page faults)",
    ),
    head(
        r"^Internal error: (Oops|[\w -]+?)(?: - .*)?: [0-9a-f]+ \[#\d+\]",
        "Oops: $1",
        FAULT,
        Body::EndTrace,
        Named::Stack,
        "arch/arm64/kernel/traps.c __die",
    ),
    // -- warnings
    head(
        concat!(r"^WARNING: CPU: \d+ PID: \d+ at (?:\S+:\d+ )?", function!()),
        "WARNING",
        WARNING,
        Body::EndTrace,
        Named::Stack,
        "kernel/panic.c __warn",
    ),
    head(
        r"^WARNING: CPU: \d+ PID: \d+ at ",
        "WARNING",
        WARNING,
        Body::EndTrace,
        Named::Stack,
        "kernel/panic.c __warn, without symbols",
    ),
    head(
        concat!(r"^WARNING: (?:\S+:\d+ )?at ", function!(), r".*, CPU#\d+: "),
        "WARNING",
        WARNING,
        Body::EndTrace,
        Named::Stack,
        "kernel/panic.c __warn, 6.19 and later",
    ),
    head(r"^UBSAN: ([\w-]+) in ", "UBSAN: $1", WARNING, Body::EndTrace, Named::Stack, "lib/ubsan.c ubsan_prologue"),
    // -- context
    head(
        r"^BUG: scheduling while atomic: ",
        "BUG: scheduling while atomic",
        ATOMIC,
        Body::Trace,
        Named::Stack,
        "kernel/sched/core.c __schedule_bug",
    ),
    head(
        r"^BUG: (scheduling in a non-blocking section): ",
        "BUG: $1",
        ATOMIC,
        Body::Trace,
        Named::Stack,
        "kernel/sched/core.c schedule_debug",
    ),
    head(
        r"^BUG: sleeping function called from invalid context at ",
        "BUG: sleeping function called from invalid context",
        ATOMIC,
        Body::Trace,
        Named::Stack,
        "kernel/sched/core.c __might_resched",
    ),
    head(
        r"^BUG: (assuming (?:atomic|non migratable) context) at ",
        "BUG: $1",
        ATOMIC,
        Body::Trace,
        Named::Stack,
        "kernel/sched/core.c __cant_sleep, __cant_migrate",
    ),
    head(
        r"^BUG: using (\w+)\(?\)? in preemptible ",
        "BUG: using $1 in preemptible code",
        ATOMIC,
        Body::Trace,
        Named::Stack,
        "lib/smp_processor_id.c check_preemption_disabled",
    ),
    head(
        r"^BUG: workqueue leaked (?:lock or atomic|atomic, lock or RCU): ",
        "BUG: workqueue leaked lock or atomic",
        ATOMIC,
        Body::Trace,
        Named::Text,
        "kernel/workqueue.c process_one_work (first text: before 6.9)",
    ),
    head(
        r"^BUG: (spinlock|rwlock|rwlock-write) ([a-z ]+?) on CPU",
        "BUG: $1 $2",
        WARNING,
        Body::Trace,
        Named::Stack,
        "kernel/locking/spinlock_debug.c spin_dump",
    ),
    // -- lockdep
    head(
        r"^WARNING: possible (?:circular locking dependency|recursive locking|irq lock inversion dependency) detected",
        "possible deadlock",
        WARNING,
        Body::Trace,
        Named::Locks,
        "kernel/locking/lockdep.c print_circular_bug_header, print_deadlock_bug, print_irq_inversion_bug",
    ),
    head(
        r"^WARNING: [\w-]+-safe -> [\w-]+-unsafe lock order detected",
        "possible deadlock",
        WARNING,
        Body::Trace,
        Named::Locks,
        "kernel/locking/lockdep.c print_bad_irq_dependency",
    ),
    head(
        r"^WARNING: inconsistent lock state",
        "inconsistent lock state",
        WARNING,
        Body::Trace,
        Named::Locks,
        "kernel/locking/lockdep.c print_usage_bug",
    ),
    head(
        r"^WARNING: (bad unlock balance|bad contention) detected!",
        "WARNING: $1",
        WARNING,
        Body::Trace,
        Named::Locks,
        "kernel/locking/lockdep.c print_unlock_imbalance_bug, print_lock_contention_bug",
    ),
    head(
        r"^WARNING: (held lock freed)!",
        "WARNING: $1",
        WARNING,
        Body::Trace,
        Named::Locks,
        "kernel/locking/lockdep.c print_freed_lock_bug",
    ),
    head(
        r"^WARNING: (lock held when returning to user space)!",
        "WARNING: $1",
        WARNING,
        Body::Locks,
        Named::Locks,
        "kernel/locking/lockdep.c lockdep_sys_exit",
    ),
    head(
        r"^WARNING: .*/\d+ still has locks held!",
        "WARNING: still has locks held",
        WARNING,
        Body::Trace,
        Named::Locks,
        "kernel/locking/lockdep.c print_held_locks_bug",
    ),
    head(
        r"^WARNING: Nested lock was not taken",
        "WARNING: nested lock was not taken",
        WARNING,
        Body::Trace,
        Named::Locks,
        "kernel/locking/lockdep.c print_lock_nested_lock_not_held",
    ),
    head(
        r"^\[ BUG: Invalid wait context \]",
        "BUG: invalid wait context",
        WARNING,
        Body::Trace,
        Named::Locks,
        "kernel/locking/lockdep.c print_lock_invalid_wait_context",
    ),
    head(
        r"^INFO: trying to register non-static key\.",
        "INFO: trying to register non-static key",
        WARNING,
        Body::Trace,
        Named::Stack,
        "kernel/locking/lockdep.c assign_lock_key",
    ),
    head(
        r"^WARNING: suspicious RCU usage",
        "WARNING: suspicious RCU usage",
        WARNING,
        Body::Trace,
        Named::Stack,
        "kernel/locking/lockdep.c lockdep_rcu_suspicious",
    ),
    // -- hangs
    head(
        r"^INFO: task .*:\d+ blocked for more than \d+ seconds\.",
        "INFO: task hung",
        HANG,
        Body::Trace,
        Named::Stack,
        "kernel/hung_task.c check_hung_task",
    ),
    head(
        r"^(?:watchdog: )?BUG: soft lockup - CPU#",
        "BUG: soft lockup",
        HANG,
        Body::Trace,
        Named::StuckStack,
        "kernel/watchdog.c watchdog_timer_fn",
    ),
    head(
        r"^(?:NMI )?(?:watchdog: )?Watchdog detected hard LOCKUP on cpu ",
        "hard lockup",
        HANG,
        Body::Trace,
        Named::StuckStack,
        "kernel/watchdog.c watchdog_hardlockup_check",
    ),
    head(
        r"^(?:rcu: )?INFO: rcu\w* (?:self-)?detected (?:expedited )?stalls? on ",
        "INFO: rcu detected stall",
        HANG,
        Body::Trace,
        Named::StuckStack,
        "kernel/rcu/tree_stall.h print_cpu_stall, tree_exp.h",
    ),
    head(
        r"^BUG: workqueue lockup - pool",
        "BUG: workqueue lockup",
        HANG,
        Body::Line,
        Named::Not,
        "kernel/workqueue.c wq_watchdog_timer_fn",
    ),
    head(
        r"^unregister_netdevice: waiting for \S+ to become free",
        "unregister_netdevice: waiting for a device to become free",
        HANG,
        Body::Line,
        Named::Not,
        "net/core/dev.c netdev_wait_allrefs_any",
    ),
    // -- what is on the disk
    head(
        r"^EXT4-fs error \(device \S+\): (?<f>\w+):\d+: .*(?i:checksum|corrupt|inconsistent|bad header/extent|bad entry in directory|already (?:cleared|freed)|doubly allocated|deleted inode referenced|illegal inode|overlap system zone|special inode unallocated|bogus i_mode|bad i_size|bad extra_isize|directory missing '\.)",
        "EXT4-fs: damaged metadata",
        DISK,
        Body::Line,
        Named::Text,
        "fs/ext4/*.c, texts of ext4_error_inode() and its like that an error code does not lead to",
    ),
    head(
        concat!(r"^XFS \([^)]*\): Metadata (?:corruption|CRC error) detected at ", function!()),
        "XFS: damaged metadata",
        DISK,
        Body::Line,
        Named::Text,
        "fs/xfs/xfs_error.c xfs_buf_corruption_error, xfs_verifier_error, xfs_inode_verifier_error",
    ),
    head(
        r"^BTRFS (?:critical|error|warning) \(device [^) ]+\): (corrupt(?:ed)? (?:leaf|node|superblock)|bad tree block|(?:parent transid|checksum|level) verify failed|tree first key mismatch)",
        "BTRFS: damaged metadata, $1",
        DISK,
        Body::Line,
        Named::Not,
        "fs/btrfs/tree-checker.c, disk-io.c; not with `state EA`: after an abort what is read may never have been written",
    ),
    head(
        concat!(r"^XFS \([^)]*\): Internal error .* Caller ", function!()),
        "XFS: damaged metadata",
        DISK,
        Body::Trace,
        Named::Text,
        "fs/xfs/xfs_error.c xfs_error_report; that of xfs_trans_cancel is noise",
    ),
    // -- the end
    head(
        concat!(r"^Kernel panic - not syncing: stack-protector: Kernel stack is corrupted in: (?:", function!(), ")?"),
        "kernel panic: stack is corrupted",
        (Kind::Oops, Class::Panic),
        Body::Panic,
        Named::Text,
        "kernel/panic.c __stack_chk_fail",
    ),
    head(
        r"^Kernel panic - not syncing: ((?:hung_task|softlockup|RCU Stall|Hard LOCKUP).*)",
        "kernel panic: $1",
        (Kind::Hang, Class::Panic),
        Body::Panic,
        Named::Not,
        "kernel/hung_task.c, kernel/watchdog.c, kernel/rcu/tree_stall.h",
    ),
    head(
        r"^Kernel panic - not syncing: (Attempted to kill init)",
        "kernel panic: $1",
        (Kind::Oops, Class::Panic),
        Body::Panic,
        Named::Not,
        "kernel/exit.c do_exit",
    ),
    head(
        r"^Kernel panic - not syncing: (.*)",
        "kernel panic: $1",
        (Kind::Oops, Class::Panic),
        Body::Panic,
        Named::Not,
        "kernel/panic.c panic",
    ),
    // -- what is not known above: the kernel's own word for a bug
    head(r"^BUG: (.+)", "BUG: $1", WARNING, Body::Trace, Named::Stack, "whoever writes so"),
];

/// What is said between `cut here` and the WARN() or BUG() itself, or on the line before, and tells more than these.
pub(super) static MESSAGES: &[Head] = &[
    head(
        r"^refcount_t: (.+?)\.?$",
        "refcount_t: $1",
        INTEGRITY,
        Body::EndTrace,
        Named::Stack,
        "lib/refcount.c REFCOUNT_WARN",
    ),
    head(
        r"^(list_add|list_del|plist|hlist|slab freelist)\b.* corruption|^(list_add) double add",
        "$1$2 corruption",
        INTEGRITY,
        Body::EndTrace,
        Named::Stack,
        "lib/list_debug.c",
    ),
    head(
        r"^kmem_cache_destroy (?<n>\S+): Slab cache still has objects",
        "objects remaining in cache $n",
        LEAK,
        Body::EndTrace,
        Named::Not,
        "mm/slab_common.c kmem_cache_destroy",
    ),
    head(
        r"^BTRFS: Transaction aborted \(error -\d+\)",
        "BTRFS: transaction aborted",
        WARNING,
        Body::EndTrace,
        Named::Stack,
        "fs/btrfs/transaction.h btrfs_abort_transaction; not for ENOMEM, EIO, EROFS: abort_should_print_stack",
    ),
    head(
        r"^VFS: Busy inodes after unmount of \S+ \((?<n>\S+)\)",
        "VFS: Busy inodes after unmount of $n",
        WARNING,
        Body::EndTrace,
        Named::Not,
        "fs/super.c generic_shutdown_super",
    ),
    head(
        r"^VFS: Close: file count is 0",
        "VFS: Close: file count is 0",
        WARNING,
        Body::EndTrace,
        Named::Not,
        "fs/open.c filp_flush",
    ),
    head(
        r"^BUG: Dentry .* still in use \(-?\d+\) \[unmount of (?<n>\S+)",
        "VFS: Dentry still in use after unmount of $n",
        WARNING,
        Body::EndTrace,
        Named::Not,
        "fs/dcache.c umount_check",
    ),
    head(
        r"^ODEBUG: (\w+) .*object type: (?<n>\w+)",
        "ODEBUG: $1 of a $n",
        WARNING,
        Body::EndTrace,
        Named::Stack,
        "lib/debugobjects.c debug_print_object",
    ),
    head(
        r"^Voluntary context switch within RCU read-side critical section!",
        "BUG: context switch within RCU read-side critical section",
        ATOMIC,
        Body::EndTrace,
        Named::Stack,
        "kernel/rcu/tree_plugin.h rcu_note_context_switch",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anchored_and_with_a_source() {
        for head in HEADS.iter().chain(MESSAGES) {
            assert!(head.line.starts_with('^'), "{}", head.line);
            assert!(!head.source.is_empty() && !head.title.is_empty(), "{}", head.line);
        }
    }
}
