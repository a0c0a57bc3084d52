//! Targets: the target's calls fail; those of a neighbour, and of interrupts on the target's CPU, never.

use std::process::Command;
use std::time::Duration;

use injector_tests::daemon::INJECTOR;
use injector_tests::worker::Options;
use injector_tests::{Cgroup, Injector, Worker, bpf, module, run, shell};

const SLAB: &str = "kind=slab count=5000";
const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn a_pid_is_hit_and_its_neighbour_never() {
    let target = Worker::on_cpu(0);
    let neighbour = Worker::on_cpu(0);
    let injector = Injector::start(&["--pid", &target.pid_arg(), "--quiet"]);
    // At the same time on the same CPU.
    for kind in ["slab", "page"] {
        target.send(&format!("kind={kind} count=20000"));
        neighbour.send(&format!("kind={kind} count=20000"));
        let (hit, spared) = (target.receive(), neighbour.receive());
        assert_eq!((hit.failed, spared.failed), (20_000, 0), "{kind}");
    }
    let report = injector.stop();
    report.assert_accounts();
    let slab = report.hook("slab");
    assert_eq!(slab.get("matches"), 20_000, "{}", report.summary);
    // Its neighbour's are not counted; the module makes no other calls that an interrupt would.
    assert!((20_000..25_000).contains(&slab.get("calls")), "{}", report.summary);
}

#[test]
fn all_threads_of_a_pid_are_hit() {
    let target = Worker::start_with(Options { second_thread: true, ..Options::default() });
    assert_ne!(target.pid(), target.tid());
    let injector = Injector::start(&["--pid", &target.pid_arg(), "--hook", "slab"]);
    let outcome = target.run("kind=slab count=100");
    let report = injector.stop();
    assert_eq!(outcome.failed, 100);
    let failure = &report.failures[0];
    let ids = (failure["pid"].as_u64(), failure["tid"].as_u64());
    assert_eq!(ids, (Some(target.pid().into()), Some(target.tid().into())), "{failure}");
}

#[test]
fn several_pids_are_all_hit() {
    let (one, two, three) = (Worker::start(), Worker::start(), Worker::start());
    let injector = Injector::start(&["--pid", &one.pid_arg(), "--pid", &two.pid_arg(), "--quiet"]);
    let failed = [&one, &two, &three].map(|worker| worker.run(SLAB).failed);
    let report = injector.stop();
    assert_eq!(failed, [5000, 5000, 0]);
    assert!((10_000..14_000).contains(&report.hook("slab").get("calls")), "{}", report.summary);
}

/// In a softirq `current` is whoever was interrupted: here always the target.
#[test]
fn interrupts_on_top_of_the_target_are_bystanders() {
    let target = Worker::on_cpu(0);
    let injector = Injector::start(&["--pid", &target.pid_arg(), "--quiet"]);
    for from in ["softirq", "hardirq"] {
        for kind in ["slab", "page"] {
            let outcome = target.run(&format!("kind={kind} gfp=ATOMIC from={from} count=2000"));
            assert_eq!((outcome.context.as_str(), outcome.pid), (from, u64::from(target.pid())));
            assert_eq!(outcome.failed, 0, "{kind} from {from} on top of the target");
        }
    }
    let task = target.run("kind=slab gfp=ATOMIC count=2000");
    let report = injector.stop();
    assert_eq!(task.failed, 2000);
    assert!(report.hook("slab").get("bystander") >= 4000, "{}", report.summary);
    assert!(report.hook("page").get("bystander") >= 4000, "{}", report.summary);
    assert_eq!(report.hook("slab").get("matches"), 2000, "{}", report.summary);
}

/// As above, from another CPU: the target works, the neighbour has softirqs raised on the target's CPU.
#[test]
fn softirqs_on_the_cpu_of_a_busy_target_are_bystanders() {
    let target = Worker::on_cpu(0);
    let neighbour = Worker::on_cpu(1);
    let injector = Injector::start(&["--pid", &target.pid_arg(), "--quiet", "--hook", "slab"]);
    let mut on_target = 0;
    for _ in 0..20 {
        target.send("kind=slab count=20000");
        while !target.is_done() {
            let outcome = neighbour.run("kind=slab gfp=ATOMIC from=softirq cpu=0 count=100");
            assert_eq!((outcome.failed, outcome.cpu), (0, 0));
            on_target += u64::from(outcome.pid == u64::from(target.pid()));
        }
        assert_eq!(target.receive().failed, 20_000);
        if on_target > 10 {
            break;
        }
    }
    injector.stop();
    assert!(on_target > 0, "no softirq ever ran on top of the target");
}

#[test]
fn a_kernel_thread_that_works_for_the_target_is_not_it() {
    let target = Worker::start();
    let injector = Injector::start(&["--pid", &target.pid_arg(), "--quiet"]);
    let outcome = target.run("kind=slab from=workqueue count=500");
    injector.stop();
    assert_eq!(outcome.failed, 0);
    assert_ne!(outcome.pid, u64::from(target.pid()));
}

#[test]
fn a_cgroup_and_its_descendants_are_hit_and_neighbours_never() {
    let outer = Cgroup::new("injector-test-outer");
    let inner = Cgroup::new("injector-test-outer/inner");
    let sibling = Cgroup::new("injector-test-outer2");
    let workers = [Worker::start(), Worker::start(), Worker::start(), Worker::start()];
    for (worker, cgroup) in workers.iter().zip([&outer, &inner, &sibling]) {
        cgroup.add(worker.pid());
    }
    let failed = |arguments: &[&str]| {
        let injector = Injector::start(arguments);
        let failed: Vec<_> = workers.iter().map(|worker| worker.run(SLAB).failed).collect();
        let report = injector.stop();
        report.assert_accounts();
        failed
    };
    assert_eq!(failed(&["--cgroup", outer.arg(), "--quiet"]), [5000, 5000, 0, 0]);
    assert_eq!(failed(&["--cgroup", inner.arg(), "--quiet"]), [0, 5000, 0, 0]);
    assert_eq!(failed(&["--cgroup", inner.arg(), "--cgroup", sibling.arg(), "--quiet"]), [0, 5000, 5000, 0]);
    // Targets of different kinds: any of them.
    let pid = workers[3].pid_arg();
    assert_eq!(failed(&["--cgroup", sibling.arg(), "--pid", &pid, "--quiet"]), [0, 0, 5000, 5000]);
    drop(workers);
    inner.remove();
}

#[test]
fn interrupts_on_top_of_a_cgroups_task_are_bystanders() {
    let cgroup = Cgroup::new("injector-test-irq");
    let target = Worker::on_cpu(0);
    cgroup.add(target.pid());
    let injector = Injector::start(&["--cgroup", cgroup.arg(), "--hook", "slab"]);
    let softirq = target.run("kind=slab gfp=ATOMIC from=softirq count=1000");
    let hardirq = target.run("kind=slab gfp=ATOMIC from=hardirq count=1000");
    let task = target.run("kind=slab gfp=ATOMIC count=100");
    let report = injector.stop();
    assert_eq!((softirq.failed, hardirq.failed, task.failed), (0, 0, 100));
    assert!(report.failures.iter().all(|f| f["cgroup"].as_u64() == Some(cgroup.id())), "{}", report.failures[0]);
    target.end();
    cgroup.remove();
}

fn command(arguments: &[&str]) -> std::process::Output {
    shell::output(INJECTOR, arguments, LIMIT)
}

#[test]
fn the_exit_status_of_the_command_is_passed_on() {
    for (script, status) in
        [("exit 0", 0), ("exit 7", 7), ("exit 255", 255), ("kill -9 $$", 137), ("kill -TERM $$", 143)]
    {
        let output = command(&["--prob", "0", "--", "/bin/sh", "-c", script]);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{script}: {}\n{stderr}", output.status);
        assert!(bpf::ours().is_empty(), "{script}");
    }
}

#[test]
fn the_commands_output_is_untouched() {
    let text = command(&["--prob", "0", "--", "/bin/sh", "-c", "printf 'one\\ntwo'; echo three >&2"]);
    let stderr = String::from_utf8_lossy(&text.stderr);
    assert_eq!(String::from_utf8_lossy(&text.stdout), "one\ntwo", "{stderr}");
    assert!(stderr.lines().any(|line| line == "three"), "{stderr}");
    assert!(stderr.lines().any(|line| line.starts_with("injector: armed")), "{stderr}");
}

#[test]
fn the_command_gets_the_callers_stdin_and_environment() {
    let script =
        format!("echo from-stdin | NAME=value {INJECTOR} --prob 0 -q -- /bin/sh -c 'cat; echo $NAME' 2>/dev/null");
    let output = shell::output("/bin/sh", &["-c", &script], LIMIT);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "from-stdin\nvalue\n");
}

/// The command, what it starts, and nobody else; nothing of its own start either.
#[test]
fn a_command_is_hit_with_all_that_it_starts() {
    let neighbour = Worker::start();
    let request = "kind=slab count=300";
    // The inner shell is a grandchild of the injector.
    let one = format!("exec 3<>{}; echo {request} >&3; cat <&3", module::RUN);
    let script = format!("({one}); sh -c '{one}'");
    module::load();
    let arguments = ["--hook", "slab", "--stack", "injector_test_loop", "--", "/bin/sh", "-c", &script];
    let output = command(&arguments);
    let stdout = String::from_utf8_lossy(&output.stdout);
    let failed: Vec<_> = stdout.lines().map(|line| injector_tests::Outcome::parse(line).failed).collect();
    assert_eq!(failed, [300, 300], "{stdout}\n{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(neighbour.run(request).failed, 0);
}

#[test]
fn the_commands_cgroup_is_removed() {
    let cgroups = || {
        let found = shell::output("/bin/sh", &["-c", "find /sys/fs/cgroup -type d"], LIMIT);
        String::from_utf8_lossy(&found.stdout).into_owned()
    };
    let before = cgroups();
    let output = command(&["--prob", "0", "--", "/bin/sh", "-c", "cat /proc/self/cgroup"]);
    let inside = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(inside.starts_with("0::/") && inside.trim_end() != "0::/", "not a cgroup of its own: {inside}");
    // What the command leaves behind lives on elsewhere, and does not keep it.
    command(&["--prob", "0", "--", "/bin/sh", "-c", "sleep 4321 & exit 0"]);
    assert_eq!(cgroups(), before);
    let left = shell::output("/bin/sh", &["-c", "kill $(pidof sleep)"], LIMIT);
    assert!(left.status.success(), "the command's sleep is gone: {}", String::from_utf8_lossy(&left.stderr));
}

#[test]
fn a_signal_to_the_injector_ends_the_command_too() {
    let injector = Injector::start(&["--prob", "0", "--", "/bin/sleep", "1000"]);
    injector.signal(libc::SIGTERM);
    let finished = injector.finish();
    assert_eq!(finished.report.end(), "signal", "{}", finished.stderr);
    let left = shell::output("/bin/sh", &["-c", "ps | grep '[s]leep 1000'"], LIMIT);
    assert!(left.stdout.is_empty(), "{}", String::from_utf8_lossy(&left.stdout));
}

#[test]
fn a_target_that_exits_ends_the_run_in_order() {
    let target = Worker::start();
    let injector = Injector::start(&["--pid", &target.pid_arg()]);
    let outcome = target.run("kind=slab count=100");
    let pid = target.pid_arg();
    target.end();
    let finished = injector.finish();
    assert!(finished.status.success(), "{}\n{}", finished.status, finished.stderr);
    assert_eq!((finished.report.end(), outcome.failed), ("target-gone", 100));
    assert!(finished.stderr.contains(&pid), "it is not said: {}", finished.stderr);
    assert!(finished.report.hook("slab").get("failures") >= 100, "{}", finished.report.summary);
    finished.report.assert_accounts();
}

/// One of two targets gone is no reason to end.
#[test]
fn a_run_goes_on_while_one_target_is_left() {
    let (one, two) = (Worker::start(), Worker::start());
    let injector = Injector::start(&["--pid", &one.pid_arg(), "--pid", &two.pid_arg(), "--quiet"]);
    one.end();
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(two.run(SLAB).failed, 5000);
    assert_eq!(injector.stop().end(), "signal");
}

#[test]
fn a_cgroup_that_is_removed_ends_the_run_in_order() {
    let cgroup = Cgroup::new("injector-test-gone");
    let target = Worker::start();
    cgroup.add(target.pid());
    let injector = Injector::start(&["--cgroup", cgroup.arg(), "--quiet"]);
    let outcome = target.run(SLAB);
    target.end();
    cgroup.remove();
    let finished = injector.finish();
    assert!(finished.status.success(), "{}\n{}", finished.status, finished.stderr);
    assert_eq!((finished.report.end(), outcome.failed), ("target-gone", 5000));
    assert!(finished.stderr.contains("injector-test-gone"), "it is not said: {}", finished.stderr);
    finished.report.assert_accounts();
}

/// A thread id is no process id; the error names the process.
#[test]
fn a_thread_id_is_refused() {
    let target = Worker::start_with(Options { second_thread: true, ..Options::default() });
    let tid = target.tid().to_string();
    injector_tests::refused(&["--pid", &tid], 2, &[&tid, &target.pid_arg()]);
}

/// The tests' own shell works: the rest would be worthless without.
#[test]
fn a_run_without_failures_changes_nothing() {
    let finished = run(&["--prob", "0", "--quiet", "--", "/bin/sh", "-c", "ls / >/dev/null && exit 5"]);
    assert_eq!(finished.status.code(), Some(5), "{}", finished.stderr);
    assert_eq!(finished.report.summary["command_status"], 5);
    assert_eq!(finished.report.end(), "command");
    assert!(finished.report.total("matches") > 0, "{}", finished.report.summary);
    let plain = Command::new("/bin/true").status().expect("true");
    assert!(plain.success());
}

/// Nothing removes it when the injector is killed, but the next one does. One that is in use stays.
#[test]
fn a_dead_injectors_cgroup_is_removed_by_the_next() {
    let ours = || {
        let all = std::fs::read_dir(injector_tests::cgroup::root()).expect("cgroups");
        let names = all.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
        names.filter(|name| name.starts_with("injector.")).collect::<Vec<_>>()
    };
    let killed = Injector::start(&["--prob", "0", "--", "/bin/sleep", "4322"]);
    let name = format!("injector.{}", killed.pid());
    killed.kill();
    let _ = shell::output("/bin/sh", &["-c", "kill $(pidof sleep)"], LIMIT);
    assert!(ours().contains(&name), "{:?}: else this shows nothing", ours());
    let living = Injector::start(&["--prob", "0", "--", "/bin/sleep", "4323"]);
    let own = format!("injector.{}", living.pid());
    assert_eq!(ours(), std::slice::from_ref(&own));
    let other = Injector::start(&["--prob", "0", "--", "/bin/true"]);
    other.finish_unchecked();
    assert_eq!(ours(), [own], "it is locked");
    living.signal(libc::SIGTERM);
    living.finish();
    assert_eq!(ours(), Vec::<String>::new());
}
