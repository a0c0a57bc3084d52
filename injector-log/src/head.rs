//! What the table of `heads` says of a report.

use super::Kind;

/// How far a report reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    /// It is one line.
    Line,
    /// To the line `---[ end trace 0000000000000000 ]---`.
    EndTrace,
    /// To the next line of `=`.
    Rule,
    /// To the end of its first call trace.
    Trace,
    /// As `Trace`; a WARN() that follows, up to its end, is a part of it.
    TraceOrWarning,
    /// To the end of the list of held locks.
    Locks,
    /// To the end of the log: nothing that follows tells anything new.
    Panic,
}

/// Where a report names who did it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Named {
    /// `RIP:` and the first call trace.
    Stack,
    /// The same, of a CPU that is stuck.
    StuckStack,
    /// The same, of a task that waits.
    WaitingStack,
    /// The same, where a recursion used up the stack.
    Recursion,
    /// Who allocated the page, where the kernel knows it (page_owner), else the stack.
    Owner,
    /// Where the report's first lock was taken or released (`at: func+…`), else the stack.
    Locks,
    /// Only in its first lines: the pattern's group `f`, `workfn=func`, `last function: func`.
    Text,
    /// The stack that the next line begins: who took a reference.
    Users,
    /// Nowhere that is worth a name.
    Not,
}

/// What a report may be the consequence of, see `splat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// A checker found a bad access.
    Memory,
    /// A counter or list has an impossible value.
    Integrity,
    /// The CPU found a bad access; the task ends here.
    Fault,
    /// Atomic context where there should be none.
    Atomic,
    /// What is on the disk is damaged.
    Disk,
    /// A name exists already.
    Name,
    /// Something does not end.
    Hang,
    /// The machine ends here.
    Panic,
    /// None of these.
    Other,
}

/// A kind of report.
#[derive(Debug)]
pub(crate) struct Head {
    /// Its first line. Group `f`: the function that it names.
    pub line: &'static str,
    /// What it is called, see [`title()`]. ` in FUNCTION` follows.
    pub title: &'static str,
    pub kind: Kind,
    pub body: Body,
    pub named: Named,
    pub class: Class,
    /// Where the kernel has its text.
    #[cfg_attr(not(test), expect(dead_code, reason = "for those who change the table"))]
    pub source: &'static str,
}

pub(crate) const fn head(
    line: &'static str,
    title: &'static str,
    (kind, class): (Kind, Class),
    body: Body,
    named: Named,
    source: &'static str,
) -> Head {
    Head { line, title, kind, body, named, class, source }
}
