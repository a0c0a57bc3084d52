//! The cost of a hooked call above the unhooked kernel: of the injector, of less than which nothing is to be had, and of peers.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use injector::kernel::KernelFiles;
use injector::kernel::btf::{Btf, Wanted};
use injector_tests::small_probe::ModuleHooks;
use injector_tests::{Cgroup, Injector, RunFile, SmallProbe, SmallProgram, Worker, hooks_module};
use serde_json::{Value, json};

use crate::clock::Clock;
use crate::{BACKENDS, peers, wanted};

/// One hook: how the module calls it, and how the peers come to it.
pub struct Hook {
    pub name: &'static str,
    pub function: &'static str,
    request: &'static str,
    /// The kernel's own injector at this place: its directory in debugfs, and what it needs told besides.
    own: (&'static str, &'static [(&'static str, &'static str)]),
}

/// Those that are measured.
pub const HOOKS: [Hook; 2] = [
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

impl Hook {
    /// Puts a program on it.
    pub fn attach(&self, backend: &str, program: SmallProgram) -> SmallProbe {
        match backend {
            "kprobe" => SmallProbe::attach(self.function, program),
            _ if is_module(backend) => SmallProbe::attach_module(self.name, program),
            _ => SmallProbe::attach_fmod_ret(function_id(self.function), program),
        }
    }
}

/// By the module, as on kernels without functions by which they ask themselves.
const ENTRIES: &str = "entries";

fn is_module(backend: &str) -> bool {
    matches!(backend, ENTRIES | "module")
}

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
pub struct Bench<'a> {
    pub hook: &'a Hook,
    clock: Clock,
    run: RunFile,
    /// A process that does nothing, which runs are for that are not for this one.
    pub other: Worker,
    cgroup: Cgroup,
    unhooked: f64,
    rows: Vec<Value>,
}

impl Bench<'_> {
    /// A call's cost; and how many of a measurement's calls failed.
    pub fn measure(&self) -> (f64, u64) {
        self.clock.measure(&self.run, self.hook.request)
    }

    /// Takes a row down; returns the cost above the unhooked kernel.
    pub fn row(&mut self, by: &str, what: &str, empty: Option<f64>, cost: f64) -> f64 {
        let above = cost - self.unhooked;
        let of_empty = empty.map(|empty| (above / empty * 100.0).round() / 100.0);
        let mut row = json!({"hook": self.hook.name, "by": by, "what": what, "of_empty": of_empty});
        row[self.clock.per_call()] = self.clock.rounded(above);
        eprintln!("{row}");
        self.rows.push(row);
        above
    }

    /// The module as it stays loaded for what follows, while no program is attached.
    fn idle_module(&mut self, backend: &str) {
        hooks_module::unload();
        hooks_module::load(if backend == ENTRIES { "entries=1" } else { "" });
        let loaded = self.measure().0;
        self.row(backend, "module loaded, nothing hooked", None, loaded);
        let hooks = ModuleHooks::of(self.hook.name);
        let hooked = self.measure().0;
        drop(hooks);
        self.row(backend, "hooked, no program", None, hooked);
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
            let option = if backend == ENTRIES { "module" } else { backend };
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).chain(["--backend", option]).collect();
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
        let option = if backend == ENTRIES { "module" } else { backend };
        for (what, dry, fails) in [
            ("matching, dry run: event, stack, histogram", true, false),
            ("failing each call: event, stack, histogram", false, true),
        ] {
            if !wanted(what) {
                continue;
            }
            let mut arguments =
                vec!["--pid", &me, "--prob", "1", "--quiet", "--hook", self.hook.name, "--backend", option];
            arguments.extend(["--stack", "injector_test_*"]);
            arguments.extend(dry.then_some("--dry-run"));
            let injector = Injector::start(&arguments);
            let (cost, failed) = self.measure();
            let report = injector.stop();
            assert!(report.total("failures") >= self.clock.calls() && (failed > 0) == fails, "{what}");
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
        if !directory.exists() {
            eprintln!("no {}: its rows are left out", directory.display());
            return;
        }
        let set = |name: &str, value: &str| {
            let file = directory.join(name);
            fs::write(&file, value).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        };
        for (name, value) in settings {
            set(name, value);
        }
        set("times", "-1");
        set("verbose", "0");
        set("task-filter", "Y");
        set("probability", "100");
        let not_marked = self.measure().0;
        // What is marked can't open a file any more.
        let marks =
            File::options().write(true).open("/proc/self/make-it-fail").expect("the kernel has fault injection");
        let mark = |value: &str| marks.write_all_at(value.as_bytes(), 0).expect("a mark needs no memory");
        mark("1");
        let (failing, failed) = self.measure();
        mark("0");
        set("probability", "0");
        set("task-filter", "N");
        assert!(failed > 0, "the kernel's own injector fails this task");
        self.row("kernel", &format!("{}, task filter, no match", self.hook.own.0), None, not_marked);
        self.row("kernel", &format!("{}, failing each call, no event", self.hook.own.0), None, failing);
    }
}

/// All rows.
pub fn calls(clock: Clock) -> Vec<Value> {
    let mut rows = Vec::new();
    for hook in &HOOKS {
        let run = RunFile::open();
        let cgroup = Cgroup::new(&format!("injector-bench-{}", hook.name));
        let mut bench = Bench { hook, clock, run, other: Worker::start(), cgroup, unhooked: 0.0, rows: Vec::new() };
        bench.unhooked = bench.measure().0;
        for backend in BACKENDS.into_iter().chain(["module", ENTRIES]) {
            if is_module(backend) {
                if !hooks_module::file().exists() {
                    eprintln!("no {}: its rows are left out", hooks_module::file().display());
                    continue;
                }
                bench.idle_module(backend);
            }
            let cost = |program| {
                let _probe = hook.attach(backend, program);
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
                peers::bpftrace(&mut bench, empty);
                peers::bcc(&mut bench, empty);
            }
        }
        hooks_module::unload();
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
