//! The inventory of a workload against bpftrace on the same runs: no stack that bpftrace saw on a hook is missing.
//!
//! Both look at the same calls at the same time, so state that differs from run to run (which slabs are full, what is cached)
//! differs for neither, and each stack that bpftrace saw must be there. What they rightly see differently:
//! - Calls with `__GFP_NOFAIL`, and those for the cache that slab caches are made from, are never failed, so they have no site.
//!   bpftrace is told to leave them out.
//! - What an interrupt came on top of is not its caller: a site's stack ends where the interrupt entered, bpftrace's goes on.
//! - Tasks outside of the workload, and interrupts on whatever task, are nobody's sites; kernel threads and softirqs are, since they
//!   may work for the workload. Those among them that are also there while nothing runs are no part of the inventory.
//! - The first run, which only shows that the workload works, is not recorded. bpftrace leaves it out, since it is not traced.
//! - The injector sees a little more: it records from before the workload's first instruction until after its last. The
//!   workload tells bpftrace where it begins and ends.

use std::io::{self, Write};
use std::ops::Range;
use std::time::{Duration, Instant};

use injector::kernel::{Facts, KernelFiles};
use injector_tests::bpftrace::{Bpftrace, CLOSE, MAX_FRAMES, OPEN, Seen, Testimony, Watched, Window};
use injector_tests::daemon::INJECTOR;
use injector_tests::inventory::{Functions, Site};
use injector_tests::{bpf, shell};

const LIMIT: Duration = Duration::from_secs(240);

const PREPARE: &str = "mkdir -p /tmp/inventory/mnt && cd /tmp/inventory && truncate -s 16M image && \
     mkfs.ext4 -q -F -E lazy_itable_init=0,lazy_journal_init=0,nodiscard image";

/// tmpfs, ext4 on a loop device, pipes, execve() and exit(); kernel threads that work for it.
const WORK: &str = "set -e; cd /tmp/inventory; mount -o loop image mnt; cd mnt; mkdir d; echo text >d/a; mv d/a d/b; ln d/b d/c; \
     ln -s b d/l; cat d/l | wc -c >d/n; dd if=/dev/zero of=d/big bs=64k count=8 2>/dev/null; mkfifo d/p; sync; cp -r d e; \
     ls -lR . >/dev/null; truncate -s 1 d/big; rm -r d e; cd ..; umount mnt; mkdir t; echo text >t/a; mv t/a t/b; rm -r t";

/// Where interrupts and softirqs enter.
struct Entries {
    interrupt: Range<u64>,
    softirq: Range<u64>,
}

/// How a call's stack, without the hook itself and what an interrupt came on top of, is part of the inventory.
fn attribute<'a>(seen: &'a Seen, cgroup: u64, entries: &Entries) -> Option<(&'a [u64], bool)> {
    let callers = &seen.stack[1..];
    // The address that a call returns to may already be the next function's.
    let entered = callers.iter().position(|address| {
        let call = address - 1;
        entries.interrupt.contains(&call) || entries.softirq.contains(&call)
    });
    let (stack, softirq) = match entered {
        Some(last) => (&callers[..=last], entries.softirq.contains(&(callers[last] - 1))),
        None => (callers, false),
    };
    let task = entered.is_none() && (seen.kthread || seen.cgroup == cgroup);
    (task || softirq).then_some((stack, softirq || seen.kthread))
}

/// Whether the injector's own program allocated it, to stop a task. Since 7.x that is in the task's context: the tracepoint of a
/// system call's end is preemptible there (kernel/trace/bpf_trace.c, bpf_send_signal_common()).
fn is_ours(seen: &Seen) -> bool {
    seen.names.iter().any(|name| name.starts_with("bpf_send_signal_thread+"))
}

/// The stacks that bpftrace saw in a recorded run and that no site has.
fn missing<'a>(witness: &'a Testimony, sites: &[Site], entries: &Entries) -> Vec<&'a Seen> {
    let attributed = |seen: &'a Seen| attribute(seen, witness.cgroup, entries);
    let in_window = |window| witness.seen.iter().filter(move |seen| seen.window == window && !seen.stack.is_empty());
    let idle: Vec<(&str, &[u64])> = in_window(Window::Idle)
        .filter_map(|seen| {
            attributed(seen).filter(|(_, background)| *background).map(|(stack, _)| (&*seen.hook, stack))
        })
        .collect();
    in_window(Window::Recorded)
        .filter(|seen| !is_ours(seen))
        .filter(|seen| {
            let Some((stack, background)) = attributed(seen) else { return false };
            !(sites.iter().any(|site| site.is(&seen.hook, stack)) || background && idle.contains(&(&*seen.hook, stack)))
        })
        .collect()
}

impl Entries {
    fn read(functions: &Functions) -> Self {
        Self {
            interrupt: functions.range("__irqentry_text_start", "__irqentry_text_end"),
            softirq: functions.range("__softirqentry_text_start", "__softirqentry_text_end"),
        }
    }
}

/// A dry run has as its sites exactly the stacks that bpftrace sees of the same workload on the same hooks. What bpftrace sees
/// before the run is armed or after it ends is no part of it: what the workload itself does must be there, and nothing may be
/// there that bpftrace did not see at all.
#[test]
fn a_dry_run_has_the_stacks_that_bpftrace_sees() {
    let prepared = shell::output("sh", &["-c", PREPARE], LIMIT);
    assert!(prepared.status.success(), "{}", String::from_utf8_lossy(&prepared.stderr));
    let nofail = Facts::read(&KernelFiles::default()).expect("this kernel's facts").gfp.bit("NOFAIL").expect("a bit");
    let bpftrace = Bpftrace::start(nofail, Watched::All);
    let script = format!("umask {OPEN}; umask 022; sh -c '{WORK}'; s=$?; umask {CLOSE}; umask 022; exit $s");
    let finished = injector_tests::Injector::spawn(&["--dry-run", "--prob", "1", "--quiet", "--", "sh", "-c", &script])
        .finish_unchecked();
    let witness = bpftrace.stop();
    assert!(finished.status.success(), "it failed nothing: {}", finished.stderr);
    bpf::gone_within(Duration::from_secs(5), "after bpftrace");

    let functions = Functions::read();
    let entries = Entries::read(&functions);
    let sites: Vec<Site> =
        finished.report.sites().iter().map(|site| Site::named(&site.hook, &site.stack, &functions)).collect();
    let of_workload = |seen: &&Seen| seen.cgroup == witness.cgroup && !seen.kthread && !seen.stack.is_empty();
    let stacks: Vec<(&Seen, &[u64])> = witness
        .seen
        .iter()
        .filter(of_workload)
        .filter_map(|seen| Some((seen, attribute(seen, witness.cgroup, &entries).filter(|(_, softirq)| !softirq)?.0)))
        .collect();
    let during = stacks.iter().filter(|(seen, _)| seen.window == Window::Recorded);
    let missed: Vec<String> = during
        .clone()
        .filter(|(seen, stack)| !sites.iter().any(|site| site.is(&seen.hook, stack)))
        .map(|(seen, _)| format!("{} {}", seen.hook, seen.names.join(" < ")))
        .collect();
    let has_witness = |site: &&Site| stacks.iter().any(|(seen, stack)| site.is(&seen.hook, stack));
    let unseen: Vec<&Site> = sites.iter().filter(|site| !has_witness(site)).collect();
    let lost = witness.seen.iter().filter(|seen| seen.stack.is_empty()).count();
    let _ = writeln!(
        io::stderr(),
        "{} sites in a dry run; bpftrace saw {} stacks of the workload; {} missed, {} unseen; it lost {lost}",
        sites.len(),
        during.clone().count(),
        missed.len(),
        unseen.len()
    );
    assert!(during.count() > 150 && sites.len() > 150, "too little to say anything");
    assert!(missed.is_empty(), "bpftrace saw them, the dry run has no such site:\n{}", missed.join("\n"));
    // bpftrace's stacks are kept by a hash of 32 bits in a table; of two that fall into one place it loses one, and all that it
    // loses of a hook and a window are one key without a stack.
    let explained = unseen.is_empty() || (lost > 0 && unseen.len() * 10 <= sites.len());
    assert!(explained, "the dry run has sites that bpftrace did not see: {unseen:x?}");
}

#[test]
fn no_stack_that_bpftrace_saw_is_missing() {
    let prepared = shell::output("sh", &["-c", PREPARE], LIMIT);
    assert!(prepared.status.success(), "{}", String::from_utf8_lossy(&prepared.stderr));
    let facts = Facts::read(&KernelFiles::default()).expect("this kernel's facts");
    let nofail = facts.gfp.bit("NOFAIL").expect("__GFP_NOFAIL");
    let start = Instant::now();
    let bpftrace = Bpftrace::start(nofail, Watched::Traced);
    let (started, start) = (start.elapsed(), Instant::now());
    let script = format!("umask {OPEN}; umask 022; sh -c '{WORK}'; s=$?; umask {CLOSE}; umask 022; exit $s");
    let output = shell::output(INJECTOR, &["sites", "-v", "--", "sh", "-c", &script], LIMIT);
    let (recorded, start) = (start.elapsed(), Instant::now());
    let witness = bpftrace.stop();
    let stopped = start.elapsed();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    bpf::gone_within(Duration::from_secs(5), "after bpftrace");

    let functions = Functions::read();
    let entries = Entries::read(&functions);
    let text = String::from_utf8_lossy(&output.stdout);
    let sites = Site::parse_all(&text, &functions);

    let missed = missing(&witness, &sites, &entries);
    if !missed.is_empty() {
        let stacks: Vec<String> = missed
            .iter()
            .map(|seen| format!("{}, kernel thread: {}, {}", seen.hook, seen.kthread, seen.names.join(" < ")))
            .collect();
        panic!("{} stacks are missing in an inventory of {}:\n{}", missed.len(), sites.len(), stacks.join("\n"));
    }

    // What was compared: enough of it, and whole.
    let mut compared: Vec<(&str, &[u64])> = Vec::new();
    let (mut lost, mut calls) = (0, 0);
    for seen in witness.seen.iter().filter(|seen| seen.window == Window::Recorded) {
        assert!(seen.stack.len() < MAX_FRAMES, "a stack that may be cut off: {seen:x?}");
        calls += 1;
        lost += usize::from(seen.stack.is_empty());
        if seen.stack.is_empty() {
            continue;
        }
        let stack = attribute(seen, witness.cgroup, &entries).map(|(stack, _)| (&*seen.hook, stack));
        compared.extend(stack);
    }
    compared.sort_unstable();
    compared.dedup();
    let of = |hook: &str| compared.iter().filter(|(of, _)| *of == hook).count();
    let has = |site: &Site| compared.iter().any(|(hook, stack)| site.is(hook, stack));
    let matched: Vec<usize> = (0..sites.len()).filter(|number| has(&sites[*number])).collect();
    let unmatched = |(hook, stack): &&(&str, &[u64])| !sites.iter().any(|site| site.is(hook, stack));
    let background = compared.iter().filter(unmatched).count();
    // Not println!, which is only shown when a test fails.
    let _ = writeln!(
        io::stderr(),
        "bpftrace saw {} slab and {} page stacks, {} of them sites of {}, {background} background; it lost {lost} of {calls}; \
         its start took {started:.1?}, the sites {recorded:.1?}, its end {stopped:.1?}",
        of("slab"),
        of("page"),
        matched.len(),
        sites.len()
    );
    assert!(of("slab") > 200 && of("page") > 10, "bpftrace saw too little to say anything");
    assert!(background * 20 <= compared.len(), "{background} stacks were excused");
    assert!(lost * 20 <= calls, "bpftrace lost {lost} of {calls} stacks");
    assert!(matched.len() * 4 >= sites.len() * 3, "bpftrace saw {} of {} sites", matched.len(), sites.len());

    // And it would be noticed: without any one of its sites the inventory is not whole. Those of kernel threads, softirqs and the
    // injector itself may be excused.
    let tasks = witness.seen.iter().filter(|seen| seen.window == Window::Recorded && !seen.stack.is_empty());
    let tasks = tasks.filter(|seen| !is_ours(seen));
    let tasks: Vec<_> = tasks.filter_map(|seen| Some((seen, attribute(seen, witness.cgroup, &entries)?))).collect();
    for (seen, (stack, background)) in tasks.iter().step_by(tasks.len() / 10) {
        let others: Vec<Site> = sites.iter().filter(|site| !site.is(&seen.hook, stack)).cloned().collect();
        assert!(*background || !missing(&witness, &others, &entries).is_empty(), "nobody misses {:?}", seen.names);
    }
}
