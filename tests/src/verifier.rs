//! What the injector's programs take of the kernel's verifier, for the smallest and the largest plan that there can be.

use injector::cli::{self, Command};
use injector::kernel::kallsyms::Kallsyms;
use injector::kernel::{Facts, KernelFiles};
use injector::session::{ProgramConfig, Sites, Verified, verify};
use injector::target::Targets;
use injector_common::config::OFF;

/// Every hook, nothing but the call looked at.
const SMALL: &[&str] = &["--all", "--prob", "1"];

/// Every filter and as much of the policy as goes together, with as many values as each may have.
const LARGE: &[&str] = &[
    "--gfp",
    "KERNEL,!NOFS,!NOIO",
    "--gfp",
    "ATOMIC",
    "--gfp",
    "NOWAIT",
    "--gfp",
    "USER",
    "--gfp",
    "HIGHUSER",
    "--gfp",
    "NOFS",
    "--gfp",
    "NOIO",
    "--gfp",
    "ZERO",
    "--order",
    "0..9",
    "--size",
    "1..1M",
    "--cache",
    "*-64",
    "--comm",
    "*",
    "--uid",
    "0,1,2,3,4,5,6,7",
    "--not-pid",
    "2,3,4,5,6,7,8,9",
    "--kthreads",
    "exclude",
    "--context",
    "task",
    "--syscall",
    "openat,mount,read,write",
    "--stack",
    "vfs_*",
    "--stack",
    "ksys_*..vfs_*",
    "--stack",
    "do_*..ksys_*..vfs_*",
    "--stack",
    "new_*..do_*..ksys_*..vfs_*",
    "--stack",
    "__x64_sys_*..do_*",
    "--not-stack",
    "*_init*",
    "--caller",
    "*",
    "--stack-depth",
    "50",
    "--skip",
    "1",
    "--every",
    "2",
    "--prob",
    "0.5",
    "--seed",
    "1",
    "--per-site",
    "3",
    "--rate",
    "1000/s",
    "--times",
    "1000",
    "--outcome",
];

/// The plan whose sites are chosen one by one.
const SWEEP: &str = "sweep";
/// The plan with a hook that has no program for trampolines.
const KPROBE_ONLY: &str = "page-pool";
/// Plans as on kernels without bpf_loop().
const FOR_EACH: [&str; 2] = ["large-for-each", "sweep-for-each"];

/// The hooks that only the module injector_hooks makes.
const MODULE_ONLY: &str = "module";

/// Loads all programs by all backends, attaches none, and says what each took. Panics when one is refused.
pub fn measure() -> Vec<(&'static str, Vec<Verified>)> {
    crate::module::load();
    if !crate::hooks_module::is_loaded() {
        crate::hooks_module::load("");
    }
    let files = KernelFiles::default();
    let facts = Facts::read(&files).expect("a kernel that can be injected into");
    let mut all = Vec::new();
    // Functions are for eight programs that are the same but for a number: one of them has to do.
    let every = ["slab", "page", "filemap", "bio"].map(|hook| ["--hook", hook]).concat();
    let every = [&every[..], &["--function", "openat=ENOMEM"]].concat();
    // Only slab calls have a cache.
    let of_page: Vec<&str> = LARGE.iter().copied().filter(|word| !["--cache", "*-64"].contains(word)).collect();
    // A hook has programs of its own for one process, for one cgroup, and for other targets.
    let me = std::process::id().to_string();
    let of_pid = ["--pid", &me];
    let cgroup = crate::Cgroup::new("injector-verify");
    let of_cgroup = ["--cgroup", cgroup.arg(), "--prob", "1"];
    // And with them those that follow the children of a target.
    let follow = ["--pid", &me, "--follow", "--prob", "1"];
    let slab = ["--hook", "slab"];
    let plans: [(&str, &[&str], &[&str]); 10] = [
        ("small", &every, SMALL),
        ("large", &slab, LARGE),
        ("large", &["--hook", "page"], &[&of_page, &of_pid[..]].concat()),
        ("cgroup", &slab, &of_cgroup),
        ("follow", &slab, &follow),
        (SWEEP, &slab, &of_cgroup),
        (FOR_EACH[0], &slab, LARGE),
        (FOR_EACH[1], &slab, &of_cgroup),
        (KPROBE_ONLY, &["--hook", "page-pool"], SMALL),
        (MODULE_ONLY, &["--hook", "vmalloc,percpu"], SMALL),
    ];
    for (size, hooks, options) in plans {
        let mut verified: Vec<Verified> = Vec::new();
        let backends: &[&str] = match size {
            KPROBE_ONLY => &["kprobe"],
            MODULE_ONLY => &["module"],
            _ => &["kprobe", "fmod-ret", "module"],
        };
        for backend in backends {
            // The module has hooks of its own only.
            let functions = hooks.iter().position(|word| *word == "--function").unwrap_or(hooks.len());
            let hooks = if *backend == "module" { &hooks[..functions] } else { hooks };
            let words = [&["injector", "--backend", backend], hooks, options].concat();
            let plan = match cli::parse(words.iter().map(std::ffi::OsString::from)) {
                Ok(Command::Run(plan, ..)) => plan,
                Ok(_) => panic!("{words:?} is no run"),
                Err(exit) => panic!("{words:?}: {exit:?}"),
            };
            let targets = Targets::open(&plan.target).expect("no target needs no opening");
            let (mut wires, _) =
                ProgramConfig::resolve(&plan, &facts, &files, &targets).expect("a plan for this kernel");
            if FOR_EACH.contains(&size) {
                wires[0].config.bpf_loop = OFF;
            }
            if size.starts_with(SWEEP) {
                let symbols = Kallsyms::read(&files).expect("the kernel's symbols");
                let sites = Sites { kthreads: true, persistent: false, shard: None };
                wires[0].choose_sites(sites, &symbols).expect("a kernel that can be swept");
            }
            let programs = verify(&wires[0]).unwrap_or_else(|error| panic!("{size}: {error:#}"));
            // Those on tracepoints are the same for each hook and backend.
            let before: Vec<String> = all
                .iter()
                .filter(|(of, _)| *of == size)
                .flat_map(|(_, known): &(_, Vec<Verified>)| known)
                .chain(&verified)
                .map(|known| known.program.clone())
                .collect();
            verified.extend(programs.into_iter().filter(|program| !before.contains(&program.program)));
        }
        all.push((size, verified));
    }
    all
}

/// What was measured before: tests/verifier.json.
#[derive(Debug)]
pub struct Baseline(Vec<serde_json::Value>);

impl Baseline {
    /// Reads it.
    pub fn parse(text: &str) -> Self {
        Self(serde_json::from_str(text).expect("a list of objects"))
    }

    /// What is wrong with a program that was measured now: it takes a tenth more than before, or was not there.
    pub fn complaint(&self, kernel: &str, plan: &str, now: &Verified) -> Option<String> {
        let same =
            |row: &&serde_json::Value| row["kernel"] == kernel && row["plan"] == plan && row["program"] == *now.program;
        let what = format!("{kernel} {plan} {}", now.program);
        let Some(before) = self.0.iter().find(same) else {
            return Some(format!("{what} is not in tests/verifier.json: cargo xtask verify --update"));
        };
        let numbers =
            [("instructions", now.instructions), ("states", now.states), ("translated", u64::from(now.translated))];
        let grown = numbers.into_iter().find_map(|(name, now)| {
            let before = before[name].as_u64()?;
            (now * 10 > before * 11).then(|| format!("{name} grew from {before} to {now}"))
        });
        grown.map(|grown| format!("{what}: {grown}; if that is meant: cargo xtask verify --update"))
    }
}
