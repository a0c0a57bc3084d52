//! The test module itself, without the injector: it does what it is told, where it is told, and says so.

use std::io::{Read, Write};

use injector_tests::{RunFile, Worker, bpf, module, run_requests};

#[test]
fn every_kind_is_made_and_counted() {
    let outcomes = run_requests(&[
        "kind=slab count=10",
        "kind=slab cache=injector_test_32k count=10",
        "kind=slab size=65536 count=10",
        "kind=slab-bulk cache=injector_test_4k batch=64 count=10",
        "kind=page order=4 gfp=HIGHUSER+ZERO count=10",
        "kind=page-bulk batch=33 count=10",
        "kind=create-cache count=10",
        "kind=slab gfp=NOFS+NOFAIL scope=noio chain=b depth=100 count=10",
    ]);
    for outcome in outcomes {
        assert_eq!((outcome.calls, outcome.failed, outcome.context.as_str()), (10, 0, "task"), "{outcome:?}");
    }
}

#[test]
fn interrupts_run_on_top_of_the_writer_or_on_the_cpu_asked_for() {
    let worker = Worker::on_cpu(0);
    let own = u64::from(worker.pid());
    for from in ["softirq", "hardirq"] {
        let here = worker.run(&format!("kind=slab gfp=ATOMIC from={from} count=1000"));
        assert_eq!((here.context.as_str(), here.cpu, here.pid, here.calls), (from, 0, own, 1000));
        let there = worker.run(&format!("kind=slab gfp=ATOMIC from={from} cpu=1 count=1000"));
        assert_eq!((there.context.as_str(), there.cpu, there.calls), (from, 1, 1000));
        assert_ne!(there.pid, own);
    }
    let kworker = worker.run("kind=slab from=workqueue cpu=1 count=10");
    assert_eq!((kworker.context.as_str(), kworker.cpu), ("task", 1));
    assert_ne!(kworker.pid, own);
}

#[test]
fn what_the_kernel_would_complain_about_is_refused_with_a_reason() {
    module::load();
    for (request, reason) in [
        ("kind=slob", "unknown kind"),
        ("gfp=KERNAL", "unknown gfp"),
        ("cache=dentry", "unknown cache"),
        ("count", "without ="),
        ("kind=slab gfp=HIGHUSER", "can't take"),
        ("kind=slab gfp=NOFAIL", "NOFAIL"),
        ("kind=page order=2 gfp=KERNEL+NOFAIL", "NOFAIL"),
        ("kind=slab gfp=KERNEL from=softirq", "sleep"),
        ("kind=slab-bulk", "needs a cache"),
        ("from=workqueue cpu=99", "no such cpu"),
    ] {
        let mut file = std::fs::OpenOptions::new().read(true).write(true).open(module::RUN).expect("it is loaded");
        let error = file.write_all(request.as_bytes()).expect_err(request);
        assert_eq!(error.raw_os_error(), Some(libc::EINVAL), "{request}");
        let mut answer = String::new();
        file.read_to_string(&mut answer).expect("an answer");
        assert!(answer.starts_with("error=") && answer.contains(reason), "{request}: {answer}");
    }
}

/// Two open files, two CPUs, no lock between them: else two CPUs would never hammer at once.
#[test]
fn two_workers_work_at_the_same_time() {
    let (one, two) = (Worker::on_cpu(0), Worker::on_cpu(1));
    one.send("kind=slab count=20000000");
    let meanwhile = two.run("kind=slab count=10");
    assert_eq!(meanwhile.calls, 10);
    assert!(!one.is_done(), "the first was through before the second began");
    // It gives up when it is killed.
    one.end();
}

#[test]
fn failures_of_the_kernels_own_injector_are_counted() {
    let run = RunFile::open();
    let set = |name: &str, value: &str| {
        let path = if name.starts_with('/') { name.to_owned() } else { format!("/sys/kernel/debug/failslab/{name}") };
        std::fs::write(&path, value).unwrap_or_else(|e| panic!("{path}: {e}"));
    };
    set("ignore-gfp-wait", "0");
    set("verbose", "0");
    // Only what this thread allocates; the budget is used up by the request, so what comes after it succeeds.
    set("task-filter", "1");
    set("times", "70");
    set("/proc/thread-self/make-it-fail", "1");
    set("probability", "100");
    let outcome = run.run("kind=slab cache=injector_test_64 count=100");
    set("probability", "0");
    set("/proc/thread-self/make-it-fail", "0");
    set("task-filter", "0");
    assert_eq!((outcome.calls, outcome.failed), (100, 70));
    assert!(outcome.first_failed_ns > 0 && outcome.first_failed_ns <= outcome.last_failed_ns, "{outcome:?}");
}

#[test]
fn nothing_of_the_injector_is_loaded_before_it_runs() {
    assert_eq!(bpf::ours(), Vec::<String>::new());
}
