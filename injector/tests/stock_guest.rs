//! A sweep in guests that boot a stock kernel of Debian, as a user starts it.
//!
//! It boots a guest, so it is asked for by name: `cargo xtask test` does it, and by hand
//! `INJECTOR_STOCK_KERNEL=debian:7.3 cargo test -p injector --test stock_guest -- --ignored`.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::{env, fs, process::Command};

#[test]
#[ignore = "boots guests"]
fn a_sweep_of_a_stock_kernel_comes_to_its_end() {
    let kernel = env::var("INJECTOR_STOCK_KERNEL").expect("INJECTOR_STOCK_KERNEL is set");
    let directory = tempfile::tempdir().unwrap();
    let journal = directory.path().join("sweep.jsonl");
    let mut sweep = Command::new(env!("CARGO_BIN_EXE_injector"));
    // Without optimisation the injector is large, and the root is in memory.
    sweep.args(["sweep", "--vm", &kernel, "--memory", "3072", "--no-kthreads", "--leaks", "off", "--journal"]);
    sweep.arg(&journal).args(["--", "sh", "-c", "echo text >/tmp/a && mv /tmp/a /tmp/b && rm /tmp/b"]);
    let output = sweep.output().unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{text}");
    let journal = fs::read_to_string(&journal).unwrap();
    let failed = journal.lines().filter(|line| line.contains("\"type\":\"failed\"")).count();
    println!("{failed} failures");
    assert!(failed >= 20, "{failed} failures: {text}");
    assert!(journal.lines().any(|line| line.contains("\"type\":\"end\"")), "{text}");
}
