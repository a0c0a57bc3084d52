//! A file-system workload by itself, and beside a run that looks at every allocation and is for somebody else.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use injector_tests::{Injector, Worker, place};
use serde_json::{Value, json};

use crate::BACKENDS;
use crate::clock::Clock;

/// Rounds in which the workload runs without the injector, and with it by each backend: in turn, so that what the machine
/// does over time meets all alike.
const ROUNDS: usize = 5;

/// All rows.
pub fn workload(clock: Clock) -> Vec<Value> {
    let other = Worker::start();
    let script = place::workloads().join("ext4.sh");
    run(&script, "setup");
    let timed = || {
        clock.settle();
        let start = Instant::now();
        run(&script, "run");
        start.elapsed().as_secs_f64() * 1e3
    };
    // Programs come into the page cache, and slabs get their first pages.
    timed();
    let (mut plain, mut beside) = (Vec::new(), BACKENDS.map(|_| Vec::new()));
    for _ in 0..ROUNDS {
        plain.push(timed());
        for (backend, beside) in BACKENDS.iter().zip(&mut beside) {
            let injector =
                Injector::start(&["--backend", backend, "--pid", &other.pid_arg(), "--prob", "1", "--quiet"]);
            beside.push(timed());
            injector.stop();
        }
    }
    run(&script, "cleanup");
    let unit = match clock {
        Clock::Instructions => "million_instructions",
        Clock::Wall => "milliseconds",
    };
    let row = |what: String, times: &mut Vec<f64>, percent_more: Option<f64>| {
        times.sort_by(f64::total_cmp);
        let mut row = json!({"what": what, "runs": ROUNDS, "percent_more": percent_more});
        for (name, at) in [("median", ROUNDS / 2), ("min", 0), ("max", ROUNDS - 1)] {
            row[format!("{name}_{unit}")] = tenths(times[at]).into();
        }
        eprintln!("{row}");
        row
    };
    let mut rows = vec![row("ext4 workload, not attached".to_owned(), &mut plain, None)];
    for (backend, mut beside) in BACKENDS.iter().zip(beside) {
        beside.sort_by(f64::total_cmp);
        let more = (beside[ROUNDS / 2] / plain[ROUNDS / 2] - 1.0) * 100.0;
        let what = format!("ext4 workload, attached by {backend} for another process");
        rows.push(row(what, &mut beside, Some((more * 100.0).round() / 100.0)));
    }
    rows
}

fn tenths(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}

fn run(script: &Path, verb: &str) {
    let status = Command::new("sh").arg(script).arg(verb).stdout(Stdio::null()).status();
    assert!(status.expect("sh").success(), "{} {verb}", script.display());
}
