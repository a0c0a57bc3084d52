//! GFP filters: what each name matches, on effective and on raw flags.

use injector_tests::{Injector, Outcome, Report, Worker};

const COMPOSITES: [&str; 7] = ["KERNEL", "NOFS", "NOIO", "ATOMIC", "NOWAIT", "USER", "HIGHUSER"];
const COUNT: u64 = 50;

/// A run with filters, and requests to a worker in it, made with these flags; which of them failed: all or none.
fn hit(worker: &Worker, hook: &str, filters: &[&str], requests: &[String]) -> Vec<bool> {
    let pid = worker.pid_arg();
    let mut arguments = vec!["--hook", hook, "--pid", &pid];
    arguments.extend(filters);
    let injector = Injector::start(&arguments);
    let outcomes: Vec<Outcome> =
        requests.iter().map(|r| worker.run(&format!("kind={hook} count={COUNT} {r}"))).collect();
    let report: Report = injector.stop();
    report.assert_accounts_with_lines();
    let failed: u64 = outcomes.iter().map(|outcome| outcome.failed).sum();
    assert_eq!(report.hook(hook).get("failures"), failed, "{filters:?}: {}", report.summary);
    let all_or_none = |(outcome, request): (&Outcome, &String)| {
        assert!(
            outcome.failed == 0 || outcome.failed == COUNT,
            "{filters:?} on {request}: {} of {COUNT} failed",
            outcome.failed
        );
        outcome.failed == COUNT
    };
    outcomes.iter().zip(requests).map(all_or_none).collect()
}

fn names(hits: &[bool], of: &[String]) -> Vec<String> {
    of.iter().zip(hits).filter(|&(_, &hit)| hit).map(|(name, _)| name.clone()).collect()
}

#[test]
fn each_composite_matches_itself_and_nothing_else_on_pages() {
    let worker = Worker::start();
    let requests: Vec<_> = COMPOSITES.iter().map(|name| format!("gfp={name}")).collect();
    for name in COMPOSITES {
        for scope in ["effective", "raw"] {
            let hits = hit(&worker, "page", &["--gfp", name, "--gfp-scope", scope], &requests);
            assert_eq!(names(&hits, &requests), [format!("gfp={name}")], "--gfp {name} --gfp-scope {scope}");
        }
    }
}

#[test]
fn each_composite_matches_itself_and_nothing_else_on_slabs() {
    let worker = Worker::start();
    // A slab has no highmem.
    let composites: Vec<_> = COMPOSITES.iter().filter(|&&name| name != "HIGHUSER").collect();
    let requests: Vec<_> = composites.iter().map(|name| format!("gfp={name}")).collect();
    for name in composites {
        for scope in ["effective", "raw"] {
            let hits = hit(&worker, "slab", &["--gfp", name, "--gfp-scope", scope], &requests);
            assert_eq!(names(&hits, &requests), [format!("gfp={name}")], "--gfp {name} --gfp-scope {scope}");
        }
    }
}

#[test]
fn other_flags_do_not_matter_to_a_composite() {
    let worker = Worker::start();
    let requests = ["gfp=NOFS+ZERO+NOWARN", "gfp=NOFS+ACCOUNT", "gfp=NOFS+NORETRY", "gfp=KERNEL-FS", "gfp=KERNEL+ZERO"]
        .map(String::from);
    let hits = hit(&worker, "slab", &["--gfp", "GFP_NOFS"], &requests);
    assert_eq!(hits, [true, true, true, true, false]);
}

#[test]
fn scopes_count_for_effective_flags_only() {
    let worker = Worker::start();
    let requests = [
        "gfp=KERNEL",
        "gfp=KERNEL scope=nofs",
        "gfp=KERNEL scope=noio",
        "gfp=NOFS",
        "gfp=NOFS scope=noio",
        "gfp=ATOMIC scope=nofs",
    ]
    .map(String::from);
    for (filter, scope, expected) in [
        ("NOFS", "effective", [false, true, false, true, false, false]),
        ("NOFS", "raw", [false, false, false, true, true, false]),
        ("NOIO", "effective", [false, false, true, false, true, false]),
        ("NOIO", "raw", [false; 6]),
        ("KERNEL", "effective", [true, false, false, false, false, false]),
        ("KERNEL", "raw", [true, true, true, false, false, false]),
        ("ATOMIC", "effective", [false, false, false, false, false, true]),
    ] {
        let hits = hit(&worker, "slab", &["--gfp", filter, "--gfp-scope", scope], &requests);
        assert_eq!(hits, expected, "--gfp {filter} --gfp-scope {scope}");
    }
}

/// Effective is the default.
#[test]
fn a_kernel_allocation_in_a_nofs_scope_is_nofs() {
    let worker = Worker::start();
    let requests = ["gfp=KERNEL scope=nofs", "gfp=KERNEL"].map(String::from);
    assert_eq!(hit(&worker, "slab", &["--gfp", "NOFS"], &requests), [true, false]);
    assert_eq!(hit(&worker, "slab", &["--gfp", "NOFS", "--gfp-scope", "raw"], &requests), [false, false]);
}

/// The page allocator takes the scope off before the hook sees the flags, but not in its bulk interface.
#[test]
fn scopes_on_pages() {
    let worker = Worker::start();
    let requests = ["gfp=KERNEL scope=nofs", "gfp=KERNEL"].map(String::from);
    assert_eq!(hit(&worker, "page", &["--gfp", "NOFS"], &requests), [true, false]);
    assert_eq!(hit(&worker, "page", &["--gfp", "NOFS", "--gfp-scope", "raw"], &requests), [true, false]);
    for (scope, expected) in [("effective", COUNT), ("raw", 0)] {
        let pid = worker.pid_arg();
        let injector = Injector::start(&["--hook", "page", "--gfp", "NOFS", "--gfp-scope", scope, "--pid", &pid]);
        let outcome = worker.run(&format!("kind=page-bulk batch=8 scope=nofs count={COUNT}"));
        injector.stop();
        assert_eq!(outcome.failed, expected, "bulk, --gfp-scope {scope}");
    }
}

/// A scope of the task whose kworker or softirq this is must not be taken for theirs.
#[test]
fn a_scope_is_that_of_the_task_that_allocates() {
    let worker = Worker::start();
    let injector = Injector::start(&["--hook", "slab", "--gfp", "NOFS", "--prob", "1", "--stack", "injector_test_*"]);
    let outside = worker.run("kind=slab gfp=KERNEL from=workqueue count=50");
    let inside = worker.run("kind=slab gfp=KERNEL from=workqueue scope=nofs count=50");
    injector.stop();
    assert_eq!((outside.failed, inside.failed), (0, 50));
}

#[test]
fn single_flags_and_their_negation() {
    let worker = Worker::start();
    let requests = ["gfp=KERNEL", "gfp=KERNEL+ZERO", "gfp=KERNEL+NOWARN", "gfp=KERNEL+ZERO+NOWARN"].map(String::from);
    for (values, expected) in [
        (vec!["--gfp", "ZERO"], [false, true, false, true]),
        (vec!["--gfp", "__GFP_ZERO"], [false, true, false, true]),
        (vec!["--gfp", "!ZERO"], [true, false, true, false]),
        (vec!["--gfp", "!NOWARN"], [true, true, false, false]),
        (vec!["--gfp", "KERNEL,ZERO"], [false, true, false, true]),
        (vec!["--gfp", "ZERO|NOWARN"], [false, false, false, true]),
        (vec!["--gfp", "ZERO+!NOWARN"], [false, true, false, false]),
        (vec!["--gfp", "KERNEL,!ZERO,!NOWARN"], [true, false, false, false]),
        (vec!["--gfp", "ZERO", "--gfp", "NOWARN"], [false, true, true, true]),
        (vec!["--gfp", "NOFS", "--gfp", "KERNEL,ZERO"], [false, true, false, true]),
        (vec!["--gfp", "!KERNEL"], [false; 4]),
        (vec!["--gfp", "!NOFS"], [true; 4]),
    ] {
        let hits = hit(&worker, "slab", &values, &requests);
        assert_eq!(hits, expected, "{values:?}");
    }
}

#[test]
fn events_name_the_flags_as_the_kernel_does() {
    let worker = Worker::start();
    let injector = Injector::start(&["--hook", "slab", "--pid", &worker.pid_arg()]);
    worker.run("kind=slab cache=injector_test_64 gfp=KERNEL+ZERO");
    worker.run("kind=slab cache=injector_test_64 gfp=KERNEL scope=nofs");
    let report = injector.stop();
    let [zero, scoped] = &report.failures[..] else { panic!("two failures, not {:?}", report.failures) };
    assert_eq!(
        (&zero["gfp"], &zero["effective_gfp"]),
        (&"GFP_KERNEL|__GFP_ZERO".into(), &"GFP_KERNEL|__GFP_ZERO".into())
    );
    assert_eq!((&scoped["gfp"], &scoped["effective_gfp"]), (&"GFP_KERNEL".into(), &"GFP_NOFS".into()), "{scoped}");
    assert_ne!(scoped["gfp_bits"], scoped["effective_gfp_bits"]);
}
