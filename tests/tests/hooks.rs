//! The hooks: each is there, each sees exactly its calls, each can be chosen.

use std::time::Duration;

use injector_common::hooks::NAMED;
use injector_tests::daemon::INJECTOR;
use injector_tests::{Injector, Worker, place, run, shell};
use serde_json::Value;

const SLAB: &str = "kind=slab cache=injector_test_64 count=10000";
const PAGE: &str = "kind=page order=0 count=10000";

#[test]
fn always_fails_every_slab_call() {
    let worker = Worker::start();
    let injector = Injector::start(&["--hook", "slab", "--prob", "1", "--quiet", "--pid", &worker.pid_arg()]);
    let outcome = worker.run(SLAB);
    let report = injector.stop();
    assert_eq!((outcome.calls, outcome.failed), (10_000, 10_000));
    assert_eq!((report.hook("slab").get("matches"), report.total("failures")), (10_000, 10_000), "{}", report.summary);
    report.assert_accounts();
}

#[test]
fn always_fails_every_page_call() {
    let worker = Worker::start();
    let injector = Injector::start(&["--hook", "page", "--prob", "1", "--quiet", "--pid", &worker.pid_arg()]);
    let outcome = worker.run(PAGE);
    let report = injector.stop();
    assert_eq!((outcome.calls, outcome.failed), (10_000, 10_000));
    assert_eq!((report.hook("page").get("matches"), report.total("failures")), (10_000, 10_000), "{}", report.summary);
    report.assert_accounts();
}

#[test]
fn never_fails_no_call_and_counts_all() {
    let worker = Worker::start();
    let injector = Injector::start(&["--prob", "0", "--pid", &worker.pid_arg()]);
    let slab = worker.run(SLAB);
    let page = worker.run(PAGE);
    let report = injector.stop();
    assert_eq!((slab.failed, page.failed), (0, 0));
    // The slab calls may need a page for their cache and, since 6.18, an object for a sheaf (alloc_empty_sheaf(), mm/slub.c).
    assert!((10_000..10_010).contains(&report.hook("slab").get("matches")), "{}", report.summary);
    assert!((10_000..10_010).contains(&report.hook("page").get("matches")), "{}", report.summary);
    assert_eq!((report.total("failures"), report.failures.len()), (0, 0), "{}", report.summary);
    report.assert_accounts_with_lines();
}

#[test]
fn a_hook_that_is_not_named_is_left_alone() {
    let worker = Worker::on_cpu(0);
    // Warm on this CPU, so that the cache needs no page while the page hook fails.
    worker.run(SLAB);
    for (hook, slab_fails, page_fails) in [("slab", 10_000, 0), ("page", 0, 10_000)] {
        let injector = Injector::start(&["--hook", hook, "--quiet", "--pid", &worker.pid_arg()]);
        let slab = worker.run(SLAB);
        let page = worker.run(PAGE);
        let report = injector.stop();
        assert_eq!((slab.failed, page.failed), (slab_fails, page_fails), "--hook {hook}");
        let hooks: Vec<_> = report.summary["hooks"].as_object().expect("an object").keys().collect();
        assert_eq!(hooks, [hook]);
    }
}

#[test]
fn bulk_allocations_are_one_call() {
    let worker = Worker::start();
    for (hook, request) in [
        ("slab", "kind=slab-bulk cache=injector_test_64 batch=32 count=1000"),
        ("page", "kind=page-bulk batch=32 count=1000"),
    ] {
        let injector = Injector::start(&["--hook", hook, "--quiet", "--pid", &worker.pid_arg()]);
        let outcome = worker.run(request);
        let report = injector.stop();
        assert_eq!((outcome.failed, report.total("matches")), (1000, 1000), "{hook}: {}", report.summary);
    }
}

/// kmalloc above its largest cache goes to the page allocator, with the order of the request.
#[test]
fn large_kmalloc_is_a_page_call() {
    let worker = Worker::start();
    let injector = Injector::start(&["--hook", "slab,page", "--pid", &worker.pid_arg()]);
    let outcome = worker.run("kind=slab size=65536 count=20");
    let report = injector.stop();
    assert_eq!(outcome.failed, 20);
    assert_eq!(report.hook("slab").get("matches"), 0, "{}", report.summary);
    assert_eq!(report.hook("page").get("matches"), 20, "{}", report.summary);
    report.assert_accounts_with_lines();
    for failure in &report.failures {
        assert_eq!((failure["order"].as_u64(), failure["size"].as_u64()), (Some(4), Some(65536)), "{failure}");
    }
}

/// The calls of each hook, in contexts other than a task's: without a target all of them count.
#[test]
fn calls_in_interrupts_and_kernel_threads_are_seen() {
    let worker = Worker::start();
    for from in ["workqueue", "softirq", "hardirq"] {
        for kind in ["slab", "page"] {
            let injector = Injector::start(&["--hook", kind, "--prob", "1", "--stack", "injector_test_allocate"]);
            let outcome = worker.run(&format!("kind={kind} gfp=ATOMIC from={from} count=500"));
            let report = injector.stop();
            assert_eq!(outcome.failed, 500, "{kind} from {from}");
            assert_eq!(report.total("failures"), 500, "{kind} from {from}: {}", report.summary);
            report.assert_accounts_with_lines();
            let context = if from == "workqueue" { "task" } else { from };
            assert!(
                report.failures.iter().all(|f| f["context"] == context),
                "{kind} from {from}: {}",
                report.failures[0]
            );
        }
    }
}

/// The prototypes in the table of hooks are those of this kernel: what `injector check` read from BTF.
#[test]
fn prototypes_are_those_of_this_kernel() {
    let output = shell::output(INJECTOR, &["check", "--json"], Duration::from_secs(60));
    let text = String::from_utf8_lossy(&output.stdout);
    let report: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
    for row in NAMED {
        let name = format!("hook {}: prototype", row.name);
        let checks = report["checks"].as_array().unwrap_or_else(|| panic!("no checks: {text}"));
        let find = |name: &str| {
            checks.iter().find(|check| check["name"] == name).unwrap_or_else(|| panic!("no {name}: {text}"))
        };
        // What only the module hooks is compared by it (hooks_module), whether the module is loaded or not.
        let hook = find(&format!("hook {}", row.name));
        let by_module = hook["detail"].as_str().is_some_and(|detail| detail.contains("module injector_hooks"));
        if by_module || hook["state"] == "unknown" {
            continue;
        }
        let check = find(&name);
        let known = std::iter::once(row.prototype).chain(row.alternatives.iter().map(|other| other.prototype));
        let prototypes: Vec<&str> = known.collect();
        assert_eq!(check["state"], "found", "{check}");
        assert!(check["detail"].as_str().is_some_and(|detail| prototypes.contains(&detail)), "{check}");
    }
}

#[test]
fn is_armed_within_a_second_and_leaves_nothing_behind() {
    let worker = Worker::start();
    let before = worker.run(SLAB);
    let injector = Injector::start(&["--pid", &worker.pid_arg(), "--quiet"]);
    // Printed, not asserted: times belong into a benchmark. That it loads at all without symbols is the test.
    println!("armed after {:?}", injector.armed_after);
    let during = worker.run(SLAB);
    injector.stop();
    let after = worker.run(SLAB);
    assert_eq!((before.failed, during.failed, after.failed), (0, 10_000, 0));
}

#[test]
fn the_start_line_says_what_runs() {
    let finished = run(&["--prob", "0", "--duration", "100ms", "--gfp", "NOFS", "--order-lt", "4"]);
    assert!(finished.status.success(), "{}: {}", finished.status, finished.stderr);
    let start = &finished.report.start;
    assert_eq!(start["kernel"], place::release(), "{start}");
    assert_eq!(start["hooks"], serde_json::json!(["slab", "page"]), "{start}");
    assert!(start["version"].is_string() && start["time"].is_string() && start["plan"].is_object(), "{start}");
    assert!(start["plan"].to_string().contains("NOFS"), "{start}");
}
