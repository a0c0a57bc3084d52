//! The daemon: from its start until it is armed, memory, events until some are lost, names for stacks, reports.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use injector::events::symbolize::name;
use injector::kernel::KernelFiles;
use injector::kernel::kallsyms::Kallsyms;
use injector_tests::{Injector, Worker, place};
use serde_json::{Value, json};

use crate::BACKENDS;
use crate::clock::Clock;

/// From the start until it is armed, by backend. Where the clock counts instructions on one CPU, that is how many there were.
pub fn start(clock: Clock) -> Vec<Value> {
    const STARTS: usize = 5;
    let mut rows = Vec::new();
    for backend in BACKENDS {
        let mut cpu = Vec::new();
        let mut elapsed = Vec::new();
        for _ in 0..STARTS {
            clock.settle();
            let arguments = ["--backend", backend, "--gfp", "NOFS", "--order-lt", "4", "--prob", "0.01"];
            let injector = Injector::start(&arguments);
            cpu.push(cpu_time(injector.pid()));
            elapsed.push(injector.armed_after);
            injector.stop();
        }
        cpu.sort();
        elapsed.sort();
        let mut row = json!({"what": format!("start to armed by {backend}, median of {STARTS}")});
        let unit = match clock {
            Clock::Instructions => "million_instructions",
            Clock::Wall => "ms",
        };
        for (name, times) in [("cpu", &cpu), ("elapsed", &elapsed)] {
            row[format!("{name}_{unit}")] = milliseconds(times[STARTS / 2]).into();
        }
        row[format!("least_cpu_{unit}")] = milliseconds(cpu[0]).into();
        row[format!("most_cpu_{unit}")] = milliseconds(cpu[STARTS - 1]).into();
        rows.push(row);
    }
    rows
}

/// The rest, by a machine's own time.
pub fn daemon() -> Vec<Value> {
    let mut rows = Vec::new();
    let mut take = |row: Value| {
        eprintln!("{row}");
        rows.push(row);
    };
    start(Clock::Wall).into_iter().for_each(&mut take);
    [true, false].map(memory).into_iter().for_each(&mut take);
    for quiet in [true, false] {
        until_loss(quiet).into_iter().for_each(&mut take);
    }
    take(long_run());
    take(symbols());
    take(report());
    let size = fs::metadata(place::injector()).expect("it is there").len();
    take(json!({"what": "static release binary", "size_MiB": mib(size)}));
    rows
}

/// Arguments of a run in which each call of a process fails.
fn failing(worker: &Worker, quiet: bool) -> Vec<String> {
    let mut arguments = vec!["--hook".to_owned(), "slab".to_owned(), "--pid".to_owned(), worker.pid_arg()];
    arguments.extend(["--prob", "1"].map(str::to_owned));
    arguments.extend(quiet.then(|| "--quiet".to_owned()));
    arguments
}

fn started(arguments: &[String]) -> Injector {
    Injector::start(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
}

fn output(quiet: bool) -> &'static str {
    if quiet { "no lines (--quiet)" } else { "JSON lines into a file in memory" }
}

/// What the daemon has in memory after 200,000 failures.
fn memory(quiet: bool) -> Value {
    let worker = Worker::start();
    let injector = started(&failing(&worker, quiet));
    worker.run("kind=slab cache=injector_test_64 gfp=KERNEL count=200000");
    let status = fs::read_to_string(format!("/proc/{}/status", injector.pid())).expect("the daemon runs");
    let of = |name: &str| -> u64 {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("Linux says it").trim();
        line.trim_end_matches(" kB").parse().expect("a number of kB")
    };
    let (now, peak) = (of("VmRSS:"), of("VmHWM:"));
    let (report, ()) = injector.stop_unread(|_| ());
    worker.end();
    assert_eq!(report.total("failures"), 200_000, "each call fails");
    json!({"what": format!("memory of the daemon after 200,000 failures, {}", output(quiet)),
           "rss_MiB": mib(now * 1024), "peak_rss_MiB": mib(peak * 1024)})
}

/// At which rate of failures events begin to be lost: a row for each rate that is tried, until some are lost.
fn until_loss(quiet: bool) -> Vec<Value> {
    const FOR: Duration = Duration::from_secs(5);
    let mut rows = Vec::new();
    for rate in [Some(10_000), Some(20_000), Some(40_000), Some(80_000), None] {
        let what = format!("events, {}", output(quiet));
        let worker = Worker::start();
        let mut arguments = failing(&worker, quiet);
        arguments.extend(rate.into_iter().flat_map(|rate| ["--rate".to_owned(), format!("{rate}/s")]));
        let injector = started(&arguments);
        let failed = repeat(&worker, FOR);
        let (report, ()) = injector.stop_unread(|_| ());
        worker.end();
        let lost = report.total("lost");
        let asked = rate.map_or_else(|| "as fast as one CPU can".to_owned(), |rate| format!("{rate}/s asked for"));
        rows.push(
            json!({"what": format!("{what}, {asked}"), "failures_per_second": (failed / FOR.as_secs_f64()).round(),
                         "lost": lost, "of_failures": report.total("failures")}),
        );
        if lost > 0 {
            break;
        }
    }
    rows
}

/// Makes calls for so long; returns how many failed, scaled to that time.
fn repeat(worker: &Worker, time: Duration) -> f64 {
    let start = Instant::now();
    let mut failed = 0;
    while start.elapsed() < time {
        failed += worker.run("kind=slab cache=injector_test_64 gfp=KERNEL count=5000").failed;
    }
    failed as f64 * time.as_secs_f64() / start.elapsed().as_secs_f64()
}

/// For 10 seconds, as many failures as all CPUs can make: whether the books balance then, and what is lost.
fn long_run() -> Value {
    const FOR: Duration = Duration::from_secs(10);
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let workers: Vec<Worker> = (0..cpus).map(Worker::on_cpu).collect();
    let mut arguments = failing(&workers[0], true);
    for worker in &workers[1..] {
        arguments.extend(["--pid".to_owned(), worker.pid_arg()]);
    }
    let injector = started(&arguments);
    let start = Instant::now();
    let mut failed = 0;
    while start.elapsed() < FOR {
        for worker in &workers {
            worker.send("kind=slab cache=injector_test_64 gfp=KERNEL count=20000");
        }
        failed += workers.iter().map(|worker| worker.receive().failed).sum::<u64>();
    }
    let seconds = start.elapsed().as_secs_f64();
    let (report, ()) = injector.stop_unread(|_| ());
    workers.into_iter().for_each(Worker::end);
    // Among others: delivered and lost make up the failures, and so do the sites of the histogram.
    report.assert_accounts();
    json!({"what": format!("10 s of failures as fast as {cpus} CPUs can, no lines (--quiet)"),
           "failures_per_second": (failed as f64 / seconds).round(), "failures": report.total("failures"),
           "missing_in_histogram": failed as i64 - report.total("failures") as i64, "lost_events": report.total("lost")})
}

/// What a process has used of the CPUs so far, all of its threads together.
pub fn cpu_time(pid: u32) -> Duration {
    let mut clock = 0;
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: both write what they are given a pointer to.
    let result = unsafe {
        match libc::clock_getcpuclockid(pid as i32, &raw mut clock) {
            0 => libc::clock_gettime(clock, &raw mut time),
            error => error,
        }
    };
    assert_eq!(result, 0, "the CPU time of {pid}");
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// A thousand stacks of 20 frames by names.
fn symbols() -> Value {
    let start = Instant::now();
    let symbols = Kallsyms::read(&KernelFiles::default()).expect("kallsyms");
    let read = start.elapsed();
    let frames: Vec<u64> = ["vfs_read", "do_sys_openat2", "kmem_cache_alloc_noprof", "ksys_write"]
        .iter()
        .filter_map(|function| symbols.function(function).map(|range| range.start + 8))
        .collect();
    let start = Instant::now();
    let named: usize =
        (0..20_000).map(|i| name(Some(&symbols), frames[i % frames.len()] + (i / 1000) as u64).len()).sum();
    assert!(named > 20_000 * 8, "they have names");
    json!({"what": "1000 stacks of 20 frames by names, after the symbols were read", "elapsed_ms": milliseconds(start.elapsed()),
           "reading_symbols_ms": milliseconds(read)})
}

/// `injector report` on a million lines of failures: those of a run, as often as it takes.
fn report() -> Value {
    const LINES: usize = 1_000_000;
    let worker = Worker::start();
    let injector = started(&failing(&worker, false));
    // Slowly enough that hardly any is lost: 100,000 events.
    for _ in 0..50 {
        worker.run("kind=slab cache=injector_test_64 gfp=KERNEL count=2000");
        std::thread::sleep(Duration::from_millis(50));
    }
    let file = std::env::temp_dir().join(format!("injector-bench-{}.jsonl", std::process::id()));
    let (_, real) = injector.stop_unread(|run| repeated(run, &file, LINES));
    worker.end();
    let size = fs::metadata(&file).expect("just written").len();
    let before = children();
    let start = Instant::now();
    let status = Command::new(place::injector()).arg("report").arg(&file).stdout(Stdio::null()).status();
    let elapsed = start.elapsed();
    assert!(status.expect("the injector").success(), "injector report {}", file.display());
    let cpu = children().saturating_sub(before);
    let _ = fs::remove_file(&file);
    json!({"what": format!("injector report, a million events ({real} real ones, repeated)"), "cpu_ms": milliseconds(cpu),
           "elapsed_ms": milliseconds(elapsed), "file_MiB": mib(size)})
}

/// Writes `run` with its lines of failures repeated until there are so many; returns how many it has itself.
fn repeated(run: &Path, file: &PathBuf, lines: usize) -> usize {
    let whole = BufReader::new(File::open(run).expect("the run's output"));
    let mut out = BufWriter::new(File::create(file).expect("room in memory"));
    let (mut failures, mut last) = (Vec::new(), String::new());
    for line in whole.lines().map(|line| line.expect("text")) {
        if line.contains(r#""type":"failure""#) {
            failures.push(line);
        } else if line.contains(r#""type":"summary""#) {
            last = line;
        } else {
            writeln!(out, "{line}").expect("room in memory");
        }
    }
    assert!(!failures.is_empty() && !last.is_empty(), "a run with failures");
    for line in failures.iter().cycle().take(lines) {
        writeln!(out, "{line}").expect("room in memory");
    }
    writeln!(out, "{last}").expect("room in memory");
    out.flush().expect("room in memory");
    failures.len()
}

/// CPU time of children that were waited for.
fn children() -> Duration {
    // SAFETY: zero is valid for the structure, and the call fills it.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        assert_eq!(libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut usage), 0);
        usage
    };
    let of = |time: libc::timeval| Duration::new(time.tv_sec as u64, time.tv_usec as u32 * 1000);
    of(usage.ru_utime) + of(usage.ru_stime)
}

fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 10_000.0).round() / 10.0
}

fn mib(bytes: u64) -> f64 {
    (bytes as f64 / 104_857.6).round() / 10.0
}
