//! The same by what else one could use: bpftrace, bcc's inject.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::calls::Bench;
use crate::wanted;

/// Debian's name of bcc's inject.
const INJECT: &str = "inject-bpfcc";
/// A compiler is in both; it takes some 10 s, emulated, and bcc's reads the kernel's headers besides.
const PATIENCE: Duration = Duration::from_secs(300);

/// bpftrace with the equivalent predicates.
pub fn bpftrace(bench: &mut Bench<'_>, empty: f64) {
    if !installed("bpftrace") {
        return;
    }
    let (me, other) = (std::process::id(), bench.other.pid_arg());
    let function = bench.hook.function;
    let slab = bench.hook.name == "slab";
    // NULL and false can't be told apart: TRUE functions return 1.
    let error = if slab { "-12" } else { "1" };
    let gfp = if slab { "arg1" } else { "arg0" };
    for (what, program, fails) in [
        (
            "override() with a pid predicate, no match",
            format!("kprobe:{function} /pid == {other}/ {{ override({error}); }}"),
            false,
        ),
        (
            "override() with predicates on pid and gfp, no match",
            format!("kprobe:{function} /pid == {me} && ({gfp} & 0x80000000) != 0/ {{ override({error}); }}"),
            false,
        ),
        (
            "override() and @[kstack] = count(), failing each call",
            format!("kprobe:{function} /pid == {me}/ {{ @[kstack] = count(); override({error}); }}"),
            true,
        ),
    ] {
        if wanted(what) {
            row(
                bench,
                empty,
                "bpftrace",
                what,
                Command::new("bpftrace").args(["--unsafe", "-q", "-e", &program]),
                fails,
            );
        }
    }
}

/// bcc's inject, whose predicates are C.
pub fn bcc(bench: &mut Bench<'_>, empty: f64) {
    if !installed(INJECT) {
        return;
    }
    let (mode, function) = match bench.hook.name {
        "slab" => ("kmalloc", "should_failslab(struct kmem_cache *s, gfp_t gfpflags)"),
        _ => ("alloc_page", "should_fail_alloc_page(gfp_t gfp_mask, unsigned int order)"),
    };
    let pid = |pid: &str| format!("bpf_get_current_pid_tgid() >> 32 == {pid}");
    for (what, predicate, fails) in [
        ("inject with a pid predicate, no match", pid(&bench.other.pid_arg()), false),
        ("inject with a pid predicate, failing each call, no event", pid(&std::process::id().to_string()), true),
    ] {
        if wanted(what) {
            row(
                bench,
                empty,
                "bcc",
                what,
                Command::new(INJECT).args([mode, &format!("{function}({predicate})")]),
                fails,
            );
        }
    }
}

/// Runs a tool until it is attached, measures, ends it.
fn row(bench: &mut Bench<'_>, empty: f64, by: &str, what: &str, command: &mut Command, fails: bool) {
    let mut child = attached(command, bench.hook.function);
    let (cost, failed) = bench.measure();
    // SAFETY: our own child.
    unsafe { libc::kill(child.id() as i32, libc::SIGINT) };
    child.wait().expect("a child");
    assert_eq!(failed > 0, fails, "{command:?}");
    bench.row(by, what, Some(empty), cost);
}

/// Whether there is such a program; says so if not.
fn installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let there = std::env::split_paths(&path).any(|directory| directory.join(program).is_file());
    if !there {
        eprintln!("no {program}: its rows are left out");
    }
    there
}

/// Starts a tool; returns when it has its kprobe.
fn attached(command: &mut Command, function: &str) -> Child {
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let mut child = child.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let start = Instant::now();
    loop {
        // When it fails all that this process allocates, this fails too.
        let list = fs::read_to_string("/sys/kernel/debug/kprobes/list");
        if list.map_or_else(|error| error.raw_os_error() == Some(libc::ENOMEM), |list| list.contains(function)) {
            return child;
        }
        let ended = child.try_wait().expect("a child");
        assert!(ended.is_none() && start.elapsed() < PATIENCE, "{command:?} can't be attached: {ended:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
}
