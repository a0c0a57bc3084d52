//! The report at the end of a sweep, for people in a terminal.

use std::io::{self, Write};

use super::{
    known::{self, Known},
    model::{Found, OddFailure, Report},
    phrase::{self, number, one_line, plural, printable},
};
use crate::foreign::write_lines;
use crate::{
    events::frames,
    journal::{Finding, FindingFailure, Signature},
};

/// Frames of a stack that are shown.
const FRAMES: usize = 8;
/// Frames of a stack in one line.
const FRAMES_IN_A_LINE: usize = 3;
/// Lines of a splat that are shown.
const SPLAT: usize = 24;
/// Odd failures that are shown.
const ODDS: usize = 20;
/// Sites of a finding, and suspects, that are shown.
const SITES: usize = 5;

/// The report as text.
///
/// # Errors
/// It can't be written.
pub fn text(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    write_lines(out, |out| whole(report, out))
}

fn whole(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    head(report, out)?;
    for found in report.findings.iter().filter(|found| found.known.is_none()) {
        finding(report, found, out)?;
    }
    known(report, out)?;
    let title = |count, of| format!("misreported: {} came back as something other than ENOMEM", plural(count, of));
    odds(report, &report.misreported, &title(report.misreported.len(), "allocation failure"), out)?;
    let title = format!("wedged: the same error came again and again after {}", plural(report.wedged.len(), "failure"));
    odds(report, &report.wedged, &title, out)?;
    coverage(report, out)?;
    left(report, out)?;
    out.flush()
}

fn head(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let findings = phrase::findings(report);
    match &report.config {
        Some(config) => {
            writeln!(out, "{findings} on {}", phrase::kernel(&config.kernel))?;
            let hashes = phrase::kernel_hashes(&config.kernel);
            if !hashes.is_empty() {
                writeln!(out, "kernel: {hashes}")?;
            }
            writeln!(out, "workload: {}", phrase::workload(config))?;
        }
        None => writeln!(out, "{findings}: nothing was swept")?,
    }
    writeln!(out, "{}", phrase::counts(&report.counts))?;
    if let Some(inventory) = phrase::inventory(&report.counts, &report.inventory) {
        writeln!(out, "{inventory}")?;
    }
    if let Some(places) = report.static_sites.phrase() {
        writeln!(out, "{places}")?;
    }
    if !report.pairs.is_empty() {
        let pairs: usize = report.pairs.values().sum();
        let by: Vec<String> =
            report.pairs.iter().map(|(verdict, count)| format!("{} {verdict}", number(*count as u64))).collect();
        writeln!(out, "{} failed in one attempt: {}", plural(pairs, "pair"), by.join(", "))?;
    }
    if report.config.is_some() {
        writeln!(out, "time: {}", phrase::times(&report.times))?;
    }
    if let Some(unsteady) = report.unsteady.filter(|unsteady| unsteady.sites > 0) {
        let runs = plural(unsteady.runs as usize, "run");
        writeln!(
            out,
            "not deterministic: {} came and went in {runs} without failures",
            plural(unsteady.sites, "site")
        )?;
    }
    let mixed = report.sites.values().filter(|site| site.agreeing.is_some()).count();
    if mixed > 0 {
        writeln!(out, "not deterministic: the failures of {} came out in different ways", plural(mixed, "site"))?;
    }
    if report.sweeps.len() > 1 {
        writeln!(out, "merged from {}{}", plural(report.sweeps.len(), "sweep"), phrase::shards(report))?;
    }
    if let Some(others) = phrase::kernel_injected(report) {
        writeln!(out, "{others}")?;
    }
    for remark in &report.remarks {
        writeln!(out, "journal: {}", one_line(remark))?;
    }
    Ok(())
}

fn finding(report: &Report, found: &Found, out: &mut dyn Write) -> io::Result<()> {
    let finding = &found.finding;
    writeln!(out, "\n{}: {}", finding.verdict, one_line(&finding.title))?;
    writeln!(out, "  finding {}, {}", finding.id, phrase::tries(finding.reproduced, finding.tries))?;
    writeln!(out, "  {}", one_line(&found.replay))?;
    if !finding.followed_by.is_empty() {
        let titles: Vec<_> = finding.followed_by.iter().map(|title| one_line(title)).collect();
        writeln!(out, "  followed by: {}", titles.join("; "))?;
    }
    for failure in finding.failures.iter().take(SITES) {
        failed(report, failure, finding.failures.len() > 1, out)?;
    }
    if finding.failures.len() > SITES {
        writeln!(out, "\n  and {}", plural(finding.failures.len() - SITES, "more site"))?;
    }
    if finding.failures.is_empty() {
        suspects(report, finding, out)?;
    }
    let splat = printable(&finding.splat);
    let (lines, left_out) = phrase::excerpt(&splat, SPLAT);
    if !lines.is_empty() {
        writeln!(out)?;
    }
    for line in lines {
        writeln!(out, "  | {line}")?;
    }
    if left_out > 0 {
        writeln!(out, "  | … {} left out", plural(left_out, "line"))?;
    }
    Ok(())
}

/// What is known in one line each, and what of it was not found.
fn known(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    if report.findings.iter().any(|found| found.known.is_some()) {
        writeln!(out, "\nknown:")?;
    }
    let chains = known::of_report(report, "");
    for (found, Known { chains, .. }) in report.findings.iter().zip(chains) {
        let Some(file) = &found.known else { continue };
        let Finding { id, title, verdict, reproduced, tries, .. } = &found.finding;
        let at = phrase::at(&chains);
        let tries = phrase::tries(*reproduced, *tries);
        writeln!(out, "  {verdict}: {}{at}, finding {id}, {tries} [{}]", one_line(title), one_line(file))?;
    }
    if !report.not_found.is_empty() {
        writeln!(out, "\nknown, and not found by this sweep:")?;
    }
    for gone in &report.not_found {
        writeln!(out, "  {}", phrase::not_found(gone))?;
    }
    Ok(())
}

fn failed(report: &Report, failure: &FindingFailure, several: bool, out: &mut dyn Write) -> io::Result<()> {
    let site = report.site(failure.site);
    writeln!(out)?;
    if let Some(first) = failure.after {
        writeln!(out, "  first a failure of site {}", place(report, first))?;
    }
    writeln!(out, "  site {}: {}", failure.site, phrase::allocation(site, failure.call.as_ref()))?;
    let manner = phrase::manner(failure);
    if !manner.is_empty() {
        writeln!(out, "  {manner}")?;
    }
    let mut outcome: Vec<String> = failure.outcome.iter().map(ToString::to_string).collect();
    if several {
        outcome.push(phrase::tries(failure.reproduced, failure.tries));
    }
    if !outcome.is_empty() {
        writeln!(out, "  {}", one_line(&outcome.join(", ")))?;
    }
    let Some(site) = site else { return Ok(()) };
    let callers = frames::callers(&site.stack);
    for frame in callers.iter().take(FRAMES) {
        let (inlined, frame) = phrase::frame(&report.lines, frame);
        for line in inlined.iter().map(String::as_str).chain([&*frame]) {
            writeln!(out, "    {line}")?;
        }
    }
    if callers.len() > FRAMES {
        writeln!(out, "    … {}", plural(callers.len() - FRAMES, "more frame"))?;
    }
    Ok(())
}

fn suspects(report: &Report, finding: &Finding, out: &mut dyn Write) -> io::Result<()> {
    let suspects = &finding.suspects;
    if suspects.is_empty() {
        return writeln!(out, "  no failure could be blamed for it");
    }
    let sites = plural(suspects.len(), "site");
    if finding.tries == 0 {
        writeln!(out, "  not narrowed down yet; one of {sites}:")?;
    } else {
        writeln!(
            out,
            "  not narrowed down: the sites that could be failed alone did not cause it; it is one of {sites}, or several of them:"
        )?;
    }
    for site in suspects.iter().take(SITES) {
        writeln!(out, "    {}", place(report, *site))?;
    }
    if suspects.len() > SITES {
        writeln!(out, "    … {} more", number((suspects.len() - SITES) as u64))?;
    }
    Ok(())
}

/// A site in one line.
fn place(report: &Report, signature: Signature) -> String {
    let Some(site) = report.site(signature) else { return signature.to_string() };
    let frames = frames::callers(&site.stack).iter().take(FRAMES_IN_A_LINE);
    let frames: Vec<_> = frames.map(|frame| one_line(frame)).collect();
    format!("{signature} {} {}", site.hook(), frames.join(" < "))
}

fn odds(report: &Report, odds: &[OddFailure], title: &str, out: &mut dyn Write) -> io::Result<()> {
    if odds.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n{title}")?;
    for odd in odds.iter().take(ODDS) {
        writeln!(out, "  {}: site {}", phrase::odd(odd), place(report, odd.site))?;
    }
    if odds.len() > ODDS {
        writeln!(out, "  … {} more, see --html or --json", number((odds.len() - ODDS) as u64))?;
    }
    Ok(())
}

fn coverage(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    if report.modules.is_empty() {
        return Ok(());
    }
    let modules = report.modules.iter().map(|module| one_line(&module.module).chars().count());
    let width = modules.max().unwrap_or(0).max("module".len());
    write!(out, "\n{:<width$}", "module")?;
    let columns = ["seen", "failed", "masked", "unreached", "left", "findings"];
    for column in columns {
        write!(out, "{column:>11}")?;
    }
    writeln!(out)?;
    for module in &report.modules {
        let counts = &module.counts;
        write!(out, "{:<width$}", one_line(&module.module))?;
        let left = counts.left + counts.elsewhere;
        for count in [counts.seen, counts.failed, counts.masked, counts.unreached, left, module.findings] {
            write!(out, "{:>11}", number(count as u64))?;
        }
        writeln!(out)?;
    }
    Ok(())
}

fn left(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    if !report.left.is_empty() {
        writeln!(out, "\nnever failed:")?;
        for share in &report.left {
            writeln!(out, "{:>8}  {}", number(share.sites as u64), one_line(&share.why))?;
        }
    }
    if !report.complete && report.config.is_some() {
        writeln!(out, "\nthe sweep did not come to its end; go on with it by --resume")?;
    }
    Ok(())
}
