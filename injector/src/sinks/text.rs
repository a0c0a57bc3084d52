//! Text for people: a line per failure, and at the end the counts and the histogram.

use std::io::{self, Write};

use injector_common::counters::{Counters, DESCRIPTIONS};
use nix::errno::Errno;

use super::Sink;
use crate::events::{Context, Event, HookSummary, Outcome, OutcomeKind, RuleSummary, Start, Summary, frames};
use crate::foreign::masked;

/// Writes text.
#[derive(Debug)]
pub struct Text<W> {
    writer: W,
    top: usize,
    began: u64,
    dry_run: bool,
}

/// How many frames a failure's line shows; all are in the histogram.
const FRAMES_IN_A_LINE: usize = 4;

impl<W: Write> Text<W> {
    /// To `writer`, with the `top` most frequent sites at the end; 0: all.
    pub fn new(writer: W, top: usize) -> Self {
        Self { writer, top, began: 0, dry_run: false }
    }

    /// When it was, in seconds since the start.
    fn time(&mut self, time_ns: u64) -> io::Result<()> {
        let since = time_ns.saturating_sub(self.began);
        write!(self.writer, "{:>4}.{:06} ", since / 1_000_000_000, since / 1_000 % 1_000_000)
    }
}

impl<W: Write> Sink for Text<W> {
    fn start(&mut self, start: &Start<'_>) -> io::Result<()> {
        self.began = start.time_ns;
        self.dry_run = start.dry_run;
        Ok(())
    }

    fn failure(&mut self, event: &Event) -> io::Result<()> {
        self.time(event.time_ns)?;
        write!(self.writer, "{:<4}", event.hook)?;
        if event.hook.has_gfp() {
            write!(self.writer, " {}", event.effective_gfp)?;
        }
        if event.hook.has_size() {
            write!(self.writer, " order={} size={}", event.order, event.size)?;
        }
        if !event.hook.has_gfp() {
            write!(self.writer, " error={}", event.error)?;
        }
        if event.gfp_bits != event.effective_gfp_bits {
            write!(self.writer, " asked={}", event.gfp)?;
        }
        if let Some(cache) = &event.cache {
            write!(self.writer, " cache={cache}")?;
        }
        write!(self.writer, " {}[{}] cpu{}", masked(&event.comm), event.tid, event.cpu)?;
        if event.context != Context::Task {
            write!(self.writer, " {}", event.context.name())?;
        }
        write!(self.writer, " site={:016x}", event.site)?;
        for frame in frames::callers(&event.stack).iter().take(FRAMES_IN_A_LINE) {
            write!(self.writer, " < {frame}")?;
        }
        writeln!(self.writer)
    }

    fn outcome(&mut self, outcome: &Outcome) -> io::Result<()> {
        self.time(outcome.time_ns)?;
        let out = &mut self.writer;
        write!(out, "outcome ")?;
        match &outcome.syscall {
            None => write!(out, "outside of system calls")?,
            Some(syscall) => {
                write!(out, "{syscall}()")?;
                if let Some(result) = outcome.result {
                    write!(out, " = {}", returned(result))?;
                }
                match outcome.is {
                    OutcomeKind::Masked => write!(out, " masked")?,
                    OutcomeKind::Signal => write!(out, " signal")?,
                    OutcomeKind::Enomem | OutcomeKind::Error | OutcomeKind::Outside => {}
                }
            }
        }
        if outcome.count > 1 {
            write!(out, " after {} failures", outcome.count)?;
        }
        writeln!(out, " {}[{}] site={:016x}", masked(&outcome.comm), outcome.tid, outcome.site)
    }

    fn summary(&mut self, summary: &Summary) -> io::Result<()> {
        let out = &mut self.writer;
        let seconds = summary.elapsed.as_secs_f64();
        let (end, failures) = (summary.end.describe(), summary.failures);
        if self.dry_run {
            let rate = failures as f64 / seconds.max(1e-9);
            writeln!(
                out,
                "\n{end}: nothing failed; {failures} calls would have failed, {rate:.1} per second, in {seconds:.1} s"
            )?;
        } else {
            writeln!(out, "\n{end}: {failures} failures in {seconds:.1} s")?;
        }
        if let Some(status) = summary.command_status {
            writeln!(out, "exit status of the command: {status}")?;
        }
        // A function's name can be longer than those of hooks.
        let width = summary.hooks.iter().map(|hook| hook.hook.name().len() + 1).max().unwrap_or(0).max(8);
        writeln!(out, "\n{:<width$}{:>14}{:>14}{:>14}", "hook", "calls", "matches", "failures")?;
        for hook in &summary.hooks {
            let counters = &hook.counters;
            writeln!(
                out,
                "{:<width$}{:>14}{:>14}{:>14}",
                hook.hook.name(),
                counters.calls,
                counters.matches,
                counters.failures
            )?;
        }
        if summary.rules.len() > 1 {
            let name = |rule: &RuleSummary| masked(&rule.name).chars().count();
            let width = summary.rules.iter().map(name).max().unwrap_or(0).max("rule".len());
            writeln!(out, "\n{:<width$}  {:<8}{:>14}{:>14}{:>14}", "rule", "hook", "calls", "matches", "failures")?;
            for rule in &summary.rules {
                for HookSummary { hook, counters } in &rule.hooks {
                    let Counters { calls, matches, failures, .. } = counters;
                    let (name, hook) = (masked(&rule.name), hook.name());
                    writeln!(out, "{name:<width$}  {hook:<8}{calls:>14}{matches:>14}{failures:>14}")?;
                }
            }
        }
        if !summary.unmatched.is_empty() {
            writeln!(out)?;
        }
        for unmatched in &summary.unmatched {
            let rule =
                if summary.rules.len() > 1 { format!("rule {}: ", masked(&unmatched.rule)) } else { String::new() };
            writeln!(out, "{rule}{}", unmatched.describe())?;
        }
        writeln!(
            out,
            "\nevents: {} delivered, {} lost (the histogram below is exact all the same)",
            summary.delivered, summary.lost
        )?;
        writeln!(out, "suppressed by guards: {}", summary.suppressed)?;
        for (i, description) in DESCRIPTIONS.iter().enumerate() {
            if ["calls", "stacks", "matches", "failures", "lost", "passed"].contains(&description.name) {
                continue;
            }
            let sum: u64 = summary.hooks.iter().map(|hook| hook.counters.values()[i]).sum();
            if sum > 0 {
                writeln!(out, "  {:>12} {}: {}", sum, description.name.replace('_', " "), description.help.trim())?;
            }
        }
        let shown = if self.top == 0 { summary.sites.len() } else { self.top.min(summary.sites.len()) };
        let [one, many] = if self.dry_run { ["would have been", "would have been"] } else { ["was", "were"] };
        match (summary.sites.len(), shown) {
            (0, _) => writeln!(out, "\nno site {one} failed")?,
            (1, _) => writeln!(out, "\n1 site {one} failed:")?,
            (all, shown) if all == shown => writeln!(out, "\n{all} sites {many} failed, the most frequent first:")?,
            (all, shown) => writeln!(out, "\n{all} sites {many} failed; the most frequent of them, {shown}:")?,
        }
        for site in &summary.sites[..shown] {
            writeln!(out, "\n{:>10} x {} site {:016x}", site.count, site.hook, site.site)?;
            if let Some(outcomes) = &site.outcomes {
                let times = if site.count == 1 { "once" } else { &*format!("{} times", site.count) };
                writeln!(out, "             failed {times}: {}", outcomes.describe())?;
            }
            for frame in site.stack.iter() {
                writeln!(out, "             {frame}")?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

/// What a system call returned: `ENOMEM`, `3`, and `-512` for what is only known within the kernel.
fn returned(result: i64) -> String {
    match i32::try_from(-result).map(Errno::from_raw) {
        Ok(errno) if result < 0 && errno != Errno::UnknownErrno => format!("{errno:?}"),
        _ => result.to_string(),
    }
}
