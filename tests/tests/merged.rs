//! `--cache` where the kernel makes one cache of several that are alike. This guest is started with slab_merge.

use std::fs;

use injector_tests::{Injector, Report, Worker};

const A: &str = "injector_test_like_a";
const B: &str = "injector_test_like_b";

/// The directory that all names of a merged cache are links to.
fn directory(cache: &str) -> String {
    let link = fs::read_link(format!("/sys/kernel/slab/{cache}"))
        .unwrap_or_else(|error| panic!("{cache}: {error}; is this guest started with slab_merge?"));
    link.file_name().expect("a name").to_string_lossy().into_owned()
}

/// How many of ten failed of a, of b and of a cache that is never merged; what was said of merged caches; what was seen.
fn run(cache: &[&str]) -> ([u64; 3], Vec<String>, Report) {
    let worker = Worker::start();
    let pid = worker.pid_arg();
    let options = cache.iter().flat_map(|cache| ["--cache", cache]);
    let narrow = ["--hook", "slab", "--pid", &pid, "--stack", "injector_test_allocate"];
    let mut injector = Injector::start(&narrow.into_iter().chain(options).collect::<Vec<_>>());
    let failed =
        [A, B, "injector_test_64"].map(|cache| worker.run(&format!("kind=slab cache={cache} count=10")).failed);
    let said = injector.said().lines().filter(|line| line.contains("merged")).map(str::to_owned).collect();
    let report = injector.stop();
    report.assert_accounts_with_lines();
    (failed, said, report)
}

/// The names that failures say their caches have.
fn shown(report: &Report) -> Vec<&str> {
    let mut names: Vec<&str> = report.failures.iter().filter_map(|failure| failure["cache"].as_str()).collect();
    names.dedup();
    names
}

/// The kernel knows one of its names only, the first; by any other it is found all the same, and it is said whom it hits
/// besides.
#[test]
fn the_other_name_hits_both_and_says_so() {
    let worker = Worker::start();
    assert_eq!(directory(A), directory(B));
    drop(worker);
    let (failed, said, report) = run(&[B]);
    assert_eq!(failed, [10, 10, 0], "{}", report.summary);
    let note = format!(
        "cache {B} is merged with {A}: their allocations fail too, and all are called {A} in events; boot with slab_nomerge to tell them apart"
    );
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].ends_with(&note), "{said:?}");
    assert_eq!(shown(&report), [A]);
}

#[test]
fn so_does_the_first_name() {
    let (failed, said, report) = run(&[A]);
    assert_eq!(failed, [10, 10, 0], "{}", report.summary);
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains(&format!("cache {A} is merged with {B}: their allocations fail too;")), "{said:?}");
    assert_eq!(shown(&report), [A]);
}

/// Who names all of them, or the cache by the name that sysfs has for it, means all of it; nothing needs to be said.
#[test]
fn where_all_of_it_is_meant_nothing_is_said() {
    let worker = Worker::start();
    let whole = directory(A);
    drop(worker);
    assert!(whole.starts_with(':'), "{whole}");
    for cache in [&["injector_test_like_*"][..], &[A, B], &[&whole]] {
        let (failed, said, report) = run(cache);
        assert_eq!(failed, [10, 10, 0], "{cache:?}: {}", report.summary);
        assert!(said.is_empty(), "{cache:?}: {said:?}");
    }
}

#[test]
fn a_cache_that_is_not_merged_is_hit_alone() {
    let (failed, said, report) = run(&["injector_test_64"]);
    assert_eq!(failed, [0, 0, 10], "{}", report.summary);
    assert!(said.is_empty(), "{said:?}");
    assert_eq!(shown(&report), ["injector_test_64"]);
}
