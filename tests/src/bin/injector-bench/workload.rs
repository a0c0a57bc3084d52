//! A file-system workload by itself, and beside a run that looks at every allocation and is for somebody else.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use injector_tests::{Injector, OnOneCpu, SmallProgram, Worker, place};
use serde_json::{Value, json};

use crate::BACKENDS;
use crate::calls::HOOKS;
use crate::clock::Clock;
use crate::daemon::cpu_time;

/// Rounds in which the workload runs by itself, beside empty programs, and beside the injector: in turn, so that what the machine
/// does over time meets all alike.
const ROUNDS: usize = 5;
/// On one CPU nothing happens beside it, and it repeats to some tenths of a percent.
const ROUNDS_ON_ONE_CPU: usize = 3;
/// So often it runs in each: once is 50 ms of work, too little to tell hundredths.
const TIMES: u32 = 5;

/// All rows.
pub fn workload(clock: Clock) -> Vec<Value> {
    let rounds = if cpus() == 1 { ROUNDS_ON_ONE_CPU } else { ROUNDS };
    let other = Worker::start();
    let script = place::workloads().join("ext4.sh");
    run(&script, "setup");
    let measured = || {
        clock.settle();
        let spent = Spent::now(clock);
        for _ in 0..TIMES {
            run(&script, "run");
        }
        (Spent::now(clock).0 - spent.0) / f64::from(TIMES)
    };
    // Programs come into the page cache, and slabs get their first pages.
    measured();
    let (mut plain, mut empty, mut beside) = (Vec::new(), BACKENDS.map(|_| Vec::new()), BACKENDS.map(|_| Vec::new()));
    let mut of_daemon = BACKENDS.map(|_| Vec::new());
    for _ in 0..rounds {
        plain.push(measured());
        for (i, backend) in BACKENDS.into_iter().enumerate() {
            let programs = HOOKS.map(|hook| hook.attach(backend, SmallProgram::Empty));
            empty[i].push(measured());
            drop(programs);
            let arguments = ["--backend", backend, "--pid", &other.pid_arg(), "--prob", "1", "--quiet"];
            let injector = Injector::start(&arguments);
            clock.settle();
            let before = cpu_time(injector.pid());
            beside[i].push(measured());
            of_daemon[i].push((cpu_time(injector.pid()) - before).as_secs_f64() * 1e3 / f64::from(TIMES));
            injector.stop();
        }
    }
    let counting = Injector::start(&["--prob", "0", "--quiet"]);
    run(&script, "run");
    let calls = counting.stop().total("calls");
    run(&script, "cleanup");
    let unit = match clock {
        Clock::Instructions => "million_instructions",
        Clock::Wall => "milliseconds",
    };
    let row = |what: String, times: &mut Vec<f64>, percent_more: Option<f64>| {
        times.sort_by(f64::total_cmp);
        let mut row = json!({"what": what, "runs": rounds, "percent_more": percent_more});
        for (name, at) in [("median", rounds / 2), ("min", 0), ("max", rounds - 1)] {
            row[format!("{name}_{unit}")] = tenths(times[at]).into();
        }
        eprintln!("{row}");
        row
    };
    let mut rows = vec![row("ext4 workload, nothing attached".to_owned(), &mut plain, None)];
    rows[0]["hooked_calls"] = calls.into();
    let beside_plain = |what: String, times: &mut Vec<f64>| {
        times.sort_by(f64::total_cmp);
        let more = (times[rounds / 2] / plain[rounds / 2] - 1.0) * 100.0;
        row(what, times, Some((more * 100.0).round() / 100.0))
    };
    for (i, backend) in BACKENDS.into_iter().enumerate() {
        let what = format!("ext4 workload, empty programs on both hooks by {backend}: the floor");
        rows.push(beside_plain(what, &mut empty[i]));
        let what = format!("ext4 workload, the injector attached by {backend} for another process");
        let mut row = beside_plain(what, &mut beside[i]);
        of_daemon[i].sort_by(f64::total_cmp);
        row[format!("of_which_the_daemon_{unit}")] = tenths(of_daemon[i][rounds / 2]).into();
        rows.push(row);
    }
    rows
}

/// Millions of instructions that all CPUs have executed, idling aside; or milliseconds.
struct Spent(f64);

impl Spent {
    /// Where the clock counts instructions, it leaps while nothing runs: a workload that waits for a timer would cost more. So
    /// what counts is the time in which CPUs were not idle.
    fn now(clock: Clock) -> Self {
        let since_boot = || {
            let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
            // SAFETY: it writes what it is given a pointer to.
            assert_eq!(unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) }, 0);
            time.tv_sec as f64 * 1e3 + time.tv_nsec as f64 / 1e6
        };
        if clock == Clock::Wall {
            return Self(since_boot());
        }
        let cpus = cpus();
        // A CPU's idle time is taken down when it ends; so each is woken by running there.
        for cpu in 0..cpus {
            OnOneCpu::at(cpu);
        }
        let list = fs::read_to_string("/proc/timer_list").expect("the kernel tells of its timers");
        let idle: f64 = list.lines().filter_map(idle_nanoseconds).sum();
        Self(since_boot() * cpus as f64 - idle / 1e6)
    }
}

/// `  .idle_sleeptime : 123456 nsecs`, and for idling with input or output under way `.iowait_sleeptime`.
fn idle_nanoseconds(line: &str) -> Option<f64> {
    let (name, value) = line.trim().split_once(':')?;
    let idle = [".idle_sleeptime", ".iowait_sleeptime"].contains(&name.trim());
    idle.then(|| value.split_whitespace().next()?.parse().ok()).flatten()
}

fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

fn tenths(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}

fn run(script: &Path, verb: &str) {
    let status = Command::new("sh").arg(script).arg(verb).stdout(Stdio::null()).status();
    assert!(status.expect("sh").success(), "{} {verb}", script.display());
}
