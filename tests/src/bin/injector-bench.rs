//! What the injector costs, measured inside a guest: `cargo xtask bench` boots it and prints the tables.
//!
//! `injector-bench calls`: instructions per hooked call above the unhooked kernel, on a machine whose clock counts
//! instructions (QEMU -icount). `injector-bench daemon`: start to armed, memory, size.

use std::time::Duration;

use injector_tests::{EmptyProbe, Injector, Outcome, RunFile, Worker};
use serde_json::{Value, json};

/// Allocations per measurement: the same number of instructions every time, so few are enough.
const CALLS: u64 = 20_000;
/// Warms caches and slabs, so that no measurement meets the allocator's slow path alone.
const WARM_UP: u64 = 2_000;

fn main() {
    let rows = match std::env::args().nth(1).as_deref() {
        Some("calls") => calls(),
        Some("daemon") => daemon(),
        other => panic!("injector-bench calls|daemon, not {other:?}"),
    };
    for row in rows {
        println!("{row}");
    }
}

/// Of so many measurements the smallest counts: what else the machine does only adds.
const RUNS: usize = 3;
/// Until nothing else is going on.
const SETTLE: Duration = Duration::from_secs(4);

/// One hook: how the module calls it.
struct Hook {
    name: &'static str,
    function: &'static str,
    request: &'static str,
}

const HOOKS: [Hook; 2] = [
    Hook { name: "slab", function: "should_failslab", request: "kind=slab cache=injector_test_64 gfp=KERNEL" },
    Hook { name: "page", function: "should_fail_alloc_page", request: "kind=page order=0 gfp=KERNEL" },
];

/// Injector runs in which no call of the module matches, so that what is measured is the way to "no".
const NOT_MATCHING: [(&str, &[&str]); 14] = [
    ("injector --gfp NOFS --order-lt 4 --prob 0.01", &["--gfp", "NOFS", "--order-lt", "4", "--prob", "0.01"]),
    ("injector --gfp ATOMIC", &["--gfp", "ATOMIC", "--prob", "1"]),
    ("injector --gfp-scope raw --gfp NOFS", &["--gfp-scope", "raw", "--gfp", "NOFS", "--prob", "1"]),
    ("injector --gfp-scope raw --gfp ATOMIC", &["--gfp-scope", "raw", "--gfp", "ATOMIC", "--prob", "1"]),
    ("injector --order-gt 5", &["--order-gt", "5", "--prob", "1"]),
    ("injector --pid OTHER", &["--pid", "OTHER", "--prob", "1"]),
    ("injector --cgroup OTHER", &["--cgroup", "OTHER", "--prob", "1"]),
    ("injector --size 3", &["--size", "3", "--prob", "1"]),
    ("injector --cache no match", &["--cache", "injector_test_4k", "--prob", "1"]),
    ("injector --comm no match", &["--comm", "nobody*", "--prob", "1"]),
    ("injector --seed 1 --prob 0: a stack walk without a filter", &["--seed", "1", "--prob", "0"]),
    ("injector --stack xfs_*", &["--stack", "xfs_*", "--prob", "1"]),
    (
        "injector --stack '*_free*' '*_show*' '*_init*': thousands of functions",
        &["--stack", "*_free*", "--stack", "*_show*", "--stack", "*_init*", "--prob", "1"],
    ),
    ("injector --prob 0", &["--prob", "0"]),
];

fn calls() -> Vec<Value> {
    let run = RunFile::open();
    let cgroup = injector_tests::Cgroup::new("injector-bench");
    let other = Worker::start();
    let mut rows = Vec::new();
    for hook in HOOKS {
        let measure = || {
            // The daemon reads the kernel's symbols in the background when it starts; on one CPU that would be measured.
            std::thread::sleep(SETTLE);
            run.run(&format!("{} count={WARM_UP}", hook.request));
            let runs = (0..RUNS).map(|_| run.run(&format!("{} count={CALLS}", hook.request)));
            let Outcome { ns, failed, .. } = runs.min_by_key(|outcome| outcome.ns).expect("some runs");
            (ns as f64 / CALLS as f64, failed)
        };
        let cost = || measure().0;
        let unhooked = cost();
        let mut row = |what: &str, empty: Option<f64>, cost: f64| {
            let above = cost - unhooked;
            rows.push(json!({"hook": hook.name, "what": what, "instructions": above.round() as i64,
                             "of_empty": empty.map(|empty| (above / empty * 100.0).round() / 100.0)}));
            above
        };
        let empty = {
            let _probe = EmptyProbe::attach(hook.function);
            cost()
        };
        let empty = row("empty kprobe program", None, empty);
        // Page calls have no cache.
        let fits = |arguments: &[&str]| hook.name == "slab" || !arguments.contains(&"--cache");
        for (what, arguments) in NOT_MATCHING.into_iter().filter(|(_, arguments)| fits(arguments)) {
            let pid = other.pid_arg();
            let path = cgroup.arg();
            let mut arguments: Vec<&str> = arguments
                .iter()
                .map(|word| match *word {
                    "OTHER" if arguments.contains(&"--pid") => pid.as_str(),
                    "OTHER" => path,
                    word => word,
                })
                .collect();
            arguments.extend(["--hook", hook.name, "--quiet"]);
            let injector = Injector::start(&arguments);
            let (cost, failed) = measure();
            injector.stop();
            assert_eq!(failed, 0, "{what} must not match the module's calls");
            row(what, Some(empty), cost);
        }
        let me = std::process::id().to_string();
        let injector = Injector::start(&[
            "--pid",
            &me,
            "--prob",
            "1",
            "--quiet",
            "--hook",
            hook.name,
            "--stack",
            "injector_test_*",
        ]);
        let failing = cost();
        let report = injector.stop();
        assert!(report.total("failures") >= CALLS, "every call is failed");
        row("injector failing every call, with stack filter, event and histogram", Some(empty), failing);
    }
    other.end();
    rows
}

fn daemon() -> Vec<Value> {
    let mut armed = Vec::new();
    for _ in 0..5 {
        let injector = Injector::start(&["--gfp", "NOFS", "--order-lt", "4", "--prob", "0.01"]);
        armed.push(injector.armed_after);
        injector.stop();
    }
    armed.sort();
    let milliseconds = |time: Duration| time.as_secs_f64() * 1000.0;
    let mut rows = vec![
        json!({"what": "start to armed, median of 5", "milliseconds": milliseconds(armed[2]).round() as i64,
                               "min": milliseconds(armed[0]).round() as i64, "max": milliseconds(armed[4]).round() as i64}),
    ];

    let worker = Worker::start();
    let injector =
        Injector::start(&["--pid", &worker.pid_arg(), "--stack", "injector_test_*", "--prob", "1", "--quiet"]);
    let outcome = worker.run("kind=slab cache=injector_test_64 gfp=KERNEL count=200000");
    let status = std::fs::read_to_string(format!("/proc/{}/status", injector.pid())).expect("the daemon runs");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux says VmHWM").trim();
    let peak: f64 = peak.trim_end_matches(" kB").parse().expect("a number of kB");
    let report = injector.stop();
    worker.end();
    let seconds = outcome.ns as f64 / 1e9;
    rows.push(json!({"what": "peak RSS of the daemon after 200,000 failures", "MiB": (peak / 102.4).round() / 10.0}));
    rows.push(json!({"what": "failures per second, one CPU, as fast as the module can", "per_second": (outcome.failed as f64 / seconds).round() as i64,
                     "lost": report.total("lost")}));
    let size = std::fs::metadata("/usr/bin/injector").expect("the guest has it").len();
    rows.push(json!({"what": "static release binary", "MiB": (size as f64 / 104_857.6).round() / 10.0}));
    rows
}
