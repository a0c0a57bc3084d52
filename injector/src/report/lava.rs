//! Lines for LAVA, as Linaro's test-definitions write them to result.txt: `NAME pass|fail|skip`, and figures with a unit.
//! send-to-lava.sh hands them on.

use std::io::{self, Write};

use super::{
    model::Report,
    results::{self, TestResult},
};

/// A line for each test, then figures. Known findings pass: what fails is new.
///
/// # Errors
/// It can't be written.
pub fn lava(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    for test in results::by_module(report).iter().flat_map(|(_, tests)| tests) {
        let result = match test.result {
            TestResult::Fail => "fail",
            TestResult::Skip(_) => "skip",
            TestResult::Pass | TestResult::Known => "pass",
        };
        writeln!(out, "{} {result}", test.path())?;
    }
    let counts = &report.counts;
    let tested = counts.failed + counts.masked;
    for (name, value, unit) in [
        ("sites-seen", counts.seen as f64, "sites"),
        ("sites-tested", tested as f64, "sites"),
        ("sweep-time", report.times.sweep.round(), "s"),
    ] {
        writeln!(out, "{name} pass {value} {unit}")?;
    }
    out.flush()
}
