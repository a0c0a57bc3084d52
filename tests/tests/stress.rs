//! What a run meets on a machine that is not at rest. Short in the default tests; `INJECTOR_STRESS=N` makes N times the rounds
//! (docs/reliability.md has the figures).

use std::{
    fs,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use injector_tests::{Cgroup, Injector, Worker, bpf, daemon, hooks_module, place, shell};

/// How often, in multiples of the short run.
fn times() -> u64 {
    std::env::var("INJECTOR_STRESS").ok().map_or(1, |times| times.parse().expect("INJECTOR_STRESS is a number"))
}

/// xorshift64; the seed is printed.
struct Chance(u64);

impl Chance {
    fn new() -> Self {
        let seed = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_nanos() as u64 | 1;
        println!("seed {seed}");
        Self(seed)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit.max(1)
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len() as u64) as usize]
    }
}

/// Does something again and again in a thread of its own, until this is dropped.
struct Meanwhile<'scope> {
    stop: std::sync::Arc<AtomicBool>,
    count: std::sync::Arc<AtomicU64>,
    thread: Option<thread::ScopedJoinHandle<'scope, ()>>,
}

impl<'scope> Meanwhile<'scope> {
    fn start<'env>(scope: &'scope thread::Scope<'scope, 'env>, mut what: impl FnMut() + Send + 'scope) -> Self {
        let stop = std::sync::Arc::new(AtomicBool::new(false));
        let count = std::sync::Arc::new(AtomicU64::new(0));
        let (stopped, counted) = (stop.clone(), count.clone());
        let thread = scope.spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                what();
                counted.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self { stop, count, thread: Some(thread) }
    }

    /// Ends it; how often it was done.
    fn end(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().expect("not ended yet").join().expect("it goes well");
        self.count.load(Ordering::Relaxed)
    }
}

impl Drop for Meanwhile<'_> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// All kinds of runs are killed at random moments: nothing stays in the kernel, and allocations succeed again.
#[test]
fn killed_runs_of_every_kind_leave_nothing() {
    let worker = Worker::start();
    let pid = worker.pid_arg();
    let cgroup = Cgroup::new("injector-stress");
    let kinds: [&[&str]; 9] = [
        &["--pid", &pid],
        &["--pid", &pid, "--hook", "slab,page,filemap", "--backend", "kprobe"],
        &["--pid", &pid, "--hook", "slab,page,vmalloc,percpu", "--backend", "module"],
        &["--pid", &pid, "--stack", "injector_test_allocate", "--outcome"],
        &["--cgroup", cgroup.arg(), "--prob", "0.5"],
        &["--all", "--gfp", "NOFS", "--order-lt", "4", "--prob", "0.001"],
        &["--pid", &pid, "--metrics", "127.0.0.1:0"],
        // Nothing fails in the command, which would end the run before it is killed.
        &["--stack", "injector_test_allocate", "--", "sleep", "3"],
        &["--pid", &pid, "--prob", "0.5", "--dry-run"],
    ];
    let mut chance = Chance::new();
    let first = Injector::start(kinds[2]);
    let span = first.armed_after.mul_f64(1.5);
    first.kill();
    let (mut loaded, mut slowest) = (0, Duration::ZERO);
    let rounds = 12 * times();
    for round in 0..rounds {
        let kind = chance.pick(&kinds);
        let injector = Injector::spawn(kind);
        if round % 3 == 0 {
            worker.send("kind=slab count=200000");
        }
        let moment = Duration::from_micros(chance.below(span.as_micros() as u64));
        thread::sleep(moment);
        loaded += u64::from(!bpf::ours().is_empty());
        injector.kill();
        let when = format!("round {round}, {kind:?} killed after {moment:?}");
        slowest = slowest.max(bpf::gone_within(Duration::from_secs(2), &when));
        if round % 3 == 0 {
            worker.receive();
        }
        for kind in ["slab", "page"] {
            assert_eq!(worker.run(&format!("kind={kind} count=200")).failed, 0, "{when}");
        }
    }
    hooks_module::unload();
    println!("{rounds} kills, {loaded} with programs loaded; gone after {slowest:?} at most");
    assert!(loaded > 0, "none of {rounds} had anything loaded: the moments are chosen badly");
}

/// A sweep is killed at random moments: no task, no program, and the journal can be resumed to its end.
#[test]
fn a_sweep_killed_at_random_moments_goes_on() {
    let mut chance = Chance::new();
    let journal = daemon::scratch("stress.jsonl");
    let _ = fs::remove_file(&journal);
    let path = journal.to_str().expect("UTF-8");
    let workload = "mkdir /tmp/stress-s && echo text >/tmp/stress-s/a && rm -r /tmp/stress-s";
    let cleanup = "rm -rf /tmp/stress-s";
    let options = ["--no-kthreads", "--leaks", "off", "--cleanup", cleanup, "--journal", path];
    let mut kills = 0;
    for round in 0..2 * times() {
        let resume: &[&str] = if journal.is_file() { &["--resume"] } else { &[] };
        let arguments = [&["sweep"], &options[..], resume, &["--", "sh", "-c", workload]].concat();
        let mut command = Command::new(place::injector());
        command.args(&arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        let mut child = command.spawn().expect("the injector starts");
        let moment = Duration::from_millis(500 + chance.below(6000));
        if shell::wait(&mut child, moment).is_some() {
            // It came to its end: from the beginning.
            fs::remove_file(&journal).expect("it wrote one");
            continue;
        }
        child.kill().expect("it is alive");
        child.wait().expect("it was");
        kills += 1;
        bpf::gone_within(Duration::from_secs(2), &format!("round {round}, a sweep killed after {moment:?}"));
        no_task_is("/tmp/stress-s");
    }
    let resume: &[&str] = if journal.is_file() { &["--resume"] } else { &[] };
    let last = [&["sweep"], &options[..], resume, &["--", "sh", "-c", workload]].concat();
    let output = shell::output(daemon::INJECTOR, &last, Duration::from_secs(300));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(matches!(output.status.code(), Some(0 | 1)), "after {kills} kills: {}\n{said}", output.status);
    println!("{kills} kills of a sweep");
}

/// No process has this in its command line, not even one that is stopped.
fn no_task_is(word: &str) {
    let start = Instant::now();
    loop {
        let entries = fs::read_dir("/proc").expect("proc").flatten();
        let found: Vec<String> = entries
            .filter(|entry| entry.file_name().to_string_lossy().bytes().all(|byte| byte.is_ascii_digit()))
            .filter_map(|entry| fs::read_to_string(entry.path().join("cmdline")).ok())
            .filter(|line| line.contains(word))
            .collect();
        if found.is_empty() {
            return;
        }
        assert!(start.elapsed() < Duration::from_secs(5), "still there: {found:?}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// CPUs, modules, cgroups and processes come and go under an armed run: each call of the target fails, nobody else's, and the
/// books balance.
#[test]
fn the_machine_changes_under_a_run() {
    let worker = Worker::on_cpu(0);
    let bystander = Worker::on_cpu(0);
    let rounds = 8 * times();
    let cgroup = Cgroup::new("injector-stress-parent");
    cgroup.add(worker.pid());
    let by_pid = ["--pid", &worker.pid_arg(), "--quiet"];
    let by_cgroup = ["--cgroup", cgroup.arg(), "--hook", "slab,page", "--quiet"];
    for arguments in [&by_pid[..], &by_cgroup[..]] {
        let injector = Injector::start(arguments);
        thread::scope(|scope| {
            let cpus = Path::new("/sys/devices/system/cpu/cpu1/online");
            let cpu = Meanwhile::start(scope, move || {
                for state in ["0", "1"] {
                    fs::write(cpus, state).unwrap_or_else(|e| panic!("{}: {state}: {e}", cpus.display()));
                }
            });
            let mut number = 0;
            let groups = Meanwhile::start(scope, move || {
                number += 1;
                drop(Cgroup::new(&format!("injector-stress-{number}")));
            });
            let processes = Meanwhile::start(scope, || {
                let status = Command::new("/bin/true").status();
                assert!(status.is_ok_and(|status| status.success()));
            });
            let (mut calls, mut failed, mut others) = (0, 0, 0);
            for _ in 0..rounds {
                let outcome = worker.run("kind=slab count=2000");
                (calls, failed) = (calls + outcome.calls, failed + outcome.failed);
                others += bystander.run("kind=slab count=500").failed;
            }
            assert_eq!((failed, others), (calls, 0), "{arguments:?}");
            let done = [cpu, groups, processes].map(Meanwhile::end);
            println!("{arguments:?}: {calls} calls failed; CPU, cgroups, processes came and went {done:?} times");
            assert!(done.iter().all(|count| *count > 0), "{done:?}");
        });
        injector.stop().assert_accounts();
    }
}

/// The wall clock jumps by a day, back and forth: the run neither ends nor goes on too long.
#[test]
fn the_clock_jumps() {
    let worker = Worker::start();
    let injector = Injector::start(&["--pid", &worker.pid_arg(), "--ttl", "2s", "--quiet"]);
    let jump = |seconds: i64| {
        let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: both get the time on this stack.
        unsafe {
            libc::clock_gettime(libc::CLOCK_REALTIME, &raw mut now);
            now.tv_sec += seconds;
            assert_eq!(libc::clock_settime(libc::CLOCK_REALTIME, &raw const now), 0);
        }
    };
    for _ in 0..times() {
        for seconds in [86_400, -86_400] {
            jump(seconds);
            let start = Instant::now();
            while start.elapsed() < Duration::from_millis(1200) {
                assert_eq!(worker.run("kind=slab count=500").failed, 500, "after a jump by {seconds} s");
            }
        }
    }
    injector.stop().assert_accounts();
}

/// The kernel kills the daemon for its memory: nothing stays.
#[test]
fn out_of_memory_the_daemon_is_killed() {
    let worker = Worker::start();
    fs::write(injector_tests::cgroup::root().join("cgroup.subtree_control"), "+memory")
        .expect("has a memory controller");
    for _ in 0..times() {
        let cgroup = Cgroup::new("injector-stress-oom");
        let injector = Injector::start(&["--pid", &worker.pid_arg(), "--hook", "slab"]);
        cgroup.add(injector.pid());
        worker.send("kind=slab count=300000");
        fs::write(cgroup.path().join("memory.max"), "1M").expect("a limit");
        let killed = || {
            let events = fs::read_to_string(cgroup.path().join("memory.events")).expect("events");
            events.lines().any(|line| line.strip_prefix("oom_kill ").is_some_and(|count| count != "0"))
        };
        let start = Instant::now();
        while !killed() {
            assert!(start.elapsed() < Duration::from_secs(60), "the daemon lives in 1 MiB");
            thread::sleep(Duration::from_millis(20));
        }
        injector.kill();
        bpf::gone_within(Duration::from_secs(2), "killed for its memory");
        worker.receive();
        assert_eq!(worker.run("kind=slab count=1000").failed, 0);
        cgroup.remove();
    }
}

/// Many runs at once: each fails its own target, exactly.
#[test]
fn many_runs_at_once() {
    let count = (6 * times()).min(100) as usize;
    let workers: Vec<Worker> = (0..count).map(|_| Worker::start()).collect();
    let runs: Vec<Injector> = workers
        .iter()
        .enumerate()
        .map(|(i, worker)| {
            let hook = if i % 2 == 0 { "slab" } else { "page" };
            Injector::start(&["--pid", &worker.pid_arg(), "--hook", hook, "--quiet"])
        })
        .collect();
    for (i, worker) in workers.iter().enumerate() {
        let (slab, page) = (worker.run("kind=slab count=100").failed, worker.run("kind=page count=100").failed);
        assert_eq!((slab, page), if i % 2 == 0 { (100, 0) } else { (0, 100) }, "run {i}");
    }
    for injector in &runs {
        injector.signal(libc::SIGINT);
    }
    for injector in runs {
        let finished = injector.finish_unchecked();
        assert_eq!(finished.report.total("failures"), 100, "{}", finished.stderr);
    }
    bpf::gone_within(Duration::from_secs(2), "after all of them");
    println!("{count} runs at once");
}

/// A file system of so many KiB.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn new(kilobytes: u64) -> Self {
        let path = PathBuf::from("/tmp/stress-disk");
        fs::create_dir_all(&path).expect("a directory");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={kilobytes}k"), "tmpfs"])
            .arg(&path)
            .status();
        assert!(mounted.is_ok_and(|status| status.success()));
        Self(path)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

/// The disk is full at some point of an output or a journal: exit code 74, nothing attached, and what was written can be read.
#[test]
fn the_disk_is_full() {
    let worker = Worker::start();
    let mut chance = Chance::new();
    let mut full = [0, 0];
    for _ in 0..2 * times() {
        let kilobytes = 8 + 4 * chance.below(60);
        let disk = SmallDisk::new(kilobytes);
        let output = disk.0.join("run.jsonl");
        let arguments = ["--pid", &worker.pid_arg(), "--hook", "slab", "--times", "20000", "--format", "json", "-o"];
        let mut child = injector(&arguments, &output);
        let start = Instant::now();
        while child.try_wait().expect("a child").is_none() {
            worker.run("kind=slab count=2000");
            assert!(start.elapsed() < Duration::from_secs(120), "a run on a disk of {kilobytes} KiB does not end");
        }
        let code = child.wait().expect("it has ended").code();
        full[0] += u32::from(code == Some(74));
        assert_eq!(code, Some(74), "a run on a disk of {kilobytes} KiB");
        bpf::gone_within(Duration::from_secs(2), "after a full disk");
        assert_eq!(worker.run("kind=slab count=1000").failed, 0);
    }
    for _ in 0..2 * times() {
        let kilobytes = 8 + 4 * chance.below(100);
        let disk = SmallDisk::new(kilobytes);
        let journal = disk.0.join("sweep.jsonl");
        let path = journal.to_str().expect("UTF-8");
        let workload = "mkdir /tmp/stress-f && rm -r /tmp/stress-f";
        let sweep =
            ["sweep", "--no-kthreads", "--leaks", "off", "--cleanup", "rm -rf /tmp/stress-f", "--journal", path];
        let arguments = [&sweep[..], &["--", "sh", "-c", workload]].concat();
        let output = shell::output(daemon::INJECTOR, &arguments, Duration::from_secs(300));
        let said = String::from_utf8_lossy(&output.stderr);
        let code = output.status.code();
        full[1] += u32::from(code == Some(74));
        assert!(matches!(code, Some(0 | 1 | 74)), "{kilobytes} KiB: {}\n{said}", output.status);
        bpf::gone_within(Duration::from_secs(2), "after a full disk");
        no_task_is("/tmp/stress-f");
        if fs::metadata(&journal).is_ok_and(|file| file.len() > 0) {
            let report = shell::output(daemon::INJECTOR, &["report", path], Duration::from_secs(60));
            let said = String::from_utf8_lossy(&report.stderr);
            assert!(matches!(report.status.code(), Some(0 | 1 | 2 | 5)), "{kilobytes} KiB: {}\n{said}", report.status);
        }
    }
    println!("the disk was full under {} runs and {} sweeps", full[0], full[1]);
}

fn injector(arguments: &[&str], output: &Path) -> Child {
    let mut command = Command::new(place::injector());
    command.args(arguments).arg(output).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("the injector starts")
}

/// Modules are loaded and unloaded while a run looks at their functions.
#[test]
fn modules_come_and_go() {
    let worker = Worker::start();
    let injector = Injector::start(&["--pid", &worker.pid_arg(), "--stack", "injector_test_allocate", "--quiet"]);
    let rounds = 3 * times();
    let succeeds = |program: &str, argument: &str| {
        let status = Command::new(program).arg(argument).status().unwrap_or_else(|e| panic!("{program}: {e}"));
        assert!(status.success(), "{program} {argument}: {status}");
    };
    for round in 0..rounds {
        succeeds("insmod", "/lib/modules/injector_defects.ko");
        assert_eq!(worker.run("kind=slab count=200").failed, 200, "round {round}");
        succeeds("rmmod", "injector_defects");
    }
    injector.stop().assert_accounts();
}

/// A run does not grow.
#[test]
fn memory_does_not_grow() {
    let worker = Worker::start();
    let injector = Injector::start(&["--pid", &worker.pid_arg(), "--hook", "slab", "--quiet"]);
    let resident = || {
        let status = fs::read_to_string(format!("/proc/{}/status", injector.pid())).expect("it lives");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a size").trim().to_owned();
        line.trim_end_matches(" kB").parse::<u64>().expect("a number")
    };
    let work = |limit: Duration| {
        let start = Instant::now();
        while start.elapsed() < limit {
            worker.run("kind=slab count=5000");
        }
    };
    work(Duration::from_secs(3));
    let before = resident();
    work(Duration::from_secs(5).saturating_mul(u32::try_from(times()).expect("a small number")));
    let after = resident();
    println!("{before} KiB resident at first, {after} KiB at the end");
    assert!(after <= before + before / 20 + 256, "{before} KiB grew to {after} KiB");
    injector.stop().assert_accounts();
}
