//! Filters on tasks and contexts: the one that is meant is hit, its neighbour is not.

use std::fs;
use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use injector_tests::worker::Options;
use injector_tests::{Injector, Worker, module, refused};

/// Only what the test module allocates, whoever asks it to.
const NARROW: [&str; 6] = ["--hook", "slab", "--prob", "1", "--stack", "injector_test_allocate"];
const SLAB: &str = "kind=slab count=500";

fn start(arguments: &[&str]) -> Injector {
    Injector::start(&[&NARROW, arguments].concat())
}

fn called(comm: &'static std::ffi::CStr) -> Worker {
    Worker::start_with(Options { comm: Some(comm), ..Options::default() })
}

#[test]
fn names_of_tasks() {
    let (one, two, other) = (called(c"victim-1"), called(c"victim-22"), called(c"xvictim-1"));
    for (patterns, expected) in [
        (&["--comm", "victim-1"][..], [500, 0, 0]),
        (&["--comm", "victim-?"], [500, 0, 0]),
        (&["--comm", "victim-*"], [500, 500, 0]),
        (&["--comm", "*victim-1", "--comm", "*-22"], [500, 500, 500]),
        (&["--comm", "[a-w]*"], [500, 500, 0]),
    ] {
        let injector = start(patterns);
        let failed = [&one, &two, &other].map(|worker| worker.run(SLAB).failed);
        let report = injector.stop();
        assert_eq!(failed, expected, "{patterns:?}");
        report.assert_accounts_with_lines();
    }
}

/// 15 bytes are all that a name can have.
#[test]
fn the_longest_name() {
    let (one, other) = (called(c"123456789012345"), called(c"12345678901234"));
    let injector = start(&["--comm", "123456789012345"]);
    let failed = [&one, &other].map(|worker| worker.run(SLAB).failed);
    injector.stop();
    assert_eq!(failed, [500, 0]);
}

#[test]
fn users() {
    let of = |uid| Worker::start_with(Options { uid: Some(uid), ..Options::default() });
    let (one, two, other) = (of(1000), of(1001), of(100));
    let injector = start(&["--uid", "1000,1001"]);
    let failed = [&one, &two, &other].map(|worker| worker.run(SLAB).failed);
    injector.stop();
    assert_eq!(failed, [500, 500, 0]);
}

#[test]
fn processes_that_are_spared() {
    let (one, two, spared) = (Worker::start(), Worker::start(), Worker::start());
    let injector = start(&["--not-pid", &spared.pid_arg()]);
    let failed = [&one, &two, &spared].map(|worker| worker.run(SLAB).failed);
    injector.stop();
    assert_eq!(failed, [500, 500, 0]);
}

/// The workqueue's thread is the kernel's own.
#[test]
fn kernel_threads() {
    let worker = Worker::start();
    for (which, expected) in [("only", (0, 500)), ("exclude", (500, 0))] {
        let injector = start(&["--kthreads", which]);
        let task = worker.run(SLAB).failed;
        let kthread = worker.run(&format!("{SLAB} from=workqueue")).failed;
        injector.stop();
        assert_eq!((task, kthread), expected, "--kthreads {which}");
    }
}

#[test]
fn contexts() {
    let worker = Worker::start();
    let all = ["task", "softirq", "hardirq"];
    for (contexts, expected) in [
        ("task", [200, 0, 0]),
        ("softirq", [0, 200, 0]),
        ("hardirq", [0, 0, 200]),
        ("softirq,hardirq", [0, 200, 200]),
        ("task,softirq,hardirq,nmi", [200, 200, 200]),
    ] {
        let injector = start(&["--context", contexts]);
        let failed = all.map(|from| worker.run(&format!("kind=slab gfp=ATOMIC from={from} count=200")).failed);
        injector.stop();
        assert_eq!(failed, expected, "--context {contexts}");
    }
    // Without a target and without the option, all of them.
    let injector = start(&[]);
    let failed = all.map(|from| worker.run(&format!("kind=slab gfp=ATOMIC from={from} count=200")).failed);
    injector.stop();
    assert_eq!(failed, [200, 200, 200]);
}

/// A softirq on top of the task that a filter names is not that task's.
#[test]
fn a_softirq_on_top_of_the_task_is_a_bystander() {
    let worker = called(c"victim");
    for filter in [&["--comm", "victim"][..], &["--kthreads", "exclude"]] {
        let injector = start(filter);
        let softirq = worker.run("kind=slab gfp=ATOMIC from=softirq count=200");
        let task = worker.run("kind=slab gfp=ATOMIC count=200");
        let report = injector.stop();
        assert_eq!((softirq.pid, softirq.failed, task.failed), (worker.pid().into(), 0, 200), "{filter:?}");
        assert!(report.hook("slab").get("bystander") >= 200, "{}", report.summary);
    }
}

/// A shell that waits for a line, then has its child, and that child's child, ask the module.
fn family() -> Child {
    let ask = format!("echo kind=slab count=100 >{}", module::RUN);
    let script = format!("read line; sh -c 'true; sh -c \"{ask}; true\"; true'; {ask}");
    let child = Command::new("/bin/sh").args(["-c", &script]).stdin(Stdio::piped()).spawn();
    child.unwrap_or_else(|error| panic!("sh: {error}"))
}

fn go(child: &mut Child) {
    child.stdin.take().expect("asked for").write_all(b"go\n").expect("it waits");
    assert!(child.wait().expect("it ends").success());
}

#[test]
fn children_are_followed_if_asked_for() {
    module::load();
    for (follow, expected) in [(true, 200), (false, 100)] {
        let mut parent = family();
        let pid = parent.id().to_string();
        let mut arguments = vec!["--pid", &pid];
        arguments.extend(follow.then_some("--follow"));
        let bystander = Worker::start();
        let injector = start(&arguments);
        go(&mut parent);
        let spared = bystander.run(SLAB).failed;
        let report = injector.finish_well();
        assert_eq!((report.total("failures"), spared, report.end()), (expected, 0, "target-gone"), "{follow}");
        let mut pids: Vec<u64> = report.failures.iter().filter_map(|failure| failure["pid"].as_u64()).collect();
        pids.dedup();
        assert_eq!(pids.len(), if follow { 2 } else { 1 }, "the shell, and its grandchild: {pids:?}");
        report.assert_accounts_with_lines();
    }
}

/// A run that follows goes on as long as someone of the family lives.
#[test]
fn a_child_that_outlives_its_parent_is_still_a_target() {
    module::load();
    let flag = std::env::temp_dir().join("injector-test-orphan");
    let _ = fs::remove_file(&flag);
    let ask = format!("echo kind=slab count=100 >{}", module::RUN);
    let flag_name = flag.display();
    let script = format!("read line; (until [ -e {flag_name} ]; do sleep 0.1; done; {ask}) & exit 0");
    let mut parent = Command::new("/bin/sh").args(["-c", &script]).stdin(Stdio::piped()).spawn().expect("sh");
    let pid = parent.id().to_string();
    let injector = start(&["--pid", &pid, "--follow"]);
    go(&mut parent);
    std::thread::sleep(Duration::from_millis(700));
    fs::write(&flag, "").expect("it can be written");
    let began = Instant::now();
    let report = injector.finish_well();
    assert_eq!((report.total("failures"), report.end()), (100, "target-gone"), "{:?}", began.elapsed());
}

#[test]
fn what_makes_no_sense_is_refused() {
    let worker = Worker::start();
    let pid = worker.pid_arg();
    refused(&["--pid", &pid, "--context", "softirq"], 2, &["--context"]);
    refused(&["--follow", "--prob", "0.1"], 2, &["--follow", "--pid"]);
    refused(&["--prob", "0.1", "--comm", "longer-than-any-name"], 2, &["--comm", "15"]);
    refused(&["--prob", "0.1", "--context", "irq"], 2, &["--context", "softirq"]);
}
