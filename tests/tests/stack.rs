//! Stack filters: two call chains into one allocation; symbols, globs, modules; thousands of symbols.

use std::time::Duration;

use injector_tests::report::{has_frame, stack_of};
use injector_tests::{Injector, RunFile, Worker, refused};

/// Failures of chain a and of chain b, of 100 each, in a run with these filters.
fn chains(hook: &str, filters: &[&str]) -> (u64, u64) {
    let run = RunFile::open();
    let mut arguments = vec!["--hook", hook, "--prob", "1"];
    arguments.extend(filters);
    let injector = Injector::start(&arguments);
    let a = run.run(&format!("kind={hook} chain=a count=100"));
    let b = run.run(&format!("kind={hook} chain=b count=100"));
    let report = injector.stop();
    report.assert_accounts_with_lines();
    assert_eq!(report.total("failures"), a.failed + b.failed, "{filters:?}: {}", report.summary);
    (a.failed, b.failed)
}

#[test]
fn a_symbol_tells_two_chains_apart() {
    for hook in ["slab", "page"] {
        assert_eq!(chains(hook, &["--stack", "injector_test_chain_a"]), (100, 0), "{hook}");
        assert_eq!(chains(hook, &["--stack", "injector_test_chain_b"]), (0, 100), "{hook}");
    }
}

/// A pattern that is in no stack is named at the end, with the number of calls that came so far; those that are in some are not.
#[test]
fn a_pattern_that_matches_nothing_is_named() {
    let worker = Worker::start();
    let unmatched = |filters: &[&str]| -> Vec<(String, u64)> {
        let pid = worker.pid_arg();
        let injector = Injector::start(&[&["--pid", &pid, "--hook", "slab", "--prob", "1"], filters].concat());
        worker.run("kind=slab chain=a count=100");
        let report = injector.stop();
        let all = report.summary["unmatched"].as_array().unwrap_or_else(|| panic!("{}", report.summary)).clone();
        let text = |value: &serde_json::Value| value.as_str().unwrap_or("-").to_owned();
        let said =
            all.iter().map(|said| (format!("{} {}", text(&said["option"]), text(&said["pattern"])), &said["calls"]));
        said.map(|(filter, calls)| (filter, calls.as_u64().expect("a number"))).collect()
    };
    let said = |filter: &str| (filter.to_owned(), 100);
    assert_eq!(unmatched(&["--stack", "injector_test_chain_b"]), [said("--stack injector_test_chain_b")]);
    assert_eq!(unmatched(&["--stack", "injector_test_chain_a"]), []);
    // Several: each for itself, also one that is further up than what matched already.
    let several = ["injector_test_chain_b", "injector_test_allocate", "injector_test_loop", "xfs_*"];
    let several: Vec<&str> = several.iter().flat_map(|pattern| ["--stack", pattern]).collect();
    assert_eq!(unmatched(&several), [said("--stack injector_test_chain_b"), said("--stack xfs_*")]);
    let paths = ["injector_test_loop..injector_test_chain_a", "injector_test_chain_a..injector_test_loop"];
    let paths: Vec<&str> = paths.iter().flat_map(|path| ["--stack", path]).collect();
    assert_eq!(unmatched(&paths), [said("--stack injector_test_chain_a..injector_test_loop")]);
    assert_eq!(unmatched(&["--caller", "injector_test_loop"]), [said("--caller injector_test_loop")]);
    // Each is in the stack, and no call has both.
    let both = ["--caller", "injector_test_allocate", "--stack", "injector_test_loop", "--stack-depth", "1"];
    assert_eq!(unmatched(&both), [said("--stack injector_test_loop")]);
    assert_eq!(unmatched(&["--size", "1M..", "--stack", "injector_test_chain_a"]), [said("--size -")]);
}

#[test]
fn not_stack_hits_the_other_chain() {
    let narrow = ["--stack", "injector_test_allocate"];
    for (not, expected) in [("injector_test_chain_a", (0, 100)), ("injector_test_chain_b", (100, 0))] {
        let filters = [&narrow[..], &["--not-stack", not]].concat();
        assert_eq!(chains("slab", &filters), expected, "--not-stack {not}");
        assert_eq!(chains("page", &filters), expected, "--not-stack {not}");
    }
}

#[test]
fn globs_modules_and_several_patterns() {
    assert_eq!(chains("slab", &["--stack", "injector_test_chain_*"]), (100, 100));
    assert_eq!(chains("slab", &["--stack", "injector_*_chain_b"]), (0, 100));
    assert_eq!(chains("slab", &["--stack", "[injector_test]"]), (100, 100));
    assert_eq!(chains("slab", &["--stack", "[injector_test]", "--not-stack", "*_chain_a"]), (0, 100));
    assert_eq!(chains("slab", &["--stack", "injector_test_chain_a", "--stack", "injector_test_chain_b"]), (100, 100));
    let neither = ["--stack", "[injector_test]", "--not-stack", "*_chain_a", "--not-stack", "*_chain_b"];
    assert_eq!(chains("slab", &neither), (0, 0));
}

/// The first frame that is not the allocator's, and no other.
#[test]
fn the_caller_alone() {
    assert_eq!(chains("slab", &["--caller", "injector_test_allocate"]), (100, 100));
    assert_eq!(chains("page", &["--caller", "injector_test_allocate"]), (100, 100));
    let narrow = ["--stack", "injector_test_allocate"];
    for neighbour in ["injector_test_chain_a", "injector_test_loop"] {
        let filters = [&narrow[..], &["--caller", neighbour]].concat();
        assert_eq!(chains("slab", &filters), (0, 0), "{neighbour} is further up");
    }
    let both = ["--caller", "injector_test_allocate", "--stack", "injector_test_chain_b"];
    assert_eq!(chains("slab", &both), (0, 100));
}

/// Called from, at any distance, and never the other way round.
#[test]
fn functions_in_order() {
    assert_eq!(chains("slab", &["--stack", "injector_test_loop..injector_test_allocate"]), (100, 100));
    assert_eq!(chains("slab", &["--stack", "injector_test_chain_a..injector_test_allocate"]), (100, 0));
    assert_eq!(chains("slab", &["--stack", "do_syscall_64..injector_test_chain_b..injector_test_allocate"]), (0, 100));
    assert_eq!(
        chains("slab", &["--stack", "do_syscall_64..*_write..injector_test_loop..injector_test_chain_[ab]"]),
        (100, 100)
    );
    for reverse in ["injector_test_allocate..injector_test_loop", "injector_test_allocate..injector_test_chain_a"] {
        assert_eq!(chains("slab", &["--stack", reverse]), (0, 0), "{reverse}");
    }
    // One path or another, or a single function.
    let either = ["--stack", "injector_test_loop..injector_test_chain_a", "--stack", "injector_test_chain_b"];
    assert_eq!(chains("slab", &either), (100, 100));
    // A frame is not called from itself.
    assert_eq!(chains("slab", &["--stack", "injector_test_chain_a..injector_test_chain_a"]), (0, 0));
}

/// So many frames from the caller on.
#[test]
fn how_far_up() {
    // allocate, chain_a, loop: the third.
    for (depth, expected) in [("1", 0), ("2", 0), ("3", 100), ("4", 100)] {
        let filters = ["--stack", "injector_test_loop", "--stack-depth", depth];
        assert_eq!(chains("slab", &filters), (expected, expected), "--stack-depth {depth}");
    }
    let not = ["--stack", "injector_test_allocate", "--not-stack", "injector_test_chain_a", "--stack-depth", "1"];
    assert_eq!(chains("slab", &not), (100, 100), "nobody looks at the chain");
}

/// Where a function lies, and pieces of one.
#[test]
fn ranges_of_addresses() {
    let start = injector_tests::module::address("injector_test_chain_a");
    let range = format!("{start:#x}-{:#x}", start + 16);
    // A range of 16 bytes has the call in it or not; that of 4096 has also what follows.
    let wide = format!("{start:#x}-{:#x}", start + 4096);
    assert!(chains("slab", &["--stack", &wide]).0 == 100, "{wide}");
    let narrow = chains("slab", &["--stack", &range, "--stack", "injector_test_chain_b"]);
    assert_eq!(narrow.1, 100, "{range}");
    refused(&["--prob", "1", "--stack", "injector_test_chain_a+0x0-0x1000"], 2, &["injector_test_chain_a"]);
    assert_eq!(
        chains("slab", &["--stack", "injector_test_chain_a+0x0-0x1", "--stack", "injector_test_chain_b"]),
        (0, 100)
    );
}

#[test]
fn deep_frames_count() {
    let run = RunFile::open();
    let injector = Injector::start(&["--hook", "slab", "--prob", "1", "--stack", "injector_test_chain_b"]);
    let outcome = run.run("kind=slab chain=b depth=60 count=10");
    let report = injector.stop();
    assert_eq!(outcome.failed, 10);
    let stack = stack_of(&report.failures[0]);
    assert_eq!(stack.iter().filter(|frame| frame.starts_with("injector_test_deeper+")).count(), 60, "{stack:#?}");
}

#[test]
fn a_stack_begins_with_the_caller_of_the_hook_and_names_modules() {
    let worker = Worker::start();
    let injector = Injector::start(&["--pid", &worker.pid_arg(), "--hook", "page"]);
    worker.run("kind=page chain=b");
    let report = injector.stop();
    let stack = stack_of(&report.failures[0]);
    assert!(!stack[0].starts_with("should_fail_alloc_page"), "the hook itself: {stack:#?}");
    let expected = ["injector_test_allocate", "injector_test_chain_b", "injector_test_loop", "injector_test_task"];
    let ours: Vec<_> = stack.iter().filter(|frame| frame.starts_with("injector_test_")).collect();
    for (frame, name) in ours.iter().zip(expected) {
        assert!(frame.starts_with(&format!("{name}+0x")) && frame.ends_with(" [injector_test]"), "{name}: {stack:#?}");
    }
    assert!(ours.len() >= expected.len(), "{stack:#?}");
    assert!(has_frame(&stack, "vfs_write+") && has_frame(&stack, "do_syscall_64+"), "{stack:#?}");
}

/// What an interrupt interrupted is not its caller: the stack ends where the interrupt entered.
#[test]
fn a_stack_ends_where_an_interrupt_entered() {
    let run = RunFile::open();
    for (from, cpu) in [("hardirq", 0), ("hardirq", 1), ("softirq", 0), ("softirq", 1)] {
        let injector = Injector::start(&["--hook", "slab", "--prob", "1", "--stack", "injector_test_loop"]);
        // What runs on top of the injector's own threads is spared with them, so one try may not do.
        let request = format!("kind=slab gfp=ATOMIC from={from} cpu={cpu} count=10");
        let mut failed = 0;
        for _ in 0..100 {
            failed += run.run(&request).failed;
            if failed > 50 {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let report = injector.stop();
        assert!(failed > 0, "from {from} on CPU {cpu}: {}", report.summary);
        for stack in report.failures.iter().map(stack_of) {
            // A softirq that a task runs itself when it enables softirqs again was not entered by an interrupt.
            if has_frame(&stack, "__local_bh_enable_ip") || has_frame(&stack, "run_ksoftirqd") {
                assert_eq!(from, "softirq", "{stack:#?}");
                continue;
            }
            for interrupted in ["injector_test_write", "do_syscall_64", "do_idle", "cpu_startup_entry"] {
                assert!(!has_frame(&stack, interrupted), "from {from}: {stack:#?}");
            }
        }
    }
}

/// Thousands of symbols in one pattern: it loads, and it does not match what is not there.
#[test]
fn a_pattern_with_thousands_of_symbols_works() {
    let symbols = std::fs::read_to_string("/proc/kallsyms").expect("kallsyms");
    let xfs =
        symbols.lines().filter(|line| line.split(' ').nth(2).is_some_and(|name| name.starts_with("xfs_"))).count();
    assert!(xfs > 1500, "only {xfs} symbols begin with xfs_");
    assert_eq!(chains("slab", &["--stack", "xfs_*"]), (0, 0));
    assert_eq!(chains("slab", &["--stack", "xfs_*", "--stack", "injector_test_chain_a"]), (100, 0));
    assert_eq!(chains("slab", &["--stack", "[injector_test]", "--not-stack", "xfs_*"]), (100, 100));
    // Tens of thousands, none of them on the way from write(2) to the module.
    assert_eq!(chains("slab", &["--stack", "[injector_test]", "--not-stack", "[bghlmtuw]*"]), (100, 100));
}

/// The signature of a site, as a run shows it, fails the calls of that call chain and no others, in the next run too.
#[test]
fn a_site_is_failed_by_its_signature() {
    for hook in ["slab", "page"] {
        let run = RunFile::open();
        let signature = |chain: &str| {
            let filter = format!("injector_test_chain_{chain}");
            let injector = Injector::start(&["--hook", hook, "--prob", "1", "--stack", &filter]);
            let outcome = run.run(&format!("kind={hook} chain={chain} count=100"));
            let report = injector.stop();
            let sites = report.sites();
            let [site] = sites.as_slice() else { panic!("{sites:?}") };
            assert_eq!((site.count, outcome.failed), (100, 100), "{sites:?}");
            site.signature.clone()
        };
        let (a, b) = (signature("a"), signature("b"));
        assert_ne!(a, b);
        assert_eq!(chains(hook, &["--site", &a]), (100, 0), "{hook}");
        assert_eq!(chains(hook, &["--site", &b]), (0, 100), "{hook}");
        assert_eq!(chains(hook, &["--site", &a, "--site", &b]), (100, 100), "{hook}");
        // Digits of either case; one that no call has fails nothing.
        assert_eq!(chains(hook, &["--site", &a.to_uppercase()]), (100, 0), "{hook}");
        assert_eq!(chains(hook, &["--site", "0123456789abcdef"]), (0, 0), "{hook}");
        // Another call chain into the same function is another site.
        assert_eq!(chains(hook, &["--site", &a, "--stack", "injector_test_chain_b"]), (0, 0), "{hook}");
    }
}
