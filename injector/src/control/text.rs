//! How a run stands, for people.

use std::{
    fmt::{self, Write as _},
    time::Duration,
};

use crate::foreign::masked;

use super::{Counts, HookStatus, RuleStatus, RunState, Status};

impl Status {
    /// `running for 12.3 s, 47.7 s left: 456 failures`
    #[must_use]
    pub fn headline(&self) -> String {
        let state = match self.state {
            RunState::Running => "running for",
            RunState::Paused => "paused after",
            RunState::Stopping => "stopping after",
        };
        let seconds = |ns| Duration::from_nanos(ns).as_secs_f64();
        let mut line = format!("{state} {:.1} s", seconds(self.elapsed_ns));
        if let Some(left) = self.left_ns {
            let _ = write!(line, ", {:.1} s left", seconds(left));
        }
        let failures = self.total().failures;
        let _ = write!(line, ": {failures} {}", if failures == 1 { "failure" } else { "failures" });
        if self.dry_run {
            line.push_str(", all of them only counted (dry run)");
        }
        line
    }

    /// A line per rule: `default: prob=0.05, times=12 more`
    #[must_use]
    pub fn knobs(&self) -> String {
        self.rules.iter().fold(String::new(), |mut text, rule| {
            let RuleStatus { name, prob, rate, times_left, hooks: _ } = rule;
            let _ = write!(text, "{}: prob={prob}", masked(name));
            if let Some(rate) = rate {
                let _ = write!(text, " rate={rate}/s");
            }
            if let Some(left) = times_left {
                let _ = write!(text, " times={left} (left)");
            }
            text.push('\n');
            text
        })
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.headline())?;
        f.write_str(&self.knobs())?;
        let name = |rule: &RuleStatus| masked(&rule.name).chars().count();
        let width = self.rules.iter().map(name).max().unwrap_or(0).max("rule".len());
        let hooks = self.rules.iter().flat_map(|rule| &rule.hooks);
        let hook_width = hooks.map(|hook| hook.hook.len()).max().unwrap_or(0).max("hook".len());
        let columns = ["calls", "matches", "failures", "lost"].map(|column| format!("{column:>14}")).concat();
        writeln!(f, "\n{:<width$}  {:<hook_width$}{columns}", "rule", "hook")?;
        for rule in &self.rules {
            for HookStatus { hook, counts } in &rule.hooks {
                let Counts { calls, matches, failures, lost } = counts;
                let (name, numbers) = (masked(&rule.name), [calls, matches, failures, lost]);
                let numbers = numbers.map(|number| format!("{number:>14}")).concat();
                writeln!(f, "{name:<width$}  {hook:<hook_width$}{numbers}")?;
            }
        }
        Ok(())
    }
}
