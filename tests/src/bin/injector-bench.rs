//! What the injector costs, measured inside a guest: `cargo xtask bench` boots it and prints the tables.
//!
//! `injector-bench calls`: instructions per hooked call above the unhooked kernel, on a machine whose clock counts
//! instructions (QEMU -icount). `injector-bench workload`: a file-system workload with and without it, likewise.
//! `injector-bench daemon`: start to armed, memory, size, symbols.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use injector::events::symbolize::name;
use injector::kernel::KernelFiles;
use injector::kernel::btf::{Btf, Wanted};
use injector::kernel::kallsyms::Kallsyms;
use injector_tests::{EmptyProbe, Injector, Outcome, RunFile, SmallProgram, Worker};
use serde_json::{Value, json};

/// Allocations per measurement: the same number of instructions every time, so few are enough.
const CALLS: u64 = 20_000;
/// Warms caches and slabs, so that no measurement meets the allocator's slow path alone.
const WARM_UP: u64 = 2_000;

fn main() {
    let rows = match std::env::args().nth(1).as_deref() {
        Some("calls") => calls(),
        Some("workload") => workload(),
        Some("daemon") => daemon(),
        other => panic!("injector-bench calls|workload|daemon, not {other:?}"),
    };
    for row in rows {
        println!("{row}");
    }
}

/// Whether a row is asked for: the second argument, if there is one, must be in it.
fn wanted(what: &str) -> bool {
    std::env::args().nth(2).is_none_or(|part| what.contains(&part))
}

/// Of so many measurements the smallest counts: what else the machine does only adds.
const RUNS: usize = 3;
/// Until nothing else is going on.
const SETTLE: Duration = Duration::from_secs(4);

/// One hook: how the module calls it, and how the peers come to it.
struct Hook {
    name: &'static str,
    function: &'static str,
    request: &'static str,
    /// The kernel's own injector at this place: its directory in debugfs, and what it needs told besides.
    own: (&'static str, &'static [(&'static str, &'static str)]),
}

const HOOKS: [Hook; 2] = [
    Hook {
        name: "slab",
        function: "should_failslab",
        request: "kind=slab cache=injector_test_64 gfp=KERNEL",
        own: ("failslab", &[("ignore-gfp-wait", "N"), ("cache-filter", "N")]),
    },
    Hook {
        name: "page",
        function: "should_fail_alloc_page",
        request: "kind=page order=0 gfp=KERNEL",
        own: ("fail_page_alloc", &[("ignore-gfp-wait", "N"), ("ignore-gfp-highmem", "N"), ("min-order", "0")]),
    },
];

/// How hooks are attached.
const BACKENDS: [&str; 2] = ["kprobe", "fmod-ret"];

/// What nobody can go below.
const FLOORS: [(&str, SmallProgram); 3] = [
    ("a program that only compares the process: the floor of --pid", SmallProgram::Comparing),
    ("a program that only compares the cgroup: the floor of --cgroup", SmallProgram::ComparingCgroup),
    ("a program that only takes the stack: the floor of --stack and of failures", SmallProgram::Walking),
];

/// Every filter that there is, all of which a call of the module passes but the last: nobody is called so.
const ALL: &[&str] = &[
    "--gfp",
    "KERNEL",
    "--order",
    "0..9",
    "--size",
    "1..1M",
    "--uid",
    "0",
    "--not-pid",
    "2",
    "--kthreads",
    "exclude",
    "--context",
    "task",
    "--stack",
    "injector_test_*",
    "--caller",
    "injector_test_*",
    "--comm",
    "nobody*",
    "--prob",
    "1",
];

/// Injector runs in which no call of the module matches, so that what is measured is the way to "no".
const NOT_MATCHING: [(&str, &[&str]); 17] = [
    ("no filter, --prob 0", &["--prob", "0"]),
    ("--gfp NOFS --order-lt 4 --prob 0.01", &["--gfp", "NOFS", "--order-lt", "4", "--prob", "0.01"]),
    ("--gfp ATOMIC", &["--gfp", "ATOMIC", "--prob", "1"]),
    ("--gfp-scope raw --gfp ATOMIC", &["--gfp-scope", "raw", "--gfp", "ATOMIC", "--prob", "1"]),
    ("--order-gt 5", &["--order-gt", "5", "--prob", "1"]),
    ("--size 3", &["--size", "3", "--prob", "1"]),
    ("--cache of another name", &["--cache", "injector_test_4k", "--prob", "1"]),
    ("--pid OTHER", &["--pid", "OTHER", "--prob", "1"]),
    ("--cgroup OTHER", &["--cgroup", "OTHER", "--prob", "1"]),
    ("--comm of another name", &["--comm", "nobody*", "--prob", "1"]),
    ("--uid of another", &["--uid", "77", "--prob", "1"]),
    ("--context hardirq", &["--context", "hardirq", "--prob", "1"]),
    ("--seed 1 --prob 0: a stack walk without a filter", &["--seed", "1", "--prob", "0"]),
    ("--stack xfs_*", &["--stack", "xfs_*", "--prob", "1"]),
    (
        "--stack '*_free*' '*_show*' '*_init*': thousands of functions",
        &["--stack", "*_free*", "--stack", "*_show*", "--stack", "*_init*", "--prob", "1"],
    ),
    ("all filters, the first says no (--gfp ATOMIC)", &["--gfp", "ATOMIC", "ALL"]),
    ("all filters, the target says no (--pid OTHER)", &["--pid", "OTHER", "ALL"]),
];

/// Everything that is measured at one hook.
struct Bench<'a> {
    hook: &'a Hook,
    run: RunFile,
    other: Worker,
    cgroup: injector_tests::Cgroup,
    unhooked: f64,
    rows: Vec<Value>,
}

impl Bench<'_> {
    /// Nanoseconds, which are instructions, of a call; and how many calls failed.
    fn measure(&self) -> (f64, u64) {
        // The daemon reads the kernel's symbols in the background when it starts; on one CPU that would be measured.
        std::thread::sleep(SETTLE);
        self.run.run(&format!("{} count={WARM_UP}", self.hook.request));
        let runs = (0..RUNS).map(|_| self.run.run(&format!("{} count={CALLS}", self.hook.request)));
        let Outcome { ns, failed, .. } = runs.min_by_key(|outcome| outcome.ns).expect("some runs");
        (ns as f64 / CALLS as f64, failed)
    }

    /// Takes a row down; returns the cost above the unhooked kernel.
    fn row(&mut self, by: &str, what: &str, empty: Option<f64>, cost: f64) -> f64 {
        let above = cost - self.unhooked;
        let of_empty = empty.map(|empty| (above / empty * 100.0).round() / 100.0);
        let row = json!({"hook": self.hook.name, "by": by, "what": what, "instructions": above.round() as i64, "of_empty": of_empty});
        eprintln!("{row}");
        self.rows.push(row);
        above
    }

    /// The injector's arguments with what stands for something in them replaced.
    fn arguments(&self, words: &[&str]) -> Vec<String> {
        let replaced = words.iter().enumerate().flat_map(|(i, word)| match *word {
            "OTHER" if words[i - 1] == "--pid" => vec![self.other.pid_arg()],
            "OTHER" => vec![self.cgroup.arg().to_owned()],
            // One --gfp more would be another way to match.
            "ALL" => {
                ALL.iter().skip(if words.contains(&"--gfp") { 2 } else { 0 }).map(|&word| word.to_owned()).collect()
            }
            word => vec![word.to_owned()],
        });
        replaced.chain(["--hook", self.hook.name, "--quiet"].map(str::to_owned)).collect()
    }

    fn injector(&mut self, backend: &str, empty: f64) {
        // Page calls have no cache.
        let fits = |arguments: &[&str]| self.hook.name == "slab" || !arguments.contains(&"--cache");
        for (what, words) in NOT_MATCHING.into_iter().filter(|(_, words)| fits(words)).collect::<Vec<_>>() {
            let arguments = self.arguments(words);
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).chain(["--backend", backend]).collect();
            if !wanted(what) {
                continue;
            }
            let injector = Injector::start(&arguments);
            let (cost, failed) = self.measure();
            injector.stop();
            assert_eq!(failed, 0, "{what} must not match the module's calls");
            self.row(backend, what, Some(empty), cost);
        }
        let me = std::process::id().to_string();
        for (what, dry, fails) in [
            ("matching, dry run: event, stack, histogram", true, false),
            ("failing each call: event, stack, histogram", false, true),
        ] {
            if !wanted(what) {
                continue;
            }
            let mut arguments =
                vec!["--pid", &me, "--prob", "1", "--quiet", "--hook", self.hook.name, "--backend", backend];
            arguments.extend(["--stack", "injector_test_*"]);
            arguments.extend(dry.then_some("--dry-run"));
            let injector = Injector::start(&arguments);
            let (cost, failed) = self.measure();
            let report = injector.stop();
            assert!(report.total("failures") >= CALLS && (failed > 0) == fails, "{what}");
            self.row(backend, what, Some(empty), cost);
        }
    }

    /// The kernel's own injector: for tasks that are marked, of which this is none, and then for this one.
    fn kernels_own(&mut self) {
        if !wanted(self.hook.own.0) {
            return;
        }
        let (directory, settings) = self.hook.own;
        let directory = Path::new("/sys/kernel/debug").join(directory);
        let set = |name: &str, value: &str| {
            let file = directory.join(name);
            fs::write(&file, value).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        };
        for (name, value) in settings {
            set(name, value);
        }
        set("probability", "100");
        set("times", "-1");
        set("verbose", "0");
        set("task-filter", "Y");
        let not_marked = self.measure().0;
        fs::write("/proc/self/make-it-fail", "1").expect("the kernel has fault injection");
        let (failing, failed) = self.measure();
        fs::write("/proc/self/make-it-fail", "0").expect("as before");
        set("probability", "0");
        set("task-filter", "N");
        assert!(failed > 0, "the kernel's own injector fails this task");
        self.row("kernel", &format!("{}, task filter, no match", self.hook.own.0), None, not_marked);
        self.row("kernel", &format!("{}, failing each call, no event", self.hook.own.0), None, failing);
    }

    /// The same by bpftrace.
    fn bpftrace(&mut self, empty: f64) {
        let (me, other) = (std::process::id(), self.other.pid_arg());
        let function = self.hook.function;
        // NULL and false can't be told apart: TRUE functions return 1.
        let error = if self.hook.name == "slab" { "-12" } else { "1" };
        let nofail = if self.hook.name == "slab" { "arg1" } else { "arg0" };
        for (what, program, fails) in [
            (
                "override() with a pid predicate, no match",
                format!("kprobe:{function} /pid == {other}/ {{ override({error}); }}"),
                false,
            ),
            (
                "override() with predicates on pid and gfp, no match",
                format!("kprobe:{function} /pid == {me} && ({nofail} & 0x80000000) != 0/ {{ override({error}); }}"),
                false,
            ),
            (
                "override() and @[kstack] = count(), failing each call",
                format!("kprobe:{function} /pid == {me}/ {{ @[kstack] = count(); override({error}); }}"),
                true,
            ),
        ] {
            if !wanted(what) {
                continue;
            }
            let mut child = bpftrace(&program, function);
            let (cost, failed) = self.measure();
            // SAFETY: our own child.
            unsafe { libc::kill(child.id() as i32, libc::SIGINT) };
            child.wait().expect("a child");
            assert_eq!(failed > 0, fails, "{program}");
            self.row("bpftrace", what, Some(empty), cost);
        }
    }
}

fn calls() -> Vec<Value> {
    let mut rows = Vec::new();
    for hook in &HOOKS {
        let run = RunFile::open();
        let cgroup = injector_tests::Cgroup::new(&format!("injector-bench-{}", hook.name));
        let mut bench = Bench { hook, run, other: Worker::start(), cgroup, unhooked: 0.0, rows: Vec::new() };
        bench.unhooked = bench.measure().0;
        for backend in BACKENDS {
            let cost = |program| {
                let _probe = match backend {
                    "kprobe" => EmptyProbe::attach(hook.function, program),
                    _ => EmptyProbe::attach_fmod_ret(function_id(hook.function), program),
                };
                bench.measure().0
            };
            let empty = cost(SmallProgram::Empty);
            let floors = FLOORS.map(|(what, program)| (what, cost(program)));
            let empty = bench.row(backend, "empty program", None, empty);
            for (what, cost) in floors {
                bench.row(backend, what, Some(empty), cost);
            }
            bench.injector(backend, empty);
            if backend == "kprobe" {
                bench.bpftrace(empty);
            }
        }
        bench.kernels_own();
        rows.append(&mut bench.rows);
    }
    rows
}

/// The function's id in vmlinux' BTF.
fn function_id(function: &str) -> u32 {
    let wanted = Wanted { structs: &[], functions: &[function], enumerators: &[] };
    let types = Btf::read(&KernelFiles::default(), wanted).expect("the kernel has types");
    types.function(function).expect("and this function")
}

/// Starts bpftrace; returns when it is attached.
fn bpftrace(program: &str, function: &str) -> Child {
    const PATIENCE: Duration = Duration::from_secs(200);
    let mut child = Command::new("bpftrace")
        .args(["--unsafe", "-q", "-e", program])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the guest has bpftrace");
    let start = Instant::now();
    loop {
        // When it fails all that this process allocates, this fails too.
        let list = fs::read_to_string("/sys/kernel/debug/kprobes/list");
        if list.map_or_else(|error| error.raw_os_error() == Some(libc::ENOMEM), |list| list.contains(function)) {
            return child;
        }
        let ended = child.try_wait().expect("a child");
        assert!(ended.is_none() && start.elapsed() < PATIENCE, "bpftrace can't be attached: {program}: {ended:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// A file-system workload by itself, and beside a run that looks at every allocation and is for somebody else.
fn workload() -> Vec<Value> {
    let other = Worker::start();
    let script = |verb: &str| {
        let status = Command::new("sh").args(["/workloads/ext4.sh", verb]).stdout(Stdio::null()).status();
        assert!(status.expect("sh").success(), "ext4.sh {verb}");
    };
    script("setup");
    let run = || {
        std::thread::sleep(SETTLE);
        let start = Instant::now();
        script("run");
        start.elapsed().as_secs_f64() * 1e3
    };
    run();
    let best = |f: &dyn Fn() -> f64| (0..RUNS).map(|_| f()).fold(f64::INFINITY, f64::min);
    let plain = best(&run);
    let mut rows = vec![json!({"what": "ext4 workload, not attached", "milliseconds": plain.round() as i64})];
    for backend in BACKENDS {
        let injector = Injector::start(&["--backend", backend, "--pid", &other.pid_arg(), "--prob", "1", "--quiet"]);
        let beside = best(&run);
        let calls = injector.stop().total("calls");
        let more = (beside / plain - 1.0) * 100.0;
        rows.push(json!({"what": format!("ext4 workload, attached by {backend} for another process"),
                         "milliseconds": beside.round() as i64, "percent_more": (more * 100.0).round() / 100.0, "calls": calls}));
    }
    script("cleanup");
    rows
}

fn daemon() -> Vec<Value> {
    let mut rows = Vec::new();
    for backend in BACKENDS {
        let (mut armed, mut busy) = (Vec::new(), Vec::new());
        for _ in 0..5 {
            let arguments = ["--backend", backend, "--gfp", "NOFS", "--order-lt", "4", "--prob", "0.01"];
            let injector = Injector::start(&arguments);
            armed.push(injector.armed_after);
            busy.push(cpu_time(injector.pid()));
            injector.stop();
        }
        armed.sort();
        busy.sort();
        let milliseconds = |time: Duration| (time.as_secs_f64() * 1000.0).round() as i64;
        rows.push(json!({"what": format!("start to armed by {backend}, median of 5"), "cpu_ms": milliseconds(busy[2]),
                         "elapsed_ms": milliseconds(armed[2]), "min": milliseconds(armed[0]), "max": milliseconds(armed[4])}));
    }
    rows.push(symbols());

    let worker = Worker::start();
    let injector =
        Injector::start(&["--pid", &worker.pid_arg(), "--stack", "injector_test_*", "--prob", "1", "--quiet"]);
    let outcome = worker.run("kind=slab cache=injector_test_64 gfp=KERNEL count=200000");
    let status = fs::read_to_string(format!("/proc/{}/status", injector.pid())).expect("the daemon runs");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux says VmHWM").trim();
    let peak: f64 = peak.trim_end_matches(" kB").parse().expect("a number of kB");
    let report = injector.stop();
    worker.end();
    let seconds = outcome.ns as f64 / 1e9;
    rows.push(json!({"what": "peak RSS of the daemon after 200,000 failures", "MiB": (peak / 102.4).round() / 10.0}));
    rows.push(json!({"what": "failures per second, one CPU, as fast as the module can", "per_second": (outcome.failed as f64 / seconds).round() as i64,
                     "lost": report.total("lost")}));
    let size = fs::metadata("/usr/bin/injector").expect("the guest has it").len();
    rows.push(json!({"what": "static release binary", "MiB": (size as f64 / 104_857.6).round() / 10.0}));
    rows
}

/// What a process has used of the CPUs so far.
fn cpu_time(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    let (_, rest) = stat.rsplit_once(") ").expect("a name in parentheses");
    let fields: Vec<u64> = rest.split(' ').skip(11).take(2).map(|field| field.parse().expect("ticks")).collect();
    // SAFETY: returns a number.
    let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) } as f64;
    Duration::from_secs_f64(fields.iter().sum::<u64>() as f64 / per_second)
}

/// A thousand stacks of 20 frames by names.
fn symbols() -> Value {
    let start = Instant::now();
    let symbols = Kallsyms::read(&KernelFiles::default()).expect("kallsyms");
    let read = start.elapsed();
    let frames: Vec<u64> = ["vfs_read", "do_sys_openat2", "kmem_cache_alloc_noprof", "ksys_write"]
        .iter()
        .filter_map(|function| symbols.function(function).map(|range| range.start + 8))
        .collect();
    let start = Instant::now();
    let named: usize =
        (0..20_000).map(|i| name(Some(&symbols), frames[i % frames.len()] + (i / 1000) as u64).len()).sum();
    assert!(named > 20_000 * 8, "they have names");
    let took = start.elapsed();
    json!({"what": "1000 stacks of 20 frames by names", "milliseconds": took.as_millis() as u64,
           "after_reading_the_symbols_ms": read.as_millis() as u64})
}
