//! From the text of a kernel log to complaints.
//!
//! The [`Collector`] takes the log line by line and groups what belongs together: a WARN() from `cut here` to `end trace`,
//! a KASAN report between its two rules, a report of the scheduler up to the end of its call trace. What the text says is
//! in the table of [`titles`](super::titles), whom it blames in that of [`skip`](super::skip).
//!
//! # One defect, several reports
//! Often the same defect is reported more than once; one complaint is enough, and that is the first:
//! - the access that KASAN reported then faults, in the same function; so may what a list's or a counter's check found;
//! - KASAN reports more accesses to the same freed object, or in the same function;
//! - a task that faulted complains again on its way out (`scheduling while atomic`, locks held, RCU nesting);
//! - a lock that was left held: `sleeping function called…` and then `scheduling while atomic` of the same task;
//! - one hang makes others wait, and is reported again and again;
//! - the panic after an oops, a hang, a warning.
//!
//! The same title again is the same defect too, within an *episode*: between two calls of [`Collector::episode`]. The next
//! failure is another episode, so a defect that two sites lead to is seen at both.
//!
//! # Where it can be wrong
//! Reports of two CPUs at once are mixed in the log line by line. Each line of one then looks like a line of the other:
//! a report can end early or name a function of the other. Kernels with CONFIG_PRINTK_CALLER say who wrote a line, but the
//! reports themselves come from several (the CPU that found a stall, and the stalled one), so this is not used.

use std::{collections::VecDeque, sync::LazyLock};

use regex::Regex;

use super::{
    Complaint, Kind,
    frame::{self, pattern},
    heads::{Body, Class, Named},
    skip::Culprit,
    titles::{self, Found},
};

const CUT: &str = "------------[ cut here ]------------";
const END_TRACE: &str = "---[ end trace";
const END_PANIC: &str = "---[ end Kernel panic";
/// The first line of every boot.
const BOOT: &str = "Linux version ";

/// Lines of a splat that are kept; lockdep writes hundreds.
const KEPT_LINES: usize = 500;
/// Bytes of a line that are kept. The kernel's own limit is 2048 (PRINTKRB_RECORD_MAX), before 6.4 1000.
const KEPT_BYTES: usize = 2048;
/// A report whose end was lost ends after that many lines. Lockdep's longest are about as long.
const MOST_LINES: usize = 2000;
/// A report that isn't in the table and has a call trace has it within that many lines.
const LINES_BEFORE_TRACE: usize = 40;
/// What lockdep writes before its last call trace: the traces of the locks' other users.
const LINES_BEFORE_LOCKDEP_TRACE: usize = 1000;
/// That many of the faults and hangs before this episode are remembered, for their consequences.
const REMEMBERED: usize = 32;

/// Complaints in the text of a console, from the first line to the last. Time stamps are cut off.
#[must_use]
pub fn complaints(console_text: &str) -> Vec<Complaint> {
    let mut collector = Collector::new();
    collector.console(console_text.as_bytes());
    collector.flush();
    collector.take()
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
    episode: Vec<Seen>,
    remembered: VecDeque<Seen>,
    /// The kernel panicked: what comes until the next boot is only the end.
    panicked: bool,
    done: Vec<Complaint>,
    /// Bytes of a console after the last newline.
    partial: Vec<u8>,
}

/// What later reports are compared with.
#[derive(Clone, Debug)]
struct Seen {
    title: String,
    class: Class,
    culprit: Option<String>,
    task: Option<String>,
    object: Option<String>,
}

/// What a line is to an open report.
enum Step {
    /// A part of it.
    Part,
    /// Its last line.
    Last,
    /// No part of it: it ended before.
    Over,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trace {
    Before,
    In,
    After,
}

/// A report that is being written.
#[derive(Debug)]
struct Report {
    /// None: `cut here` was seen, and not yet what it is.
    found: Option<Found>,
    /// What the WARN() says, where the table knows it.
    message: Option<Found>,
    /// A better title, from a later line.
    title: Option<String>,
    body: Body,
    culprit: Culprit,
    trace: Trace,
    task: Option<String>,
    object: Option<String>,
    lines: Vec<String>,
    count: usize,
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
            *self = Self {
                done: std::mem::take(&mut self.done),
                partial: std::mem::take(&mut self.partial),
                ..Self::new()
            };
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

    /// What is complete.
    pub fn take(&mut self) -> Vec<Complaint> {
        std::mem::take(&mut self.done)
    }

    /// What follows is no repetition of what came before.
    pub fn episode(&mut self) {
        let lasting =
            self.episode.drain(..).filter(|seen| matches!(seen.class, Class::Fault | Class::Hang | Class::Panic));
        self.remembered.extend(lasting);
        while self.remembered.len() > REMEMBERED {
            self.remembered.pop_front();
        }
    }

    /// The log ends here: a line without its end, and a report that is open, are complete.
    pub fn flush(&mut self) {
        if !self.partial.is_empty() {
            let line = std::mem::take(&mut self.partial);
            self.feed(console_line(&String::from_utf8_lossy(&line)));
        }
        self.close();
    }

    /// A line that is in no report.
    fn start(&mut self, line: &str) {
        let rule = self.rule.take();
        if is_rule(line) {
            self.rule = Some(line.to_owned());
            return;
        }
        let report = if line == CUT {
            Report::new(None, titles::message(&self.before), Body::EndTrace)
        } else if let Some(found) = titles::find(line) {
            let body = found.head.body;
            Report::new(Some(found), None, body)
        } else {
            return;
        };
        let mut report = report;
        if let Some(rule) = rule {
            report.keep(&rule);
        }
        if report.found.is_none() && report.message.is_some() {
            report.keep(&self.before);
        }
        report.keep(line);
        report.look(line);
        let only_line = report.body == Body::Line;
        self.open = Some(report);
        if only_line {
            self.close();
        }
    }

    /// The open report is complete.
    fn close(&mut self) {
        let Some((seen, complaint)) = self.open.take().and_then(Report::finish) else { return };
        self.panicked |= seen.class == Class::Panic;
        if !self.is_known(&seen) {
            self.done.push(complaint);
        }
        self.episode.push(seen);
    }

    /// Whether this is the same defect as what was seen before, or a consequence of it.
    fn is_known(&self, new: &Seen) -> bool {
        let again = |seen: &Seen| {
            let same_task = seen.task.is_some() && seen.task == new.task;
            let same_place = seen.culprit.is_some() && seen.culprit == new.culprit;
            seen.title == new.title
                || match (seen.class, new.class) {
                    (Class::Memory, Class::Memory) if seen.object.is_some() && seen.object == new.object => true,
                    (Class::Memory | Class::Integrity, Class::Memory | Class::Integrity | Class::Fault) => same_place,
                    (Class::Atomic, Class::Atomic) => same_task,
                    (Class::Hang, Class::Hang) => true,
                    _ => false,
                }
        };
        // These last: a task that faulted is on its way out, a hang hangs.
        let after = |seen: &Seen| {
            let same_task = seen.task.is_some() && seen.task == new.task;
            match (seen.class, new.class) {
                (_, Class::Panic) => titles::is_consequence(&new.title),
                (Class::Fault, _) => same_task,
                (Class::Hang, Class::Hang) => same_task || seen.title == new.title,
                _ => false,
            }
        };
        self.episode.iter().any(|seen| again(seen) || after(seen)) || self.remembered.iter().any(after)
    }
}

impl Report {
    fn new(found: Option<Found>, message: Option<Found>, body: Body) -> Self {
        let stuck = found.as_ref().is_some_and(|found| found.head.named == Named::StuckStack);
        let mut culprit = Culprit::new(stuck);
        if let Some(function) = found.as_ref().and_then(|found| found.function.as_ref()) {
            culprit.see(function);
        }
        Self {
            found,
            message,
            title: None,
            body,
            culprit,
            trace: Trace::Before,
            task: None,
            object: None,
            lines: Vec::new(),
            count: 0,
        }
    }

    fn class(&self) -> Class {
        self.found.as_ref().map_or(Class::Other, |found| found.head.class)
    }

    fn named(&self) -> Named {
        self.found.as_ref().map_or(Named::Stack, |found| found.head.named)
    }

    /// What the next line is to it. A part, or the last, was kept.
    fn take(&mut self, line: &str) -> Step {
        let step = self.step(line);
        if !matches!(step, Step::Over) {
            self.keep(line);
            self.look(line);
        }
        step
    }

    fn step(&mut self, line: &str) -> Step {
        if self.count > MOST_LINES {
            return Step::Over;
        }
        if self.body == Body::Panic {
            return if line.starts_with(END_PANIC) { Step::Last } else { Step::Part };
        }
        if line == CUT {
            if self.body == Body::TraceOrWarning {
                self.body = Body::EndTrace;
                return Step::Part;
            }
            return Step::Over;
        }
        if self.found.is_none() {
            return self.step_after_cut(line);
        }
        if let Some(found) = titles::find(line)
            && !self.has(&found)
        {
            return Step::Over;
        }
        match self.body {
            Body::EndTrace if line.starts_with(END_TRACE) => Step::Last,
            Body::EndTrace | Body::Line | Body::Panic => Step::Part,
            Body::Rule if is_rule(line) => Step::Last,
            Body::Rule => Step::Part,
            Body::Locks if line.starts_with(" #") => Step::Part,
            // The rules and the release come first, then "1 lock held by", then the locks.
            Body::Locks if self.lines.last().is_some_and(|last| last.starts_with(" #")) => Step::Over,
            Body::Locks if self.count > LINES_BEFORE_TRACE => Step::Over,
            Body::Locks => Step::Part,
            Body::Trace | Body::TraceOrWarning => self.step_to_trace(line),
        }
    }

    /// Between `cut here` and the line that says what it is.
    fn step_after_cut(&mut self, line: &str) -> Step {
        if let Some(message) = titles::message(line) {
            self.message.get_or_insert(message);
            return Step::Part;
        }
        match titles::find(line) {
            Some(found) if found.head.body == Body::EndTrace => {
                if let Some(function) = &found.function {
                    self.culprit.see(function);
                }
                self.found = Some(found);
                Step::Part
            }
            Some(found) if matches!(found.head.class, Class::Panic | Class::Memory) => Step::Over,
            _ if line.starts_with(END_TRACE) || self.count > LINES_BEFORE_TRACE => Step::Over,
            // what a WARN() says in words of its own
            _ => Step::Part,
        }
    }

    fn step_to_trace(&self, line: &str) -> Step {
        match self.trace {
            Trace::Before => {
                let most = match self.named() {
                    Named::Locks => LINES_BEFORE_LOCKDEP_TRACE,
                    _ => LINES_BEFORE_TRACE,
                };
                if self.count > most { Step::Over } else { Step::Part }
            }
            Trace::In if line.trim_start() == "</TASK>" => Step::Last,
            Trace::In if is_of_trace(line) => Step::Part,
            Trace::In | Trace::After => Step::Over,
        }
    }

    /// Whether the first line of a report belongs to this one all the same: a fault is announced by several.
    fn has(&self, found: &Found) -> bool {
        match self.class() {
            Class::Fault => found.head.class != Class::Panic,
            _ => {
                self.body == Body::EndTrace
                    && self.found.as_ref().is_some_and(|own| own.head.body == Body::TraceOrWarning)
            }
        }
    }

    fn keep(&mut self, line: &str) {
        self.count += 1;
        if self.lines.len() < KEPT_LINES {
            let end = (0..=KEPT_BYTES.min(line.len())).rev().find(|end| line.is_char_boundary(*end)).unwrap_or(0);
            self.lines.push(line[..end].to_owned());
        }
    }

    /// Looks for who did it, in which task, to which object.
    fn look(&mut self, line: &str) {
        static TASK: LazyLock<Regex> = LazyLock::new(|| pattern(r"^CPU: \d+ (?:UID: \d+ )?PID: (\d+) Comm: "));
        static HUNG: LazyLock<Regex> = LazyLock::new(|| pattern(r"^INFO: task .*:(\d+) blocked for"));
        static OBJECT: LazyLock<Regex> =
            LazyLock::new(|| pattern(r"^The buggy address belongs to the object at (\S+)"));
        static RIP: LazyLock<Regex> = LazyLock::new(|| pattern(r"^RIP: 0010:([A-Za-z_$][\w.$]*)\+0x"));
        static LOCK: LazyLock<Regex> = LazyLock::new(|| pattern(r"(?:, at: |^\[<\w+>\] )([A-Za-z_$][\w.$]*)\+0x"));
        static TEXT: LazyLock<Regex> = LazyLock::new(|| pattern(r"(?:workfn=|last function: )([A-Za-z_$][\w.$]*)"));
        let group = |regex: &Regex| Some(regex.captures(line)?.get(1)?.as_str().to_owned());
        if self.task.is_none() {
            self.task = group(&TASK).or_else(|| group(&HUNG));
        }
        if self.object.is_none() {
            self.object = group(&OBJECT);
        }
        if self.class() == Class::Fault && self.title.is_none() {
            self.title = titles::detail(line);
        }
        match self.trace {
            Trace::Before if is_trace_start(line) => self.trace = Trace::In,
            Trace::In if !is_of_trace(line) => self.trace = Trace::After,
            _ => {}
        }
        let function = match self.named() {
            Named::Text => group(&TEXT),
            Named::Not => None,
            Named::Locks if self.trace == Trace::Before => group(&LOCK),
            _ if self.trace == Trace::After => None,
            _ if self.trace == Trace::In => frame::function(line).map(str::to_owned).or_else(|| group(&RIP)),
            _ => group(&RIP),
        };
        if let Some(function) = function {
            self.culprit.see(&function);
        }
    }

    /// The complaint; none when it never said what it is.
    fn finish(self) -> Option<(Seen, Complaint)> {
        let (mut kind, mut class, title, mut named) = match (&self.found, &self.message) {
            (Some(found), _) => (found.head.kind, found.head.class, &found.title, found.head.named),
            (None, Some(message)) => (message.head.kind, message.head.class, &message.title, message.head.named),
            (None, None) => return None,
        };
        let mut title = self.title.as_ref().unwrap_or(title);
        if let Some(message) = &self.message {
            (title, named) = (&message.title, message.head.named);
            // BUG() after such a message is worse than WARN(). A leak stays one.
            if kind < Kind::Oops {
                kind = message.head.kind;
            }
            if class != Class::Fault {
                class = message.head.class;
            }
        }
        let culprit = match named {
            Named::Not => None,
            _ => self.culprit.name().map(str::to_owned),
        };
        let title = match &culprit {
            Some(function) => format!("{title} in {function}"),
            None => title.clone(),
        };
        let mut splat = self.lines.join("\n");
        if self.count > self.lines.len() {
            splat.push_str(&format!("\n[{} more lines]", self.count - self.lines.len()));
        }
        let seen = Seen { title: title.clone(), class, culprit, task: self.task, object: self.object };
        Some((seen, Complaint { kind, title, splat }))
    }
}

/// A line of nothing but `=`, around reports of KASAN, SLUB and lockdep.
fn is_rule(line: &str) -> bool {
    line.len() >= 20 && line.bytes().all(|byte| byte == b'=')
}

/// `backtrace:` is how 6.0 and later begin the traces of NMIs on some machines.
fn is_trace_start(line: &str) -> bool {
    matches!(line.trim_start(), "Call Trace:" | "Call trace:" | "backtrace:")
}

/// Frames, the names of stacks, and the registers at the border of two stacks.
fn is_of_trace(line: &str) -> bool {
    static REGISTERS: LazyLock<Regex> = LazyLock::new(|| {
        pattern(
            r"^(?:RIP|RSP|RAX|RDX|RBP|R10|R13|FS|CS|CR2|DR0|DR3|PKRU|Code|ORIG_RAX): ?|^Modules linked in:|^---\[ end trace",
        )
    });
    let text = line.trim_start();
    frame::is_frame(line)
        || is_trace_start(line)
        || (text.starts_with('<') && text.ends_with('>'))
        || text.starts_with("0x")
        || text.starts_with("? 0x")
        || REGISTERS.is_match(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn print() {
        for file in std::env::var("SPLATS").unwrap_or_default().split_whitespace() {
            let text = std::fs::read_to_string(file).unwrap();
            println!("{file}");
            for complaint in complaints(&text) {
                println!("    {:?} {} [{} lines]", complaint.kind, complaint.title, complaint.splat.lines().count());
                if std::env::var("FULL").is_ok() {
                    println!("{}", complaint.splat);
                }
            }
        }
    }
}
