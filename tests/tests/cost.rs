//! What filters cost that are off: nothing; and what the daemon costs while failures come as fast as they can.

use std::time::{Duration, Instant};

use injector_tests::{Injector, Worker, bpf};

/// Instructions of the slab program in a run with these options, after the verifier has removed what is dead.
fn instructions(arguments: &[&str]) -> u32 {
    let worker = Worker::start();
    let pid = worker.pid_arg();
    let injector = Injector::start(&[&["--hook", "slab", "--pid", &pid, "--prob", "0"], arguments].concat());
    let programs = bpf::programs();
    injector.stop();
    let slab = programs.iter().find(|program| program.is("slab"));
    slab.unwrap_or_else(|| panic!("no program: {programs:?}")).translated / 8
}

/// Each filter adds instructions where it is on; so where it is off they are not there. And a run without any is as small as can
/// be: less than half of one with all of them.
#[test]
fn filters_that_are_off_cost_no_instruction() {
    let bare = instructions(&[]);
    println!("no filter: {bare}");
    let filters: [&[&str]; 14] = [
        &["--gfp", "NOFS"],
        &["--order-lt", "3"],
        &["--size", "64"],
        &["--cache", "kmalloc-64"],
        &["--stack", "injector_test_allocate"],
        &["--stack", "injector_test_loop..injector_test_allocate"],
        &["--caller", "injector_test_allocate"],
        &["--syscall", "openat"],
        &["--comm", "x*"],
        &["--uid", "1"],
        &["--not-pid", "1"],
        &["--kthreads", "exclude"],
        &["--every", "3"],
        &["--seed", "1"],
    ];
    for filter in filters {
        let with = instructions(filter);
        println!("{filter:?}: {with}");
        assert!(with > bare, "{filter:?}: {with} with it, {bare} without any");
    }
    let all: Vec<&str> = filters.iter().flat_map(|filter| filter.iter().copied()).collect();
    let all = instructions(&all);
    println!("all: {all}");
    assert!(all > bare * 3 / 2, "{all} with all, {bare} without any");
}

/// Two CPUs, ten seconds, every allocation failed: the histogram is exact, what the ring had no room for is counted.
#[test]
fn ten_seconds_as_fast_as_it_can() {
    const BLOCK: u64 = 20_000;
    let (one, two) = (Worker::on_cpu(0), Worker::on_cpu(1));
    let (first, second) = (one.pid_arg(), two.pid_arg());
    let injector = Injector::start(&["--hook", "slab", "--pid", &first, "--pid", &second, "--quiet"]);
    let began = Instant::now();
    let mut failed = 0;
    while began.elapsed() < Duration::from_secs(10) {
        one.send(&format!("kind=slab chain=a count={BLOCK}"));
        two.send(&format!("kind=slab chain=b count={BLOCK}"));
        failed += one.receive().failed + two.receive().failed;
    }
    let seconds = began.elapsed().as_secs_f64();
    let status = std::fs::read_to_string(format!("/proc/{}/status", injector.pid())).expect("the daemon runs");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux says VmHWM").trim();
    let peak: u64 = peak.trim_end_matches(" kB").parse().expect("a number of kB");
    let report = injector.stop();
    println!(
        "{failed} failures in {seconds:.1} s: {:.0} a second; {} lost; peak RSS {:.1} MiB",
        failed as f64 / seconds,
        report.total("lost"),
        peak as f64 / 1024.0
    );
    assert_eq!(report.total("failures"), failed, "{}", report.summary);
    assert_eq!(report.sites().iter().map(|site| site.count).sum::<u64>(), failed);
    assert_eq!(report.total("delivered") + report.total("lost"), failed);
    assert!(peak < 60 * 1024, "{peak} KiB");
}
