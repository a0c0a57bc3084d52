//! The module injector_hooks: it sees what the kernel's own hooks see, fails what it is told to, and leaves nothing behind.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::time::{Duration, Instant};

use injector_tests::daemon::INJECTOR;
use injector_tests::{Injector, Report, Worker, hooks_module, module, refused, run, shell};

/// Calls by each of the allocators' entries, with how many calls of the hook they are.
const REQUESTS: [(&str, &str, u64); 19] = [
    ("slab", "kind=slab cache=injector_test_64 count=7", 7),
    ("slab", "kind=slab size=100 count=7", 7),
    ("slab", "kind=slab size=8192 count=7", 7),
    ("slab", "kind=slab size=65536 count=7", 0),
    ("slab", "kind=slab cache=injector_test_4k count=7 chain=b depth=7", 7),
    ("slab", "kind=slab cache=injector_test_64 count=7 gfp=ATOMIC from=softirq", 7),
    ("slab", "kind=slab cache=injector_test_64 count=7 gfp=ATOMIC from=hardirq", 7),
    ("slab", "kind=slab-bulk cache=injector_test_64 batch=16 count=7", 7),
    ("slab", "kind=slab-node cache=injector_test_64 count=7", 7),
    ("slab", "kind=slab-node size=100 count=7", 7),
    ("slab", "kind=constant count=7", 7),
    ("slab", "kind=dup size=40 count=7", 7),
    ("slab", "kind=kvmalloc size=200 count=7", 7),
    ("page", "kind=page order=0 count=7", 7),
    ("page", "kind=page order=3 count=7 depth=60", 7),
    ("page", "kind=page-bulk batch=16 count=7", 7),
    ("page", "kind=page-bulk batch=2 count=7 gfp=KERNEL+ACCOUNT", 14),
    ("page", "kind=slab size=65536 count=7", 7),
    ("page", "kind=page order=1 count=7 scope=nofs", 7),
];

fn loaded(parameters: &str) {
    module::load();
    hooks_module::unload();
    hooks_module::load(parameters);
}

/// A site's stack without where in its innermost function it is: the kernel's own hook is called later in the same function.
type Stack = Vec<String>;

fn stack(frames: &[String]) -> Stack {
    let mut stack = frames.to_vec();
    if let Some(first) = stack.first_mut() {
        *first = first.split('+').next().unwrap_or_default().to_owned();
    }
    stack
}

/// What is known of a request's failures: how many, by stack, and their facts.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    failed: u64,
    matches: u64,
    stacks: BTreeMap<Stack, u64>,
    facts: BTreeSet<(u64, u64, String, String)>,
}

fn seen(backend: &str, hook: &str, request: &str) -> Seen {
    let worker = Worker::on_cpu(0);
    // A warm cache, so that no refill is needed.
    worker.run(request);
    let arguments = [
        "--backend",
        backend,
        "--hook",
        hook,
        "--prob",
        "1",
        "--stack",
        "injector_test_allocate",
        "--context",
        "task,softirq,hardirq",
    ];
    let injector = Injector::start(&arguments);
    let outcome = worker.run(request);
    let report = injector.stop();
    report.assert_accounts_with_lines();
    let fact = |failure: &serde_json::Value| {
        let text = |name: &str| failure[name].as_str().unwrap_or_default().to_owned();
        let number = |name: &str| failure[name].as_u64().unwrap_or_default();
        (number("order"), number("size"), text("gfp"), text("cache"))
    };
    Seen {
        failed: outcome.failed,
        matches: report.total("matches"),
        stacks: report.sites().iter().map(|site| (stack(&site.stack), site.count)).collect(),
        facts: report.failures.iter().map(fact).collect(),
    }
}

/// The entries see what the kernel's own hooks see: each call once, with the same facts and the same callers.
#[test]
fn entries_see_the_same_calls() {
    loaded("entries=1");
    let with_entries = hooks_module::functions("slab").len() > 1;
    println!("slab: {:?}, page: {:?}", hooks_module::functions("slab"), hooks_module::functions("page"));
    for (hook, request, calls) in REQUESTS {
        let (own, by_module) = (seen("kprobe", hook, request), seen("module", hook, request));
        assert_eq!(own, by_module, "{request}");
        // What is accounted is taken page by page only where memory cgroups account at all.
        if !request.contains("ACCOUNT") {
            assert_eq!(by_module.matches, calls, "{request}: {by_module:?}");
        }
    }
    assert!(with_entries || hooks_module::functions("slab") == ["should_failslab"]);
    hooks_module::unload();
}

/// A workload of many different calls: no function that allocates is unseen by the entries. Nothing is failed.
#[test]
fn a_workload_has_the_same_allocating_functions() {
    loaded("entries=1");
    let workload = "mkdir -p /tmp/w && mount -t tmpfs none /tmp/w && for i in 1 2 3 4 5 6 7 8; do echo $i > /tmp/w/$i; \
                    ln -s $i /tmp/w/link$i; cat /proc/self/maps /proc/mounts > /dev/null; ls -l /tmp/w /proc/self > /dev/null; done; \
                    umount /tmp/w";
    let sites = |backend: &str| {
        let report = run(&["--backend", backend, "--dry-run", "--prob", "1", "--", "sh", "-c", workload]);
        assert!(report.status.success(), "{}", report.stderr);
        report.report.assert_accounts();
        report.report
    };
    // In turns, since what was allocated for a slab is there in the next run; and of each twice: what comes and goes from run
    // to run is in neither's intersection.
    sites("kprobe");
    let [(own_1, module_1), (own_2, module_2)] = [(); 2].map(|()| (sites("kprobe"), sites("module")));
    let (own, by_module) = ([own_1, own_2], [module_1, module_2]);
    let stacks = |report: &Report, hook: &str| -> BTreeSet<Stack> {
        // What a slab needs for itself is allocated when one is new, which says nothing about entries (mm/slub.c).
        let is_upkeep = |stack: &Stack| {
            let upkeep = ["alloc_slab_obj_exts+", "allocate_slab+", "__pcs_replace_empty_main+", "refill_objects+"];
            stack.iter().any(|frame| upkeep.iter().any(|function| frame.starts_with(function)))
        };
        let sites = report.sites();
        let stacks = sites.iter().filter(|site| site.hook == hook).map(|site| stack(&site.stack));
        stacks.filter(|stack| !is_upkeep(stack)).collect()
    };
    for hook in ["slab", "page"] {
        let always = |reports: &[Report; 2]| -> BTreeSet<Stack> {
            stacks(&reports[0], hook).intersection(&stacks(&reports[1], hook)).cloned().collect()
        };
        let ever = |reports: &[Report; 2]| -> BTreeSet<Stack> {
            stacks(&reports[0], hook).union(&stacks(&reports[1], hook)).cloned().collect()
        };
        let unseen: Vec<_> = always(&own).difference(&ever(&by_module)).cloned().collect();
        let only: Vec<_> = always(&by_module).difference(&ever(&own)).cloned().collect();
        println!(
            "{hook}: {} sites by its own hook, {} by the module; matches {} and {}",
            always(&own).len(),
            always(&by_module).len(),
            own[0].hook(hook).get("matches"),
            by_module[0].hook(hook).get("matches")
        );
        let functions = |stacks: &[Stack]| -> BTreeSet<String> {
            stacks.iter().filter_map(|stack| stack.first().cloned()).collect()
        };
        assert!(unseen.len() <= 3 && only.len() <= 3, "{hook}: unseen {unseen:#?}\nonly by the module {only:#?}");
        let seen_entries = functions(&ever(&by_module).into_iter().collect::<Vec<_>>());
        let missing: Vec<_> =
            functions(&always(&own).into_iter().collect::<Vec<_>>()).difference(&seen_entries).cloned().collect();
        assert!(missing.is_empty(), "{hook}: {missing:?} allocate, and the module does not see it");
    }
    hooks_module::unload();
}

#[test]
fn loading_it_hooks_nothing_and_a_run_hooks_what_it_needs() {
    module::load();
    hooks_module::unload();
    let before = hooks_module::traced();
    hooks_module::load("");
    assert_eq!(hooks_module::traced(), before);
    let worker = Worker::start();
    let injector =
        Injector::start(&["--backend", "module", "--hook", "page", "--prob", "0", "--pid", &worker.pid_arg()]);
    let during: BTreeSet<_> = hooks_module::traced().into_iter().collect();
    let hooked: BTreeSet<_> = hooks_module::functions("page").into_iter().collect();
    assert_eq!(during.difference(&before.iter().cloned().collect()).cloned().collect::<BTreeSet<_>>(), hooked);
    injector.stop();
    assert_eq!(hooks_module::traced(), before);
    assert_eq!(hooks_module::text("refcnt").trim(), "0");
    hooks_module::unload();
}

#[test]
fn vmalloc_and_percpu_fail_exactly() {
    loaded("");
    let (worker, other) = (Worker::start(), Worker::start());
    for (hook, request, order, size) in
        [("vmalloc", "kind=vmalloc size=20480 count=50", 3, 20480), ("percpu", "kind=percpu size=64 count=50", 0, 64)]
    {
        let injector = Injector::start(&["--hook", hook, "--prob", "1", "--pid", &worker.pid_arg()]);
        let (outcome, spared) = (worker.run(request), other.run(request));
        let report = injector.stop();
        assert_eq!((outcome.failed, spared.failed), (50, 0), "{hook}");
        assert_eq!(report.start["module"], serde_json::json!([hook]), "{}", report.start);
        report.assert_accounts_with_lines();
        assert_eq!((report.total("matches"), report.failures.len()), (50, 50), "{}", report.summary);
        for failure in &report.failures {
            assert_eq!((failure["order"].as_u64(), failure["size"].as_u64()), (Some(order), Some(size)), "{failure}");
        }
        assert_eq!(report.sites().len(), 1, "{:?}", report.sites());
        // Filters see the size.
        let arguments = ["--hook", hook, "--size", "1M..", "--prob", "1", "--pid", &worker.pid_arg()];
        let injector = Injector::start(&arguments);
        let outcome = worker.run(request);
        assert_eq!((outcome.failed, injector.stop().total("matches")), (0, 0), "{hook}");
    }
    // NOFAIL is never failed.
    let injector = Injector::start(&["--hook", "vmalloc", "--prob", "1", "--pid", &worker.pid_arg()]);
    let outcome = worker.run("kind=vmalloc size=4096 gfp=KERNEL+NOFAIL count=20");
    let report = injector.stop();
    assert_eq!((outcome.failed, report.hook("vmalloc").get("suppressed_nofail")), (0, 20), "{}", report.summary);
    hooks_module::unload();
}

#[test]
fn it_stays_loaded_while_it_is_used_and_a_killed_run_leaves_nothing() {
    loaded("");
    let before = hooks_module::traced();
    let worker = Worker::start();
    let mut slowest = Duration::ZERO;
    for round in 0..20 {
        let injector = Injector::start(&["--backend", "module", "--prob", "1", "--quiet", "--pid", &worker.pid_arg()]);
        assert_eq!(worker.run("kind=slab count=100").failed, 100);
        let error = hooks_module::try_unload().expect_err("in use");
        assert_eq!(error.raw_os_error(), Some(libc::EWOULDBLOCK), "{error}");
        injector.kill();
        for kind in ["slab", "page"] {
            assert_eq!(worker.run(&format!("kind={kind} count=100")).failed, 0, "round {round}");
        }
        let start = Instant::now();
        while hooks_module::text("refcnt").trim() != "0" {
            assert!(start.elapsed() < Duration::from_secs(20), "still in use: {}", hooks_module::text("refcnt"));
            std::thread::sleep(Duration::from_millis(5));
        }
        slowest = slowest.max(start.elapsed());
    }
    println!("free again after {slowest:?} at most");
    assert_eq!(hooks_module::traced(), before);
    hooks_module::unload();
}

/// Two at once on the same functions: each has its own books, and a call is failed once.
#[test]
fn two_runs_share_it() {
    loaded("");
    let (one, two) = (Worker::start(), Worker::start());
    let start =
        |worker: &Worker| Injector::start(&["--backend", "module", "--hook", "slab", "--pid", &worker.pid_arg()]);
    let (first, second) = (start(&one), start(&two));
    assert_eq!((one.run("kind=slab count=50").failed, two.run("kind=slab count=60").failed), (50, 60));
    second.signal(libc::SIGINT);
    let second = second.finish_unchecked();
    assert_eq!((one.run("kind=slab count=50").failed, two.run("kind=slab count=60").failed), (50, 0));
    assert_eq!((first.stop().total("failures"), second.report.total("failures")), (100, 60));
    hooks_module::unload();
}

#[test]
fn rules_are_asked_in_their_order() {
    loaded("");
    let worker = Worker::start();
    let plan = injector_tests::daemon::scratch("module-rules");
    fs::write(
        &plan,
        format!(
            "backend = \"module\"\n[target]\npid = {}\n[[rule]]\nname = \"first\"\nhook = \"slab\"\ncache = \"injector_test_64\"\n\
             [[rule]]\nname = \"second\"\nhook = \"slab\"\n",
            worker.pid()
        ),
    )
    .expect("writable");
    let injector = Injector::start(&["--plan", plan.to_str().expect("a path")]);
    let failed =
        ["kind=slab cache=injector_test_64 count=30", "kind=slab count=20"].map(|request| worker.run(request).failed);
    let report = injector.stop();
    assert_eq!(failed, [30, 20]);
    let of = |rule: usize, counter: &str| report.summary["rules"][rule]["hooks"]["slab"][counter].as_u64();
    assert_eq!((of(0, "failures"), of(1, "failures")), (Some(30), Some(20)), "{}", report.summary);
    // What the first has failed the second has not seen.
    assert_eq!((of(0, "calls"), of(1, "calls")), (Some(50), Some(20)), "{}", report.summary);
    let _ = fs::remove_file(plan);
    hooks_module::unload();
}

/// Other users of ftrace on the same function change how the module is called: not what it says.
#[test]
fn a_tracer_on_the_same_function_changes_no_site() {
    loaded("");
    let worker = Worker::on_cpu(0);
    let sites = || {
        let injector = Injector::start(&["--backend", "module", "--hook", "slab", "--pid", &worker.pid_arg()]);
        assert_eq!(worker.run("kind=slab count=10").failed, 10);
        injector.stop().sites()
    };
    let alone = sites();
    let tracing = |file: &str, text: &str| {
        let path = format!("/sys/kernel/tracing/{file}");
        fs::write(&path, text).unwrap_or_else(|e| panic!("{path}: {e}"));
    };
    tracing("set_ftrace_filter", &hooks_module::functions("slab").join("\n"));
    let available = fs::read_to_string("/sys/kernel/tracing/available_tracers").expect("tracefs");
    let tracers: Vec<&str> = available.split_whitespace().filter(|tracer| tracer.starts_with("function")).collect();
    println!("{tracers:?}");
    assert!(!tracers.is_empty(), "no function tracer: {available}");
    for tracer in tracers {
        tracing("current_tracer", tracer);
        let beside = sites();
        tracing("current_tracer", "nop");
        assert_eq!(alone, beside, "{tracer}");
    }
    tracing("set_ftrace_filter", "");
    hooks_module::unload();
}

#[test]
fn ftrace_can_not_be_turned_off_under_it_and_must_be_on() {
    loaded("");
    let switch = "/proc/sys/kernel/ftrace_enabled";
    let worker = Worker::start();
    let pid = worker.pid_arg();
    let injector = Injector::start(&["--backend", "module", "--pid", &pid, "--quiet"]);
    let error = fs::write(switch, "0").expect_err("hooks are in use");
    assert_eq!(worker.run("kind=slab count=10").failed, 10);
    injector.stop();
    // 7.3 does not let it be turned off at all.
    if error.raw_os_error() == Some(libc::EOPNOTSUPP) {
        println!("ftrace can't be turned off in this kernel");
        hooks_module::unload();
        return;
    }
    assert_eq!(error.raw_os_error(), Some(libc::EBUSY), "{error}");
    fs::write(switch, "0").expect("nobody uses it");
    let says = ["ftrace is off", "sysctl kernel.ftrace_enabled=1"];
    says_missing(&["--backend", "module", "--pid", &pid], &says);
    fs::write(switch, "1").expect("on again");
    hooks_module::unload();
}

/// What a live patch has changed can't be hooked, and is named.
#[test]
fn a_function_that_something_else_changes_is_named() {
    loaded("");
    let function = hooks_module::functions("page").pop().expect("a function");
    let path = "/sys/kernel/debug/injector_test/change";
    let mut change = OpenOptions::new().write(true).open(path).unwrap_or_else(|e| panic!("{path}: {e}"));
    change.write_all(function.as_bytes()).unwrap_or_else(|e| panic!("{function}: {e}"));
    let before = hooks_module::traced();
    refused(&["--all", "--backend", "module", "--hook", "slab,page", "--prob", "0.1"], 3, &[&function, "livepatch"]);
    assert_eq!(hooks_module::traced(), before, "something stays hooked");
    drop(change);
    let worker = Worker::start();
    Injector::start(&["--backend", "module", "--pid", &worker.pid_arg()]).stop();
    hooks_module::unload();
}

/// A run that can't begin: exit code 3, the reason and the remedy, and nothing is loaded.
fn says_missing(arguments: &[&str], says: &[&str]) {
    let output = shell::output(INJECTOR, arguments, Duration::from_secs(60));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{stderr}");
    for word in says {
        assert!(stderr.contains(word), "{word:?} is missing: {stderr}");
    }
    let left = injector_tests::bpf::ours();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn it_is_loaded_when_it_is_installed_and_needed() {
    module::load();
    hooks_module::unload();
    let worker = Worker::start();
    let pid = worker.pid_arg();
    // The kernel's own hooks do without it.
    Injector::start(&["--hook", "slab", "--pid", &pid]).stop();
    assert!(!hooks_module::is_loaded());
    let mut injector = Injector::start(&["--hook", "vmalloc", "--pid", &pid]);
    let said = injector.said();
    assert!(said.contains("loaded the module injector_hooks ("), "{said}");
    assert!(said.contains("armed: vmalloc by module"), "{said}");
    assert_eq!(worker.run("kind=vmalloc size=4096 count=10").failed, 10);
    injector.stop();
    assert!(hooks_module::is_loaded());
    hooks_module::unload();

    let (file, away) = (hooks_module::file(), std::env::temp_dir().join("injector_hooks_away.ko"));
    fs::copy(&file, &away).expect("room for a copy");
    fs::remove_file(&file).expect("writable");
    says_missing(&["--backend", "module", "--pid", &pid], &["injector_hooks", "injector module install"]);
    says_missing(&["--hook", "percpu", "--pid", &pid], &["injector_hooks", "injector module install"]);
    assert!(!hooks_module::is_loaded());
    fs::copy(&away, &file).expect("room for a copy");
    fs::remove_file(&away).expect("writable");
}

/// Each prototype that the module relies on is this kernel's.
#[test]
fn its_prototypes_are_those_of_this_kernel() {
    for parameters in ["", "entries=1"] {
        loaded(parameters);
        println!("{}", hooks_module::text("parameters/hooks"));
        let output = shell::output(INJECTOR, &["check", "--json"], Duration::from_secs(60));
        let text = String::from_utf8_lossy(&output.stdout);
        let report: serde_json::Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
        let checks = report["checks"].as_array().unwrap_or_else(|| panic!("no checks: {text}"));
        for hook in ["vmalloc", "percpu"] {
            let name = format!("hook {hook}");
            let check =
                checks.iter().find(|check| check["name"] == *name).unwrap_or_else(|| panic!("no {name}: {text}"));
            assert_eq!(check["state"], "found", "{check}");
        }
        let worker = Worker::start();
        Injector::start(&[
            "--backend",
            "module",
            "--hook",
            "slab,page,filemap,bio",
            "--prob",
            "0",
            "--pid",
            &worker.pid_arg(),
        ])
        .stop();
        hooks_module::unload();
    }
}
