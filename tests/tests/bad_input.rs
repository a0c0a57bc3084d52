//! Bad input: one line that says what, which and what to do; exit code 2; nothing attached.

use injector_tests::{Worker, refused};

/// With a target, so that it is the bad value that is refused and nothing else.
fn refused_with(worker: &Worker, arguments: &[&str], says: &[&str]) {
    let pid = worker.pid_arg();
    let arguments = [&["--pid", pid.as_str()], arguments].concat();
    refused(&arguments, 2, says);
}

#[test]
fn flag_names() {
    let worker = Worker::start();
    refused_with(&worker, &["--gfp", "NOFSS"], &["NOFSS", "NOFS"]);
    refused_with(&worker, &["--gfp", "KERNAL"], &["KERNAL", "KERNEL"]);
    refused_with(&worker, &["--gfp", "__GFP_ZER0"], &["ZER0", "ZERO"]);
    refused_with(&worker, &["--gfp", ""], &["gfp"]);
    refused_with(&worker, &["--gfp", "NOFS,"], &["NOFS,"]);
    refused_with(&worker, &["--gfp", "NOFS,FS"], &["FS"]);
}

#[test]
fn probabilities() {
    let worker = Worker::start();
    for bad in ["1.5", "-0.1", "NaN", "inf", "101%", "2/1", "1/0", "x", ""] {
        refused_with(&worker, &[&format!("--prob={bad}")], &["prob"]);
    }
    // Without a target, what would happen by default is everything: so there is no default.
    refused(&[], 2, &["--prob"]);
    refused(&["--gfp", "NOFS"], 2, &["--prob"]);
}

#[test]
fn orders() {
    let worker = Worker::start();
    refused_with(&worker, &["--order-lt", "0"], &["order"]);
    refused_with(&worker, &["--order-gt", "3", "--order-lt", "4"], &["order"]);
    refused_with(&worker, &["--order", "3..=1"], &["3..=1"]);
    refused_with(&worker, &["--order", "2..2"], &["2..2"]);
    refused_with(&worker, &["--order", "0", "--order-gt", "0"], &["order"]);
    refused_with(&worker, &["--order", "x"], &["x"]);
}

#[test]
fn targets() {
    let gone = Worker::start();
    let pid = gone.pid_arg();
    gone.end();
    refused(&["--pid", &pid], 2, &[&pid, "no process"]);
    refused(&["--pid", "x"], 2, &["x"]);
    refused(&["--pid", "0"], 2, &["0"]);
    // A target that got lost is not the whole machine.
    refused(&["--prob", "0.5"], 2, &["--all"]);
    refused(&["--prob", "0.5", "--"], 2, &["no command after --"]);
    refused(&["--prob", "0.5", "--cgroup", ""], 2, &["a value is required for '--cgroup"]);
    refused(&["--all", "--prob", "0.5", "--pid", "1"], 2, &["--all"]);
    refused(&["--cgroup", "/tmp"], 2, &["/tmp", "cgroup"]);
    refused(&["--cgroup", "/sys/fs/cgroup/no-such"], 2, &["no-such", "cgroup"]);
    refused(&["--cgroup", "/proc/self/stat"], 2, &["/proc/self/stat", "cgroup"]);
    refused(&["--", "/no/such/program"], 2, &["/no/such/program"]);
    refused(&["--", "/etc"], 2, &["/etc"]);
}

#[test]
fn stacks() {
    let worker = Worker::start();
    refused_with(&worker, &["--stack", "injector_test_chain_aa"], &["injector_test_chain_aa", "injector_test_chain_a"]);
    refused_with(&worker, &["--stack", "xfs_no_such_function_*"], &["xfs_no_such_function_*"]);
    refused_with(&worker, &["--not-stack", "[injector_tset]"], &["injector_tset", "injector_test"]);
    refused_with(&worker, &["--stack", ""], &["stack"]);
}

#[test]
fn the_rest() {
    let worker = Worker::start();
    refused_with(&worker, &["--output", "/no/such/directory/file"], &["/no/such/directory/file"]);
    refused_with(&worker, &["--output", "/tmp"], &["/tmp"]);
    refused_with(&worker, &["--format", "xml"], &["xml", "json"]);
    refused_with(&worker, &["--hook", "slob"], &["slob", "slab"]);
    refused_with(&worker, &["--times", "0"], &["times"]);
    refused_with(&worker, &["--duration", "0s"], &["duration"]);
    refused_with(&worker, &["--duration", "soon"], &["soon"]);
    refused_with(&worker, &["--ttl", "1ms"], &["ttl"]);
    refused_with(&worker, &["--gfp-scope", "both"], &["both"]);
    refused_with(&worker, &["--no-such-option"], &["--no-such-option"]);
}
