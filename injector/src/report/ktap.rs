//! KTAP, version 1 (Documentation/dev-tools/ktap.rst of the kernel): a test for each module, in it one for each call chain.

use std::io::{self, Write};

use super::{
    model::{Found, Report},
    phrase::{self, one_line, printable},
    results::{self, Test, TestResult},
};
use crate::foreign::write_lines;

/// Lines of a splat that are passed on.
const SPLAT: usize = 60;

/// What became of a test.
#[derive(Clone, Copy, Debug, Default)]
struct Totals {
    pass: usize,
    fail: usize,
    skip: usize,
    xfail: usize,
}

/// The report as KTAP. A test is a call chain that allocates; findings are `not ok`, known ones expected to fail, sites that
/// could not be failed are skipped. Findings that can't be put down to a site yet have a test of their own at the end.
///
/// # Errors
/// It can't be written.
pub fn ktap(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    write_lines(out, |out| whole(report, out))
}

fn whole(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "KTAP version 1")?;
    if let Some(config) = &report.config {
        writeln!(out, "# {}", phrase::kernel(&config.kernel))?;
        writeln!(out, "# workload: {}", phrase::workload(config))?;
    }
    let modules = results::by_module(report);
    writeln!(out, "1..{}", modules.len())?;
    let mut totals = Totals::default();
    for (i, (module, tests)) in modules.iter().enumerate() {
        let failed = of_module(report, module, tests, &mut totals, out)?;
        let ok = if failed == 0 { "ok" } else { "not ok" };
        writeln!(out, "{ok} {} {}", i + 1, one_line(module).replace('#', "?"))?;
    }
    let Totals { pass, fail, skip, xfail } = totals;
    writeln!(out, "# Totals: pass:{pass} fail:{fail} xfail:{xfail} xpass:0 skip:{skip} error:0")?;
    out.flush()
}

fn of_module(
    report: &Report,
    module: &str,
    tests: &[Test<'_>],
    totals: &mut Totals,
    out: &mut dyn Write,
) -> io::Result<usize> {
    writeln!(out, "  KTAP version 1")?;
    writeln!(out, "  # Subtest: {}", one_line(module))?;
    writeln!(out, "  1..{}", tests.len())?;
    let mut failed = 0;
    for (i, Test { name, sites, findings, result, .. }) in tests.iter().enumerate() {
        let number = i + 1;
        for found in findings {
            diagnose(found, out)?;
        }
        match result {
            TestResult::Fail => {
                writeln!(out, "  not ok {number} {name}")?;
                failed += 1;
            }
            TestResult::Known => {
                writeln!(out, "  ok {number} {name} # XFAIL known")?;
                totals.xfail += 1;
            }
            TestResult::Skip(why) => {
                writeln!(out, "  ok {number} {name} # SKIP {why}")?;
                totals.skip += 1;
            }
            TestResult::Pass => {
                for odd in report.misreported.iter().chain(&report.wedged).filter(|odd| sites.contains(&odd.site)) {
                    writeln!(out, "  # {}", phrase::odd(odd))?;
                }
                writeln!(out, "  ok {number} {name}")?;
                totals.pass += 1;
            }
        }
    }
    totals.fail += failed;
    Ok(failed)
}

fn diagnose(found: &Found, out: &mut dyn Write) -> io::Result<()> {
    let finding = &found.finding;
    writeln!(out, "  # {}: {}", finding.verdict, one_line(&finding.title))?;
    writeln!(out, "  # {}: {}", phrase::tries(finding.reproduced, finding.tries), one_line(&found.replay))?;
    let splat = printable(&finding.splat);
    let lines: Vec<&str> = splat.trim_end().lines().collect();
    for line in lines.iter().take(SPLAT) {
        writeln!(out, "  #   {line}")?;
    }
    if lines.len() > SPLAT {
        writeln!(out, "  #   … {}", phrase::plural(lines.len() - SPLAT, "more line"))?;
    }
    Ok(())
}
