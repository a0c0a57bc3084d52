//! One report while the kernel writes it: which lines belong to it, and which function it blames.

use std::sync::LazyLock;

use regex::Regex;

use super::{
    Complaint, Kind,
    frame::{self, pattern},
    head::{Body, Class, Named},
    seen::Seen,
    skip::{Culprit, Search},
    titles::{self, Found},
};

/// Begins what WARN(), BUG() and UBSAN write.
pub(crate) const CUT: &str = "------------[ cut here ]------------";
const END_TRACE: &str = "---[ end trace";
/// The stack that allocated a page follows (mm/page_owner.c).
const PAGE_OWNER: &str = "page last allocated via order";
const END_PANIC: &str = "---[ end Kernel panic";

/// Lines of a splat that are kept; lockdep writes hundreds.
pub(crate) const KEPT_LINES: usize = 500;
/// Bytes of a line that are kept. The kernel's own limit is 2048 (PRINTKRB_RECORD_MAX), before 6.4 1000.
const KEPT_BYTES: usize = 2048;
/// A report whose end was lost ends after so many lines. Lockdep's longest are about as long.
pub(crate) const MOST_LINES: usize = 2000;
/// A call trace begins within so many lines of its report.
const LINES_BEFORE_TRACE: usize = 40;
/// Lines of other writers in the middle of a trace.
const MOST_ASIDES: usize = 8;
/// What lockdep writes before its last call trace: the traces of the locks' other users.
const LINES_BEFORE_LOCKDEP_TRACE: usize = 1000;

/// What a line is to an open report.
pub(crate) enum Step {
    /// A part of it.
    Part,
    /// Its last line.
    Last,
    /// No part of it: it ended before.
    Over,
    /// A complaint of its own, of one line, in the middle of it.
    Apart(Found),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trace {
    Before,
    In,
    After,
}

/// A complete report.
#[derive(Debug)]
pub(crate) struct Finished {
    pub seen: Seen,
    pub complaint: Complaint,
    /// The number of its first and of its last line.
    pub lines: (u64, u64),
    /// The kernel panicked in it.
    pub panicked: bool,
}

/// A report that is being written.
#[derive(Debug)]
pub(crate) struct Report {
    /// None: only `cut here` was seen.
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
    /// The function of the work that a kworker does. No frame has it where it ends with a call.
    work: Option<String>,
    /// Who disabled preemption, and whether the next line says it.
    preemption: (Option<String>, bool),
    /// The place of the first lock was read; those of other locks are not to blame.
    lock: bool,
    /// The next trace is of a bystander.
    bystander: bool,
    /// The trace is of the page's owner.
    owner: bool,
    /// Lines of other writers since the last frame.
    asides: usize,
    panicked: bool,
    lines: Vec<String>,
    count: usize,
    /// Lines since it began, or since a bystander's trace.
    waiting: usize,
    first_line: u64,
    last_line: u64,
}

impl Report {
    /// A report with that first line. `ruled`: a line of `=` stands before it.
    pub(crate) fn of(found: Found, ruled: bool) -> Self {
        let body = match found.head.body {
            Body::EndTrace if ruled => Body::Rule,
            body => body,
        };
        Self::new(Some(found), None, body)
    }

    /// A report that begins with `cut here`. BUG() writes its message on the line before, which has that number.
    pub(crate) fn cut(before: &str, number: u64) -> Self {
        let message = titles::message(before);
        let has_message = message.is_some();
        let mut report = Self::new(None, message, Body::EndTrace);
        if has_message {
            report.keep(before, number);
        }
        report
    }

    fn new(found: Option<Found>, message: Option<Found>, body: Body) -> Self {
        let search = match found.as_ref().map(|found| found.head.named) {
            Some(Named::StuckStack) => Search::Stuck,
            Some(Named::WaitingStack) => Search::Waiting,
            Some(Named::Recursion) => Search::Recursion,
            _ => Search::Mistake,
        };
        let mut culprit = Culprit::new(search);
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
            preemption: (None, false),
            lock: false,
            bystander: false,
            owner: false,
            asides: 0,
            panicked: false,
            lines: Vec::new(),
            count: 0,
            waiting: 0,
            first_line: 0,
            last_line: 0,
        }
    }

    fn class(&self) -> Class {
        self.found.as_ref().map_or(Class::Other, |found| found.head.class)
    }

    fn named(&self) -> Named {
        self.found.as_ref().map_or(Named::Stack, |found| found.head.named)
    }

    /// Whether it is about a stuck CPU. That CPU may write its trace itself.
    pub(crate) fn is_of_stuck_cpu(&self) -> bool {
        self.named() == Named::StuckStack
    }

    /// What the next line is to it. Keeps the line if it is a part or the last.
    pub(crate) fn take(&mut self, line: &str, number: u64) -> Step {
        let step = self.step(line);
        if matches!(step, Step::Part | Step::Last) {
            self.keep(line, number);
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
            if self.is_of_inlined(&found) {
                self.found = Some(found);
                return Step::Part;
            }
            // The stack that panic() prints is that of the report which it ends.
            if found.head.class == Class::Panic && self.trace == Trace::Before && titles::is_consequence(&found.title) {
                (self.panicked, self.body) = (true, Body::Panic);
                return Step::Part;
            }
            return if found.head.body == Body::Line && self.trace != Trace::After {
                Step::Apart(found)
            } else {
                Step::Over
            };
        }
        match self.body {
            Body::EndTrace if line.starts_with(END_TRACE) => Step::Last,
            Body::EndTrace | Body::Line | Body::Panic => Step::Part,
            Body::Rule if is_rule(line) => Step::Last,
            Body::Rule => Step::Part,
            Body::Locks if is_held_lock(line) => Step::Part,
            // The rules and the release come first, then "1 lock held by", then the locks.
            Body::Locks if self.lines.last().is_some_and(|last| is_held_lock(last)) => Step::Over,
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
                    // The stacks of the page's owner and of who freed it come first.
                    Named::Owner => 3 * LINES_BEFORE_TRACE,
                    _ => LINES_BEFORE_TRACE,
                };
                if self.waiting > most { Step::Over } else { Step::Part }
            }
            Trace::In if self.bystander || self.owner => Step::Part,
            Trace::In if line.trim_start() == "</TASK>" => Step::Last,
            // A stack out of the depot ends with an empty line; a WARN() follows.
            Trace::In if self.named() == Named::Users && line.is_empty() => Step::Part,
            Trace::In if self.goes_on(line) => Step::Part,
            Trace::In | Trace::After => Step::Over,
        }
    }

    /// Whether a trace goes on with this line, or behind it: lines of other writers may stand in between.
    fn goes_on(&self, line: &str) -> bool {
        match self.asides {
            0 => is_of_trace(line) || !ends_trace(line),
            asides => asides < MOST_ASIDES && !is_trace_start(line) && !ends_trace(line),
        }
    }

    /// Whether the first line of a report belongs to this one all the same: several such lines announce a fault.
    fn has(&self, found: &Found) -> bool {
        match self.class() {
            Class::Fault => found.head.class != Class::Panic,
            _ => {
                self.body == Body::EndTrace
                    && self.found.as_ref().is_some_and(|own| own.head.body == Body::TraceOrWarning)
            }
        }
    }

    /// Whether it is the same first line with the next function: `scripts/decode_stacktrace.sh` repeats it for each call that
    /// the compiler inlined. Only the last one has the kernel's own form.
    fn is_of_inlined(&mut self, found: &Found) -> bool {
        let is = self.lines.last().is_some_and(|last| frame::is_inlined(last))
            && self.found.as_ref().is_some_and(|own| own.title == found.title && own.function.is_none());
        if let (true, Some(function)) = (is, &found.function) {
            self.culprit.see(function);
        }
        is
    }

    pub(crate) fn keep(&mut self, line: &str, number: u64) {
        if self.count == 0 {
            self.first_line = number;
        }
        self.last_line = number;
        self.count += 1;
        self.waiting += 1;
        if self.lines.len() < KEPT_LINES {
            let end = (0..=KEPT_BYTES.min(line.len())).rev().find(|end| line.is_char_boundary(*end)).unwrap_or(0);
            self.lines.push(line[..end].to_owned());
        }
    }

    /// Looks for who did it, in which task, to which object.
    pub(crate) fn look(&mut self, line: &str) {
        static TASK: LazyLock<Regex> = LazyLock::new(|| pattern(r"^CPU: \d+ (?:UID: \d+ )?PID: (\d+) Comm: "));
        static HUNG: LazyLock<Regex> = LazyLock::new(|| pattern(r"^INFO: task .*:(\d+) blocked for"));
        static OBJECT: LazyLock<Regex> = LazyLock::new(|| {
            pattern(
                r"^(?:(?:The buggy address belongs to the object at|Slab|kobject: kobject_add_internal failed for) |sysfs: cannot create duplicate filename '(?:[^']*/)?)([^\s']+)",
            )
        });
        static WORK: LazyLock<Regex> = LazyLock::new(|| pattern(r"^Workqueue: \S+ ([A-Za-z_$][\w.$]*)"));
        let group = |regex: &Regex| Some(regex.captures(line)?.get(1)?.as_str().to_owned());
        if self.message.is_none() && self.task.is_none() && self.is_warning() {
            // Architectures without a trap for it print what a WARN() says behind the place.
            self.message = titles::message(line);
        }
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
        if self.preemption.1 && self.preemption.0.is_none() {
            self.preemption.0 = frame::function(line).map(str::to_owned);
        }
        self.preemption.1 = line == "Preemption disabled at:";
        self.bystander |= line.ends_with("RCU grace-period kthread stack dump:");
        self.look_at_trace(line);
        if self.bystander {
            return;
        }
        if let Some(function) = self.function(line) {
            self.culprit.see(&function);
            if matches!(&*function, "process_one_work" | "process_scheduled_works")
                && let Some(work) = &self.work
            {
                self.culprit.see(work);
            }
        }
    }

    fn is_warning(&self) -> bool {
        self.found.as_ref().is_some_and(|found| found.head.class == Class::Other && found.head.body == Body::EndTrace)
    }

    /// Where the line stands: before, in or after the call trace.
    fn look_at_trace(&mut self, line: &str) {
        match self.trace {
            Trace::Before if is_trace_start(line) => self.trace = Trace::In,
            // KMSAN, KFENCE and KCSAN print their traces without a line before them.
            Trace::Before if (self.body == Body::Rule || self.named() == Named::Users) && frame::is_frame(line) => {
                self.trace = Trace::In;
            }
            Trace::Before if self.named() == Named::Owner && line.starts_with(PAGE_OWNER) => {
                (self.trace, self.owner) = (Trace::In, true);
            }
            Trace::In if self.owner && !is_of_trace(line) => {
                (self.trace, self.owner) = (Trace::Before, false);
            }
            Trace::In if self.bystander && !is_of_trace(line) => {
                (self.trace, self.bystander, self.waiting) = (Trace::Before, false, 0);
            }
            Trace::In if is_of_trace(line) => self.asides = 0,
            Trace::In if ends_trace(line) || self.asides >= MOST_ASIDES => {
                (self.trace, self.asides) = (Trace::After, 0);
            }
            Trace::In => self.asides += 1,
            Trace::Before | Trace::After => {}
        }
    }

    /// The function that a line names.
    fn function(&mut self, line: &str) -> Option<String> {
        static LOCK: LazyLock<Regex> =
            LazyLock::new(|| pattern(r"(?:, at: (?:\[<\w+>\] ?)?|^\[<\w+>\] ?)([A-Za-z_$][\w.$]*)\+0x"));
        static TEXT: LazyLock<Regex> = LazyLock::new(|| pattern(r"(?:workfn=|last function: )([A-Za-z_$][\w.$]*)"));
        let group = |regex: &Regex| Some(regex.captures(line)?.get(1)?.as_str().to_owned());
        match self.named() {
            Named::Text => group(&TEXT),
            Named::Not => None,
            Named::Locks if self.trace == Trace::Before => {
                let function = group(&LOCK).filter(|_| !self.lock);
                self.lock |= function.is_some();
                function
            }
            _ if self.trace == Trace::After => None,
            _ if self.trace == Trace::In => frame::function(line).or_else(|| frame::place(line)).map(str::to_owned),
            _ => frame::place(line).map(str::to_owned),
        }
    }

    /// The complaint; none when it never said what it is.
    pub(crate) fn finish(mut self) -> Option<Finished> {
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
        let forbade = self.preemption.0.as_deref().filter(|_| class == Class::Atomic);
        let culprit = match named {
            Named::Not => None,
            _ => self.culprit.name().or(forbade).map(str::to_owned),
        };
        let title = match &culprit {
            Some(function) => format!("{title} in {function}"),
            None => title.clone(),
        };
        // Behind the last frame others wrote.
        if self.lines.len() == self.count {
            self.lines.truncate(self.count - self.asides.min(self.count));
            self.count = self.lines.len();
        }
        let mut splat = self.lines.join("\n");
        if self.count > self.lines.len() {
            splat.push_str(&format!("\n[{} more lines]", self.count - self.lines.len()));
        }
        let seen = Seen { title: title.clone(), class, culprit, task: self.task, object: self.object, seconds: None };
        let lines = (self.first_line, self.last_line);
        Some(Finished { seen, complaint: Complaint { kind, title, splat }, lines, panicked: self.panicked })
    }
}

/// A line of nothing but `=`, around reports of KASAN, SLUB and lockdep.
pub(crate) fn is_rule(line: &str) -> bool {
    line.len() >= 20 && line.bytes().all(|byte| byte == b'=')
}

/// A held lock in lockdep's lists: ` #0: ffff888003bab360 (&lock){+.+.}-{4:4}, at: func+0x1/0x2`.
fn is_held_lock(line: &str) -> bool {
    line.trim_start().starts_with('#')
}

/// The line before the frames. 6.0 and later write `backtrace:` in NMIs on some machines; kmemleak writes it, too, with a
/// checksum since 6.8. ARM wrote `Backtrace:`, and behind it what was wrong with the stack.
fn is_trace_start(line: &str) -> bool {
    let line = line.strip_prefix("kmemleak:").unwrap_or(line).trim();
    matches!(line, "Call Trace:" | "Call trace:" | "backtrace:")
        || line.starts_with("backtrace (crc ")
        || line.starts_with("Backtrace:")
}

/// Whether a line ends a trace: it begins another part of the report, or another report.
fn ends_trace(line: &str) -> bool {
    line.is_empty()
        || line.ends_with(':') && !line.trim_start().starts_with('<')
        || line.starts_with("CPU: ")
        || line.starts_with("---[ end")
        || is_rule(line)
}

/// Frames, the names of stacks, and the registers at the border of two stacks.
fn is_of_trace(line: &str) -> bool {
    static REGISTERS: LazyLock<Regex> = LazyLock::new(|| {
        pattern(
            r"^(?:RIP|RSP|RAX|RDX|RBP|R10|R13|FS|CS|CR2|DR0|DR3|PKRU|Code|ORIG_RAX): ?|^Modules linked in:|^---\[ end trace|^ +r\d+:[0-9a-f]{8}",
        )
    });
    let text = line.trim_start();
    frame::is_frame(line)
        || is_trace_start(line)
        || (text.starts_with('<') && text.ends_with('>'))
        || text.starts_with("0x")
        || text.starts_with("? 0x")
        || frame::is_inlined(line)
        || REGISTERS.is_match(line)
}
