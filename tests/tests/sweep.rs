//! `injector sweep` in this kernel: sites are failed and nobody notices, what can't work is refused, nothing is lost.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use injector_tests::daemon::INJECTOR;
use injector_tests::{KernelLog, bpf, shell};

const LIMIT: Duration = Duration::from_secs(300);

/// Small, deterministic, cleans up after itself.
const WORKLOAD: &str = "mkdir /tmp/sweep-d && echo text >/tmp/sweep-d/a && mv /tmp/sweep-d/a /tmp/sweep-d/b && \
     ln /tmp/sweep-d/b /tmp/sweep-d/c && cat /tmp/sweep-d/c && rm -r /tmp/sweep-d";

/// After a run that was ended early.
const CLEANUP: &str = "rm -rf /tmp/sweep-d /tmp/sweep-s";

fn journal(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("sweep-{}-{name}.jsonl", std::process::id()));
    let _ = fs::remove_file(&path);
    path
}

fn sweep(journal: &Path, options: &[&str], command: &[&str]) -> Output {
    let mut arguments = vec!["sweep", "--journal", journal.to_str().expect("UTF-8"), "--cleanup", CLEANUP];
    arguments.extend(options);
    arguments.push("--");
    arguments.extend(command);
    let output = shell::output(INJECTOR, &arguments, LIMIT);
    bpf::gone_within(Duration::from_secs(1), "after a sweep");
    output
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn refused(output: &Output, code: i32, says: &[&str]) {
    let text = text(output);
    assert_eq!(output.status.code(), Some(code), "{text}");
    for word in says {
        assert!(text.contains(word), "{word:?} is missing: {text}");
    }
}

/// The records of a journal of this type.
fn records(journal: &Path, kind: &str) -> Vec<serde_json::Value> {
    let text = fs::read_to_string(journal).unwrap_or_else(|e| panic!("{}: {e}", journal.display()));
    let lines = text
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap_or_else(|e| panic!("{line}: {e}")));
    lines.filter(|record| record["type"] == kind).collect()
}

/// All that a journal says of a run, to be read when it ended as it should not.
fn of_run(journal: &Path, run: &serde_json::Value) -> String {
    let text = fs::read_to_string(journal).expect("read before");
    let is_of_it =
        |line: &&str| serde_json::from_str::<serde_json::Value>(line).is_ok_and(|record| record["run"] == run["run"]);
    text.lines().filter(is_of_it).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_workload_does_not_notice() {
    let mut log = KernelLog::from_now();
    let file = journal("quiet");
    let output = sweep(&file, &["--no-kthreads", "--leaks", "off"], &["sh", "-c", WORKLOAD]);
    // An oops or a leak of this kernel would be exit code 1, and the test is about a path that has none.
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    log.assert_no_splat();
    let failed = records(&file, "failed");
    let in_calls = failed.iter().filter(|record| record["level"] == "retry").count();
    assert!(in_calls >= 40, "{in_calls} failures inside system calls");
    // Each pass ended with the workload's own status, though dozens of its calls had failed.
    let armed = records(&file, "armed");
    let passes = armed.iter().filter(|run| run["level"] == "retry").map(|run| run["run"].clone()).collect::<Vec<_>>();
    let ended = records(&file, "ended");
    for run in ended.iter().filter(|run| passes.contains(&run["run"])) {
        assert_eq!((&run["end"], &run["status"]), (&"finished".into(), &0.into()), "{run}\n{}", of_run(&file, run));
    }
    // Each site by itself once, at the retry level; a second time only with a failure before it.
    let mut alone: Vec<&str> = failed
        .iter()
        .filter(|record| record["level"] == "retry" && record["after"].is_null())
        .filter_map(|record| record["site"].as_str())
        .collect();
    let all = alone.len();
    alone.sort_unstable();
    alone.dedup();
    assert!(all <= alone.len() + alone.len() / 10, "{all} failures of {} sites", alone.len());
    // What is about to be failed stands before it.
    let text = fs::read_to_string(&file).expect("read before");
    let first_armed = text.lines().position(|line| line.contains("\"type\":\"armed\"")).expect("armed");
    let first_failed = text.lines().position(|line| line.contains("\"type\":\"failed\"")).expect("failed");
    assert!(first_armed < first_failed);
    assert_eq!(records(&file, "end").len(), 1, "it came to its end");

    // And it can be shown.
    let sites = shell::output(INJECTOR, &["sites", file.to_str().expect("UTF-8")], LIMIT);
    assert!(String::from_utf8_lossy(&sites.stdout).contains("sites seen"), "{}", self::text(&sites));
}

/// Two stops at each call cost a script as much as all else together.
#[test]
fn a_task_stops_only_where_something_is_to_be_seen() {
    let said = std::env::temp_dir().join("sweep-switches");
    // Each stop is a voluntary switch, and each round of the loop makes some ten calls.
    let script = format!(
        "i=0; while [ $i -lt 2000 ]; do echo >/dev/null; i=$((i+1)); done; \
         grep ^voluntary /proc/$$/status >>{}",
        said.display()
    );
    let _ = fs::remove_file(&said);
    let output = shell::output(INJECTOR, &["sites", "--", "sh", "-c", &script], LIMIT);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let text = fs::read_to_string(&said).expect("the workload ran");
    let switches: Vec<u32> = text.lines().filter_map(|line| line.split_whitespace().nth(1)?.parse().ok()).collect();
    // By itself, then recorded under the tracer.
    assert!(switches.len() > 2, "{text}");
    assert!(switches.iter().all(|switches| *switches < 1000), "{switches:?}");
}

#[test]
fn what_cannot_work_is_refused() {
    let file = journal("refused");
    refused(
        &sweep(&file, &[], &["sh", "-c", "echo it is broken; exit 3"]),
        2,
        &["fails (status 3) without any injection", "it is broken"],
    );
    refused(&sweep(&file, &["--hang", "1s"], &["sleep", "1000"]), 2, &["does not end within 10 s"]);
    refused(&sweep(&file, &[], &["/no/such/program"]), 2, &["/no/such/program"]);
    refused(&sweep(&file, &["--setup", "echo no disk; false"], &["true"]), 2, &["--setup", "no disk"]);
    refused(&sweep(&file, &["--only", "no_such_function"], &["true"]), 2, &["no_such_function"]);
    assert!(!file.exists(), "nothing was done, so nothing is written down");
    refused(&sweep(&file, &["--resume"], &["true"]), 2, &[file.to_str().expect("UTF-8")]);
}

#[test]
fn a_journal_is_of_one_kernel_and_workload() {
    let file = journal("other");
    let options = ["--no-kthreads", "--leaks", "off", "--budget", "1s"];
    let output = sweep(&file, &options, &["sh", "-c", WORKLOAD]);
    assert!(matches!(output.status.code(), Some(0 | 1 | 5)), "{}", text(&output));
    let before = fs::read(&file).expect("a journal");
    refused(&sweep(&file, &options, &["sh", "-c", WORKLOAD]), 2, &["--resume"]);
    let resume = [&options[..], &["--resume"]].concat();
    refused(&sweep(&file, &resume, &["sh", "-c", "true"]), 2, &["can't resume", "workload"]);
    assert_eq!(fs::read(&file).expect("a journal"), before, "untouched");

    // Of another kernel.
    let text = String::from_utf8(before).expect("UTF-8");
    let other = journal("kernel");
    let build_id = &records(&file, "begin")[0]["kernel"]["build_id"];
    let build_id = build_id.as_str().expect("a build id");
    fs::write(&other, text.replace(build_id, "0123456789abcdef")).expect("writing");
    refused(&sweep(&other, &resume, &["sh", "-c", WORKLOAD]), 2, &["can't resume", "0123456789ab"]);

    // Corrupt in the middle, torn at the end: said, and the rest is gone on with.
    let mut lines: Vec<&str> = text.lines().collect();
    let middle = lines.len() / 2;
    lines[middle] = "{\"type\":\"fai\0led\"";
    fs::write(&other, format!("{}\n{{\"type\":\"arm", lines.join("\n"))).expect("writing");
    let output = sweep(&other, &resume, &["sh", "-c", WORKLOAD]);
    let said = self::text(&output);
    assert!(matches!(output.status.code(), Some(0 | 1 | 5)), "{said}");
    assert!(said.contains(&format!("line {} is corrupt", middle + 1)) && said.contains("is torn"), "{said}");
}

#[test]
fn an_interrupted_sweep_goes_on() {
    let file = journal("interrupted");
    let slow = format!("{WORKLOAD}; sleep 2");
    let arguments = [
        "sweep",
        "--no-kthreads",
        "--leaks",
        "off",
        "--cleanup",
        CLEANUP,
        "--journal",
        file.to_str().expect("UTF-8"),
        "--",
        "sh",
        "-c",
        &slow,
    ];
    let mut child = std::process::Command::new(INJECTOR)
        .args(arguments)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("starts");
    let start = std::time::Instant::now();
    while !fs::read_to_string(&file).unwrap_or_default().contains("\"type\":\"failed\"") {
        assert!(start.elapsed() < LIMIT, "no failure");
        std::thread::sleep(Duration::from_millis(20));
    }
    // SAFETY: our own child, not waited for.
    unsafe { libc::kill(child.id() as i32, libc::SIGINT) };
    let status = shell::wait(&mut child, LIMIT).expect("ends");
    assert_eq!(status.code(), Some(4), "interrupted");
    bpf::gone_within(Duration::from_secs(1), "after an interrupted sweep");
    let before: Vec<String> = records(&file, "failed").iter().map(|record| record["site"].to_string()).collect();

    let output = sweep(&file, &["--no-kthreads", "--leaks", "off", "--resume"], &["sh", "-c", &slow]);
    assert!(matches!(output.status.code(), Some(0 | 1)), "{}", text(&output));
    let after: Vec<String> = records(&file, "failed").iter().map(|record| record["site"].to_string()).collect();
    assert!(after.len() > before.len(), "it went on");
    assert_eq!(after[..before.len()], before[..], "nothing is lost");
    let again = after[before.len()..].iter().filter(|site| before.contains(site)).count();
    assert!(again * 4 <= before.len(), "{again} of {} sites were failed again", before.len());
}

#[test]
fn what_cannot_be_made_again_is_made_by_copies() {
    let file = journal("copies");
    let counter = "/tmp/sweep-copies";
    let _ = fs::remove_file(counter);
    // The shell waits for any child: it must not hear of one that it did not make.
    let script = format!("/bin/true; /bin/echo x >>{counter} & wait; /bin/true && exec /bin/true");
    let options = ["--no-kthreads", "--leaks", "off", "--only", "do_execveat_common"];
    let output = sweep(&file, &options, &["sh", "-c", &script]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let failed = records(&file, "failed");
    let in_copies: Vec<_> = failed.iter().filter(|record| record["level"] == "copy").collect();
    let came_back = |is: &str| in_copies.iter().filter(|record| record["outcome"]["is"] == is).count();
    assert!(in_copies.len() >= 15, "{} failures in copies", in_copies.len());
    assert!(came_back("clean") >= 3, "before the point of no return it is an error");
    assert!(came_back("program-failed") >= 5, "behind it the task is killed");
    // The process itself always got what it wanted, and ran once in each run.
    let runs = records(&file, "ended");
    let copies: Vec<_> = records(&file, "armed").iter().filter(|run| run["level"] == "copy").cloned().collect();
    for run in runs.iter().filter(|run| copies.iter().any(|armed| armed["run"] == run["run"])) {
        assert_eq!((&run["end"], &run["status"]), (&"finished".into(), &0.into()), "{run}\n{}", of_run(&file, run));
    }
    let lines = fs::read_to_string(counter).expect("it ran").lines().count();
    assert!(lines <= runs.len() + 2, "{lines} lines of {} runs and those without tracer", runs.len());
}

#[test]
fn a_step_is_repeated_as_a_whole() {
    let file = journal("step");
    // Outside of a sweep it just runs.
    let output = shell::output(INJECTOR, &["step", "--", "sh", "-c", "exit 5"], LIMIT);
    assert_eq!(output.status.code(), Some(5));
    // Inside, each run of the command has one failure: it runs again until it has had none, and then worked.
    let script = "n=0; injector step -- sh -c 'echo x >>/tmp/sweep-step; mkdir /tmp/sweep-s && rmdir /tmp/sweep-s'; \
         [ ! -d /tmp/sweep-s ] || rmdir /tmp/sweep-s";
    let _ = fs::remove_file("/tmp/sweep-step");
    let output = sweep(&file, &["--no-kthreads", "--leaks", "off", "--budget", "60s"], &["sh", "-c", script]);
    assert!(matches!(output.status.code(), Some(0 | 1)), "{}", text(&output));
    let runs = fs::read_to_string("/tmp/sweep-step").expect("it ran").lines().count();
    let passes = records(&file, "armed").iter().filter(|run| run["level"] != "whole").count();
    assert!(runs > passes + 1 + 3, "the step ran {runs} times in {passes} passes");
}

#[test]
fn a_sweep_that_failed_nothing_is_not_clean() {
    for (name, options) in [("shard", ["--shard", "999999/1000000"]), ("hit", ["--hit", "4294967295"])] {
        let file = journal(name);
        let output = sweep(&file, &[&["--no-kthreads", "--leaks", "off"], &options[..]].concat(), &["/bin/true"]);
        let said = text(&output);
        assert_eq!(output.status.code(), Some(5), "{options:?}: {said}");
        assert!(said.contains("no site was failed"), "{options:?}: {said}");
        let report = shell::output(INJECTOR, &["report", file.to_str().expect("UTF-8")], LIMIT);
        assert_eq!(report.status.code(), Some(5), "{}", text(&report));
    }
}

#[test]
fn a_cleanup_that_hangs_is_told_of_and_ended() {
    let file = journal("cleanup");
    let arguments = [
        "sweep",
        "--no-kthreads",
        "--leaks",
        "off",
        "--shard",
        "999999/1000000",
        "--hang",
        "1s",
        "--cleanup",
        "sleep 4324",
        "--journal",
        file.to_str().expect("UTF-8"),
        "--",
        "/bin/true",
    ];
    let output = shell::output(INJECTOR, &arguments, Duration::from_secs(120));
    let said = text(&output);
    assert!(said.contains("waiting for --cleanup `sleep 4324` to end, for 10 s at most"), "{said}");
    assert!(said.contains("--cleanup `sleep 4324`: does not end within 10 s, and was killed"), "{said}");
    let left = shell::output("/bin/sh", &["-c", "ps | grep '[s]leep 4324'"], LIMIT);
    assert!(left.stdout.is_empty(), "{}", String::from_utf8_lossy(&left.stdout));
}

/// Killed at any moment, it leaves no task in a tracing stop, and none of the workload.
#[test]
fn a_killed_sweep_leaves_no_task() {
    for round in 0..10_u64 {
        let file = journal("killed");
        let script = format!("{WORKLOAD}; sleep 0.01; /bin/true");
        let mut child = std::process::Command::new(INJECTOR)
            .args(["sweep", "--no-kthreads", "--leaks", "off", "--cleanup", CLEANUP])
            .args(["--journal", file.to_str().expect("UTF-8"), "--", "sh", "-c", &script])
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("starts");
        // While it is loaded, in the first runs, and later.
        std::thread::sleep(Duration::from_millis(1000 + 700 * round));
        child.kill().expect("it runs");
        child.wait().expect("our child");
        let cgroup = format!("injector.{}", child.id());
        let start = std::time::Instant::now();
        loop {
            let left = tasks_of(&cgroup);
            if left.is_empty() {
                break;
            }
            assert!(start.elapsed() < Duration::from_secs(5), "round {round}: {left:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
        println!("round {round}: nothing left after {:?}", start.elapsed());
        bpf::gone_within(Duration::from_secs(1), "after a killed sweep");
    }
    let _ = fs::remove_dir_all("/tmp/sweep-d");
}

/// The names and states of what runs in a cgroup. A command that is looked for by name may have left it.
fn tasks_of(cgroup: &str) -> Vec<String> {
    let procs = injector_tests::cgroup::root().join(cgroup).join("cgroup.procs");
    let pids = fs::read_to_string(procs).unwrap_or_default();
    let stat = |pid: &str| fs::read_to_string(format!("/proc/{pid}/stat")).ok();
    pids.lines().filter_map(stat).map(|stat| stat.chars().take(40).collect()).collect()
}
