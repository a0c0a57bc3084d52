//! Order filters: the order asked for; for a slab call the order that its object's size needs.

use injector_tests::{Injector, Worker};

/// Which of the requests failed.
fn hit(worker: &Worker, hook: &str, filters: &[&str], requests: &[&str]) -> Vec<bool> {
    let pid = worker.pid_arg();
    let mut arguments = vec!["--hook", hook, "--pid", &pid];
    arguments.extend(filters);
    let injector = Injector::start(&arguments);
    let hits = requests.iter().map(|request| {
        let outcome = worker.run(&format!("{request} count=20"));
        assert!(matches!(outcome.failed, 0 | 20), "{filters:?} on {request}: {} of 20 failed", outcome.failed);
        outcome.failed == 20
    });
    let hits = hits.collect();
    injector.stop().assert_accounts_with_lines();
    hits
}

const FILTERS: [(&[&str], [bool; 5]); 9] = [
    (&["--order-lt", "1"], [true, false, false, false, false]),
    (&["--order-lt", "3"], [true, true, true, false, false]),
    (&["--order-gt", "0"], [false, true, true, true, true]),
    (&["--order-gt", "2"], [false, false, false, true, true]),
    (&["--order", "2"], [false, false, true, false, false]),
    (&["--order", "1..=3"], [false, true, true, true, false]),
    (&["--order", "1..3"], [false, true, true, false, false]),
    (&["--order-gt", "0", "--order-lt", "3"], [false, true, true, false, false]),
    (&["--order", "0..=3", "--order-gt", "2"], [false, false, false, true, false]),
];

#[test]
fn of_pages() {
    let worker = Worker::start();
    let requests = ["order=0", "order=1", "order=2", "order=3", "order=4"].map(|order| format!("kind=page {order}"));
    let requests: Vec<_> = requests.iter().map(String::as_str).collect();
    for (filters, expected) in FILTERS {
        assert_eq!(hit(&worker, "page", filters, &requests), expected, "{filters:?}");
    }
}

#[test]
fn of_slab_objects() {
    let worker = Worker::start();
    let caches = ["64", "8k", "16k", "32k"].map(|size| format!("kind=slab cache=injector_test_{size}"));
    let requests: Vec<_> = caches.iter().map(String::as_str).collect();
    for (filters, expected) in FILTERS {
        assert_eq!(hit(&worker, "slab", filters, &requests), expected[..4], "{filters:?}");
    }
    // A whole page is still order 0.
    assert_eq!(hit(&worker, "slab", &["--order", "0"], &["kind=slab cache=injector_test_4k"]), [true]);
}

#[test]
fn events_show_order_and_size() {
    let worker = Worker::start();
    let injector = Injector::start(&["--pid", &worker.pid_arg(), "--hook", "slab,page"]);
    worker.run("kind=slab cache=injector_test_16k");
    worker.run("kind=page order=3");
    let report = injector.stop();
    let facts: Vec<_> = report
        .failures
        .iter()
        .map(|f| {
            (f["hook"].as_str(), f["order"].as_u64(), f["size"].as_u64(), f["cache"].as_str(), f["error"].as_i64())
        })
        .collect();
    assert_eq!(
        facts,
        [
            (Some("slab"), Some(2), Some(16384), Some("injector_test_16k"), Some(-12)),
            (Some("page"), Some(3), Some(32768), None, Some(1)),
        ]
    );
}
