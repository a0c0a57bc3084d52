//! KTAP, version 1 (Documentation/dev-tools/ktap.rst of the kernel): a test for each module, in it one for each site.

use std::io::{self, Write};

use super::{
    model::{Found, Report},
    phrase::{self, one_line, printable},
};

/// Lines of a splat that are passed on.
const SPLAT: usize = 60;

/// What became of a test.
#[derive(Clone, Copy, Debug, Default)]
struct Totals {
    pass: usize,
    fail: usize,
    skip: usize,
}

/// The report as KTAP. A site's test is its function, hook and signature; findings are `not ok`, sites that could not be
/// failed are skipped. Findings that can't be put down to a site yet have a test of their own at the end.
///
/// # Errors
/// It can't be written.
pub fn ktap(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "KTAP version 1")?;
    if let Some(config) = &report.config {
        writeln!(out, "# {}", phrase::kernel(&config.kernel))?;
        writeln!(out, "# workload: {}", phrase::workload(config))?;
    }
    let mut modules: Vec<&str> = report.modules.iter().map(|module| module.module.as_str()).collect();
    modules.sort_unstable();
    let without: Vec<&Found> = report.without_site().collect();
    writeln!(out, "1..{}", modules.len() + usize::from(!without.is_empty()))?;
    let mut totals = Totals::default();
    for (i, module) in modules.iter().enumerate() {
        let failed = sites(report, module, &mut totals, out)?;
        let ok = if failed == 0 { "ok" } else { "not ok" };
        writeln!(out, "{ok} {} {}", i + 1, one_line(module).replace('#', "?"))?;
    }
    if !without.is_empty() {
        writeln!(out, "  KTAP version 1")?;
        writeln!(out, "  # Subtest: not narrowed down")?;
        writeln!(out, "  1..{}", without.len())?;
        for (i, found) in without.iter().enumerate() {
            diagnose(found, out)?;
            writeln!(out, "  not ok {} {}", i + 1, one_line(&found.finding.title).replace('#', "?"))?;
            totals.fail += 1;
        }
        writeln!(out, "not ok {} not narrowed down", modules.len() + 1)?;
    }
    let Totals { pass, fail, skip } = totals;
    writeln!(out, "# Totals: pass:{pass} fail:{fail} xfail:0 xpass:0 skip:{skip} error:0")?;
    out.flush()
}

fn sites(report: &Report, module: &str, totals: &mut Totals, out: &mut dyn Write) -> io::Result<usize> {
    let sites: Vec<_> = report.sites_of(module).collect();
    writeln!(out, "  KTAP version 1")?;
    writeln!(out, "  # Subtest: {}", one_line(module))?;
    writeln!(out, "  1..{}", sites.len())?;
    let mut failed = 0;
    for (i, (signature, site)) in sites.into_iter().enumerate() {
        let number = i + 1;
        let name = phrase::test(signature, site);
        let mut findings = report.findings_at(signature).peekable();
        if findings.peek().is_some() || site.verdict.is_finding() {
            for found in findings {
                diagnose(found, out)?;
            }
            writeln!(out, "  not ok {number} {name}")?;
            failed += 1;
        } else if let Some(why) = phrase::skipped(report, signature, site) {
            writeln!(out, "  ok {number} {name} # SKIP {why}")?;
            totals.skip += 1;
        } else {
            for odd in report.misreported.iter().chain(&report.wedged).filter(|odd| odd.site == signature) {
                writeln!(out, "  # {}", phrase::odd(odd))?;
            }
            writeln!(out, "  ok {number} {name}")?;
            totals.pass += 1;
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
