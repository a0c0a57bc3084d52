//! From the text of a kernel log to complaints.
//!
//! The [`Collector`] takes the log line by line and groups what belongs together: a WARN() from `cut here` to `end trace`,
//! a KASAN report between its two rules, a report of the scheduler up to the end of its call trace. What the text says is
//! in the table of `heads`, whom it never blames in that of `skip`.
//!
//! # One defect, several reports
//! Often the same defect is reported more than once; one complaint is enough. It has the title and the text
//! of the first report and the rank of the worst:
//! - the same function is reported twice in the same task: an access that KASAN reported then faults, a counter that
//!   underflowed is then saturated;
//! - KASAN reports more accesses to the same freed object, SLUB more damage to the same slab;
//! - a task that faulted complains again on its way out (`scheduling while atomic`, locks held, RCU nesting);
//! - a lock that was left held: `sleeping function called…` and then `scheduling while atomic` of the same task;
//! - one hang makes others wait, and is reported again and again;
//! - one damaged block of a disk is found in several ways;
//! - the panic after an oops, a hang, a warning.
//!
//! The same title again is the same defect too, within an *episode*: between two calls of [`Collector::episode`]. The next
//! failure is another episode, so a defect that two sites lead to is seen at both. Of earlier episodes only what lasts is
//! remembered: tasks that died, hangs, the panic that is to come.
//!
//! # Where it can be wrong
//! Reports of two CPUs at once are mixed in the log line by line. Each line of one then looks like a line of the other:
//! a report can end early or name a function of the other. Kernels with CONFIG_PRINTK_CALLER say who wrote a line, but the
//! reports themselves come from several (the CPU that found a stall, and the stalled one), so this is not used.

use std::{collections::VecDeque, sync::LazyLock};

use regex::Regex;

use super::{
    Complaint,
    frame::pattern,
    head::{Body, Class},
    report::{CUT, Report, Seen, Step, is_rule},
    titles,
};

/// The first line of every boot.
const BOOT: &str = "Linux version ";

/// That many of the faults and hangs before this episode are remembered, for their consequences.
const REMEMBERED: usize = 32;
/// A task that faulted is gone after so many episodes, and its number may be another's.
const GONE: u64 = 2;
/// Titles of further reports of the same defect that are written under its splat.
const NAMED_REPORTS: usize = 8;

/// Complaints in the text of a console, from the first line to the last. Time stamps are cut off.
#[must_use]
pub fn complaints(console_text: &str) -> Vec<Complaint> {
    let mut collector = Collector::new();
    collector.console(console_text.as_bytes());
    collector.flush();
    collector.take()
}

/// What brought a machine down: of its console's text, the last complaint before the panic (an oops, a hang), or the panic
/// itself; without a panic the last complaint of all, a stall perhaps.
#[must_use]
pub fn last_complaint(console_text: &str) -> Option<Complaint> {
    let mut collector = Collector::new();
    let mut last = None;
    for line in console_text.lines() {
        collector.feed(console_line(line));
        if !collector.is_open() && !collector.complaints.is_empty() {
            collector.episode();
            last = collector.take().pop().or(last);
        }
    }
    collector.flush();
    collector.take().pop().or(last)
}

/// A line of a console without its time stamp and caller: `[    1.234567][  T12] text`, also where a program's unfinished
/// line, or the level (`<4>`), stands before it.
#[must_use]
pub fn console_line(line: &str) -> &str {
    static STAMP: LazyLock<Regex> = LazyLock::new(|| pattern(r"\[ *\d+\.\d{6}\](?:\[ *[TC]\d+\])? ?"));
    STAMP.find(line).map_or(line, |stamp| &line[stamp.end()..])
}

/// Groups the lines of a kernel log into complaints.
#[derive(Debug, Default)]
pub struct Collector {
    open: Option<Report>,
    /// The line of `=` just before this one.
    rule: Option<String>,
    /// The line before, for BUG(): what it says stands before its `cut here`.
    before: String,
    /// This episode's reports, each with the index of its complaint.
    episode: Vec<(Seen, Option<usize>)>,
    complaints: Vec<Complaint>,
    /// Of earlier episodes: what lasts, each with the number of its episode.
    remembered: VecDeque<(Seen, u64)>,
    number: u64,
    /// The kernel panicked: what comes until the next boot is only the end.
    panicked: bool,
    /// Of episodes that ended.
    done: Vec<Complaint>,
    /// Bytes of a console after the last newline.
    partial: Vec<u8>,
}

impl Collector {
    /// Nothing seen yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The next line of the log, without level and time.
    pub fn feed(&mut self, line: &str) {
        let line = line.trim_end();
        if line.starts_with(BOOT) {
            self.close();
            self.episode();
            *self = Self { done: self.take(), partial: std::mem::take(&mut self.partial), ..Self::new() };
            return;
        }
        let noise = titles::is_noise(line);
        if let Some(report) = &mut self.open {
            let step = if noise && report.body != Body::Panic { Step::Over } else { report.take(line) };
            match step {
                Step::Part => return,
                Step::Last => {
                    self.before.clear();
                    return self.close();
                }
                Step::Over => self.close(),
            }
        }
        if !self.panicked && !noise {
            self.start(line);
        }
        self.before.clear();
        self.before.push_str(line);
    }

    /// Bytes of a console, in any portions: cut into lines, without time stamps.
    pub fn console(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.partial.extend_from_slice(piece);
            if piece.ends_with(b"\n") {
                let line = std::mem::take(&mut self.partial);
                self.feed(console_line(&String::from_utf8_lossy(&line)));
            }
        }
    }

    /// Whether a report has begun and not ended.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// The complaints of the episodes that ended.
    pub fn take(&mut self) -> Vec<Complaint> {
        std::mem::take(&mut self.done)
    }

    /// The episode ends: what follows is no repetition of what came before. A report that is open belongs to the next.
    pub fn episode(&mut self) {
        let number = self.number;
        self.number += 1;
        self.done.append(&mut self.complaints);
        for (seen, _) in self.episode.drain(..) {
            if matches!(seen.class, Class::Fault | Class::Hang | Class::Panic) {
                self.remembered.push_back((seen, number));
            }
        }
        self.remembered.retain(|(seen, episode)| seen.class != Class::Fault || number - episode < GONE);
        while self.remembered.len() > REMEMBERED {
            self.remembered.pop_front();
        }
    }

    /// The log ends here: a line without its end, a report that is open, and the episode are complete.
    pub fn flush(&mut self) {
        if !self.partial.is_empty() {
            let line = std::mem::take(&mut self.partial);
            self.feed(console_line(&String::from_utf8_lossy(&line)));
        }
        self.close();
        self.episode();
    }

    /// A line that is in no report.
    fn start(&mut self, line: &str) {
        let rule = self.rule.take();
        if is_rule(line) {
            self.rule = Some(line.to_owned());
            return;
        }
        let mut report = if line == CUT {
            Report::cut(&self.before)
        } else if let Some(found) = titles::find(line) {
            Report::of(found)
        } else {
            return;
        };
        if let Some(rule) = rule {
            report.keep(&rule);
        }
        report.keep(line);
        report.look(line);
        let only_line = report.body == Body::Line;
        self.open = Some(report);
        if only_line {
            self.close();
        }
    }

    /// The open report is complete: a complaint, or more of one that is there.
    fn close(&mut self) {
        let Some((seen, new)) = self.open.take().and_then(Report::finish) else { return };
        self.panicked |= seen.class == Class::Panic;
        let same = self.episode.iter().find(|(earlier, _)| seen.is_again(earlier) || seen.is_after(earlier));
        let index = if let Some((_, index)) = same {
            *index
        } else if self.remembered.iter().any(|(earlier, _)| seen.is_after(earlier)) {
            None
        } else {
            self.complaints.push(new);
            self.episode.push((seen, Some(self.complaints.len() - 1)));
            return;
        };
        if let Some(complaint) = index.and_then(|index| self.complaints.get_mut(index)) {
            complaint.kind = complaint.kind.max(new.kind);
            let also = format!("\n[also: {}]", new.title);
            let named = complaint.splat.matches("\n[also: ").count();
            if complaint.title != new.title && named < NAMED_REPORTS && !complaint.splat.contains(&also) {
                complaint.splat.push_str(&also);
            }
        }
        self.episode.push((seen, index));
    }
}

#[cfg(test)]
#[path = "splat_tests.rs"]
mod tests;
