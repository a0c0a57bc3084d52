//! From the text of a kernel log to complaints.
//!
//! The [`Collector`] takes the log line by line and groups what belongs together: a WARN() from `cut here` to `end trace`,
//! a KASAN report between its two rules, a report of the scheduler up to the end of its call trace. The table of
//! `heads` holds the texts, the table of `skip` the functions that are never blamed.
//!
//! # One defect, several reports
//! The kernel often reports the same defect more than once. The complaint then has the title and the text of the first
//! report, and the rank of the worst. These are reports of the same defect:
//! - the same function is reported twice in the same task: an access that KASAN reported then faults, a counter that
//!   underflowed is then saturated;
//! - KASAN reports more accesses to the same freed object, SLUB more damage to the same slab;
//! - a task that faulted complains again on its way out (`scheduling while atomic`, locks held, RCU nesting);
//! - a lock that was left held: `sleeping function called…` and then `scheduling while atomic` of the same task;
//! - one hang makes others wait, and is reported again and again, for some minutes;
//! - one damaged block of a disk is found in several ways;
//! - the panic after an oops, a hang, a warning.
//!
//! Within an *episode* (between two calls of [`Collector::episode`]) a report with the same title is of the same defect too.
//! The next failure begins another episode, so that a defect that two sites lead to is seen at both. Only what lasts is
//! remembered from earlier episodes: tasks that died, hangs, the panic that is to come.
//!
//! # Reports of several CPUs at once
//! Where the log names the caller of each line (CONFIG_PRINTK_CALLER), the lines of each caller are read separately. A CPU
//! that finds another one stuck asks it for its stack; what that one writes belongs to the report of the first. Where the
//! log names no callers, reports of two CPUs are mixed line by line: a report can end early or name a function of the other.

use std::{collections::VecDeque, sync::LazyLock};

use regex::Regex;

use super::{
    Complaint,
    failures::{Block, Failure, Failures},
    frame::{self, pattern},
    head::{Body, Class},
    line::{Caller, Line, Origin, without_escapes},
    report::{CUT, Finished, Report, Step, is_rule},
    seen::Seen,
    titles,
};

/// The first line of every boot.
const BOOT: &str = "Linux version ";
/// A CPU that was asked for its stack writes this first (lib/nmi_backtrace.c).
const ASKED: &str = "NMI backtrace for cpu ";
/// How kmemleak begins its lines. A sweep reads its file instead.
const KMEMLEAK: &str = "kmemleak: ";

/// So many faults and hangs of earlier episodes are remembered, for their consequences.
const REMEMBERED: usize = 32;
/// A task that faulted is gone after so many episodes, and its number may be another's.
const GONE: u64 = 2;
/// Titles of further reports of the same defect that are written under its splat.
const NAMED_REPORTS: usize = 8;
/// Callers whose lines are followed at once.
const MOST_LANES: usize = 64;
/// An episode ends after so many complaints, so that a log of any length needs bounded memory.
const MOST_COMPLAINTS: usize = 1000;
/// Reports of one episode that later ones are compared with.
const MOST_SEEN: usize = 4096;
/// The rest of a longer line is not read. The kernel's own limit is far below.
const LONGEST_LINE: usize = 16 << 10;
/// In a log with time stamps, a line without one was written by a program. After so many of them another log has begun.
const UNSTAMPED: usize = 500;

/// In seconds: where the time goes back by more, another boot begins.
const TIME_BACK: u64 = 10;

/// Complaints in the text of a console, from the first line to the last. Time stamps are cut off.
#[must_use]
pub fn complaints(console_text: &str) -> Vec<Complaint> {
    let mut collector = Collector::new();
    collector.console(console_text.as_bytes());
    collector.flush();
    collector.take()
}

/// What brought a machine down, from the text of its console: the last complaint before the panic (an oops, a hang), or the
/// panic itself. Without a panic it is the last complaint of all, a stall perhaps.
#[must_use]
pub fn last_complaint(console_text: &str) -> Option<Complaint> {
    let mut collector = Collector::new();
    let mut last = None;
    for line in console_text.lines().filter(|line| !is_of_kmemleak(console_line(line))) {
        collector.console(line.as_bytes());
        collector.console(b"\n");
        if !collector.is_open() && !collector.complaints.is_empty() {
            collector.episode();
            last = collector.take().pop().or(last);
        }
    }
    collector.flush();
    collector.take().pop().or(last)
}

/// A line of a console without its time stamp and caller, see [`Line`].
#[must_use]
pub fn console_line(line: &str) -> &str {
    Line::of(line).text
}

/// Whether kmemleak wrote the line's text.
#[must_use]
pub fn is_of_kmemleak(text: &str) -> bool {
    text.starts_with(KMEMLEAK)
}

/// Whether a report begins with a line of that text.
#[must_use]
pub fn begins_report(text: &str) -> bool {
    (titles::find(text).is_some() || titles::message(text).is_some()) && !titles::is_noise(text)
}

/// A complaint, and where it is in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reported {
    /// What the kernel complained about.
    pub complaint: Complaint,
    /// The function that the title names.
    pub function: Option<String>,
    /// The number of its first line, from 1.
    pub first_line: u64,
    /// The number of its last line.
    pub last_line: u64,
    /// How often it was reported.
    pub reports: u64,
}

/// Groups the lines of a kernel log into complaints.
#[derive(Debug, Default)]
pub struct Collector {
    /// The callers whose lines are followed; the last one wrote last.
    lanes: Vec<Lane>,
    /// The reports of this episode, each with the index of its complaint.
    episode: Vec<(Seen, Option<usize>)>,
    complaints: Vec<Reported>,
    /// What lasts from earlier episodes, each with the number of its episode.
    remembered: VecDeque<(Seen, u64)>,
    number: u64,
    /// The kernel panicked: nothing that follows until the next boot is new.
    panicked: bool,
    /// The complaints of episodes that ended.
    done: Vec<Reported>,
    console: Console,
    failures: Failures,
}

/// How a console's bytes become lines.
#[derive(Debug, Default)]
struct Console {
    /// Bytes after the last newline.
    partial: Vec<u8>,
    /// Complete lines.
    lines: u64,
    /// Those among them that have the form of a kernel's line.
    kernel_lines: u64,
    /// How many lines without a time stamp followed the last one with it. None: no line had one.
    unstamped: Option<usize>,
    /// The time of the last line that has one.
    seconds: Option<u64>,
}

/// The lines of one caller.
#[derive(Debug, Default)]
struct Lane {
    caller: Option<Caller>,
    open: Option<Report>,
    /// The line of `=` just before this one, and its number.
    rule: Option<(String, u64)>,
    /// The line before: BUG() writes its message before `cut here`.
    before: String,
    /// The caller that asked for these lines; they go to its report.
    asked_by: Option<Option<Caller>>,
    /// The injected failure that the kernel is writing about.
    failure: Option<Block>,
}

impl Collector {
    /// Nothing seen yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The next line of the log, without level and time, and who wrote it, where the log says so.
    pub fn feed(&mut self, caller: Option<Caller>, line: &str) {
        self.console.lines += 1;
        self.feed_of(caller, line);
    }

    /// The next line of a caller.
    fn feed_of(&mut self, caller: Option<Caller>, line: &str) {
        let line = line.trim_end();
        if line.starts_with(BOOT) {
            return self.boot();
        }
        let mut lane = self.take_lane(caller);
        if let Some(asker) = lane.asked_by.or_else(|| self.who_asked(&lane, line)) {
            // What was asked for belongs to the report of who asked, as long as that is open.
            lane.asked_by = Some(asker);
            if let Some(index) = self.lanes.iter().position(|lane| lane.caller == asker && lane.open.is_some()) {
                self.lanes.push(lane);
                let mut lane = self.lanes.remove(index);
                self.feed_lane(&mut lane, line);
                self.lanes.push(lane);
                return;
            }
            lane.asked_by = None;
        }
        self.feed_lane(&mut lane, line);
        self.lanes.push(lane);
    }

    /// The kernel boots again: no report goes on.
    fn boot(&mut self) {
        self.close_all();
        self.episode();
        let (console, failures) = (std::mem::take(&mut self.console), std::mem::take(&mut self.failures));
        *self = Self { done: std::mem::take(&mut self.done), console, failures, ..Self::new() };
    }

    /// The lane of a caller. It goes back to the end of the list.
    fn take_lane(&mut self, caller: Option<Caller>) -> Lane {
        if let Some(index) = self.lanes.iter().rposition(|lane| lane.caller == caller) {
            return self.lanes.remove(index);
        }
        if self.lanes.len() == MOST_LANES {
            let mut oldest = self.lanes.remove(0);
            self.close(&mut oldest);
        }
        Lane { caller, ..Lane::default() }
    }

    /// Who asked this caller for what it begins to write.
    fn who_asked(&self, lane: &Lane, line: &str) -> Option<Option<Caller>> {
        if lane.open.is_some() || lane.caller.is_none() || !line.starts_with(ASKED) {
            return None;
        }
        let asks = |lane: &&Lane| lane.open.as_ref().is_some_and(Report::is_of_stuck_cpu);
        self.lanes.iter().rev().find(asks).map(|lane| lane.caller)
    }

    fn feed_lane(&mut self, lane: &mut Lane, line: &str) {
        let number = self.console.lines;
        let noise = titles::is_noise(line);
        if let Some(report) = &mut lane.open {
            let step = if noise && report.body != Body::Panic { Step::Over } else { report.take(line, number) };
            match step {
                Step::Part => {
                    lane.remember(line);
                    return;
                }
                Step::Last => {
                    lane.before.clear();
                    return self.close(lane);
                }
                Step::Apart(found) => {
                    let mut report = Report::of(found, false);
                    report.keep(line, number);
                    report.look(line);
                    return self.finish(report);
                }
                Step::Over => self.close(lane),
            }
        }
        if let Some(block) = &mut lane.failure
            && !block.take(line)
        {
            self.failures.add(lane.failure.take());
        }
        if lane.failure.is_none() {
            lane.failure = Block::begins(line, number);
        }
        if !self.panicked && !noise {
            self.start(lane, line);
        }
        lane.remember(line);
    }

    /// The next bytes of a console, in any portions.
    pub fn console(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let room = LONGEST_LINE.saturating_sub(self.console.partial.len());
            self.console.partial.extend_from_slice(&piece[..piece.len().min(room)]);
            if piece.ends_with(b"\n") {
                self.end_line();
            }
        }
    }

    fn end_line(&mut self) {
        let bytes = std::mem::take(&mut self.console.partial);
        self.console.lines += 1;
        let text = String::from_utf8_lossy(&bytes);
        let text = without_escapes(&text);
        let line = Line::of(&text);
        if self.console.is_kernels(&line) {
            if self.console.is_earlier(line.seconds) {
                self.boot();
            }
            self.feed_of(line.caller, line.text);
        }
        self.console.partial = bytes;
        self.console.partial.clear();
    }

    /// Whether a report has begun and not ended.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.lanes.iter().any(|lane| lane.open.is_some())
    }

    /// The complaints of the episodes that ended.
    pub fn take(&mut self) -> Vec<Complaint> {
        self.take_reported().into_iter().map(|reported| reported.complaint).collect()
    }

    /// The same, with where they are in the log.
    pub fn take_reported(&mut self) -> Vec<Reported> {
        std::mem::take(&mut self.done)
    }

    /// The injected failures that the kernel wrote about until now.
    #[must_use]
    pub fn failures(&self) -> &[Failure] {
        self.failures.all()
    }

    /// How many lines were read, and how many of them have the form of a kernel's line.
    #[must_use]
    pub fn lines(&self) -> (u64, u64) {
        (self.console.lines, self.console.kernel_lines)
    }

    /// The episode ends: what follows is no repetition of what came before. A report that is open belongs to the next.
    pub fn episode(&mut self) {
        let number = self.number;
        self.number += 1;
        self.complaints.sort_by_key(|reported| reported.first_line);
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
        if !self.console.partial.is_empty() {
            self.end_line();
        }
        self.close_all();
        self.episode();
    }

    /// A line that is in no report.
    fn start(&mut self, lane: &mut Lane, line: &str) {
        let number = self.console.lines;
        let rule = lane.rule.take();
        if is_rule(line) {
            lane.rule = Some((line.to_owned(), number));
            return;
        }
        let mut report = if line == CUT {
            Report::cut(&lane.before, number.saturating_sub(1))
        } else if let Some(found) = titles::find(line) {
            Report::of(found, rule.is_some())
        } else {
            return;
        };
        if let Some((rule, number)) = rule {
            report.keep(&rule, number);
        }
        report.keep(line, number);
        report.look(line);
        let only_line = report.body == Body::Line;
        lane.open = Some(report);
        if only_line {
            self.close(lane);
        }
    }

    fn close_all(&mut self) {
        for mut lane in std::mem::take(&mut self.lanes) {
            self.close(&mut lane);
            self.failures.add(lane.failure.take());
        }
    }

    /// The open report is complete: a complaint, or more of one that is there.
    fn close(&mut self, lane: &mut Lane) {
        if let Some(report) = lane.open.take() {
            self.finish(report);
        }
    }

    fn finish(&mut self, report: Report) {
        let Some(finished) = report.finish() else { return };
        let Finished { mut seen, complaint, lines: (first_line, last_line), panicked } = finished;
        seen.seconds = self.console.seconds;
        self.panicked |= panicked || seen.class == Class::Panic;
        let same = self.episode.iter().find(|(earlier, _)| seen.is_again(earlier) || seen.is_after(earlier));
        let index = if let Some((_, index)) = same {
            *index
        } else if self.remembered.iter().any(|(earlier, _)| seen.is_after(earlier)) {
            None
        } else {
            let function = seen.culprit.clone();
            self.complaints.push(Reported { complaint, function, first_line, last_line, reports: 1 });
            self.episode.push((seen, Some(self.complaints.len() - 1)));
            if self.complaints.len() == MOST_COMPLAINTS {
                self.episode();
            }
            return;
        };
        if let Some(reported) = index.and_then(|index| self.complaints.get_mut(index)) {
            reported.reports += 1;
            reported.complaint.add(&complaint);
        }
        if self.episode.len() < MOST_SEEN {
            self.episode.push((seen, index));
        }
    }
}

impl Complaint {
    /// A further report of the same defect.
    fn add(&mut self, other: &Self) {
        self.kind = self.kind.max(other.kind);
        let also = format!("\n[also: {}]", other.title);
        let named = self.splat.matches("\n[also: ").count();
        if self.title != other.title && named < NAMED_REPORTS && !self.splat.contains(&also) {
            self.splat.push_str(&also);
        }
    }
}

impl Lane {
    fn remember(&mut self, line: &str) {
        self.before.clear();
        self.before.push_str(line);
    }
}

impl Console {
    /// Whether the time went back, which means another boot: a quiet console does not show its first line. Several CPUs
    /// print a little out of order.
    fn is_earlier(&mut self, seconds: Option<u64>) -> bool {
        let Some(seconds) = seconds else { return false };
        self.seconds.replace(seconds).is_some_and(|before| seconds + TIME_BACK < before)
    }

    /// Whether a line may be the kernel's. Where lines have time stamps, programs wrote those without to the same console.
    /// Frames and the text of kmemleak's file are taken in any case: people paste them into logs.
    fn is_kernels(&mut self, line: &Line<'_>) -> bool {
        let text = line.text;
        match line.origin {
            Origin::Kernel => {
                self.kernel_lines += 1;
                self.unstamped = Some(0);
                true
            }
            Origin::Program => false,
            Origin::Unknown => {
                let is_like = frame::is_frame(text) || text.starts_with(BOOT) || titles::find(text).is_some();
                self.kernel_lines += u64::from(is_like);
                let Some(count) = &mut self.unstamped else { return true };
                *count += 1;
                if *count > UNSTAMPED {
                    self.unstamped = None;
                }
                frame::is_frame(text) || text.starts_with(BOOT) || is_of_lost_memory(text)
            }
        }
    }
}

/// Whether a line is one of /sys/kernel/debug/kmemleak.
fn is_of_lost_memory(text: &str) -> bool {
    static LOST: LazyLock<Regex> =
        LazyLock::new(|| pattern(r#"^(?:unreferenced object|  comm "|  hex dump|  backtrace)"#));
    LOST.is_match(text)
}

#[cfg(test)]
#[path = "splat_tests.rs"]
mod tests;
