//! A run for people in a terminal.

use std::io::{self, Write};

use injector_common::counters::DESCRIPTIONS;

use super::{
    line::Counters,
    model::{End, Run, Site},
    words,
};
use crate::{
    events::Outcomes,
    foreign::write_lines,
    report::phrase::{self, number, one_line, plural},
};

/// The report as text, with the `top` most frequent sites; 0: all.
///
/// # Errors
/// It can't be written.
pub fn text(run: &Run, top: usize, out: &mut dyn Write) -> io::Result<()> {
    write_lines(out, |out| whole(run, top, out))
}

fn whole(run: &Run, top: usize, out: &mut dyn Write) -> io::Result<()> {
    head(run, out)?;
    rules(run, out)?;
    if let Some(end) = &run.end {
        counters(end, out)?;
    }
    syscalls(run, out)?;
    let shown = if top == 0 { run.sites.len() } else { top.min(run.sites.len()) };
    match (run.sites.len(), shown) {
        (0, _) => writeln!(out, "\nno site failed")?,
        (all, shown) if all == shown => writeln!(out, "\n{}, the most frequent first:", plural(all, "site"))?,
        (all, shown) => {
            writeln!(out, "\n{}; the most frequent of them, {}:", plural(all, "site"), number(shown as u64))?
        }
    }
    for site in &run.sites[..shown] {
        self::site(run, site, out)?;
    }
    out.flush()
}

fn head(run: &Run, out: &mut dyn Write) -> io::Result<()> {
    write!(out, "{}", words::title(run))?;
    if let Some(start) = &run.start {
        writeln!(out, " on Linux {}", one_line(&start.kernel))?;
        let hooks = start.hooks.iter().map(|hook| one_line(hook)).collect::<Vec<_>>().join(", ");
        writeln!(out, "run: {}, injector {}, hooks {hooks}", one_line(&start.time), one_line(&start.version))?;
    } else {
        writeln!(out)?;
    }
    writeln!(out, "{}", words::course(run))?;
    for remark in &run.remarks {
        writeln!(out, "file: {}", one_line(remark))?;
    }
    if run.is_dry() {
        writeln!(out, "a dry run: nothing failed")?;
    }
    if let Some(rate) = run.rate(run.failures) {
        writeln!(out, "{} on average", words::rate(rate))?;
    }
    if let Some(outcomes) = &run.outcomes {
        writeln!(out, "outcomes: {}", words::several(&outcomes.named()))?;
    }
    Ok(())
}

fn rules(run: &Run, out: &mut dyn Write) -> io::Result<()> {
    let rows: Vec<(String, &str, &Counters)> = run
        .rules
        .iter()
        .flat_map(|rule| rule.hooks.0.iter().map(|(hook, counters)| (rule.name.as_str(), hook, counters)))
        .map(|(name, hook, counters)| (one_line(name).into_owned(), hook.as_str(), counters))
        .collect();
    if rows.is_empty() {
        if run.rules.len() > 1 {
            writeln!(out)?;
            for rule in &run.rules {
                writeln!(out, "rule {}: {}", one_line(&rule.name), words::count(rule.failures, "failure"))?;
            }
        }
        return Ok(());
    }
    let width = |column: &mut dyn Iterator<Item = usize>, title: &str| column.max().unwrap_or(0).max(title.len());
    let name_width = width(&mut rows.iter().map(|(name, ..)| name.chars().count()), "rule");
    let hook_width = width(&mut rows.iter().map(|(_, hook, _)| hook.chars().count()), "hook");
    writeln!(
        out,
        "\n{:<name_width$}  {:<hook_width$}{:>16}{:>16}{:>14}",
        "rule", "hook", "calls", "matches", "failures"
    )?;
    for (name, hook, counters) in rows {
        let [calls, matches, failures] = ["calls", "matches", "failures"].map(|name| number(counters.get(name)));
        let hook = one_line(hook);
        writeln!(out, "{name:<name_width$}  {hook:<hook_width$}{calls:>16}{matches:>16}{failures:>14}")?;
    }
    Ok(())
}

/// Those that are not in the table.
fn counters(end: &End, out: &mut dyn Write) -> io::Result<()> {
    writeln!(
        out,
        "\nevents: {} delivered, {} lost (the sites below are exact all the same)",
        number(end.delivered),
        number(end.lost)
    )?;
    writeln!(out, "suppressed by guards: {}", number(end.suppressed))?;
    for (name, sum, help) in others(end) {
        writeln!(out, "  {:>14} {}: {help}", number(sum), name.replace('_', " "))?;
    }
    Ok(())
}

/// Counters that are not zero and not told of elsewhere, with what they mean.
pub(super) fn others(end: &End) -> impl Iterator<Item = (&'static str, u64, &'static str)> {
    let told = ["calls", "matches", "failures", "lost", "passed"];
    DESCRIPTIONS.iter().filter(move |description| !told.contains(&description.name)).filter_map(|description| {
        let of_hooks = end.hooks.0.iter().map(|(_, counters)| counters.get(description.name));
        let sum = of_hooks.fold(0, u64::saturating_add);
        (sum > 0).then(|| (description.name, sum, description.help.trim()))
    })
}

fn syscalls(run: &Run, out: &mut dyn Write) -> io::Result<()> {
    if run.syscalls.is_empty() {
        return Ok(());
    }
    let name = |name: &Option<String>| match name {
        Some(name) => format!("{}()", one_line(name)),
        None => "outside of system calls".to_owned(),
    };
    let names: Vec<String> = run.syscalls.iter().map(|syscall| name(&syscall.syscall)).collect();
    let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0).max("system call".len());
    writeln!(
        out,
        "\n{:<width$}{:>12}{:>12}{:>15}{:>12}{:>12}",
        "system call", "failures", "ENOMEM", "another error", "masked", "signal"
    )?;
    for (name, syscall) in names.iter().zip(&run.syscalls) {
        let outcomes = &syscall.outcomes;
        let Outcomes { enomem, error, masked, signal, outside: _, open: _ } = *outcomes;
        writeln!(
            out,
            "{name:<width$}{:>12}{:>12}{:>15}{:>12}{:>12}",
            number(outcomes.sum()),
            number(enomem),
            number(error),
            number(masked),
            number(signal)
        )?;
    }
    Ok(())
}

fn site(run: &Run, site: &Site, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "\n{:>10} x {} site {}", number(site.count), one_line(&site.hook), site.site)?;
    const INDENT: &str = "             ";
    if let Some(outcomes) = &site.outcomes {
        writeln!(out, "{INDENT}{}", words::outcomes(site.count, outcomes))?;
    }
    let allocations = words::allocations(site);
    if !allocations.is_empty() {
        writeln!(out, "{INDENT}{allocations}")?;
    }
    if run.rules.len() > 1 && !site.rules.is_empty() {
        writeln!(out, "{INDENT}by rule {}", words::values(&site.rules))?;
    }
    if site.stack.is_empty() {
        return writeln!(out, "{INDENT}(the stack is not in the file)");
    }
    for frame in &site.stack {
        let (inlined, frame) = phrase::frame(&run.lines, frame);
        for line in inlined.iter().map(String::as_str).chain([&*frame]) {
            writeln!(out, "{INDENT}{line}")?;
        }
    }
    Ok(())
}
