//! Real splats and their titles, and what must not change a title.

use std::{collections::BTreeSet, fs, path::PathBuf};

use proptest::prelude::*;
use regex::Captures;

use super::{
    super::{
        Kind,
        report::{KEPT_LINES, MOST_LINES},
    },
    *,
};

/// Below `tests/splats`. Most are consoles or logs of guests whose kernel was made to do it; those in `written` are put
/// together after the format strings of the kernel's source, and say so.
const EXPECTED: &[(&str, &[(Kind, &str)])] = &[
    ("6.1/btrfs-enomem.txt", &[(Kind::Warning, "WARNING in btrfs_space_info_update_bytes_may_use")]),
    ("6.1/bug.txt", &[(Kind::Oops, "kernel BUG in dummy_bug")]),
    ("6.1/cache.txt", &[(Kind::Leak, "objects remaining in cache dummy_cache")]),
    ("6.1/defect-double-free.txt", &[(Kind::Warning, "list_add corruption in double_free_plain_pair")]),
    ("6.1/defect-unwind-order.txt", &[(Kind::Warning, "list_del corruption in defect_unwind_order")]),
    ("6.1/divide.txt", &[(Kind::Oops, "divide error in dummy_divide")]),
    ("6.1/ext4-enomem.txt", &[]),
    ("6.1/failed-pages.txt", &[]),
    ("6.1/hang-mutex.txt", &[(Kind::Hang, "INFO: task hung in dummy_hang_mutex")]),
    ("6.1/jump-null.txt", &[(Kind::Oops, "BUG: kernel NULL pointer dereference in dummy_jump_null")]),
    ("6.1/leave-spin.txt", &[(Kind::Warning, "BUG: scheduling while atomic")]),
    (
        "6.1/rcu-left.txt",
        &[(Kind::Warning, "BUG: context switch within RCU read-side critical section in common_nsleep")],
    ),
    ("6.1/refcount.txt", &[(Kind::Warning, "refcount_t: decrement hit N; leaking memory in dummy_refcount")]),
    ("6.1/retry-for-ever.txt", &[(Kind::Hang, "BUG: soft lockup in dummy_retry_for_ever")]),
    ("6.1/slub-double-free.txt", &[(Kind::Oops, "SLUB: Object already free in dummy_double_free")]),
    ("6.1/slub-invalid-free.txt", &[(Kind::Oops, "SLUB: Invalid object pointer in dummy_invalid_free")]),
    (
        "6.1/slub-uaf-free.txt",
        &[(Kind::Oops, "SLUB: Slab has N allocated objects but N are to be freed in dummy_uaf_free")],
    ),
    ("6.1/wild.txt", &[(Kind::Oops, "general protection fault in dummy_wild")]),
    ("6.1/workqueue.txt", &[(Kind::Warning, "BUG: workqueue leaked lock or atomic in dummy_work_fn")]),
    ("6.1/xfs-enomem.txt", &[]),
    ("6.12-debug/cache.txt", &[(Kind::Leak, "objects remaining in cache dummy_cache")]),
    ("6.12-debug/defect-lock-held.txt", &[(Kind::Hang, "INFO: task hung in defect_lock_held")]),
    (
        "6.12-debug/defect-sleep-atomic.txt",
        &[(Kind::Warning, "BUG: sleeping function called from invalid context in sleep_atomic_back_off")],
    ),
    ("6.12-debug/double-free.txt", &[(Kind::Oops, "KASAN: double-free in dummy_double_free")]),
    ("6.12-debug/invalid-free.txt", &[(Kind::Oops, "KASAN: invalid-free in dummy_invalid_free")]),
    ("6.12-debug/leave-spin.txt", &[(Kind::Warning, "BUG: scheduling while atomic")]),
    (
        "6.12-debug/mutex-atomic.txt",
        &[(Kind::Warning, "BUG: sleeping function called from invalid context in dummy_mutex_atomic")],
    ),
    ("6.12-debug/null-deref.txt", &[(Kind::Oops, "KASAN: null-ptr-deref in dummy_null_deref")]),
    ("6.12-debug/null-lock.txt", &[(Kind::Oops, "KASAN: null-ptr-deref in dummy_null_lock")]),
    ("6.12-debug/null-memcpy.txt", &[(Kind::Oops, "BUG: kernel NULL pointer dereference in dummy_null_memcpy")]),
    ("6.12-debug/oob.txt", &[(Kind::Oops, "KASAN: slab-out-of-bounds in dummy_oob")]),
    ("6.12-debug/polite.txt", &[]),
    ("6.12-debug/rcu-left.txt", &[(Kind::Warning, "BUG: sleeping function called from invalid context in __fput")]),
    ("6.12-debug/rcu-stall.txt", &[(Kind::Hang, "INFO: rcu detected stall in dummy_work_fn")]),
    (
        "6.12-debug/sleep-atomic.txt",
        &[(Kind::Warning, "BUG: sleeping function called from invalid context in dummy_sleep_atomic")],
    ),
    ("6.12-debug/strlen-null.txt", &[(Kind::Oops, "KASAN: null-ptr-deref in dummy_strlen_null")]),
    ("6.12-debug/uaf-free.txt", &[(Kind::Oops, "KASAN: double-free in dummy_uaf_free")]),
    ("6.12-debug/uaf-lock.txt", &[(Kind::Oops, "KASAN: slab-use-after-free in dummy_uaf_lock")]),
    ("6.12-debug/uaf-read.txt", &[(Kind::Oops, "KASAN: slab-use-after-free in dummy_uaf_read")]),
    ("6.12/btrfs-damaged.txt", &[(Kind::Warning, "BTRFS: damaged metadata, checksum verify failed")]),
    ("6.12/btrfs-enomem.txt", &[]),
    ("6.12/bug.txt", &[(Kind::Oops, "kernel BUG in dummy_bug")]),
    ("6.12/busy.txt", &[(Kind::Hang, "INFO: rcu detected stall in dummy_busy")]),
    ("6.12/cache.txt", &[(Kind::Leak, "objects remaining in cache dummy_cache")]),
    ("6.12/divide.txt", &[(Kind::Oops, "divide error in dummy_divide")]),
    ("6.12/ext4-bitmaps.txt", &[(Kind::Warning, "EXT4-fs: damaged metadata in ext4_lookup")]),
    ("6.12/ext4-enomem.txt", &[]),
    ("6.12/failed-pages.txt", &[]),
    ("6.12/free-err.txt", &[(Kind::Oops, "BUG: unable to handle page fault in dummy_free_err")]),
    ("6.12/hang-mutex.txt", &[(Kind::Hang, "INFO: task hung in dummy_hang_mutex")]),
    ("6.12/jump-null.txt", &[(Kind::Oops, "BUG: kernel NULL pointer dereference in dummy_jump_null")]),
    ("6.12/leave-spin.txt", &[(Kind::Warning, "BUG: scheduling while atomic")]),
    ("6.12/list-add.txt", &[(Kind::Warning, "list_add corruption in dummy_list_add")]),
    ("6.12/null-deref.txt", &[(Kind::Oops, "BUG: kernel NULL pointer dereference in dummy_null_deref")]),
    ("6.12/null-lock.txt", &[(Kind::Oops, "BUG: kernel NULL pointer dereference in dummy_null_lock")]),
    ("6.12/panic.txt", &[(Kind::Oops, "kernel panic: dummy: state N of ADDRESS is beyond repair")]),
    ("6.12/polite.txt", &[]),
    ("6.12/rcu-left.txt", &[(Kind::Warning, "BUG: context switch within RCU read-side critical section")]),
    ("6.12/refcount.txt", &[(Kind::Warning, "refcount_t: decrement hit N; leaking memory in dummy_refcount")]),
    ("6.12/sched-atomic.txt", &[(Kind::Warning, "BUG: scheduling while atomic in dummy_sched_atomic")]),
    ("6.12/slub-bad-page.txt", &[(Kind::Oops, "BUG: Bad page state in dummy_bad_page")]),
    ("6.12/slub-double-free.txt", &[(Kind::Oops, "SLUB: Object already free in dummy_double_free")]),
    ("6.12/slub-invalid-free.txt", &[(Kind::Oops, "SLUB: Invalid object pointer in dummy_invalid_free")]),
    ("6.12/slub-oob.txt", &[(Kind::Oops, "SLUB: Object corrupt in dummy_oob")]),
    (
        "6.12/slub-uaf-free.txt",
        &[(Kind::Oops, "SLUB: Slab has N allocated objects but N are to be freed in dummy_uaf_free")],
    ),
    ("6.12/timer-null.txt", &[(Kind::Oops, "BUG: kernel NULL pointer dereference in dummy_null_deref")]),
    ("6.12/underflow.txt", &[(Kind::Warning, "refcount_t: underflow; use-after-free in dummy_underflow")]),
    ("6.12/warn-text.txt", &[(Kind::Warning, "WARNING in dummy_warn_text")]),
    ("6.12/wild.txt", &[(Kind::Oops, "general protection fault in dummy_wild")]),
    ("6.12/workqueue-null.txt", &[(Kind::Oops, "BUG: kernel NULL pointer dereference in dummy_null_deref")]),
    ("6.12/workqueue.txt", &[(Kind::Warning, "BUG: workqueue leaked lock or atomic in dummy_work_fn")]),
    ("6.12/xfs-damaged.txt", &[(Kind::Warning, "XFS: damaged metadata in xfs_agi_read_verify")]),
    ("6.12/xfs-damaged2.txt", &[(Kind::Warning, "XFS: damaged metadata in xfs_dinode_verify")]),
    ("6.12/xfs-enomem.txt", &[]),
    ("written/btrfs-corrupt.txt", &[(Kind::Warning, "BTRFS: damaged metadata, corrupt leaf")]),
    ("written/hard-lockup.txt", &[(Kind::Hang, "hard lockup in dummy_spin_for_ever")]),
    ("written/kfence.txt", &[(Kind::Oops, "KFENCE: use-after-free read in dummy_uaf_read")]),
    ("written/list-bug.txt", &[(Kind::Oops, "list_del corruption in dummy_list_del")]),
    ("written/lockdep-circular.txt", &[(Kind::Warning, "possible deadlock in dummy_abba")]),
    ("written/lockdep-freed.txt", &[(Kind::Warning, "WARNING: held lock freed in dummy_free_locked")]),
    ("written/lockdep-inconsistent.txt", &[(Kind::Warning, "inconsistent lock state in dummy_timer_fn")]),
    ("written/lockdep-rcu.txt", &[(Kind::Warning, "WARNING: suspicious RCU usage in dummy_lookup")]),
    ("written/lockdep-recursive.txt", &[(Kind::Warning, "possible deadlock in dummy_deadlock")]),
    ("written/lockdep-unlock.txt", &[(Kind::Warning, "WARNING: bad unlock balance in dummy_unbalanced")]),
    (
        "written/lockdep-user-space.txt",
        &[(Kind::Warning, "WARNING: lock held when returning to user space in dummy_lock_held")],
    ),
    ("written/lockdep-wait-context.txt", &[(Kind::Warning, "BUG: invalid wait context in dummy_wait")]),
    ("written/netdevice.txt", &[(Kind::Hang, "unregister_netdevice: waiting for a device to become free")]),
    ("written/noise.txt", &[]),
    ("written/odebug.txt", &[(Kind::Warning, "ODEBUG: free of a timer_list in dummy_odebug")]),
    ("written/preemptible.txt", &[(Kind::Warning, "BUG: using __this_cpu_add in preemptible code in dummy_count")]),
    (
        "written/rss-counter.txt",
        &[(Kind::Oops, "BUG: Bad rss-counter state"), (Kind::Oops, "BUG: non-zero pgtables_bytes on freeing mm")],
    ),
    ("written/spinlock.txt", &[(Kind::Warning, "BUG: spinlock bad magic in dummy_uninit")]),
    ("written/ubsan.txt", &[(Kind::Warning, "UBSAN: shift-out-of-bounds in dummy_shift")]),
    ("written/vfs-busy-inodes.txt", &[(Kind::Warning, "VFS: Busy inodes after unmount of ext4")]),
    ("written/vfs-dentry.txt", &[(Kind::Warning, "VFS: Dentry still in use after unmount of ext4")]),
    ("written/warning-6.19.txt", &[(Kind::Warning, "WARNING in dummy_warn")]),
    ("written/workqueue-lockup.txt", &[(Kind::Hang, "BUG: workqueue lockup")]),
    ("written/xfs-internal-error.txt", &[(Kind::Warning, "XFS: damaged metadata in xfs_free_ag_extent")]),
    ("written/bad-page-owner.txt", &[(Kind::Oops, "BUG: Bad page state in dummy_get_page")]),
    ("written/cache-duplicate.txt", &[(Kind::Warning, "kmem_cache: duplicate name dummy_cache")]),
    ("written/debugfs-duplicate.txt", &[(Kind::Warning, "debugfs: duplicate filename")]),
    ("written/fault-arm.txt", &[(Kind::Oops, "Unhandled fault: page domain fault in dummy_clear")]),
    ("written/hung-rcu.txt", &[(Kind::Hang, "INFO: task hung in synchronize_rcu")]),
    ("written/kmemleak-file.txt", &[(Kind::Leak, "leak of 96 bytes in dummy_leak")]),
    (
        "written/kmemleak-log.txt",
        &[(Kind::Leak, "leak of 96 bytes in dummy_leak"), (Kind::Leak, "kmemleak: new suspected memory leaks")],
    ),
    ("written/kmsan.txt", &[(Kind::Oops, "KMSAN: kernel-infoleak in dummy_read_iter")]),
    ("written/kobject-duplicate.txt", &[(Kind::Warning, "kobject: duplicate name")]),
    (
        "written/kobject-uninitialized.txt",
        &[(Kind::Warning, "kobject: not initialized, yet kobject_put in dummy_exit")],
    ),
    ("written/lockdep-freed-4.14.txt", &[(Kind::Warning, "WARNING: held lock freed in dummy_free_locked")]),
    ("written/null-arm64.txt", &[(Kind::Oops, "BUG: kernel NULL pointer dereference in dummy_read")]),
    ("written/null-powerpc.txt", &[(Kind::Oops, "BUG: Kernel NULL pointer dereference in dummy_read")]),
    ("written/null-riscv.txt", &[(Kind::Oops, "BUG: kernel NULL pointer dereference in dummy_read")]),
    ("written/panic-on-warn.txt", &[(Kind::Warning, "WARNING in dummy_too_much")]),
    ("written/percpu-ref.txt", &[(Kind::Warning, "percpu ref of dummy_release underflows")]),
    ("written/preemption-disabled.txt", &[(Kind::Warning, "BUG: scheduling while atomic in dummy_leave_spin")]),
    ("written/proc-duplicate.txt", &[(Kind::Warning, "proc: duplicate name in dummy_init")]),
    ("written/ref-tracker-leak.txt", &[(Kind::Leak, "ref_tracker: leaked reference in inet_create")]),
    (
        "written/ref-tracker-released.txt",
        &[(Kind::Warning, "ref_tracker: reference already released in dummy_close_again")],
    ),
    ("written/resource.txt", &[(Kind::Warning, "resource: a nonexistent one is freed")]),
    ("written/stack-arm64.txt", &[(Kind::Oops, "BUG: kernel stack overflow in dummy_recurse")]),
    ("written/stack-guard.txt", &[(Kind::Oops, "BUG: stack guard page was hit in dummy_odd")]),
    ("written/sysfs-duplicate.txt", &[(Kind::Warning, "sysfs: duplicate filename in dummy_probe")]),
    ("written/ubsan-5.7.txt", &[(Kind::Warning, "UBSAN: Undefined behaviour in dummy_index")]),
    ("written/unwind-frame.txt", &[(Kind::Warning, "WARNING: kernel stack regs")]),
    ("written/warning-7.3.txt", &[(Kind::Warning, "WARNING in dummy_warn")]),
    ("written/warning-arm.txt", &[(Kind::Warning, "refcount_t: underflow; use-after-free in dummy_put")]),
];

fn directory() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/splats"))
}

/// The text without the comment at its beginning.
fn fixture(name: &str) -> String {
    let path = directory().join(name);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.lines().skip_while(|line| line.starts_with("# ")).map(|line| format!("{line}\n")).collect()
}

fn titles(complaints: &[Complaint]) -> Vec<(Kind, &str)> {
    complaints.iter().map(|complaint| (complaint.kind, &*complaint.title)).collect()
}

#[test]
fn titles_of_real_splats() {
    for (name, expected) in EXPECTED {
        let complaints = complaints(&fixture(name));
        assert_eq!(titles(&complaints), *expected, "{name}");
    }
}

#[test]
fn every_fixture_is_in_the_table() {
    let mut there = BTreeSet::new();
    for kernel in fs::read_dir(directory()).unwrap().map(Result::unwrap) {
        for file in fs::read_dir(kernel.path()).unwrap().map(Result::unwrap) {
            there.insert(format!("{}/{}", kernel.file_name().display(), file.file_name().display()));
        }
    }
    let expected: BTreeSet<String> = EXPECTED.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(there, expected);
    assert_eq!(expected.len(), EXPECTED.len(), "a fixture is there twice");
}

#[test]
fn titles_name_nothing_that_varies() {
    let varies = pattern(r"0x|[0-9a-f]{8}|\b\d{2,}\b|\bCPU");
    let titles = EXPECTED.iter().flat_map(|(_, expected)| *expected).map(|(_, title)| title);
    // A lost object's size tells it from others.
    for title in titles.filter(|title| !title.starts_with("leak of ")) {
        assert!(!varies.is_match(title), "{title}");
    }
}

/// The splat holds the report from its first line to its last, and nothing else.
#[test]
fn extent_of_a_splat() {
    let text = "[    1.000000] before\n\
        [    2.000000][   T68] ------------[ cut here ]------------\n\
        [    2.000001][   T68] dummy: odd\n\
        [    2.000002][   T68] WARNING: CPU: 1 PID: 68 at drivers/misc/dummy.c:40 dummy_warn+0x12/0x20 [dummy]\r\n\
        [    2.000003][   T68] ---[ end trace 0000000000000000 ]---\n\
        [    2.000004] after\n";
    let expected = "------------[ cut here ]------------\n\
        dummy: odd\n\
        WARNING: CPU: 1 PID: 68 at drivers/misc/dummy.c:40 dummy_warn+0x12/0x20 [dummy]\n\
        ---[ end trace 0000000000000000 ]---";
    assert_eq!(complaints(text)[0].splat, expected);
}

#[test]
fn a_report_without_an_end_ends_somewhere() {
    let mut collector = Collector::new();
    collector.feed(None, "BUG: kernel NULL pointer dereference, address: 0000000000000008");
    for line in 0..2 * MOST_LINES {
        collector.feed(None, &format!("line {line}"));
    }
    assert!(!collector.is_open());
    collector.flush();
    let complaints = collector.take();
    assert_eq!(titles(&complaints), [(Kind::Oops, "BUG: kernel NULL pointer dereference")]);
    assert!(complaints[0].splat.ends_with(&format!("\n[{} more lines]", MOST_LINES + 1 - KEPT_LINES)));
}

const ATOMIC: &str = "BUG: scheduling while atomic: sh/73/0x00000002\nCPU: 0 UID: 0 PID: 73 Comm: sh\nCall Trace:\n <TASK>\n\
                      \x20__schedule_bug+0x1/0x2\n foo+0x1/0x2\n </TASK>\n";
const SLEEPING: &str = "BUG: sleeping function called from invalid context at mm/x.c:3\nin_atomic(): 1\n\
                        CPU: 0 UID: 0 PID: 73 Comm: sh\nCall Trace:\n <TASK>\n bar+0x1/0x2\n </TASK>\n";
const FAULT: &str = "BUG: kernel NULL pointer dereference, address: 0000000000000008\nOops: Oops: 0000 [#1] PREEMPT SMP\n\
                     CPU: 0 UID: 0 PID: 73 Comm: sh\nRIP: 0010:baz+0x5/0x10\n---[ end trace 0000000000000000 ]---\n";
const KASAN: &str = "==================================================================\n\
                     BUG: KASAN: null-ptr-deref in baz+0x5/0x10\nCPU: 0 UID: 0 PID: 73 Comm: sh\nCall Trace:\n <TASK>\n\
                     \x20baz+0x5/0x10\n </TASK>\n\
                     ==================================================================\n";
const PANIC: &str = "Kernel panic - not syncing: Fatal exception\nKernel Offset: disabled\n";

/// The titles of what is new, of all episodes.
fn feed(collector: &mut Collector, text: &str) -> Vec<String> {
    collector.done.clear();
    let before = collector.complaints.len();
    text.lines().for_each(|line| collector.feed(None, line));
    let new =
        collector.done.iter().chain(&collector.complaints).skip(if collector.done.is_empty() { before } else { 0 });
    new.map(|reported| reported.complaint.title.clone()).collect()
}

#[test]
fn consequences_are_no_complaints() {
    for (texts, expected) in [
        (vec![SLEEPING, ATOMIC], vec!["BUG: sleeping function called from invalid context in bar"]),
        (vec![FAULT, ATOMIC, SLEEPING], vec!["BUG: kernel NULL pointer dereference in baz"]),
        (vec![KASAN, FAULT], vec!["KASAN: null-ptr-deref in baz"]),
        (vec![FAULT, PANIC, FAULT], vec!["BUG: kernel NULL pointer dereference in baz"]),
        (vec![KASAN, KASAN], vec!["KASAN: null-ptr-deref in baz"]),
    ] {
        assert_eq!(feed(&mut Collector::new(), &texts.concat()), expected);
    }
}

#[test]
fn what_is_no_consequence_is_a_complaint() {
    let other_task = ATOMIC.replace("73", "74").replace("foo", "quux");
    let other_place = FAULT.replace("baz", "quux");
    for (texts, count) in
        [(vec![SLEEPING, &other_task], 2), (vec![FAULT, &other_task], 2), (vec![KASAN, &other_place], 2)]
    {
        assert_eq!(feed(&mut Collector::new(), &texts.concat()).len(), count, "{texts:?}");
    }
}

#[test]
fn episodes() {
    let mut collector = Collector::new();
    assert_eq!(feed(&mut collector, SLEEPING).len(), 1);
    assert_eq!(feed(&mut collector, SLEEPING).len(), 0);
    collector.episode();
    assert_eq!(feed(&mut collector, SLEEPING).len(), 1, "the same at another site");
    // but a task that died stays dead, and the panic belongs to its oops
    assert_eq!(feed(&mut collector, &FAULT.replace("73", "75")).len(), 1);
    collector.episode();
    assert_eq!(feed(&mut collector, &ATOMIC.replace("73", "75")).len(), 0);
    collector.episode();
    assert_eq!(feed(&mut collector, PANIC).len(), 0);
}

/// Of the log of a machine that went down, what brought it down; what was before is another matter.
#[test]
fn what_brought_a_machine_down() {
    let title = |text: &str| last_complaint(text).map(|complaint| complaint.title);
    let before = KASAN.replace("73", "75").replace("baz", "quux");
    assert_eq!(
        title(&[&before, FAULT, ATOMIC, PANIC].concat()).unwrap(),
        "BUG: kernel NULL pointer dereference in baz"
    );
    assert_eq!(
        title(&[&before, "Kernel panic - not syncing: sysrq triggered crash\n"].concat()).unwrap(),
        "kernel panic: sysrq triggered crash"
    );
    assert_eq!(
        title(&fixture("6.12/timer-null.txt")).unwrap(),
        "BUG: kernel NULL pointer dereference in dummy_null_deref"
    );
    assert_eq!(title("[    1.000000] all is well\n"), None);
}

#[test]
fn a_worse_report_of_the_same_raises_the_rank() {
    let mut collector = Collector::new();
    let warning = "------------[ cut here ]------------\nWARNING: CPU: 0 PID: 73 at x.c:1 baz+0x1/0x2\nCPU: 0 UID: 0 PID: 73 Comm: sh\n---[ end trace 0 ]---\n";
    for line in [warning, FAULT].concat().lines() {
        collector.feed(None, line);
    }
    collector.flush();
    let complaints = collector.take();
    assert_eq!(titles(&complaints), [(Kind::Oops, "WARNING in baz")]);
    assert!(complaints[0].splat.ends_with("\n[also: BUG: kernel NULL pointer dereference in baz]"));
}

#[test]
fn a_panic_by_itself_and_the_next_boot() {
    let mut collector = Collector::new();
    feed(&mut collector, PANIC);
    feed(&mut collector, FAULT);
    let boot = "Linux version 6.12.117 (root@x)\n";
    assert_eq!(feed(&mut collector, boot), ["kernel panic: Fatal exception"], "nothing told why");
    assert_eq!(feed(&mut collector, FAULT), ["BUG: kernel NULL pointer dereference in baz"]);
}

#[test]
fn lines_of_a_console() {
    for (line, text) in [
        ("[    0.000000] Linux version 6.12", "Linux version 6.12"),
        ("[12345.678901][  T12] text", "text"),
        ("[    1.000000][    C0]  <TASK>", " <TASK>"),
        ("<4>[    1.000000] text", "text"),
        ("half a line of a program[    1.000000] text", "text"),
        ("[ BUG: Invalid wait context ]", "[ BUG: Invalid wait context ]"),
        ("[<ffffffff81000000>] foo+0x1/0x2", "[<ffffffff81000000>] foo+0x1/0x2"),
        ("text", "text"),
    ] {
        assert_eq!(console_line(line), text);
    }
}

/// Fixtures, one boot after the other.
fn boots(indices: &[usize]) -> String {
    indices.iter().map(|index| format!("[    0.000000] Linux version 6\n{}", fixture(EXPECTED[*index].0))).collect()
}

/// The same text with other addresses, offsets, pids, CPUs and times.
fn moved(text: &str, by: u64) -> String {
    let hexadecimal = |digits: &str| {
        let number = u64::from_str_radix(digits, 16).unwrap_or(0);
        // Values of the kernel's own (poison, the page of NULL, counters in brackets) are short.
        format!("{:0width$x}", number ^ (by & 0xffff_f000), width = digits.len())
    };
    let decimal = |digits: &str| (digits.parse::<u64>().unwrap_or(0) + by % 1000 + 1).to_string();
    type Change<'a> = Box<dyn Fn(&Captures<'_>) -> String + 'a>;
    let changes: [(&str, Change<'_>); 7] = [
        (r"\b(f{4}[0-9a-f]{12})\b", Box::new(|c| hexadecimal(&c[1]))),
        (r"\+0x([0-9a-f]+)/0x([0-9a-f]+)", Box::new(|c| format!("+0x{}/0x{}", hexadecimal(&c[1]), hexadecimal(&c[2])))),
        (r"(PID: |pid: |pid:)(\d+)", Box::new(|c| format!("{}{}", &c[1], decimal(&c[2])))),
        (r"(CPU: |CPU#)(\d+)", Box::new(|c| format!("{}{}", &c[1], decimal(&c[2])))),
        (r"(\b[a-z]\w*[\[/:])(\d+)([\]/ ])", Box::new(|c| format!("{}{}{}", &c[1], decimal(&c[2]), &c[3]))),
        (r"^\[ *(\d+)\.", Box::new(|c| format!("[{:>5}.", decimal(&c[1])))),
        (r"(for more than |stuck for )(\d+)", Box::new(|c| format!("{}{}", &c[1], decimal(&c[2])))),
    ];
    let changes: Vec<_> = changes.iter().map(|(find, change)| (pattern(find), change)).collect();
    let line = |line: &str| {
        let line =
            changes.iter().fold(line.to_owned(), |line, (find, change)| find.replace_all(&line, change).into_owned());
        line + "\n"
    };
    text.lines().map(line).collect()
}

#[test]
fn moving_moves() {
    let text = "[    1.000000] BUG: scheduling while atomic: sh/73/0x2\n[    1.000000] CPU: 0 PID: 73 Comm: sh ffff888003bab360\n\
                [    1.000000]  foo+0x12/0x20 [m]\n";
    let expected = "[   98.000000] BUG: scheduling while atomic: sh/170/0x2\n[   98.000000] CPU: 97 PID: 170 Comm: sh ffff888003baa360\n\
                    [   98.000000]  foo+0x1012/0x1020 [m]\n";
    assert_eq!(moved(text, 4096), expected);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    /// In whatever portions the text comes, and however often it is asked for what is complete.
    #[test]
    fn portions(indices in prop::collection::vec(0..EXPECTED.len(), 1..4), sizes in prop::collection::vec(1usize..2000, 1..40)) {
        let text = boots(&indices);
        let whole = complaints(&text);
        let mut collector = Collector::new();
        let mut taken = Vec::new();
        let mut rest = text.as_bytes();
        for size in sizes.iter().cycle() {
            let (portion, after) = rest.split_at((*size).min(rest.len()));
            collector.console(portion);
            taken.extend(collector.take());
            rest = after;
            if rest.is_empty() {
                break;
            }
        }
        collector.flush();
        taken.extend(collector.take());
        prop_assert_eq!(taken, whole);
    }

    #[test]
    fn addresses_and_numbers_change_no_title(index in 0..EXPECTED.len(), by in any::<u64>()) {
        let (name, expected) = EXPECTED[index];
        let complaints = complaints(&moved(&fixture(name), by));
        prop_assert_eq!(titles(&complaints), expected, "{}", name);
    }

    /// A log that was cut off anywhere, and goes on with another.
    #[test]
    fn torn_text(cuts in prop::collection::vec((0..EXPECTED.len(), 0usize..6000, 0usize..6000), 1..6)) {
        let torn = |(index, from, to): &(usize, usize, usize)| {
            let text = fixture(EXPECTED[*index].0);
            let end = |at: usize| (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap();
            let (from, to) = (end(*from), end(*to));
            text[from.min(to)..from.max(to)].to_owned()
        };
        let text: String = cuts.iter().map(torn).collect();
        for complaint in complaints(&text) {
            prop_assert!(!complaint.title.is_empty() && !complaint.splat.is_empty());
        }
    }

    #[test]
    fn any_text(text in "((\\[ *[0-9]{1,3}\\.[0-9]{6}\\] )?(BUG: |WARNING: |INFO: |Call Trace:|={20,30}|---\\[ end trace|Kernel panic - not syncing: |\\PC){0,12}\r?\n){0,20}", bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        drop(complaints(&text));
        let mut collector = Collector::new();
        collector.console(&bytes);
        collector.flush();
    }
}
