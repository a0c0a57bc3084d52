//! A finding as the plain text of a mail, 72 columns. Nothing is sent.

use std::{
    borrow::Cow,
    io::{self, Write},
};

use super::{
    export,
    model::{Found, Report},
    phrase::{self, one_line, printable},
};
use crate::{
    events::frames,
    foreign::write_lines,
    journal::{FindingFailure, Signature, Verdict},
    symbols::Lines,
};

/// What a line of ours has at most. Lines of the kernel's log stay as they are.
const COLUMNS: usize = 72;
/// Lines of a splat.
const SPLAT: usize = 60;

/// A mail for each finding, one after the other.
///
/// # Errors
/// It can't be written.
pub fn mail(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    write_lines(out, |out| {
        for (i, found) in report.findings.iter().enumerate() {
            if i > 0 {
                writeln!(out, "\n{}\n", "=".repeat(COLUMNS))?;
            }
            one(report, found, out)?;
        }
        Ok(())
    })
}

fn one(report: &Report, found: &Found, out: &mut dyn Write) -> io::Result<()> {
    let finding = &found.finding;
    let title = one_line(&finding.title);
    let best = finding.failures.iter().max_by_key(|failure| failure.reproduced);
    let asker = best.and_then(|failure| report.site(failure.site)).map(|site| one_line(site.function()));
    let subject = match &asker {
        Some(function) => format!("Subject: {title} after a failed allocation in {function}()"),
        None => format!("Subject: {title} after failed allocations"),
    };
    // A header is continued by lines that begin with a space.
    wrapped(&subject, "", " ", out)?;
    writeln!(out)?;
    wrapped(&opening(report, found), "", "", out)?;

    writeln!(out, "\nWhat failed\n-----------")?;
    match best {
        Some(failure) => {
            if let Some(first) = failure.after {
                writeln!(out, "First, in the same attempt:")?;
                stack(report, first, out)?;
                writeln!(out, "\nThen:")?;
            }
            failed(report, failure, out)?;
            let others = finding.failures.len() - 1;
            if others > 0 {
                wrapped(
                    &format!("Failures of {} lead to the same.", phrase::plural(others, "other site")),
                    "",
                    "",
                    out,
                )?;
            }
        }
        None => {
            let sites = phrase::plural(finding.suspects.len(), "site");
            wrapped(&format!("Not narrowed down yet: one of {sites}, or several of them."), "", "", out)?;
        }
    }

    writeln!(out, "\nWhat happened\n-------------")?;
    wrapped(&format!("{}: {title}", finding.verdict), "", "  ", out)?;
    if let Some(outcome) = best.and_then(|failure| failure.outcome.as_ref()) {
        wrapped(&format!("As far as user space can tell: {}.", one_line(&outcome.to_string())), "", "  ", out)?;
    }
    for title in &finding.followed_by {
        wrapped(&format!("Followed by: {}", one_line(title)), "", "  ", out)?;
    }
    splat(&report.lines, &finding.splat, out)?;

    writeln!(out, "\nHow often\n---------")?;
    wrapped(&format!("{}.", phrase::tries(finding.reproduced, finding.tries)), "", "", out)?;

    writeln!(out, "\nHow to reproduce\n----------------")?;
    writeln!(out, "With the injector and the journal:\n\n  {}\n", one_line(&found.replay))?;
    match export::script(report, finding) {
        Ok(_) => {
            wrapped(
                "Without the injector, on a kernel with FAILSLAB, FAIL_PAGE_ALLOC and FAULT_INJECTION_STACKTRACE_FILTER, by a script that this makes:",
                "",
                "",
                out,
            )?;
            let journal = shlex::try_quote(&report.journal).unwrap_or(Cow::Borrowed("JOURNAL"));
            writeln!(out, "\n  injector export {} {} > reproduce.sh", one_line(&journal), finding.id)?;
        }
        Err(error) => {
            let error = error.to_string();
            wrapped(&format!("There is no reproducer without the injector: {}.", one_line(&error)), "", "", out)?;
        }
    }

    writeln!(out, "\nKernel and workload\n-------------------")?;
    if let Some(config) = &report.config {
        wrapped(&phrase::kernel(&config.kernel), "", "  ", out)?;
        for (name, hash) in [("build id", &config.kernel.build_id), ("SHA-256 of .config", &config.kernel.config)] {
            if let Some(hash) = hash {
                wrapped(&format!("{name}: {}", one_line(hash)), "", "  ", out)?;
            }
        }
        writeln!(out, "workload: {}", phrase::workload(config))?;
        for (name, command) in [("setup", &config.workload.setup), ("cleanup", &config.workload.cleanup)] {
            if let Some(command) = command {
                writeln!(out, "{name}: {}", one_line(command))?;
            }
        }
    }
    if let Some(sweep) = report.sweeps.first() {
        writeln!(out, "injector {}", one_line(&sweep.version))?;
    }
    maintainers(report, best, &finding.splat, out)
}

/// The first paragraph. Its first line says that the failure was injected.
fn opening(report: &Report, found: &Found) -> String {
    let failure = found.finding.failures.iter().max_by_key(|failure| failure.reproduced);
    let failures = match failure {
        Some(failure) if failure.after.is_some() => "Two allocation failures, injected on purpose, lead to this.",
        Some(_) => "One allocation failure, injected on purpose, leads to this.",
        None => "Allocation failures, injected on purpose, lead to this.",
    };
    let what = match found.finding.verdict {
        Verdict::Hang => "A task does not come back.",
        Verdict::Leak => "Memory is lost.",
        Verdict::Oops => "The kernel crashes, or a check reports that it would.",
        Verdict::Warning => "The kernel warns.",
        _ => "The workload does not work any more.",
    };
    let module = failure.and_then(|failure| report.site(failure.site)).map(|site| one_line(&site.module));
    let module = module.map(|module| format!(" The allocation is one of {module}.")).unwrap_or_default();
    format!(
        "{failures} {what}{module} It was found by a sweep of injector, which fails the allocations that a workload reaches, one after the other."
    )
}

fn failed(report: &Report, failure: &FindingFailure, out: &mut dyn Write) -> io::Result<()> {
    let allocation = phrase::allocation(report.site(failure.site), failure.call.as_ref());
    wrapped(&allocation, "", "  ", out)?;
    let manner = phrase::manner(failure);
    if !manner.is_empty() {
        wrapped(&manner, "", "  ", out)?;
    }
    stack(report, failure.site, out)
}

fn stack(report: &Report, site: Signature, out: &mut dyn Write) -> io::Result<()> {
    let Some(site) = report.site(site) else { return writeln!(out, "  site {site}") };
    for frame in frames::callers(&site.stack) {
        located(&report.lines, &one_line(frame), frame, out)?;
    }
    Ok(())
}

/// A line of a stack, with its place in the sources; that is on a line of its own where it would be too long.
fn located(lines: &Lines, shown: &str, frame: &str, out: &mut dyn Write) -> io::Result<()> {
    let Some(all) = lines.get(frame) else { return writeln!(out, "  {shown}") };
    let mut shown = shown.to_owned();
    for line in all {
        let place = one_line(&format!("{}:{}", line.file, line.line)).into_owned();
        let place = if line.inlined { format!("{} {place} (inlined)", one_line(&line.function)) } else { place };
        if !line.inlined && shown.chars().count() + place.chars().count() + 3 <= COLUMNS {
            shown = format!("{shown} {place}");
        } else if line.inlined {
            writeln!(out, "    {place}")?;
        } else {
            writeln!(out, "  {shown}")?;
            shown = format!("  {place}");
        }
    }
    writeln!(out, "  {shown}")
}

/// What the kernel said, its stack with source lines.
fn splat(lines: &Lines, splat: &str, out: &mut dyn Write) -> io::Result<()> {
    let splat = printable(splat);
    let (shown, left_out) = phrase::excerpt(&splat, SPLAT);
    if !shown.is_empty() {
        writeln!(out)?;
    }
    for line in shown {
        match frame_of(line) {
            Some(frame) => located(lines, line.trim_end(), &frame, out)?,
            None => writeln!(out, "  {}", line.trim_end())?,
        }
    }
    if left_out > 0 {
        writeln!(out, "  … {} left out", phrase::plural(left_out, "line"))?;
    }
    Ok(())
}

/// The frame that a line of a splat is about: `vfs_write+0xc0` of ` vfs_write+0xc0/0x450`.
pub(super) fn frame_of(line: &str) -> Option<String> {
    let line = line.trim();
    let line = line.strip_prefix("RIP: 0010:").unwrap_or(line);
    let (place, rest) = line.split_once('/')?;
    let (function, offset) = place.split_once("+0x")?;
    let is_name = !function.is_empty() && function.chars().all(|c| c.is_ascii_alphanumeric() || "_.".contains(c));
    if !is_name || !offset.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let module = rest.split_once(" [").and_then(|(_, module)| module.split([']', ' ']).next());
    Some(module.map_or_else(|| place.to_owned(), |module| format!("{place} [{module}]")))
}

/// Whom to ask: by the files of the failed allocation and of the complaint, where source lines are known.
fn maintainers(report: &Report, best: Option<&FindingFailure>, splat: &str, out: &mut dyn Write) -> io::Result<()> {
    let file = |frame: &str| report.lines.get(frame)?.last().map(|line| one_line(&line.file).into_owned());
    let site = best.and_then(|failure| report.site(failure.site));
    let asked = site.and_then(|site| frames::callers(&site.stack).iter().find_map(|frame| file(frame)));
    let complained = splat.lines().filter_map(frame_of).find_map(|frame| file(&frame));
    let mut files: Vec<String> = asked.into_iter().chain(complained).collect();
    files.dedup();
    writeln!(out, "\nWhom to ask\n-----------")?;
    if files.is_empty() {
        return wrapped(
            "No source lines are known: with --vmlinux, this mail has the files for scripts/get_maintainer.pl.",
            "",
            "",
            out,
        );
    }
    for file in files {
        writeln!(out, "  scripts/get_maintainer.pl -f {file}")?;
    }
    Ok(())
}

/// Words in lines of at most 72 columns; a longer word has a line of its own.
fn wrapped(text: &str, first: &str, other: &str, out: &mut dyn Write) -> io::Result<()> {
    let mut line = first.to_owned();
    let mut empty = true;
    for word in text.split_whitespace() {
        if !empty && line.chars().count() + 1 + word.chars().count() > COLUMNS {
            writeln!(out, "{line}")?;
            line = other.to_owned();
            empty = true;
        }
        if !empty {
            line.push(' ');
        }
        line.push_str(word);
        empty = false;
    }
    writeln!(out, "{line}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_a_splat() {
        assert_eq!(frame_of(" vfs_write+0xc0/0x450").as_deref(), Some("vfs_write+0xc0"));
        assert_eq!(
            frame_of("  f.isra.0+0x37/0x40 [injector_defects 1234]").as_deref(),
            Some("f.isra.0+0x37 [injector_defects]")
        );
        assert_eq!(frame_of("RIP: 0010:remove_proc_entry+0x1a/0x1b0").as_deref(), Some("remove_proc_entry+0x1a"));
        for none in ["Call Trace:", " ? vfs_write+0xc0/0x450", "and/or", "a b+0x1/0x2", " <TASK>"] {
            assert_eq!(frame_of(none), None, "{none}");
        }
    }

    #[test]
    fn words_are_wrapped() {
        let mut out = Vec::new();
        wrapped(&format!("{} {} b", "a ".repeat(50), "x".repeat(90)), "", "  ", &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!((lines[0].len(), lines[2].len(), lines[3]), (71, 92, "  b"));
    }
}
