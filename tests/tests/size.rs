//! Filters on sizes and caches.

use injector_tests::{Injector, Worker, refused};

fn failed(worker: &Worker, arguments: &[&str], requests: &[&str]) -> Vec<u64> {
    let pid = worker.pid_arg();
    // New slabs, if some are needed, are the page hook's; so is what of them is not the request's.
    let narrow = ["--pid", &pid, "--stack", "injector_test_allocate"];
    let injector = Injector::start(&[&narrow, arguments].concat());
    let failed = requests.iter().map(|request| worker.run(request).failed).collect();
    injector.stop().assert_accounts_with_lines();
    failed
}

#[test]
fn sizes_of_slab_calls_are_those_of_the_caches_objects() {
    let worker = Worker::start();
    let requests =
        ["kind=slab cache=injector_test_64 count=10", "kind=slab size=100 count=10", "kind=slab size=4096 count=10"];
    for (size, expected) in [
        ("64", [10, 0, 0]),
        ("128", [0, 10, 0]),
        ("65..=128", [0, 10, 0]),
        ("1K..8K", [0, 0, 10]),
        ("..128", [10, 0, 0]),
        ("128..", [0, 10, 10]),
    ] {
        assert_eq!(failed(&worker, &["--hook", "slab", "--size", size], &requests), expected, "--size {size}");
    }
}

#[test]
fn sizes_of_page_calls_are_those_of_the_pages() {
    let worker = Worker::start();
    let requests = ["kind=page order=0 count=10", "kind=page order=1 count=10", "kind=page order=3 count=10"];
    for (size, expected) in [("4K", [10, 0, 0]), ("8K..=32K", [0, 10, 10]), ("8193..", [0, 0, 10])] {
        assert_eq!(failed(&worker, &["--hook", "page", "--size", size], &requests), expected, "--size {size}");
    }
}

#[test]
fn caches_by_name() {
    let worker = Worker::start();
    let requests = [
        "kind=slab cache=injector_test_64 count=10",
        "kind=slab cache=injector_test_4k count=10",
        "kind=slab size=64 count=10",
    ];
    for (caches, expected) in [
        (&["--cache", "injector_test_64"][..], [10, 0, 0]),
        (&["--cache", "injector_test_*"], [10, 10, 0]),
        (&["--cache", "*_4k", "--cache", "kmalloc-64"], [0, 10, 10]),
        (&["--cache", "injector_test_?4"], [10, 0, 0]),
    ] {
        let arguments = [&["--hook", "slab"], caches].concat();
        assert_eq!(failed(&worker, &arguments, &requests), expected, "{caches:?}");
    }
}

/// Two caches that are alike are two, unless the kernel was started with slab_merge: see merged.rs.
#[test]
fn caches_that_are_alike() {
    let worker = Worker::start();
    let requests = ["kind=slab cache=injector_test_like_a count=10", "kind=slab cache=injector_test_like_b count=10"];
    for (cache, expected) in [("injector_test_like_a", [10, 0]), ("injector_test_like_b", [0, 10])] {
        assert_eq!(failed(&worker, &["--hook", "slab", "--cache", cache], &requests), expected, "{cache}");
    }
}

/// A page call has no cache, so a filter on caches never accepts it.
#[test]
fn a_filter_on_caches_is_for_slab_calls() {
    let worker = Worker::start();
    let requests = ["kind=slab cache=injector_test_64 count=10", "kind=page count=10"];
    assert_eq!(failed(&worker, &["--cache", "injector_test_64"], &requests), [10, 0]);
}

#[test]
fn what_makes_no_sense_is_refused() {
    let worker = Worker::start();
    let pid = worker.pid_arg();
    refused(&["--pid", &pid, "--cache", "no_such_cache"], 2, &["no_such_cache"]);
    refused(&["--pid", &pid, "--size", "1K..1K"], 2, &["--size"]);
    refused(&["--pid", &pid, "--hook", "page", "--cache", "kmalloc-64"], 2, &["--cache"]);
    refused(&["--pid", &pid, "--hook", "bio", "--size", "64"], 2, &["--size"]);
}
