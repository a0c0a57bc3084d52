//! Guards: what is never failed, whatever the options say.

use injector_tests::daemon::INJECTOR;
use injector_tests::{Injector, KernelLog, RunFile, Worker, shell};

#[test]
fn nofail_allocations_of_the_target_never_fail() {
    let worker = Worker::start();
    let injector = Injector::start(&["--prob", "1", "--pid", &worker.pid_arg(), "--quiet"]);
    for gfp in ["KERNEL+NOFAIL", "NOFS+NOFAIL", "NOIO+NOFAIL+ZERO"] {
        for kind in ["slab", "page"] {
            let outcome = worker.run(&format!("kind={kind} gfp={gfp} count=2000"));
            assert_eq!(outcome.failed, 0, "{kind} {gfp}");
        }
    }
    let control = worker.run("kind=slab gfp=KERNEL count=2000");
    let report = injector.stop();
    assert_eq!(control.failed, 2000);
    assert!(report.hook("slab").get("suppressed_nofail") >= 6000, "{}", report.summary);
    assert!(report.hook("page").get("suppressed_nofail") >= 6000, "{}", report.summary);
    report.assert_accounts();
}

/// Everything on this machine that can fail fails, for a second: NOFAIL allocations don't, PID 1 and the daemon go on,
/// the daemon ends by itself, and the kernel has nothing to complain about that is the injector's fault.
///
/// This process does nothing meanwhile but wait.
#[test]
fn nofail_never_fails_while_the_whole_machine_does() {
    let mut log = KernelLog::from_now();
    let worker = Worker::start();
    let control = Worker::start();
    worker.run("kind=slab gfp=KERNEL+NOFAIL count=100");
    let injector = Injector::start(&["--all", "--prob", "1", "--duration", "2s", "--quiet"]);
    let slab = worker.run("kind=slab gfp=KERNEL+NOFAIL count=3000");
    let page = worker.run("kind=page gfp=NOFS+NOFAIL count=3000");
    let failing = control.run("kind=slab gfp=KERNEL count=100");
    let finished = injector.finish();
    assert_eq!((slab.failed, page.failed, failing.failed), (0, 0, 100));
    assert!(finished.status.success(), "{}\n{}", finished.status, finished.stderr);
    let report = finished.report;
    assert_eq!(report.end(), "duration", "{}", finished.stderr);
    assert!(report.hook("slab").get("suppressed_nofail") >= 3000, "{}", report.summary);
    assert!(report.hook("page").get("suppressed_nofail") >= 3000, "{}", report.summary);
    assert!(report.total("failures") >= 100, "{}", report.summary);
    report.assert_accounts();
    log.assert_no_splat();
    // And the machine is well again.
    assert_eq!(control.run("kind=slab gfp=KERNEL count=100").failed, 0);
    assert!(shell::output("/bin/true", &[], std::time::Duration::from_secs(20)).status.success());
}

/// kmem_cache_create() takes the cache's object from the bootstrap cache, with __GFP_ZERO.
#[test]
fn the_bootstrap_cache_never_fails() {
    let run = RunFile::open();
    let injector =
        Injector::start(&["--prob", "1", "--hook", "slab", "--gfp", "ZERO", "--stack", "injector_test_create_cache"]);
    run.run("kind=create-cache count=20");
    let report = injector.stop();
    let slab = report.hook("slab");
    assert!(slab.get("suppressed_bootstrap") >= 20, "{}", report.summary);
    for failure in &report.failures {
        assert_ne!(failure["cache"], "kmem_cache", "{failure}");
    }
    report.assert_accounts_with_lines();
    let without = run.run("kind=create-cache count=1");
    assert_eq!(without.failed, 0);
}

/// The daemon's own calls are matches that a guard holds back.
#[test]
fn the_daemon_never_fails_itself() {
    let injector = Injector::start(&[
        "--prob",
        "1",
        "--duration",
        "1s",
        "--stack",
        "ksys_write",
        "--stack",
        "do_sys_openat2",
        "--quiet",
    ]);
    let report = injector.finish_well();
    let own: u64 = ["slab", "page"].iter().map(|hook| report.hook(hook).get("suppressed_own")).sum();
    let init: u64 = ["slab", "page"].iter().map(|hook| report.hook(hook).get("suppressed_init")).sum();
    println!("own {own}, init {init}");
    report.assert_accounts();
}

/// PID 1 is failed by nobody who doesn't name it: without it there is no machine.
#[test]
fn init_is_spared_even_in_the_root_cgroup() {
    let worker = Worker::start();
    let root = injector_tests::cgroup::root();
    let injector = Injector::start(&[
        "--prob",
        "1",
        "--cgroup",
        root.to_str().expect("a path"),
        "--stack",
        "injector_test_loop",
        "--stack",
        "do_wait",
        "--stack",
        "do_sys_openat2",
    ]);
    let outcome = worker.run("kind=slab count=50");
    std::thread::sleep(std::time::Duration::from_secs(1));
    let report = injector.stop();
    assert_eq!(outcome.failed, 50);
    assert!(report.failures.iter().all(|failure| failure["pid"] != 1), "{}", report.summary);
}

#[test]
fn nofail_cannot_be_asked_for() {
    let worker = Worker::start();
    injector_tests::refused(&["--gfp", "NOFAIL", "--pid", &worker.pid_arg()], 2, &["NOFAIL"]);
    let output = shell::output(INJECTOR, &["--help"], std::time::Duration::from_secs(20));
    assert!(output.status.success());
}
