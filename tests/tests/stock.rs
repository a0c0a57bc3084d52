//! A distribution's own kernel: the module injector_hooks is loaded on demand, counts are exact, targets are kept apart, nothing
//! stays behind, and a sweep works. The guest has the kernel's modules where the distribution has them.

use std::fs;
use std::time::{Duration, Instant};

use injector_tests::daemon::INJECTOR;
use injector_tests::{Injector, KernelLog, Worker, bpf, hooks_module, kselftest, ktap, shell};

const LIMIT: Duration = Duration::from_secs(300);

fn injector(arguments: &[&str]) -> (Option<i32>, String) {
    let output = shell::output(INJECTOR, arguments, LIMIT);
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    (output.status.code(), text.into_owned())
}

/// Everything is there but the kernel's own hooks, and the module comes when it is needed.
#[test]
fn the_module_is_loaded_on_demand_and_removed_again() {
    hooks_module::unload();
    let (code, status) = injector(&["module", "status"]);
    assert_eq!(code, Some(0), "{status}");
    assert!(status.contains("/updates/injector_hooks.ko") && status.contains("loaded     no"), "{status}");
    let worker = Worker::start();
    let running = Injector::start(&["--pid", &worker.pid_arg()]);
    assert_eq!(worker.run("kind=slab count=1000").failed, 1000);
    assert_eq!(worker.run("kind=page count=1000").failed, 1000);
    // While a run is attached it stays.
    let (code, refused) = injector(&["module", "remove"]);
    assert_eq!(code, Some(3), "{refused}");
    assert!(refused.contains("is in use"), "{refused}");
    assert_eq!(worker.run("kind=slab count=1000").failed, 1000, "the attempt to unload it changed something");
    running.stop();
    let (code, loaded) = injector(&["module", "status"]);
    assert_eq!(code, Some(0), "{loaded}");
    assert!(loaded.contains("loaded     version ") && loaded.contains("hooks      slab by "), "{loaded}");
    hooks_module::unload();
    assert_eq!(worker.run("kind=slab count=1000").failed, 0);
    let (code, text) = injector(&["module", "load"]);
    assert_eq!(code, Some(0), "{text}");
    let (code, text) = injector(&["check"]);
    assert_eq!(code, Some(0), "{text}");
    hooks_module::unload();
}

#[test]
fn a_budget_is_exact_on_two_cpus() {
    let (one, two) = (Worker::on_cpu(0), Worker::on_cpu(1));
    let targets = ["--pid", &one.pid_arg(), "--pid", &two.pid_arg()];
    let options = ["--hook", "slab", "--prob", "1", "--times", "1000"];
    let injector = Injector::start(&[&options[..], &targets[..]].concat());
    one.send("kind=slab count=100000");
    two.send("kind=slab count=100000");
    let (first, second) = (one.receive(), two.receive());
    let report = injector.finish_well();
    assert_eq!(first.failed + second.failed, 1000, "{first:?} {second:?}");
    assert_eq!((report.total("failures"), report.end()), (1000, "budget"), "{}", report.summary);
    report.assert_accounts_with_lines();
}

#[test]
fn a_pid_is_hit_and_its_neighbour_never() {
    let (target, neighbour) = (Worker::on_cpu(0), Worker::on_cpu(0));
    let injector = Injector::start(&["--pid", &target.pid_arg(), "--quiet"]);
    for kind in ["slab", "page"] {
        target.send(&format!("kind={kind} count=20000"));
        neighbour.send(&format!("kind={kind} count=20000"));
        let (hit, spared) = (target.receive(), neighbour.receive());
        assert_eq!((hit.failed, spared.failed), (20_000, 0), "{kind}");
    }
    injector.stop().assert_accounts();
}

/// However the daemon goes: allocations succeed at once, and the module can go, too.
#[test]
fn killed_50_times_it_leaves_nothing() {
    let mut log = KernelLog::from_now();
    let worker = Worker::start();
    let pid = worker.pid_arg();
    for round in 0..50 {
        let injector = Injector::start(&["--pid", &pid, "--ttl", "1h"]);
        if round % 2 == 0 {
            worker.send("kind=slab count=100000");
        }
        injector.kill();
        bpf::gone_within(Duration::from_secs(1), &format!("round {round}"));
        if round % 2 == 0 {
            worker.receive();
        }
        assert_eq!(worker.run("kind=slab count=1000").failed, 0, "round {round}");
    }
    let start = Instant::now();
    hooks_module::unload();
    println!("unloaded after {:?}", start.elapsed());
    assert!(!hooks_module::is_loaded());
    assert_eq!(worker.run("kind=slab count=1000").failed, 0);
    log.assert_no_splat();
}

/// The README's first command, for as long as it takes to fail something in a file system.
#[test]
fn nofs_allocations_of_file_systems_fail() {
    let script = |verb: &str| shell::output("/bin/sh", &["/workloads/nfs-xfs.sh", verb], LIMIT);
    let mounted = script("mount");
    assert!(mounted.status.success(), "{}", String::from_utf8_lossy(&mounted.stderr));
    // Not this process, which opens files for what the script says.
    let own = std::process::id().to_string();
    let injector = Injector::start(&["--gfp", "NOFS", "--order-lt", "4", "--prob", "0.01", "--not-pid", &own]);
    script("mix");
    let report = injector.stop();
    script("cleanup");
    report.assert_accounts();
    let of = |name: &str| report.sites().iter().filter(|site| site.has(name)).count();
    let (ext4, xfs, nfs) = (of("ext4_") + of("jbd2_"), of("xfs_"), of("nfs"));
    println!("{} failures; sites in ext4 {ext4}, XFS {xfs}, NFS {nfs}", report.total("failures"));
    assert!(report.total("failures") > 0, "{}", report.summary);
    assert!(ext4 + xfs + nfs > 0, "no site in a file system: {:#?}", report.sites());
}

/// A finding is no failure: alloc_vmap_area() of 6.1 warns if two of its allocations fail in one fork().
#[test]
fn a_small_sweep_comes_to_its_end() {
    let journal = std::env::temp_dir().join("stock-sweep.jsonl");
    let _ = fs::remove_file(&journal);
    let workload =
        "mkdir /tmp/stock-d && echo text >/tmp/stock-d/a && mv /tmp/stock-d/a /tmp/stock-d/b && rm -r /tmp/stock-d";
    let path = journal.to_str().expect("UTF-8");
    let options = ["sweep", "--journal", path, "--no-kthreads", "--leaks", "off", "--cleanup", "rm -rf /tmp/stock-d"];
    let (code, text) = injector(&[&options[..], &["--", "sh", "-c", workload]].concat());
    assert!(matches!(code, Some(0 | 1)), "{code:?}: {text}");
    let records = fs::read_to_string(&journal).expect("a journal");
    assert_eq!(records.lines().filter(|line| line.contains("\"type\":\"end\"")).count(), 1, "{text}");
    let failed = records.lines().filter(|line| line.contains("\"type\":\"failed\"")).count();
    println!("{failed} failures");
    assert!(failed >= 30, "{failed}");
    bpf::gone_within(Duration::from_secs(1), "after a sweep");
    hooks_module::unload();
}

/// Without the module, the tests of the kselftest package are skipped with kselftest's code, and say what is missing. With it, they
/// run.
#[test]
fn kselftests_are_skipped_without_the_module() {
    hooks_module::unload();
    let directory = kselftest::unpacked();
    let run = |prepare: &str, test: &str| {
        let script = format!("{prepare}{directory}/injector/{test}");
        let output = shell::output("unshare", &["-m", "sh", "-c", &script], LIMIT);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let ktap = ktap::parse(&text).unwrap_or_else(|error| panic!("{error}:\n{text}"));
        println!("{text}");
        (output.status.code(), ktap)
    };
    let hidden = "mount -t tmpfs none /lib/modules/$(uname -r)/updates || exit 99; ";
    for test in ["check.sh", "count.sh", "sweep.sh"] {
        let (code, ktap) = run(hidden, test);
        let reason = ktap.skip.unwrap_or_else(|| panic!("no reason: {:?}", ktap.tests));
        assert_eq!(code, Some(4), "{reason}");
        assert!(reason.contains("injector_hooks: neither loaded nor installed"), "{reason}");
    }
    for test in ["check.sh", "count.sh"] {
        let (code, ktap) = run("", test);
        assert_eq!(code, Some(0));
        assert!(ktap.tests.len() >= 2 && ktap.tests.iter().all(|test| test.ok), "{:?}", ktap.tests);
    }
    hooks_module::unload();
}
