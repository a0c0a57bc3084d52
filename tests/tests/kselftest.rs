//! The kselftest package of `cargo xtask dist`, run by the kernel's own runner: run_kselftest.sh out of the source of the newest
//! series.

use std::time::{Duration, Instant};

use injector_tests::ktap::{self, Ktap, Test};
use injector_tests::{bpf, kselftest, shell};

const LIMIT: Duration = Duration::from_secs(600);
const TESTS: [&str; 3] = ["check.sh", "count.sh", "sweep.sh"];

/// Runs the collection, or one test of it, after `prepare`, in a mount namespace of its own; the status, and what it printed.
fn run(prepare: &str, what: &str) -> (Option<i32>, Ktap, String) {
    let directory = kselftest::unpacked();
    let script = format!("{prepare}\n{directory}/run_kselftest.sh {what} 2>&1");
    let start = Instant::now();
    let output = shell::output("unshare", &["-m", "sh", "-c", &script], LIMIT);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    println!("{text}{what}: {:?}", start.elapsed());
    let ktap = ktap::parse(&text).unwrap_or_else(|error| panic!("{error}:\n{text}"));
    (output.status.code(), ktap, text)
}

fn inside(test: &Test) -> &Ktap {
    test.inside.as_ref().unwrap_or_else(|| panic!("{} says nothing", test.name))
}

#[test]
fn all_tests_pass() {
    let (code, ktap, text) = run("", "-c injector");
    assert_eq!(code, Some(0), "{text}");
    let names: Vec<&str> = ktap.tests.iter().map(|test| test.name.as_str()).collect();
    assert_eq!(names, TESTS.map(|name| format!("selftests: injector: {name}")));
    for test in &ktap.tests {
        assert!(test.ok && test.directive.is_empty() && !inside(test).tests.is_empty(), "{test:?}");
    }
    assert_eq!((inside(&ktap.tests[0]).plan, inside(&ktap.tests[1]).plan), (Some(2), Some(4)));
    // The sweep has a test for each module, and in it one for each call chain.
    let sites: Vec<&Test> = inside(&ktap.tests[2]).tests.iter().flat_map(|module| &inside(module).tests).collect();
    assert!(sites.iter().filter(|test| test.ok && test.directive.is_empty()).count() >= 20, "{sites:?}");
    bpf::gone_within(Duration::from_secs(1), "after the tests");
}

/// The runner's codes: 4 is a test that is skipped.
#[test]
fn a_kernel_that_cannot_be_injected_into_is_skipped_with_the_reason() {
    let (code, ktap, text) = run("mount -t tmpfs none /sys/kernel/btf || exit 99", "-c injector");
    assert_eq!((code, ktap.tests.len()), (Some(0), TESTS.len()), "{text}");
    for test in &ktap.tests {
        assert_eq!((test.ok, test.directive.as_str()), (true, "SKIP"), "{text}");
        let reason = inside(test).skip.as_deref().unwrap_or_else(|| panic!("no reason: {test:?}"));
        assert!(reason.contains("BTF"), "{reason}");
    }
}

#[test]
fn a_finding_is_a_failure_unless_it_is_known() {
    let defects = "sh /workloads/defects.sh setup || exit 99
export INJECTOR_DEFECTS=unwind_order KSELFTEST_SWEEP_SH_ARGS='sh /workloads/defects.sh run'";
    let (code, ktap, text) = run(defects, "-t injector:sweep.sh");
    assert_eq!(code, Some(1), "{text}");
    assert!(!ktap.tests[0].ok && ktap.tests[0].directive == "exit=1", "{text}");
    let module = inside(&ktap.tests[0]).tests.iter().find(|module| module.name == "injector_defects");
    assert!(module.is_some_and(|module| !module.ok), "{text}");
    let known = format!(
        "{defects}\nprintf '%s\\n' 'warning: list_del corruption in defect_unwind_order' >{}/injector/known.txt",
        kselftest::unpacked()
    );
    let (code, ktap, text) = run(&known, "-t injector:sweep.sh");
    let _ = std::fs::remove_file(format!("{}/injector/known.txt", kselftest::unpacked()));
    assert_eq!(code, Some(0), "{text}");
    assert!(ktap.tests[0].ok, "{text}");
}
