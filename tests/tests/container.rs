//! Containers as targets: by their PID namespace and by their cgroup.

use injector_tests::worker::{Options, PidNamespace};
use injector_tests::{Cgroup, Injector, Worker, refused, shell};

const SLAB: &str = "kind=slab count=5000";

fn in_namespace(pid_namespace: PidNamespace) -> Worker {
    Worker::start_with(Options { pid_namespace, ..Options::default() })
}

fn failed(arguments: &[&str], workers: &[&Worker]) -> Vec<u64> {
    let injector = Injector::start(&[arguments, &["--quiet"]].concat());
    let failed = workers.iter().map(|worker| worker.run(SLAB).failed).collect();
    let report = injector.stop();
    report.assert_accounts();
    failed
}

/// The id of a process' only child.
fn child_of(pid: u32) -> u32 {
    let parent = format!("PPid:\t{pid}");
    let processes = std::fs::read_dir("/proc").expect("/proc").flatten();
    let mut ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let is_child = |id: &u32| {
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
        status.lines().any(|line| line == parent)
    };
    ids.find(is_child).unwrap_or_else(|| panic!("{pid} has no child"))
}

#[test]
fn a_pid_namespace_is_hit_with_those_inside_of_it_and_neighbours_never() {
    let nested = in_namespace(PidNamespace::Nested);
    let outer = in_namespace(PidNamespace::Of(nested.pid()));
    let other = in_namespace(PidNamespace::New);
    let outside = Worker::start();
    let all = [&nested, &outer, &other, &outside];
    let inner = format!("/proc/{}/ns/pid", child_of(nested.pid()));
    assert_eq!(failed(&["--pidns", &nested.pid_arg()], &all), [5000, 5000, 0, 0]);
    assert_eq!(failed(&["--pidns", &inner], &all), [5000, 0, 0, 0]);
    assert_eq!(failed(&["--pidns", &inner, "--pidns", &other.pid_arg()], &all), [5000, 0, 5000, 0]);
    // Targets of different kinds: any of them.
    assert_eq!(failed(&["--pidns", &other.pid_arg(), "--pid", &outside.pid_arg()], &all), [0, 0, 5000, 5000]);
    // The initial one has all.
    let own = std::process::id().to_string();
    assert_eq!(failed(&["--pidns", &own, "--stack", "injector_test_loop"], &all), [5000; 4]);
}

#[test]
fn what_joins_a_pid_namespace_later_is_hit() {
    let first = in_namespace(PidNamespace::New);
    let injector = Injector::start(&["--pidns", &first.pid_arg(), "--hook", "slab", "--stack", "injector_test_loop"]);
    let later = in_namespace(PidNamespace::Of(first.pid()));
    let outside = Worker::start();
    let counts = [&first, &later, &outside].map(|worker| worker.run("kind=slab count=100").failed);
    let report = injector.stop();
    assert_eq!(counts, [100, 100, 0]);
    // Its id is that of the host.
    let pids: Vec<_> = report.failures.iter().filter_map(|failure| failure["pid"].as_u64()).collect();
    assert!(pids.contains(&first.pid().into()) && pids.contains(&later.pid().into()), "{pids:?}");
}

#[test]
fn a_pid_namespace_that_ends_ends_the_run_in_order() {
    let first = in_namespace(PidNamespace::New);
    let injector = Injector::start(&["--pidns", &first.pid_arg(), "--quiet"]);
    let outcome = first.run(SLAB);
    let pid = first.pid_arg();
    first.end();
    let finished = injector.finish();
    assert!(finished.status.success(), "{}\n{}", finished.status, finished.stderr);
    assert_eq!((finished.report.end(), outcome.failed), ("target-gone", 5000));
    assert!(finished.stderr.contains(&format!("PID namespace {pid} has ended")), "{}", finished.stderr);
}

#[test]
fn what_is_no_pid_namespace_is_refused() {
    refused(&["--pidns", "2147483647"], 2, &["there is no process 2147483647"]);
    refused(&["--pidns", "/proc/self/ns/net"], 2, &["/proc/self/ns/net is not the file of a PID namespace"]);
    refused(&["--pidns", "/proc/cpuinfo"], 2, &["/proc/cpuinfo is not the file of a PID namespace"]);
    refused(&["--pidns", "nginx"], 2, &["`nginx` is neither a process id nor a path"]);
}

fn scope(id: &str) -> Cgroup {
    Cgroup::new(&format!("docker-{id:0<64}.scope"))
}

#[test]
fn a_container_is_found_by_its_cgroup() {
    let (one, two) = (scope("3f2a9c"), scope("3f2a7d"));
    let inside = Cgroup::new(&format!("docker-{:0<64}.scope/init.scope", "3f2a9c"));
    let workers = [Worker::start(), Worker::start(), Worker::start(), Worker::start()];
    for (worker, cgroup) in workers.iter().zip([&one, &inside, &two]) {
        cgroup.add(worker.pid());
    }
    let all = workers.each_ref();
    assert_eq!(failed(&["--container", "3f2a9"], &all), [5000, 5000, 0, 0]);
    assert_eq!(failed(&["--container", "docker://3f2a7d"], &all), [0, 0, 5000, 0]);
    assert_eq!(failed(&["--container", "3f2a9c", "--pid", &workers[3].pid_arg()], &all), [5000, 5000, 0, 5000]);
    refused(
        &["--container", "3f2a"],
        2,
        &["--container 3f2a could be 2 containers", "docker-3f2a7d00", "docker-3f2a9c00", "write more of the id"],
    );
    refused(&["--container", "3f2b9c"], 2, &["no container `3f2b9c`", "/sys/fs/cgroup; did you mean 3f2a9c000000"]);
    refused(&["--container", "web"], 2, &["no container `web`", "docker inspect"]);
    refused(&["--container", "3f2"], 2, &["`3f2` is too short"]);
    workers.into_iter().for_each(Worker::end);
    [inside, one, two].iter().for_each(Cgroup::remove);
}

/// A copy of unshare(1) is in the guest's busybox. The shell stays the first process: the injector is a guest's init there.
#[test]
fn check_tells_a_container_by_its_namespaces() {
    let check = |namespaces: &str| {
        let script = format!("unshare {namespaces} -f sh -c 'mount -t proc proc /proc && injector check; exit $?'");
        let output = shell::output("/bin/sh", &["-c", &script], std::time::Duration::from_secs(300));
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (code, text) = check("-m -p");
    assert_eq!(code, Some(3), "{text}");
    let line = text.lines().find(|line| line.contains("pid namespace")).unwrap_or_else(|| panic!("{text}"));
    assert!(line.starts_with("missing") && line.contains("is not the initial one"), "{text}");
    assert!(text.contains("--pid=host"), "{text}");
}
