//! What became of the system call in which a failure happened.

use injector_tests::{Injector, Report, Worker, run};
use serde_json::Value;

/// The sum over all sites.
fn outcomes(report: &Report) -> [u64; 6] {
    let sites = report.summary["sites"].as_array().unwrap_or_else(|| panic!("{}", report.summary));
    ["enomem", "error", "masked", "signal", "outside", "open"].map(|kind| {
        let of = |site: &Value| site["outcomes"][kind].as_u64().unwrap_or_else(|| panic!("{kind}: {site}"));
        sites.iter().map(of).sum()
    })
}

fn in_shell(arguments: &[&str], script: &str) -> Report {
    let narrow = ["--hook", "slab", "--outcome", "--prob", "1"];
    let finished = run(&[&narrow, arguments, &["--", "/bin/sh", "-c", script]].concat());
    finished.report.assert_accounts_with_lines();
    finished.report
}

/// Opening a file needs memory for it.
#[test]
fn a_call_that_returns_enomem() {
    let report = in_shell(
        &["--stack", "path_openat", "--syscall", "openat,open", "--times", "3"],
        "cat /etc/hosts /etc/hosts /etc/hosts",
    );
    assert_eq!(outcomes(&report), [3, 0, 0, 0, 0, 0], "{}", report.summary);
}

/// pipe() has one error for everything: ENFILE.
#[test]
fn a_call_that_returns_another_error() {
    let report = in_shell(&["--stack", "create_pipe_files", "--times", "1"], "true | true");
    assert_eq!(outcomes(&report), [0, 1, 0, 0, 0, 0], "{}", report.summary);
}

/// The test module counts what fails and goes on: write() succeeds.
#[test]
fn a_call_that_hides_the_failure() {
    let worker = Worker::start();
    let injector = Injector::start(&["--pid", &worker.pid_arg(), "--hook", "slab", "--outcome"]);
    worker.run("kind=slab count=40");
    worker.run("kind=slab count=1");
    let report = injector.stop();
    assert_eq!(outcomes(&report), [0, 0, 41, 0, 0, 0], "{}", report.summary);
    let told: Vec<&Value> = report.outcomes.iter().collect();
    assert_eq!(told.iter().map(|outcome| outcome["count"].as_u64().unwrap_or(0)).sum::<u64>(), 41, "{told:?}");
    assert!(told.iter().all(|outcome| outcome["syscall"] == "pwrite64" && outcome["is"] == "masked"), "{told:?}");
}

/// Interrupts and kernel threads are in no system call, whatever runs below them.
#[test]
fn failures_outside_of_system_calls_are_marked() {
    let worker = Worker::start();
    let arguments = ["--hook", "slab", "--prob", "1", "--stack", "injector_test_allocate", "--outcome"];
    let injector = Injector::start(&arguments);
    for from in ["softirq", "hardirq", "workqueue"] {
        worker.run(&format!("kind=slab gfp=ATOMIC from={from} count=7"));
    }
    let report = injector.stop();
    assert_eq!(outcomes(&report), [0, 0, 0, 0, 21, 0], "{}", report.summary);
    assert!(report.outcomes.iter().all(|outcome| outcome["is"] == "outside" && outcome["syscall"].is_null()));
}

/// A call that has not come back when the run ends is open: here one that sleeps after its failures. (If it were busy in the
/// kernel, fmod_ret could not be detached before it comes back.)
#[test]
fn a_call_that_has_not_come_back() {
    let worker = Worker::start();
    let injector = Injector::start(&["--pid", &worker.pid_arg(), "--hook", "slab", "--outcome", "--times", "5"]);
    worker.send("kind=slab count=5 sleep=100000");
    let report = injector.finish_well();
    assert!(!worker.is_done(), "it was to take longer than the run");
    assert_eq!(outcomes(&report), [0, 0, 0, 0, 0, 5], "{}", report.summary);
    worker.end();
}

/// Without the option nothing is said of outcomes.
#[test]
fn only_if_asked_for() {
    let worker = Worker::start();
    let injector = Injector::start(&["--pid", &worker.pid_arg(), "--hook", "slab"]);
    worker.run("kind=slab count=3");
    let report = injector.stop();
    assert!(report.outcomes.is_empty() && report.summary["sites"][0]["outcomes"].is_null(), "{}", report.summary);
}
