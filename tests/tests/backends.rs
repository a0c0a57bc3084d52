//! The ways to attach: they see and do the same, and what they miss is counted.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use injector_tests::worker::Options;
use injector_tests::{Injector, OnOneCpu, SmallProbe, SmallProgram, Worker, module, place, refused};

const WAYS: [&str; 3] = ["kprobe", "fmod-ret", "module"];

/// Calls of all kinds from all contexts, at different depths.
const REQUESTS: [&str; 8] = [
    "kind=slab cache=injector_test_64 count=3",
    "kind=slab cache=injector_test_4k count=3 chain=b depth=7",
    "kind=slab-bulk cache=injector_test_64 batch=4 count=2",
    "kind=page order=1 count=3",
    "kind=page order=0 count=3 chain=b depth=60",
    "kind=slab cache=injector_test_64 count=3 from=softirq gfp=ATOMIC",
    "kind=slab cache=injector_test_64 count=3 from=hardirq gfp=ATOMIC",
    "kind=page order=0 count=3 from=workqueue",
];

/// Stacks of the sites that were failed, by signature.
type Sites = BTreeMap<String, Vec<String>>;

/// Each request is made until all of its calls were failed: a trampoline's program that another task was preempted in misses
/// them for a while.
const TRIES: u64 = 20;

/// One hook at a time: a slab call that is missed may be failed in the page call of the slab's refill instead.
fn sites(backend: &str) -> Sites {
    let worker = Worker::start();
    let mut all = Sites::new();
    for hook in ["slab", "page"] {
        let arguments = ["--backend", backend, "--hook", hook, "--stack", "injector_test_allocate", "--prob", "1"];
        let injector = Injector::start(&arguments);
        for request in REQUESTS.iter().filter(|request| request.starts_with(&format!("kind={hook}"))) {
            let failed = (0..TRIES).any(|number| {
                std::thread::sleep(Duration::from_millis(20 * number.min(1)));
                let outcome = worker.run(request);
                outcome.failed == outcome.calls
            });
            assert!(failed, "{backend}: {request}");
        }
        let report = injector.stop();
        report.assert_accounts_with_lines();
        for (list, of) in [("fmod_ret", "fmod-ret"), ("module", "module")] {
            let attached: &[&str] = if backend == of { &[hook] } else { &[] };
            assert_eq!(report.start[list], serde_json::json!(attached), "{backend}");
        }
        all.extend(report.sites().into_iter().map(|site| (site.signature, site.stack)));
    }
    all
}

/// The sites, but for where a workqueue's thread comes from: worker_thread() calls process_one_work() in two places.
fn comparable(sites: &Sites) -> (Sites, BTreeSet<Vec<String>>) {
    let (mut others, mut works) = (Sites::new(), BTreeSet::new());
    for (signature, stack) in sites {
        match stack.iter().position(|frame| frame.starts_with("process_one_work")) {
            Some(at) => drop(works.insert(stack[..=at].to_vec())),
            None => drop(others.insert(signature.clone(), stack.clone())),
        }
    }
    (others, works)
}

/// Signatures and every frame: the trampoline, the module and the programs are in none of them.
#[test]
fn all_see_the_same_sites() {
    let [by_kprobe, by_fmod_ret, by_module] = WAYS.map(sites);
    assert!(by_kprobe.len() >= REQUESTS.len() - 1, "{by_kprobe:#?}");
    assert_eq!(comparable(&by_kprobe), comparable(&by_fmod_ret));
    assert_eq!(comparable(&by_kprobe), comparable(&by_module));
    for stack in by_fmod_ret.values() {
        assert!(!stack.iter().any(|frame| frame.contains("bpf") || frame.starts_with("0x")), "{stack:#?}");
    }
}

/// All return the error, and to whom it was meant.
#[test]
fn all_fail_what_is_meant() {
    for backend in WAYS {
        let (one, other) = (Worker::start(), Worker::start());
        let injector = Injector::start(&["--backend", backend, "--pid", &one.pid_arg(), "--times", "700"]);
        let failed = [&one, &other].map(|worker| worker.run("kind=slab count=1000").failed);
        let report = injector.stop();
        assert_eq!(failed, [700, 0], "{backend}");
        report.assert_accounts_with_lines();
    }
}

/// What fmod_ret can't return is refused; which way auto takes is tested without a kernel.
#[test]
fn what_returns_null_is_refused() {
    module::load();
    let listed = std::fs::read_to_string("/sys/kernel/debug/error_injection/list").expect("debugfs");
    if listed.contains("page_pool_alloc_pages") {
        let arguments = ["--all", "--backend", "fmod-ret", "--hook", "page-pool", "--prob", "0.1"];
        refused(&arguments, 2, &["page-pool returns NULL", "--backend auto"]);
    }
}

/// Interrupts that allocate come to CPU 0 while a program on another kprobe runs there.
fn missed_beside_a_busy_kprobe(backend: &str) -> u64 {
    let _busy = SmallProbe::attach("__x64_sys_getppid", SmallProgram::Busy);
    let (one, two) = (Worker::on_cpu(0), Worker::on_cpu(1));
    // Asks on CPU 1 for allocations in interrupts of CPU 0, while this thread keeps CPU 0 busy.
    let _here = OnOneCpu::at(0);
    let injector =
        Injector::start(&["--backend", backend, "--hook", "slab", "--stack", "injector_test_allocate", "--prob", "0"]);
    two.send("kind=slab count=4000 gfp=ATOMIC from=hardirq cpu=0");
    let start = Instant::now();
    while !two.is_done() && start.elapsed() < Duration::from_secs(30) {
        // SAFETY: takes nothing.
        unsafe { libc::getppid() };
    }
    let outcome = two.receive();
    let report = injector.stop();
    drop(one);
    let (missed, matches) = (report.hook("slab").get("missed"), report.total("matches"));
    println!("{backend}: {} calls, {matches} matched, {missed} missed", outcome.calls);
    assert!(matches <= outcome.calls, "{backend}: only the module's calls match");
    if matches < outcome.calls {
        // What else was missed, if anything, are other calls on that CPU.
        assert!(
            missed == 0 || matches + missed >= outcome.calls,
            "{backend}: each call was seen or is counted as missed"
        );
    }
    missed
}

/// A kernel before 6.7 does not count what a kprobe's program missed.
#[test]
fn what_a_kprobe_misses_is_counted() {
    let missed = missed_beside_a_busy_kprobe("kprobe");
    if place::release().starts_with("6.1.") {
        assert_eq!(missed, 0, "this kernel tells it after all");
    } else {
        assert!(missed > 0, "interrupts came while the other program ran");
    }
    // Programs on kprobes don't keep a trampoline's from running. An interrupt that comes while it runs itself does: up to 256
    // calls. Few interrupts meet it, unless something else on that CPU allocates a lot just then: hence three tries.
    let by_fmod_ret = (0..3).map(|_| missed_beside_a_busy_kprobe("fmod-ret")).find(|missed| *missed <= 1024);
    assert!(by_fmod_ret.is_some(), "more than 1024 of 4000 each time, {missed} by a kprobe");
}

/// An fmod_ret program is not run again on a CPU where it is running: interrupts come while it looks at long stacks.
#[test]
fn what_fmod_ret_misses_is_counted() {
    let (one, two) = (Worker::start_with(Options { cpu: Some(0), ..Options::default() }), Worker::on_cpu(1));
    let injector = Injector::start(&[
        "--backend",
        "fmod-ret",
        "--hook",
        "slab",
        "--stack",
        "*_free*",
        "--stack",
        "*_show*",
        "--stack",
        "*_init*",
        "--prob",
        "0",
    ]);
    one.send("kind=slab count=60000 depth=90");
    let mut interrupts = 0;
    while !one.is_done() {
        interrupts += two.run("kind=slab count=64 gfp=ATOMIC from=hardirq cpu=0").calls;
    }
    one.receive();
    let report = injector.stop();
    let missed = report.hook("slab").get("missed");
    println!("{interrupts} allocations in interrupts, {missed} missed");
    assert!(missed > 0 && missed <= interrupts + report.total("calls"), "{missed} of {interrupts}");
}
