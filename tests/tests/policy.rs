//! Policies: probability, budget, duration.

use std::time::{Duration, Instant};

use injector_tests::{Injector, Worker};

/// 200,000 matches: a binomial with mean 2000 and a standard deviation of 44.5.
#[test]
fn one_percent_of_200_000_is_within_4_sigma() {
    const MATCHES: u64 = 200_000;
    const P: f64 = 0.01;
    let worker = Worker::start();
    let mean = MATCHES as f64 * P;
    let sigma = (mean * (1.0 - P)).sqrt();
    for given in ["0.01", "1%", "1/100"] {
        let injector = Injector::start(&["--hook", "slab", "--prob", given, "--pid", &worker.pid_arg()]);
        let outcome = worker.run(&format!("kind=slab cache=injector_test_64 count={MATCHES}"));
        let report = injector.stop();
        println!(
            "--prob {given}: {} of {MATCHES}, {:+.2} sigma",
            outcome.failed,
            (outcome.failed as f64 - mean) / sigma
        );
        assert!((outcome.failed as f64 - mean).abs() < 4.0 * sigma, "--prob {given}: {} failed", outcome.failed);
        assert_eq!(report.hook("slab").get("matches"), MATCHES, "{}", report.summary);
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
