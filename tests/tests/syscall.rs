//! Inside one system call.

use injector_tests::{Injector, RunFile, Worker, module, refused};

/// The worker asks with pwrite64(): no other call of it is hit, and no other task's.
#[test]
fn one_system_call_and_no_other() {
    let worker = Worker::start();
    let pid = worker.pid_arg();
    for (syscalls, expected) in [("pwrite64", 100), ("openat,mount", 0), ("openat,pwrite64", 100)] {
        let injector = Injector::start(&["--pid", &pid, "--hook", "slab", "--syscall", syscalls]);
        let failed = worker.run("kind=slab count=100").failed;
        let report = injector.stop();
        assert_eq!(failed, expected, "--syscall {syscalls}");
        report.assert_accounts_with_lines();
    }
}

/// echo writes with write(), which goes the same way in the kernel from there on.
#[test]
fn write_is_not_pwrite() {
    let run = RunFile::open();
    let narrow = ["--hook", "slab", "--prob", "1", "--stack", "injector_test_allocate"];
    let injector = Injector::start(&[&narrow[..], &["--syscall", "write"]].concat());
    let by_pwrite = run.run("kind=slab count=100").failed;
    let ask = format!("echo kind=slab count=50 >{}", module::RUN);
    injector_tests::shell::output("/bin/sh", &["-c", &ask], std::time::Duration::from_secs(20));
    let report = injector.stop();
    assert_eq!((by_pwrite, report.total("failures")), (0, 50), "{}", report.summary);
}

/// An interrupt, a kernel thread, or what works for a task outside of its calls is in none, whatever the task called last.
#[test]
fn outside_of_system_calls_nothing_matches() {
    let worker = Worker::start();
    let narrow = ["--hook", "slab", "--prob", "1", "--stack", "injector_test_allocate"];
    let injector = Injector::start(&[&narrow[..], &["--syscall", "pwrite64"]].concat());
    let failed = ["workqueue", "softirq", "hardirq"]
        .map(|from| worker.run(&format!("kind=slab gfp=ATOMIC from={from} count=100")).failed);
    let task = worker.run("kind=slab count=100").failed;
    injector.stop();
    assert_eq!((failed, task), ([0, 0, 0], 100));
}

#[test]
fn what_makes_no_sense_is_refused() {
    refused(&["--prob", "0.1", "--syscall", "opennat"], 2, &["opennat", "openat"]);
    refused(&["--prob", "0.1", "--syscall", ""], 2, &["--syscall"]);
}
