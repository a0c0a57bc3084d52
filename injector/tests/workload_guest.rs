//! A workload of the catalogue, by its name, in a guest with a stock kernel of Debian and only the modules that it names.
//!
//! It boots a guest, so it is asked for by name: `cargo test -p injector --test workload_guest -- --ignored`.
//! `INJECTOR_STOCK_KERNEL` names another kernel than debian:7.3, `INJECTOR_TEST_WORKLOAD` another workload than scsi-debug.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::{env, fs, path::Path, process::Command};

#[test]
#[ignore = "boots guests"]
fn a_workload_runs_by_its_name() {
    let set = |name: &str, default: &str| env::var(name).unwrap_or_else(|_| default.to_owned());
    let kernel = set("INJECTOR_STOCK_KERNEL", "debian:7.3");
    let workload = set("INJECTOR_TEST_WORKLOAD", "scsi-debug");
    let directory = tempfile::tempdir().unwrap();
    let mut campaign = Command::new(env!("CARGO_BIN_EXE_injector"));
    campaign.args([
        "campaign",
        &workload,
        "--vm",
        &kernel,
        "--memory",
        "3072",
        "--budget-each",
        "3m",
        "--json",
        "--workloads",
    ]);
    campaign.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../workloads")).arg("-o").arg(directory.path());
    let output = campaign.args(["--", "--no-kthreads", "--leaks", "off"]).output().unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(matches!(output.status.code(), Some(0 | 1)), "{text}");
    let journal = fs::read_to_string(directory.path().join(format!("{workload}.jsonl"))).unwrap();
    let lines = |what: &str| journal.lines().filter(|line| line.contains(what)).count();
    let (failed, modules) = (lines("\"type\":\"failed\""), lines("[scsi_debug]"));
    println!("{failed} failures, {modules} lines with a frame in the module");
    assert!(failed >= 20, "{failed} failures: {text}");
    assert!(journal.contains(&format!("\"name\":\"{workload}\"")), "{text}");
    assert!(workload != "scsi-debug" || modules > 0, "sites inside the module have its name: {text}");
    assert!(directory.path().join("report.json").is_file());
}
