//! Events, histogram, counts: what a failure's line says, and that the books balance whatever is lost.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use injector_tests::daemon::INJECTOR;
use injector_tests::report::stack_of;
use injector_tests::{Cgroup, Injector, RunFile, Worker, shell};

fn clock() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes to this stack.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

#[test]
fn a_failure_has_all_its_facts() {
    let worker = Worker::on_cpu(1);
    let cgroup = Cgroup::new("injector-test-facts");
    cgroup.add(worker.pid());
    let injector = Injector::start(&["--hook", "slab", "--pid", &worker.pid_arg()]);
    let before = clock();
    worker.run("kind=slab cache=injector_test_64 gfp=KERNEL+ZERO");
    let after = clock();
    let report = injector.stop();
    let [failure] = &report.failures[..] else { panic!("one failure, not {:?}", report.failures) };
    let number = |name: &str| failure[name].as_u64().unwrap_or_else(|| panic!("no {name} in {failure}"));
    assert!((before..=after).contains(&number("time_ns")), "{before} {after} {failure}");
    assert_eq!((number("pid"), number("tid")), (worker.pid().into(), worker.tid().into()), "{failure}");
    assert_eq!(
        (number("cpu"), number("cgroup"), number("order"), number("size")),
        (1, cgroup.id(), 0, 64),
        "{failure}"
    );
    assert_eq!(
        (&failure["hook"], &failure["cache"], &failure["context"], &failure["error"]),
        (&"slab".into(), &"injector_test_64".into(), &"task".into(), &(-12).into())
    );
    let comm = std::fs::read_to_string(format!("/proc/{}/comm", worker.pid())).expect("comm");
    assert_eq!(failure["comm"].as_str(), Some(comm.trim_end()), "{failure}");
    let site = &report.sites()[0];
    assert_eq!((failure["site"].as_str(), stack_of(failure)), (Some(site.signature.as_str()), site.stack.clone()));
    worker.end();
    cgroup.remove();
}

#[test]
fn lines_and_histogram_agree_site_by_site() {
    let run = RunFile::open();
    let injector = Injector::start(&["--prob", "1", "--stack", "injector_test_loop"]);
    let mut failed = 0;
    for (chain, depth, count) in [("a", 0, 30), ("b", 0, 20), ("a", 1, 10), ("b", 5, 7), ("a", 99, 3)] {
        for kind in ["slab", "page"] {
            failed += run.run(&format!("kind={kind} chain={chain} depth={depth} count={count}")).failed;
        }
    }
    let report = injector.stop();
    report.assert_accounts_with_lines();
    assert_eq!(report.total("failures"), failed);
    let mut of_lines: BTreeMap<String, u64> = BTreeMap::new();
    for failure in &report.failures {
        *of_lines.entry(failure["site"].as_str().expect("a site").to_owned()).or_default() += 1;
    }
    let of_histogram: BTreeMap<_, _> = report.sites().into_iter().map(|site| (site.signature, site.count)).collect();
    assert_eq!(of_lines, of_histogram);
    assert_eq!(of_histogram.len(), 10, "five ways, two hooks: {}", report.summary);
    let counts: Vec<_> = report.sites().iter().map(|site| site.count).collect();
    assert_eq!(counts, [30, 30, 20, 20, 10, 10, 7, 7, 3, 3], "most frequent first");
}

/// A hundred sites, each by a stack of its own.
#[test]
fn many_sites_are_told_apart() {
    let run = RunFile::open();
    let injector = Injector::start(&["--prob", "1", "--hook", "slab", "--stack", "injector_test_loop", "--quiet"]);
    for depth in 0..100 {
        run.run(&format!("kind=slab depth={depth} count=3"));
    }
    let report = injector.stop();
    report.assert_accounts();
    assert_eq!(report.sites().len(), 100, "{}", report.summary);
    assert!(report.sites().iter().all(|site| site.count == 3), "{}", report.summary);
}

#[test]
fn a_site_has_the_same_signature_in_every_run() {
    let run = RunFile::open();
    let signatures = || {
        let injector = Injector::start(&["--prob", "1", "--stack", "injector_test_loop", "--quiet"]);
        run.run("kind=slab chain=a count=5");
        run.run("kind=page chain=b count=4");
        let report = injector.stop();
        report.sites().into_iter().map(|site| (site.signature, site.hook, site.count, site.stack)).collect::<Vec<_>>()
    };
    let first = signatures();
    assert_eq!(first.len(), 2);
    assert_eq!(first, signatures());
}

/// A million failures as fast as they come while nobody reads the ring: what is lost is counted, the rest arrives,
/// the histogram has all.
#[test]
fn a_million_failures_overflow_the_ring_and_nothing_is_miscounted() {
    const FAILURES: u64 = 1_000_000;
    let worker = Worker::start();
    let injector = Injector::start(&["--hook", "slab", "--ttl", "10m", "--pid", &worker.pid_arg()]);
    // Held up by a slow disk, so to speak.
    injector.signal(libc::SIGSTOP);
    let outcome = worker.run(&format!("kind=slab cache=injector_test_64 count={FAILURES}"));
    injector.signal(libc::SIGCONT);
    let report = injector.stop();
    println!("{} ns per failure, {} of {FAILURES} events lost", outcome.ns / FAILURES, report.total("lost"));
    assert_eq!((outcome.failed, report.total("failures")), (FAILURES, FAILURES), "{}", report.summary);
    assert!(report.total("lost") > 0, "the ring did not overflow: {}", report.summary);
    assert!(report.total("delivered") > 0, "{}", report.summary);
    report.assert_accounts_with_lines();
    assert_eq!(report.sites()[0].count, FAILURES);
}

/// The same with a daemon that reads as fast as it can, on two CPUs.
#[test]
fn a_flood_from_two_cpus_is_counted_exactly() {
    const EACH: u64 = 50_000;
    let (one, two) = (Worker::on_cpu(0), Worker::on_cpu(1));
    let injector = Injector::start(&["--prob", "1", "--pid", &one.pid_arg(), "--pid", &two.pid_arg()]);
    let start = Instant::now();
    one.send(&format!("kind=slab cache=injector_test_64 count={EACH}"));
    two.send(&format!("kind=page count={EACH}"));
    let failed = one.receive().failed + two.receive().failed;
    let took = start.elapsed();
    let report = injector.stop();
    println!("{failed} failures in {took:?}, {} lost", report.total("lost"));
    assert_eq!((failed, report.total("failures")), (2 * EACH, 2 * EACH), "{}", report.summary);
    report.assert_accounts_with_lines();
}

#[test]
fn quiet_leaves_out_the_lines_and_nothing_else() {
    let worker = Worker::start();
    let injector = Injector::start(&["--quiet", "--hook", "slab", "--pid", &worker.pid_arg()]);
    worker.run("kind=slab count=100");
    let report = injector.stop();
    assert_eq!((report.failures.len(), report.total("failures")), (0, 100), "{}", report.summary);
    assert_eq!(report.sites()[0].count, 100);
}

/// The default format, on standard output, as a person sees it.
#[test]
fn text_shows_failures_stacks_and_the_summary() {
    injector_tests::module::load();
    let script = format!(
        "{INJECTOR} --hook slab --prob 1 --times 3 --stack injector_test_chain_b & sleep 0; \
         while kill -0 $! 2>/dev/null; do echo kind=slab chain=b >{}; sleep 0.1; done; wait $!",
        injector_tests::module::RUN
    );
    let output = shell::output("/bin/sh", &["-c", &script], Duration::from_secs(60));
    let text = String::from_utf8_lossy(&output.stdout);
    let what = format!("{}\n{text}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{what}");
    for word in ["slab", "GFP_KERNEL", "injector_test_chain_b", "[injector_test]", "kmalloc-64"] {
        assert!(text.contains(word), "{word} is missing: {what}");
    }
    let failures =
        text.lines().filter(|line| line.contains("injector_test_chain_b+0x") && line.contains("site=")).count();
    assert_eq!(failures, 3, "{what}");
    assert!(text.lines().any(|line| line.contains("3 failures in ")), "{what}");
    assert!(!text.contains("\"schema\""), "{what}");
}

/// A disk that is full ends the run; what was counted goes to stderr.
#[test]
fn output_that_cannot_be_written_ends_the_run() {
    let worker = Worker::start();
    let script = format!("{INJECTOR} --hook slab --pid {} --output /dev/full --format json", worker.pid());
    let child = std::thread::spawn(move || shell::output("/bin/sh", &["-c", &script], Duration::from_secs(60)));
    while !child.is_finished() {
        worker.run("kind=slab count=10");
        std::thread::sleep(Duration::from_millis(50));
    }
    let output = child.join().expect("it ends by itself");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(74), "{stderr}");
    assert!(stderr.contains("can't write the output"), "{stderr}");
    assert!(injector_tests::bpf::ours().is_empty());
    assert_eq!(worker.run("kind=slab count=10").failed, 0);
}

/// Events go out while the run goes on, not at its end.
#[test]
fn failures_are_shown_as_they_happen() {
    let worker = Worker::start();
    let injector = Injector::start(&["--hook", "slab", "--pid", &worker.pid_arg()]);
    worker.run("kind=slab count=3");
    let output = injector.output_so_far(Duration::from_secs(5), |text| text.matches("\"failure\"").count() == 3);
    assert_eq!(output.matches("\"failure\"").count(), 3, "{output}");
    injector.stop();
}

/// The eBPF side's own diagnostics: there when asked for, and only then.
#[test]
fn diagnostics_of_the_ebpf_side_are_shown_when_asked_for() {
    for (options, shown) in [(&["--ebpf-log"][..], true), (&[], false)] {
        let worker = Worker::start();
        let pid = worker.pid_arg();
        let injector = Injector::start(&[&["--hook", "slab", "--prob", "1", "--pid", &pid], options].concat());
        worker.run("kind=slab cache=injector_test_64 count=3");
        std::thread::sleep(Duration::from_millis(500));
        injector.signal(libc::SIGINT);
        let finished = injector.finish();
        assert_eq!(finished.stderr.contains("failed hook 0"), shown, "{options:?}: {}", finished.stderr);
    }
}
