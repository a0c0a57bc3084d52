//! `--kmsg`: failures in the kernel's log, in the kernel's own form; and the kernel's own failures during a sweep.

use std::fs;
use std::process::Output;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use injector_tests::daemon::INJECTOR;
use injector_tests::{Injector, KernelLog, Worker, bpf, defects, shell};

const LIMIT: Duration = Duration::from_secs(300);
const FIRST: &str = "FAULT_INJECTION: forcing a failure.";

/// The log's lines since it was opened; a record can be several.
fn lines(log: &mut KernelLog) -> Vec<String> {
    log.lines().iter().flat_map(|record| record.split("\\x0a").map(str::to_owned).collect::<Vec<_>>()).collect()
}

fn count(lines: &[String], what: &str) -> usize {
    lines.iter().filter(|line| line.contains(what)).count()
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// What `injector log` says of lines.
fn log_says(lines: &[String]) -> String {
    let file = std::env::temp_dir().join("kmsg.log");
    let text: String = lines.iter().map(|line| format!("[   12.345678] {line}\n")).collect();
    fs::write(&file, text).expect("a file");
    let output = shell::output(INJECTOR, &["log", file.to_str().expect("UTF-8")], LIMIT);
    self::text(&output)
}

#[test]
fn a_run_writes_its_failures_ten_at_most() {
    let worker = Worker::start();
    let mut log = KernelLog::from_now();
    let injector = Injector::start(&["--pid", &worker.pid_arg(), "--hook", "slab", "--kmsg", "--quiet"]);
    assert_eq!(worker.run("kind=slab count=12").failed, 12);
    injector.signal(libc::SIGINT);
    let finished = injector.finish();
    let lines = lines(&mut log);
    let shown = lines.join("\n");
    assert_eq!(count(&lines, FIRST), 10, "{shown}");
    let at = lines.iter().position(|line| line == FIRST).expect("counted");
    assert_eq!(lines[at + 1], "name failslab, interval 1, probability 0, space 0, times 0", "{shown}");
    let who = format!(" PID: {} Comm: ", worker.tid());
    assert!(lines[at + 2].starts_with("CPU: ") && lines[at + 2].contains(&who), "{shown}");
    assert_eq!(lines[at + 3..at + 5], ["Call Trace:", " <TASK>"], "{shown}");
    let frame = lines[at..].iter().find(|line| line.contains("injector_test")).unwrap_or_else(|| panic!("{shown}"));
    assert!(frame.starts_with(' ') && frame.contains("+0x") && frame.contains("/0x"), "{frame}");
    assert!(frame.ends_with(" [injector_test]"), "{frame}");
    assert!(finished.stderr.contains("10 of 12 failures are in the kernel's log"), "{}", finished.stderr);
    let says = log_says(&lines);
    assert!(says.contains("injected failure: failslab in injector_test") && says.contains("(10 times)"), "{says}");
}

#[test]
fn a_log_that_takes_nothing_is_refused() {
    const ALLOWED: &str = "/proc/sys/kernel/printk_devkmsg";
    fs::write(ALLOWED, "off\n").expect("writable");
    let output = shell::output(INJECTOR, &["--kmsg", "--prob", "0", "--", "true"], LIMIT);
    fs::write(ALLOWED, "ratelimit\n").expect("writable");
    assert_eq!(output.status.code(), Some(3), "{}", text(&output));
    assert!(text(&output).contains("printk_devkmsg says off"), "{}", text(&output));
}

fn sweep(options: &[&str], script: &str) -> (Output, String) {
    let journal = std::env::temp_dir().join(format!("kmsg-{}.jsonl", std::process::id()));
    let _ = fs::remove_file(&journal);
    let journal = journal.to_str().expect("UTF-8").to_owned();
    let fixed = ["sweep", "--journal", &journal, "--no-kthreads", "--leaks", "off", "--depth", "1"];
    let arguments = [&fixed[..], options, &["--", "sh", "-c", script]].concat();
    let output = shell::output(INJECTOR, &arguments, LIMIT);
    bpf::gone_within(Duration::from_secs(1), "after a sweep");
    (output, journal)
}

/// Blocks are no complaints; and failures that the kernel itself makes meanwhile are told apart from them.
#[test]
fn a_sweep_tells_its_blocks_from_the_kernels() {
    let script = "mkdir /tmp/kmsg-d && echo text >/tmp/kmsg-d/a && cat /tmp/kmsg-d/a && rm -r /tmp/kmsg-d";
    let options = ["--kmsg", "--cleanup", "rm -rf /tmp/kmsg-d"];
    let mut log = KernelLog::from_now();
    let (output, _) = sweep(&options, script);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(!text(&output).contains("own fault injection"), "{}", text(&output));
    let ours = lines(&mut log);
    assert!(count(&ours, FIRST) >= 5 && count(&ours, "injector: site ") >= 5, "{}", ours.join("\n"));

    const SPARED: &str = "/sys/kernel/debug/failslab/ignore-gfp-wait";
    fs::write(SPARED, "N").unwrap_or_else(|e| panic!("{SPARED}: {e}"));
    let done = AtomicBool::new(false);
    let kernels = std::thread::scope(|scope| {
        let kernel = scope.spawn(|| {
            let mut failed = 0;
            while !done.load(Ordering::Relaxed) {
                // The next allocation fails.
                fs::write("/proc/thread-self/fail-nth", "1").expect("CONFIG_FAULT_INJECTION");
                failed += u32::from(fs::File::open("/proc/version").is_err());
                let _ = fs::write("/proc/thread-self/fail-nth", "0");
                std::thread::sleep(Duration::from_millis(200));
            }
            failed
        });
        let (output, _) = sweep(&[], script);
        done.store(true, Ordering::Relaxed);
        let failed = kernel.join().expect("no panic");
        assert!(failed > 0, "the kernel fails nothing: this shows nothing");
        text(&output)
    });
    fs::write(SPARED, "Y").expect("written before");
    assert!(kernels.contains("the kernel's own fault injection failed "), "{kernels}");
    assert!(kernels.contains("no findings"), "{kernels}");
}

/// Where one site can fail, its block stands before what comes of it.
#[test]
fn a_block_stands_before_the_splat_where_the_site_is_known() {
    defects::load();
    let script = format!("echo 1 >{}/unwind_order", defects::DIRECTORY);
    let (output, journal) = sweep(&["--only", "[injector_defects]"], &script);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let mut log = KernelLog::from_now();
    let replay = shell::output(INJECTOR, &["replay", &journal, "list_del corruption", "--kmsg"], LIMIT);
    assert_eq!(replay.status.code(), Some(0), "{}", text(&replay));
    let lines = lines(&mut log);
    let at = |what: &str| {
        lines.iter().position(|line| line.contains(what)).unwrap_or_else(|| panic!("{what}: {}", lines.join("\n")))
    };
    assert!(
        at(FIRST) < at("is failed next") && at("is failed next") < at("list_del corruption"),
        "{}",
        lines.join("\n")
    );
    assert_eq!(count(&lines, FIRST), 1, "not again after it: {}", lines.join("\n"));
}
