//! A line of a log as people have it, without what was put around the kernel's text.
//!
//! | from | looks like |
//! |---|---|
//! | console, `dmesg` | `[    1.234567] text`, `[    1.234567][   T12] text` (CONFIG_PRINTK_CALLER) |
//! | `dmesg -r`, `-x`, `-T`, `-H` | `<4>[    1.234567] text`, `kern  :warn  : […] text`, `[Fri Nov 27 10:00:00 2026] text`, `[  +0.000012] text` |
//! | syslog, journald | `Nov 27 10:00:00 host kernel: text`, `2026-11-27T10:00:00.123456+00:00 host kernel: text` |
//! | `/dev/kmsg` | `4,123,1234567,-,caller=T12;text` |
//! | a mail | any of these behind `> ` |

use std::borrow::Cow;

/// Who wrote a line: a task (`T12`) or, in an interrupt, a CPU (`C0`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Caller {
    interrupt: bool,
    number: u32,
}

/// Whose line it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The kernel's: there was a time stamp or the kernel's name.
    Kernel,
    /// Another program's, by its name in a syslog.
    Program,
    /// Nothing says it.
    Unknown,
}

/// A line without what was around its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// Whose it is.
    pub origin: Origin,
    /// Who wrote it, where the log says so.
    pub caller: Option<Caller>,
    /// Whole seconds since the kernel booted, where the log says so.
    pub seconds: Option<u64>,
    /// The kernel's text.
    pub text: &'a str,
}

impl<'a> Line<'a> {
    /// The kernel's text in a line.
    #[must_use]
    pub fn of(line: &'a str) -> Self {
        let line = unquoted(line.trim_end());
        let (level, rest) = strip_level(line);
        if let Some(line) = record(rest) {
            return line;
        }
        if let Some((seconds, rest)) = stamp_at_start(rest).or_else(|| stamp_anywhere(rest)) {
            let (caller, text) = caller(rest);
            return Self { origin: Origin::Kernel, caller, seconds, text };
        }
        let (origin, text) = match syslog(rest) {
            Some((true, text)) => (Origin::Kernel, text),
            Some((false, text)) => (Origin::Program, text),
            None if level => (Origin::Kernel, rest),
            None => (Origin::Unknown, line),
        };
        Self { origin, caller: None, seconds: None, text }
    }
}

/// A line without escape sequences: `dmesg --color` and serial consoles have some.
pub(crate) fn without_escapes(line: &str) -> Cow<'_, str> {
    const ESCAPE: char = '\u{1b}';
    if !line.contains(ESCAPE) {
        return Cow::Borrowed(line);
    }
    let mut text = String::with_capacity(line.len());
    let mut rest = line;
    while let Some((before, after)) = rest.split_once(ESCAPE) {
        text.push_str(before);
        // CSI: parameters, and a letter that ends it.
        rest = match after.strip_prefix('[') {
            Some(sequence) => sequence.trim_start_matches(|c: char| !('@'..='~').contains(&c)).get(1..).unwrap_or(""),
            None => after,
        };
    }
    text.push_str(rest);
    Cow::Owned(text)
}

/// Without a mail's marks of quotation.
fn unquoted(mut line: &str) -> &str {
    while let Some(rest) = line.strip_prefix('>') {
        line = rest.strip_prefix(' ').unwrap_or(rest);
    }
    line
}

/// `<4>text`
fn strip_level(line: &str) -> (bool, &str) {
    let Some((level, rest)) = line.strip_prefix('<').and_then(|rest| rest.split_once('>')) else {
        return (false, line);
    };
    if (1..=3).contains(&level.len()) && is_number(level) { (true, rest) } else { (false, line) }
}

/// `4,123,1234567,-,caller=T12;text`
fn record(line: &str) -> Option<Line<'_>> {
    if !line.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let (prefix, text) = line.split_once(';')?;
    let mut fields = prefix.split(',');
    if !(0..2).all(|_| fields.next().is_some_and(is_number)) {
        return None;
    }
    let microseconds: u64 = fields.next()?.parse().ok()?;
    matches!(fields.next()?, "-" | "c" | "+").then_some(())?;
    let caller = fields.find_map(|field| Caller::parse(field.strip_prefix("caller=")?));
    Some(Line { origin: Origin::Kernel, caller, seconds: Some(microseconds / 1_000_000), text })
}

/// What is behind a time stamp of any form that begins the line, and its seconds if it counts from the boot.
fn stamp_at_start(line: &str) -> Option<(Option<u64>, &str)> {
    let (stamp, rest) = line.trim_start().strip_prefix('[')?.split_once(']')?;
    let stamp = stamp.trim();
    let is_seconds = |text: &str| text.split_once('.').is_some_and(|(whole, part)| is_number(whole) && is_number(part));
    // `Fri Nov 27 10:00:00 2026` and `Nov27 10:00`
    let is_date = || {
        stamp.starts_with(|c: char| c.is_ascii_uppercase())
            && stamp.split(' ').any(|word| word.contains(':') && word.split(':').all(is_number))
    };
    let rest = rest.strip_prefix(' ').unwrap_or(rest);
    if is_seconds(stamp) {
        return Some((whole_seconds(stamp), rest));
    }
    (stamp.strip_prefix('+').is_some_and(is_seconds) || is_date()).then_some((None, rest))
}

/// What is behind the kernel's own time stamp, wherever it is: an unfinished line of a program may stand before it.
fn stamp_anywhere(line: &str) -> Option<(Option<u64>, &str)> {
    let mut rest = line;
    loop {
        let (_, after) = rest.split_once('[')?;
        if let Some((stamp, text)) = after.split_once(']')
            && let Some((whole, part)) = stamp.trim_start().split_once('.')
            && is_number(whole)
            && part.len() == 6
            && is_number(part)
        {
            return Some((whole_seconds(stamp.trim_start()), text.strip_prefix(' ').unwrap_or(text)));
        }
        rest = after;
    }
}

fn whole_seconds(stamp: &str) -> Option<u64> {
    stamp.split_once('.')?.0.parse().ok()
}

/// `[   T12] text`, behind the time.
fn caller(text: &str) -> (Option<Caller>, &str) {
    let parse = || {
        let (caller, rest) = text.trim_start().strip_prefix('[')?.split_once(']')?;
        Some((Some(Caller::parse(caller.trim())?), rest.strip_prefix(' ').unwrap_or(rest)))
    };
    parse().unwrap_or((None, text))
}

impl Caller {
    /// `T12`, `C0`
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let interrupt = text.starts_with('C');
        let number = text.strip_prefix(['T', 'C'])?.parse().ok()?;
        Some(Self { interrupt, number })
    }
}

/// `Nov 27 10:00:00 host kernel: text`: whether the program is the kernel, and the text.
fn syslog(line: &str) -> Option<(bool, &str)> {
    let rest = match line.strip_prefix("kernel: ") {
        Some(text) => return Some((true, text)),
        None => old_date(line).or_else(|| iso_date(line))?,
    };
    // The host's name may be missing.
    let (first, after) = rest.split_once(' ').unwrap_or((rest, ""));
    let (program, text) =
        if first.ends_with(':') { (first, after) } else { after.split_once(' ').unwrap_or((after, "")) };
    let program = program.strip_suffix(':')?;
    // Linux has no number of a process there; `kernel[0]` is another system's.
    Some((program == "kernel", text))
}

/// `Nov 27 10:00:00 rest`
fn old_date(line: &str) -> Option<&str> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let rest = MONTHS.iter().find_map(|month| line.strip_prefix(month))?.strip_prefix(' ')?.trim_start();
    let (day, rest) = rest.split_once(' ')?;
    let (time, rest) = rest.split_once(' ')?;
    (is_number(day) && is_time(time)).then_some(rest)
}

/// `2026-11-27T10:00:00.123456+00:00 rest`
fn iso_date(line: &str) -> Option<&str> {
    let date = line.get(..10)?;
    let time = line.get(11..)?;
    let is_date = date.split('-').count() == 3 && date.split('-').all(is_number);
    let (time, rest) = time.split_once(' ')?;
    (is_date && is_time(time.get(..8)?)).then_some(rest)
}

fn is_time(text: &str) -> bool {
    let parts = text.split(['.', ',']).next().unwrap_or("").split(':');
    parts.clone().count() == 3 && parts.clone().all(is_number)
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_around_the_text() {
        for line in [
            "[    0.000000] text",
            "[   12.3] text",
            "[12345.678901][  T12] text",
            "[    1.000000][    C0] text",
            "[    1.000000] [      T0] text",
            "<4>[    1.000000] text",
            "<4>text",
            "kern  :warn  : [    1.000000] text",
            "[Fri Nov 27 10:00:00 2026] text",
            "[Nov27 10:00] text",
            "[  +0.000012] text",
            "Nov 27 10:00:00 host kernel: text",
            "Nov  7 10:00:00 host kernel: [    1.000000] text",
            "Nov 27 10:00:00 kernel: text",
            "2026-11-27T10:00:00.123456+00:00 host kernel: text",
            "2026-11-27 10:00:00 host kernel: text",
            "2026-11-27T10:00:00,123456+00:00 host kernel: text",
            "kernel: text",
            "4,1,1,-;text",
            "4,1,1,-,caller=T12;text",
            "> [    1.000000] text",
            "> > [    1.000000] text\r",
            "half a line of a program[    1.000000] text",
        ] {
            let Line { origin, text, .. } = Line::of(line);
            assert_eq!((origin, text), (Origin::Kernel, "text"), "{line}");
        }
    }

    #[test]
    fn what_stays() {
        for line in [
            "[ BUG: Invalid wait context ]",
            "[<ffffffff81000000>] foo+0x1/0x2",
            "[c00000007a3efa20] [c00000000030a060] foo+0x1/0x2",
            "text",
            "4,1;text",
            "<TASK>",
            "",
        ] {
            assert_eq!(Line::of(line), Line { origin: Origin::Unknown, caller: None, seconds: None, text: line });
        }
        assert_eq!(Line::of("[    1.000000][    C0]  <TASK>").text, " <TASK>");
        assert_eq!(Line::of("Nov 27 10:00:00 host sshd[12]: BUG: no").origin, Origin::Program);
    }

    #[test]
    fn callers() {
        let caller = |line: &str| Line::of(line).caller;
        let task = Some(Caller { interrupt: false, number: 12 });
        assert_eq!(caller("[    1.000000][   T12] text"), task);
        assert_eq!(caller("4,1,1,-,caller=T12;text"), task);
        assert_eq!(caller("[    1.000000][   C12] text"), Some(Caller { interrupt: true, number: 12 }));
        assert_eq!(caller("[    1.000000] text"), None);
    }

    #[test]
    fn times() {
        assert_eq!(Line::of("[   12.345678] text").seconds, Some(12));
        assert_eq!(Line::of("login: [   12.345678] text").seconds, Some(12));
        assert_eq!(Line::of("4,1,12345678,-;text").seconds, Some(12));
        assert_eq!(Line::of("[  +0.000012] text").seconds, None);
        assert_eq!(Line::of("[Nov27 10:00] text").seconds, None);
    }

    #[test]
    fn escape_sequences() {
        assert_eq!(without_escapes("\u{1b}[32m[    1.000000] \u{1b}[0mtext"), "[    1.000000] text");
        assert_eq!(without_escapes("text"), "text");
        assert_eq!(without_escapes("\u{1b}[32"), "");
    }

    proptest! {
        #[test]
        fn never_panics(line in "\\PC{0,80}", odd in "[<>\\[\\]0-9.,:;T +-]{0,40}") {
            let _ = (Line::of(&line), Line::of(&odd));
            without_escapes(&format!("{odd}\u{1b}[{line}"));
        }
    }
}
