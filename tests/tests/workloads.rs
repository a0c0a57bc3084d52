//! The workloads that sweeps run: without failures each works, as often as it is run, and leaves nothing behind.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use injector_tests::{KernelLog, shell};

const WORKLOADS: &str = "/workloads";
const LIMIT: Duration = Duration::from_secs(240);

fn run(name: &str, verb: &str) -> String {
    let program = format!("{WORKLOADS}/{name}");
    let output = shell::output(&program, &[verb], LIMIT);
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name} {verb}: {}\n{text}", output.status);
    text.into_owned()
}

/// What a workload could leave behind.
#[derive(Debug, PartialEq, Eq)]
struct State {
    mounts: Vec<String>,
    loops: BTreeSet<String>,
    files: BTreeSet<String>,
    /// Names of programs; threads of the kernel, which come and go, are none.
    programs: Vec<String>,
    servers: String,
}

impl State {
    fn now() -> Self {
        let names = |directory: &str| -> BTreeSet<String> {
            let entries = fs::read_dir(directory).into_iter().flatten().flatten();
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
        };
        let backed = |device: &String| Path::new(&format!("/sys/block/{device}/loop/backing_file")).exists();
        let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let mut programs: Vec<String> = names("/proc")
            .iter()
            .filter(|name| name.parse::<u32>().is_ok())
            .filter(|pid| !text(&format!("/proc/{pid}/cmdline")).is_empty())
            .map(|pid| text(&format!("/proc/{pid}/comm")))
            .collect();
        programs.sort();
        Self {
            mounts: text("/proc/mounts").lines().map(str::to_owned).collect(),
            loops: names("/sys/block").into_iter().filter(backed).collect(),
            files: names("/tmp"),
            programs,
            servers: text("/proc/fs/nfsd/threads"),
        }
    }
}

/// Runs it twice, and says how long it took.
fn works_twice(name: &str, verb: &str) {
    for _ in 0..2 {
        let started = Instant::now();
        let text = run(name, verb);
        println!("{} in {:.2} s", text.trim_end(), started.elapsed().as_secs_f32());
        let (steps, failed) = counts(&text).unwrap_or_else(|| panic!("{name} {verb} ends without its counts: {text}"));
        assert!(steps > 40 && failed == 0, "{name} {verb}: {text}");
    }
}

/// From `NAME: N steps, M failed`, which is the last line.
fn counts(text: &str) -> Option<(u32, u32)> {
    let (_, counts) = text.trim_end().lines().next_back()?.split_once(": ")?;
    let (steps, failed) = counts.split_once(" steps, ")?;
    Some((steps.parse().ok()?, failed.strip_suffix(" failed")?.parse().ok()?))
}

/// So that one failed test does not make others fail.
struct Cleanup<'a>(&'a str);

impl Drop for Cleanup<'_> {
    fn drop(&mut self) {
        let _ = shell::output(&format!("{WORKLOADS}/{}", self.0), &["cleanup"], LIMIT);
    }
}

fn nothing_is_left(name: &str, body: impl FnOnce()) {
    let mut log = KernelLog::from_now();
    let before = State::now();
    let _cleanup = Cleanup(name);
    body();
    run(name, "cleanup");
    assert_eq!(State::now(), before, "{name} leaves something behind");
    log.assert_no_splat();
}

#[test]
fn ext4() {
    nothing_is_left("ext4.sh", || works_twice("ext4.sh", "all"));
}

#[test]
fn xfs() {
    nothing_is_left("xfs.sh", || works_twice("xfs.sh", "all"));
}

#[test]
fn btrfs() {
    nothing_is_left("btrfs.sh", || works_twice("btrfs.sh", "all"));
}

/// As a sweep does it: the server is set up once.
fn nfs(name: &str) {
    nothing_is_left(name, || {
        run(name, "setup");
        works_twice(name, "run");
    });
}

#[test]
fn nfs42() {
    nfs("nfs42.sh");
}

#[test]
fn nfs3() {
    nfs("nfs3.sh");
}

#[test]
fn both_versions_of_nfs_at_once() {
    nothing_is_left("nfs.sh", || works_twice("nfs.sh", "all"));
}

#[test]
fn sockets() {
    nothing_is_left("sockets", || works_twice("sockets", "all"));
}

#[test]
fn uring() {
    nothing_is_left("uring", || works_twice("uring", "all"));
}

/// What the demo uses: mounted, worked on, cleaned up.
#[test]
fn mounted_for_the_mix() {
    for name in ["ext4.sh", "xfs.sh", "btrfs.sh", "nfs.sh"] {
        nothing_is_left(name, || {
            run(name, "mount");
            works_twice(name, "mix");
        });
    }
}

/// A run that is killed leaves everything behind; the next one, and cleanup, begin with that.
#[test]
fn what_a_killed_run_left_is_cleaned_up() {
    for name in ["ext4.sh", "xfs.sh", "btrfs.sh"] {
        nothing_is_left(name, || {
            run(name, "mount");
            assert_eq!(State::now().loops.len(), 1, "nothing was mounted");
            works_twice(name, "run");
        });
        nothing_is_left(name, || drop(run(name, "mount")));
    }
    nothing_is_left("nfs.sh", || {
        run("nfs.sh", "mount");
        works_twice("nfs.sh", "all");
    });
}

/// Steps that fail are counted, and the exit status says it. Here the disk is too small for the file operations.
#[test]
fn a_step_that_fails_is_counted_and_does_not_end_it() {
    nothing_is_left("ext4.sh", || {
        let script = fs::read_to_string(format!("{WORKLOADS}/ext4.sh")).unwrap();
        let small = format!("{WORKLOADS}/small.sh");
        fs::write(&small, script.replace("size=64M", "size=1M")).unwrap();
        let output = shell::output("/bin/sh", &[&small], LIMIT);
        let text = String::from_utf8_lossy(&output.stdout);
        let (steps, failed) = counts(&text).unwrap_or_else(|| panic!("{text}"));
        assert!(failed > 3 && failed < steps && steps > 90, "{text}");
        assert_eq!(output.status.code(), Some(1), "{text}");
    });
}
