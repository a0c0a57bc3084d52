//! Policies: probability, budget, duration.

use std::time::{Duration, Instant};

use injector_tests::{Injector, Worker, refused};

/// Only the caches of the test module: since 6.18 the slab allocator allocates for itself, too (alloc_empty_sheaf(), mm/slub.c).
const OURS: [&str; 2] = ["--cache", "injector_test_*"];

/// 200,000 matches: a binomial with mean 2000 and a standard deviation of 44.5.
#[test]
fn one_percent_of_200_000_is_within_4_sigma() {
    const MATCHES: u64 = 200_000;
    const P: f64 = 0.01;
    let worker = Worker::start();
    let mean = MATCHES as f64 * P;
    let sigma = (mean * (1.0 - P)).sqrt();
    for given in ["0.01", "1%", "1/100"] {
        let pid = worker.pid_arg();
        let arguments = [&["--hook", "slab", "--prob", given, "--pid", &pid][..], &OURS].concat();
        let injector = Injector::start(&arguments);
        let outcome = worker.run(&format!("kind=slab cache=injector_test_64 count={MATCHES}"));
        let report = injector.stop();
        println!(
            "--prob {given}: {} of {MATCHES}, {:+.2} sigma",
            outcome.failed,
            (outcome.failed as f64 - mean) / sigma
        );
        // Before the chance: a call that the kernel kept the program from is no bad luck.
        assert_eq!(report.hook("slab").get("matches"), MATCHES, "{}", report.summary);
        assert!((outcome.failed as f64 - mean).abs() < 4.0 * sigma, "--prob {given}: {} failed", outcome.failed);
        assert_eq!(report.total("failures"), outcome.failed, "{}", report.summary);
        report.assert_accounts_with_lines();
    }
}

/// One in a million is neither never nor one in a thousand.
#[test]
fn one_in_a_million_is_rare_and_possible() {
    let worker = Worker::start();
    let injector = Injector::start(&["--hook", "slab", "--prob", "1e-6", "--quiet", "--pid", &worker.pid_arg()]);
    let mut failed = 0;
    for _ in 0..20 {
        failed += worker.run("kind=slab count=200000").failed;
        if failed > 0 {
            break;
        }
    }
    injector.stop();
    // 4,000,000 calls without any: e^-4. More than 6 in 200,000: below 1e-9.
    println!("{failed} failures");
    assert!(failed <= 6, "{failed}");
}

#[test]
fn a_budget_is_exact_on_two_cpus() {
    let (one, two) = (Worker::on_cpu(0), Worker::on_cpu(1));
    for (probability, count) in [("1", 100_000), ("5%", 100_000)] {
        let injector = Injector::start(&[
            "--hook",
            "slab",
            "--prob",
            probability,
            "--times",
            "1000",
            "--pid",
            &one.pid_arg(),
            "--pid",
            &two.pid_arg(),
        ]);
        one.send(&format!("kind=slab count={count}"));
        two.send(&format!("kind=slab count={count}"));
        let (first, second) = (one.receive(), two.receive());
        let report = injector.finish_well();
        println!("--prob {probability}: {} and {}", first.failed, second.failed);
        assert_eq!(first.failed + second.failed, 1000, "--prob {probability}: {first:?} {second:?}");
        assert_eq!((report.total("failures"), report.end()), (1000, "budget"), "{}", report.summary);
        if probability == "5%" {
            assert!(first.failed > 0 && second.failed > 0, "not at the same time: {first:?} {second:?}");
        }
        report.assert_accounts_with_lines();
    }
}

/// Small budgets, often: the end of the budget is where two CPUs race.
/// Requests of one worker, and how many of each failed.
fn failed(policy: &[&str], requests: &[&str]) -> Vec<u64> {
    let worker = Worker::start();
    let pid = worker.pid_arg();
    let injector = Injector::start(&[&["--hook", "slab", "--pid", &pid], policy].concat());
    let failed = requests.iter().map(|request| worker.run(request).failed).collect();
    injector.stop().assert_accounts_with_lines();
    failed
}

#[test]
fn every_so_many() {
    assert_eq!(failed(&["--every", "10"], &["kind=slab count=9", "kind=slab", "kind=slab count=100"]), [0, 1, 10]);
    assert_eq!(failed(&["--every", "1"], &["kind=slab count=9"]), [9]);
}

#[test]
fn the_nth() {
    let one = "kind=slab";
    assert_eq!(failed(&["--nth", "2,5"], &[one, one, one, one, one, "kind=slab count=100"]), [0, 1, 0, 0, 1, 0]);
}

/// As the kernel's fail-nth: every task's own.
#[test]
fn the_nth_of_each_task() {
    let (one, two) = (Worker::start(), Worker::start());
    let (first, second) = (one.pid_arg(), two.pid_arg());
    for (per, expected) in [("task", [0, 0, 1, 1]), ("run", [0, 1, 0, 0])] {
        let injector =
            Injector::start(&["--hook", "slab", "--pid", &first, "--pid", &second, "--nth", "2", "--nth-per", per]);
        let failed = [&one, &two, &one, &two].map(|worker| worker.run("kind=slab").failed);
        injector.stop();
        assert_eq!(failed, expected, "--nth-per {per}");
    }
}

#[test]
fn the_first_pass() {
    assert_eq!(failed(&["--skip", "5"], &["kind=slab count=5", "kind=slab", "kind=slab count=10"]), [0, 1, 10]);
    assert_eq!(
        failed(&["--skip", "5", "--every", "3"], &["kind=slab count=7", "kind=slab", "kind=slab count=3"]),
        [0, 1, 1]
    );
}

/// Bytes of the objects: 64 each.
#[test]
fn space_before_the_first() {
    let requests = ["kind=slab cache=injector_test_64 count=16", "kind=slab cache=injector_test_64 count=5"];
    assert_eq!(failed(&[&["--space", "1K"][..], &OURS].concat(), &requests), [0, 5]);
    assert_eq!(failed(&[&["--space", "1025"][..], &OURS].concat(), &requests), [0, 4]);
}

/// Each site has so many failures, whatever the others have.
#[test]
fn so_many_a_site() {
    let requests = ["kind=slab chain=a count=50", "kind=slab chain=b count=50", "kind=slab chain=a count=50"];
    assert_eq!(failed(&["--once-per-site"], &requests), [1, 1, 0]);
    assert_eq!(failed(&["--per-site", "60"], &requests), [50, 50, 10]);
}

#[test]
fn so_many_a_site_is_exact_on_two_cpus() {
    let (one, two) = (Worker::on_cpu(0), Worker::on_cpu(1));
    let (first, second) = (one.pid_arg(), two.pid_arg());
    let injector = Injector::start(&["--hook", "slab", "--pid", &first, "--pid", &second, "--per-site", "1000"]);
    one.send("kind=slab count=20000");
    two.send("kind=slab count=20000");
    let (first, second) = (one.receive().failed, two.receive().failed);
    let report = injector.stop();
    println!("{first} and {second}");
    assert_eq!(first + second, 1000, "{}", report.summary);
    report.assert_accounts_with_lines();
}

/// Within 5 % over some seconds, whether calls come all the time or in bursts, on one CPU or two.
#[test]
fn a_rate_is_kept() {
    let (one, two) = (Worker::on_cpu(0), Worker::on_cpu(1));
    let (first, second) = (one.pid_arg(), two.pid_arg());
    for (rate, workers) in [(100_u32, &[&one][..]), (1000, &[&one, &two])] {
        let given = format!("{rate}/s");
        let arguments =
            ["--hook", "slab", "--pid", &first, "--pid", &second, "--rate", &given, "--duration", "5s", "--quiet"];
        let injector = Injector::start(&arguments);
        let armed = Instant::now();
        while armed.elapsed() < Duration::from_millis(5200) {
            workers.iter().for_each(|worker| worker.send("kind=slab count=3000"));
            workers.iter().for_each(|worker| drop(worker.receive()));
            // Bursts, with nothing in between.
            std::thread::sleep(Duration::from_millis(30));
        }
        let report = injector.finish_well();
        let seconds = report.total("elapsed_ns") as f64 / 1e9;
        let kept = report.total("failures") as f64 / seconds / f64::from(rate);
        println!(
            "--rate {rate}/s on {} CPUs: {} in {seconds:.2} s, {:+.1} %",
            workers.len(),
            report.total("failures"),
            (kept - 1.0) * 100.0
        );
        assert!((0.95..=1.05).contains(&kept), "--rate {rate}/s: {kept} of it; {}", report.summary);
    }
}

/// Which of a site's hits fail depends on the seed and on nothing else.
#[test]
fn a_seed_is_replayed() {
    let worker = Worker::start();
    let pid = worker.pid_arg();
    let pattern = |seed: &str| -> Vec<u64> {
        let injector = Injector::start(&["--hook", "slab", "--pid", &pid, "--prob", "0.3", "--seed", seed]);
        let failed =
            (0..60).map(|i| worker.run(if i % 2 == 0 { "kind=slab chain=a" } else { "kind=slab chain=b" }).failed);
        let failed = failed.collect();
        injector.stop().assert_accounts_with_lines();
        failed
    };
    let (first, again, other) = (pattern("7"), pattern("7"), pattern("8"));
    assert_eq!(first, again);
    assert_ne!(first, other);
    let failures: u64 = first.iter().sum();
    assert!((6..=32).contains(&failures), "0.3 of 60: {failures}");
}

/// Everything but the failing.
#[test]
fn a_dry_run_fails_nothing_and_counts_everything() {
    let worker = Worker::start();
    let pid = worker.pid_arg();
    let injector = Injector::start(&["--pid", &pid, "--hook", "slab", "--every", "2", "--dry-run"]);
    let failed = worker.run("kind=slab count=100").failed;
    let report = injector.stop();
    assert_eq!((failed, report.total("failures"), report.failures.len()), (0, 50, 50), "{}", report.summary);
    assert_eq!(report.start["dry_run"], true);
    assert_eq!(report.sites().len(), 1);
    report.assert_accounts_with_lines();
}

#[test]
fn errors_of_ones_own() {
    let worker = Worker::start();
    let injector = Injector::start(&["--pid", &worker.pid_arg(), "--hook", "slab", "--errno", "EIO"]);
    let failed = worker.run("kind=slab count=3").failed;
    let report = injector.stop();
    // To the allocator every error is a failure: it returns NULL.
    assert_eq!((failed, &report.failures[0]["error"]), (3, &serde_json::json!(-5)), "{}", report.summary);
    let pid = worker.pid_arg();
    refused(&["--pid", &pid, "--hook", "page", "--errno", "EIO"], 2, &["--errno"]);
    refused(&["--pid", &pid, "--errno", "ENOSUCH"], 2, &["--errno", "ENOSUCH"]);
}

#[test]
fn policies_that_make_no_sense_are_refused() {
    let worker = Worker::start();
    let pid = worker.pid_arg();
    for (policy, says) in [
        (&["--every", "0"][..], "--every"),
        (&["--every", "2", "--nth", "3"], "--nth"),
        (&["--nth", "0"], "--nth"),
        (&["--once-per-site", "--per-site", "3"], "--per-site"),
        (&["--rate", "fast"], "--rate"),
        (&["--space", "x"], "--space"),
        (&["--nth", "1", "--nth-per", "cpu"], "--nth-per"),
    ] {
        refused(&[&["--pid", pid.as_str()], policy].concat(), 2, &[says]);
    }
}

#[test]
fn small_budgets_are_exact_too() {
    let (one, two) = (Worker::on_cpu(0), Worker::on_cpu(1));
    for times in [1, 2, 3, 7, 1, 2, 3, 7] {
        let text = times.to_string();
        let injector = Injector::start(&["--times", &text, "--pid", &one.pid_arg(), "--pid", &two.pid_arg()]);
        one.send("kind=page count=3000");
        two.send("kind=page count=3000");
        let failed = one.receive().failed + two.receive().failed;
        let report = injector.finish_well();
        assert_eq!((failed, report.total("failures")), (times, times), "{}", report.summary);
        assert_eq!(report.end(), "budget");
    }
}

/// The budget is one for both hooks.
#[test]
fn a_budget_is_shared_by_the_hooks() {
    let worker = Worker::start();
    let injector = Injector::start(&["--times", "150", "--stack", "[injector_test]"]);
    let slab = worker.run("kind=slab count=100").failed;
    let page = worker.run("kind=page count=100").failed;
    let report = injector.finish_well();
    assert_eq!((slab, page, report.total("failures")), (100, 50, 150), "{}", report.summary);
}

/// With a command the run goes on until the command ends, whatever is left of the budget.
#[test]
fn a_command_outlives_the_budget() {
    let script = format!("for i in 1 2 3; do echo kind=slab count=100 >{}; done; exit 3", injector_tests::module::RUN);
    let arguments =
        ["--times", "150", "--stack", "injector_test_loop", "--hook", "slab", "--", "/bin/sh", "-c", &script];
    let finished = injector_tests::run(&arguments);
    assert_eq!((finished.status.code(), finished.report.end()), (Some(3), "command"), "{}", finished.stderr);
    let slab = finished.report.hook("slab");
    assert_eq!((slab.get("failures"), slab.get("exhausted")), (150, 150), "{}", finished.report.summary);
    finished.report.assert_accounts_with_lines();
}

#[test]
fn a_duration_ends_the_run() {
    let worker = Worker::start();
    let start = Instant::now();
    let injector = Injector::start(&["--duration", "500ms", "--pid", &worker.pid_arg(), "--quiet"]);
    let armed = Instant::now();
    let during = worker.run("kind=slab count=100");
    let report = injector.finish_well();
    let took = armed.elapsed();
    assert_eq!((during.failed, report.end()), (100, "duration"));
    assert!(took > Duration::from_millis(300) && took < Duration::from_secs(10), "{took:?} of {:?}", start.elapsed());
    assert!(report.total("elapsed_ns") >= 490_000_000, "{}", report.summary);
    assert_eq!(worker.run("kind=slab count=100").failed, 0);
}
