//! One report while it is being written: which lines belong to it, and whom it blames.

use std::sync::LazyLock;

use regex::Regex;

use super::{
    Complaint, Kind,
    frame::{self, pattern},
    head::{Body, Class, Named},
    skip::Culprit,
    titles::{self, Found},
};

/// Begins what WARN(), BUG() and UBSAN write.
pub(super) const CUT: &str = "------------[ cut here ]------------";
const END_TRACE: &str = "---[ end trace";
const END_PANIC: &str = "---[ end Kernel panic";

/// Lines of a splat that are kept; lockdep writes hundreds.
pub(super) const KEPT_LINES: usize = 500;
/// Bytes of a line that are kept. The kernel's own limit is 2048 (PRINTKRB_RECORD_MAX), before 6.4 1000.
const KEPT_BYTES: usize = 2048;
/// A report whose end was lost ends after that many lines. Lockdep's longest are about as long.
pub(super) const MOST_LINES: usize = 2000;
/// A report that has a call trace has it within that many lines.
const LINES_BEFORE_TRACE: usize = 40;
/// What lockdep writes before its last call trace: the traces of the locks' other users.
const LINES_BEFORE_LOCKDEP_TRACE: usize = 1000;

/// What later reports are compared with.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub title: String,
    pub class: Class,
    pub culprit: Option<String>,
    pub task: Option<String>,
    pub object: Option<String>,
}

impl Seen {
    /// Whether this is the same defect as one of the same episode.
    pub(super) fn is_again(&self, earlier: &Self) -> bool {
        let same_place = earlier.culprit.is_some() && earlier.culprit == self.culprit;
        self.title == earlier.title
            || same_place && self.is_task_of(earlier)
            || match (earlier.class, self.class) {
                (Class::Memory, Class::Memory) => earlier.object.is_some() && earlier.object == self.object,
                (Class::Atomic, Class::Atomic) => self.is_task_of(earlier),
                (Class::Hang, Class::Hang) | (Class::Disk, Class::Disk) => true,
                _ => false,
            }
    }

    /// Whether this comes of one that is over, or lasts: a task that faulted is on its way out, a hang hangs.
    pub(super) fn is_after(&self, earlier: &Self) -> bool {
        match (earlier.class, self.class) {
            (_, Class::Panic) => titles::is_consequence(&self.title),
            (Class::Fault, _) => self.is_task_of(earlier),
            (Class::Hang, Class::Hang) => self.is_task_of(earlier) || earlier.title == self.title,
            _ => false,
        }
    }

    fn is_task_of(&self, earlier: &Self) -> bool {
        earlier.task.is_some() && earlier.task == self.task
    }
}

/// What a line is to an open report.
pub(super) enum Step {
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
pub(super) struct Report {
    /// None: `cut here` was seen, and not yet what it is.
    found: Option<Found>,
    /// What the WARN() says, where the table knows it.
    message: Option<Found>,
    /// A better title, from a later line.
    title: Option<String>,
    pub body: Body,
    culprit: Culprit,
    trace: Trace,
    task: Option<String>,
    object: Option<String>,
    /// The function of the work that a kworker does. It is in no frame when it ends with a call.
    work: Option<String>,
    /// The next trace is that of a bystander.
    bystander: bool,
    lines: Vec<String>,
    count: usize,
    /// Lines since it began, or since a bystander's trace.
    waiting: usize,
}

impl Report {
    /// One that such a line begins.
    pub(super) fn of(found: Found) -> Self {
        let body = found.head.body;
        Self::new(Some(found), None, body)
    }

    /// One that begins with `cut here`. BUG() writes its message on the line before.
    pub(super) fn cut(before: &str) -> Self {
        let message = titles::message(before);
        let has_message = message.is_some();
        let mut report = Self::new(None, message, Body::EndTrace);
        if has_message {
            report.keep(before);
        }
        report
    }

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
            work: None,
            bystander: false,
            lines: Vec::new(),
            count: 0,
            waiting: 0,
        }
    }

    fn class(&self) -> Class {
        self.found.as_ref().map_or(Class::Other, |found| found.head.class)
    }

    fn named(&self) -> Named {
        self.found.as_ref().map_or(Named::Stack, |found| found.head.named)
    }

    /// What the next line is to it. A part, or the last, was kept.
    pub(super) fn take(&mut self, line: &str) -> Step {
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
                if self.waiting > most { Step::Over } else { Step::Part }
            }
            Trace::In if self.bystander => Step::Part,
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

    pub(super) fn keep(&mut self, line: &str) {
        self.count += 1;
        self.waiting += 1;
        if self.lines.len() < KEPT_LINES {
            let end = (0..=KEPT_BYTES.min(line.len())).rev().find(|end| line.is_char_boundary(*end)).unwrap_or(0);
            self.lines.push(line[..end].to_owned());
        }
    }

    /// Looks for who did it, in which task, to which object.
    pub(super) fn look(&mut self, line: &str) {
        static TASK: LazyLock<Regex> = LazyLock::new(|| pattern(r"^CPU: \d+ (?:UID: \d+ )?PID: (\d+) Comm: "));
        static HUNG: LazyLock<Regex> = LazyLock::new(|| pattern(r"^INFO: task .*:(\d+) blocked for"));
        static OBJECT: LazyLock<Regex> =
            LazyLock::new(|| pattern(r"^(?:The buggy address belongs to the object at|Slab) (\S+)"));
        static RIP: LazyLock<Regex> = LazyLock::new(|| pattern(r"^RIP: 0010:([A-Za-z_$][\w.$]*)\+0x"));
        static WORK: LazyLock<Regex> = LazyLock::new(|| pattern(r"^Workqueue: \S+ ([A-Za-z_$][\w.$]*)"));
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
        if self.work.is_none() {
            self.work = group(&WORK);
        }
        self.bystander |= line.ends_with("RCU grace-period kthread stack dump:");
        match self.trace {
            Trace::Before if is_trace_start(line) => self.trace = Trace::In,
            Trace::In if self.bystander && !is_of_trace(line) => {
                (self.trace, self.bystander, self.waiting) = (Trace::Before, false, 0);
            }
            Trace::In if !is_of_trace(line) => self.trace = Trace::After,
            _ => {}
        }
        if self.bystander {
            return;
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
            if function == "process_one_work"
                && let Some(work) = &self.work
            {
                self.culprit.see(work);
            }
        }
    }

    /// The complaint; none when it never said what it is.
    pub(super) fn finish(self) -> Option<(Seen, Complaint)> {
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
pub(super) fn is_rule(line: &str) -> bool {
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
