//! Several rules in one run: the first that fails a call wins, each has filters, policy and counts of its own.

use std::fs;

use injector_tests::{Injector, Report, Worker, daemon, refused};

/// A plan file with these rules.
fn plan(name: &str, text: &str) -> String {
    let path = daemon::scratch(name);
    fs::write(&path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    path.to_str().expect("ASCII").to_owned()
}

fn failures_of(report: &Report, rule: &str) -> u64 {
    report.failures.iter().filter(|failure| failure["rule"] == rule).count() as u64
}

fn counter(report: &Report, rule: &str, hook: &str, name: &str) -> u64 {
    let rules = report.summary["rules"].as_array().unwrap_or_else(|| panic!("{}", report.summary));
    let rule = rules.iter().find(|known| known["name"] == rule).unwrap_or_else(|| panic!("{rule}: {}", report.summary));
    rule["hooks"][hook][name].as_u64().unwrap_or_else(|| panic!("{hook} {name}: {rule}"))
}

#[test]
fn each_rule_has_its_own_filters() {
    let worker = Worker::start();
    let path = plan(
        "filters.toml",
        r#"
        [[rule]]
        name = "small"
        hook = ["slab"]
        cache = ["injector_test_64"]
        prob = 1

        [[rule]]
        name = "chain-b"
        hook = ["slab"]
        stack = ["injector_test_chain_b"]
        prob = 1
        "#,
    );
    let injector = Injector::start(&["--pid", &worker.pid_arg(), "--plan", &path]);
    let failed = [
        "kind=slab cache=injector_test_64 chain=a count=10",
        "kind=slab cache=injector_test_4k chain=b count=20",
        "kind=slab cache=injector_test_4k chain=a count=40",
        "kind=slab cache=injector_test_64 chain=b count=80",
    ]
    .map(|request| worker.run(request).failed);
    let report = injector.stop();
    assert_eq!(failed, [10, 20, 0, 80]);
    assert_eq!((failures_of(&report, "small"), failures_of(&report, "chain-b")), (90, 20), "the first wins");
    // What the first rule failed, the second never saw.
    assert_eq!(counter(&report, "small", "slab", "matches"), 90);
    assert_eq!(counter(&report, "chain-b", "slab", "matches"), 20);
    assert_eq!(report.hook("slab").get("failures"), 110, "the sum over the rules");
    report.assert_accounts_with_lines();
}

/// The other way round, the other rule fails what both match.
#[test]
fn order_as_written() {
    let worker = Worker::start();
    let rule =
        |name: &str, filter: &str| format!("[[rule]]\nname = \"{name}\"\nhook = [\"slab\"]\nprob = 1\n{filter}\n");
    let (wide, narrow) = (rule("wide", ""), rule("narrow", "stack = [\"injector_test_chain_b\"]"));
    for (file, text, expected) in [
        ("wide-first.toml", format!("{wide}{narrow}"), (20, 0)),
        ("narrow-first.toml", format!("{narrow}{wide}"), (10, 10)),
    ] {
        let injector = Injector::start(&["--pid", &worker.pid_arg(), "--plan", &plan(file, &text)]);
        worker.run("kind=slab chain=a count=10");
        worker.run("kind=slab chain=b count=10");
        let report = injector.stop();
        assert_eq!((failures_of(&report, "wide"), failures_of(&report, "narrow")), expected, "{file}");
    }
}

/// What the first rule's policy lets go, the second may fail; each has its own budget.
#[test]
fn each_rule_has_its_own_policy() {
    let worker = Worker::start();
    let path = plan(
        "policies.toml",
        r#"
        [[rule]]
        name = "third"
        hook = ["slab"]
        every = 3
        times = 5

        [[rule]]
        name = "half"
        hook = ["slab"]
        every = 2
        times = 7
        "#,
    );
    let injector = Injector::start(&["--pid", &worker.pid_arg(), "--plan", &path]);
    let failed = worker.run("kind=slab count=100").failed;
    let report = injector.finish_well();
    assert_eq!((failed, report.end()), (12, "budget"), "{}", report.summary);
    assert_eq!((failures_of(&report, "third"), failures_of(&report, "half")), (5, 7));
    report.assert_accounts_with_lines();
}

#[test]
fn bad_files_are_refused_with_line_and_column() {
    let worker = Worker::start();
    let pid = worker.pid_arg();
    for (name, text, says) in [
        ("key.toml", "[[rule]]\nname = \"a\"\ngpf = [\"NOFS\"]\n", &["key.toml:3:1", "gpf", "gfp"][..]),
        ("value.toml", "[[rule]]\nname = \"a\"\nprob = 7\n", &["value.toml:3", "7"]),
        ("syntax.toml", "[[rule]\nname = 1\n", &["syntax.toml:1"]),
        ("twice.toml", "[[rule]]\nname = \"a\"\n[[rule]]\nname = \"a\"\n", &["twice.toml", "a"]),
        ("none.toml", "dry_run = true\n", &["none.toml", "rule"]),
    ] {
        refused(&["--pid", &pid, "--plan", &plan(name, text)], 2, says);
    }
    refused(&["--pid", &pid, "--plan", "/no/such/file.toml"], 2, &["/no/such/file.toml"]);
    let good = plan("good.toml", "[[rule]]\nname = \"a\"\nprob = 1\n");
    refused(&["--pid", &pid, "--plan", &good, "--gfp", "NOFS"], 2, &["--plan", "--gfp"]);
}

/// Of several rules each has smaller tables. A site that finds no room is not failed, and counted; known ones go on being failed,
/// whether what their stacks are is remembered or, with that table full too, found out each time.
#[test]
fn tables_that_are_full_miscount_nothing() {
    const STACKS: u64 = 4096;
    const ROOM: u64 = 2048;
    let worker = Worker::start();
    let nobodys: String =
        (1..8).map(|i| format!("[[rule]]\nname = \"nobodys-{i}\"\ncomm = [\"nobody\"]\nprob = 1\n")).collect();
    let all = "[[rule]]\nname = \"all\"\nhook = [\"slab\"]\nstack = [\"injector_test_loop\"]\nprob = 1\n";
    let path = plan("full.toml", &format!("{all}{nobodys}"));
    let injector = Injector::start(&["--pid", &worker.pid_arg(), "--plan", &path, "--quiet"]);
    let request = format!("kind=slab depth=13 turns=yes count={STACKS}");
    for _ in 0..2 {
        assert_eq!(worker.run(&request).failed, ROOM);
    }
    let report = injector.stop();
    report.assert_accounts();
    let counts = ["matches", "failures", "sites_full"].map(|name| counter(&report, "all", "slab", name));
    assert_eq!(counts, [2 * STACKS, 2 * ROOM, 2 * (STACKS - ROOM)], "{}", report.summary);
    assert_eq!(report.sites().len() as u64, ROOM);
    assert!(report.sites().iter().all(|site| site.count == 2), "{}", report.summary);
}
