//! A whole log, read once, in bounded memory.

use std::io::{self, Read};

use super::{
    Failure,
    splat::{Collector, Reported},
};

/// Bytes that are read at once; by the first of them it is decided whether this is text.
const CHUNK: usize = 64 << 10;
/// In text at most one byte of so many is no text. A serial line has some noise, a torn file some zeros.
const NOISE: usize = 10;

/// How files begin that hold a log in a form that is not text, and how it becomes text.
const FORMS: &[(&[u8], &str, &str)] = &[
    (b"\x1f\x8b", "compressed by gzip", "unpack it first: zcat FILE | injector log"),
    (b"\xfd7zXZ\0", "compressed by xz", "unpack it first: xzcat FILE | injector log"),
    (b"\x28\xb5\x2f\xfd", "compressed by zstd", "unpack it first: zstdcat FILE | injector log"),
    (b"BZh", "compressed by bzip2", "unpack it first: bzcat FILE | injector log"),
    (
        b"LPKSHHRH",
        "a journal of systemd",
        "print it first: journalctl --file FILE -k -o short-monotonic | injector log",
    ),
    (b"KDUMP   ", "a crash dump", "print its log first: vmcore-dmesg FILE | injector log"),
    (b"\x7fELF", "an ELF file", "print a crash dump's log first: vmcore-dmesg FILE | injector log"),
];

/// What a log has beside its complaints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Lines in all.
    pub lines: u64,
    /// Complaints in all.
    pub complaints: u64,
    /// The injected failures of which it tells.
    pub failures: Vec<Failure>,
}

/// Why a log can't be read.
#[derive(Debug)]
pub enum LogError {
    /// The system does not give it.
    Read(io::Error),
    /// A complaint could not be written.
    Write(io::Error),
    /// There is nothing in it.
    Empty,
    /// It has a form that is known, and not text: which, and what to do.
    Form(&'static str, &'static str),
    /// It is not text.
    Binary,
    /// None of its lines is a kernel's.
    Foreign,
}

impl std::fmt::Display for LogError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Read(error) => write!(f, "{error}"),
            Self::Write(error) => write!(f, "can't write the complaints: {error}"),
            Self::Empty => f.write_str("is empty"),
            Self::Form(form, remedy) => write!(f, "is {form}; {remedy}"),
            Self::Binary => f.write_str("is no text; give the text of a console, or what dmesg or journalctl -k print"),
            Self::Foreign => f.write_str(
                "no line is of a Linux kernel: none has its time stamp, a `kernel:` prefix, a stack frame or a complaint",
            ),
        }
    }
}

impl std::error::Error for LogError {}

/// Reads a log to its end. Complaints are given to the sink as soon as nothing can be added to them: at the end of a boot,
/// or of the log.
///
/// # Errors
/// The log can't be read, is no text, or is not a Linux kernel's; or the sink fails.
pub fn read(mut log: impl Read, sink: &mut dyn FnMut(Reported) -> io::Result<()>) -> Result<Summary, LogError> {
    let mut collector = Collector::new();
    let mut chunk = vec![0; CHUNK];
    let mut complaints = 0;
    let mut blank = true;
    let mut is_first = true;
    loop {
        let size = fill(&mut log, &mut chunk).map_err(LogError::Read)?;
        let bytes = &chunk[..size];
        if is_first {
            check(bytes)?;
            is_first = false;
        }
        blank &= bytes.iter().all(u8::is_ascii_whitespace);
        collector.console(bytes);
        if size < CHUNK {
            collector.flush();
        }
        for reported in collector.take_reported() {
            complaints += 1;
            sink(reported).map_err(LogError::Write)?;
        }
        if size < CHUNK {
            break;
        }
    }
    let (lines, of_kernel) = collector.lines();
    let failures = collector.failures().to_vec();
    if blank {
        return Err(LogError::Empty);
    }
    if of_kernel == 0 && complaints == 0 && failures.is_empty() {
        return Err(LogError::Foreign);
    }
    Ok(Summary { lines, complaints, failures })
}

/// Fills a chunk, but for the last.
fn fill(log: &mut impl Read, chunk: &mut [u8]) -> io::Result<usize> {
    let mut size = 0;
    while size < chunk.len() {
        match log.read(&mut chunk[size..]) {
            Ok(0) => break,
            Ok(more) => size += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(size)
}

/// Whether the beginning of a file is text.
fn check(bytes: &[u8]) -> Result<(), LogError> {
    if let Some((_, form, remedy)) = FORMS.iter().find(|(magic, _, _)| bytes.starts_with(magic)) {
        return Err(LogError::Form(form, remedy));
    }
    let is_odd = |byte: &&u8| matches!(**byte, 0..=8 | 11 | 14..=26 | 28..=31 | 127..);
    // Letters of other alphabets are no noise.
    let odd = if std::str::from_utf8(bytes).is_ok() {
        bytes.iter().filter(|byte| byte.is_ascii()).filter(is_odd).count()
    } else {
        bytes.iter().filter(is_odd).count()
    };
    if odd * NOISE > bytes.len() { Err(LogError::Binary) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn reported(text: &[u8]) -> Result<(Vec<Reported>, Summary), LogError> {
        let mut all = Vec::new();
        let summary = read(text, &mut |reported| {
            all.push(reported);
            Ok(())
        })?;
        Ok((all, summary))
    }

    fn error(text: &[u8]) -> String {
        reported(text).unwrap_err().to_string()
    }

    #[test]
    fn bad_input() {
        assert_eq!(error(b""), "is empty");
        assert_eq!(error(b" \n\n"), "is empty");
        assert!(error(b"\x1f\x8b\x08\0\0").starts_with("is compressed by gzip; unpack it first"));
        assert!(error(b"LPKSHHRH\0\0").starts_with("is a journal of systemd"));
        assert!(error(&[0, 1, 2, 3, 200, 201]).starts_with("is no text"));
        assert!(
            error(b"panic: bad thing\ncpuid = 1\nKDB: stack backtrace:\n").starts_with("no line is of a Linux kernel")
        );
        assert!(error(b"Nov 27 10:00:00 host kernel[0]: AppleThing\n").starts_with("no line is of a Linux kernel"));
    }

    #[test]
    fn a_log_without_complaints() {
        let (all, summary) = reported("[    1.000000] Grüße\n[    2.000000] ende".as_bytes()).unwrap();
        assert!(all.is_empty());
        assert_eq!(summary, Summary { lines: 2, complaints: 0, failures: Vec::new() });
    }

    /// The same kernel lines in all the forms that people have.
    const FORMS_OF_LINES: &[(&str, &str)] = &[
        ("[   12.345678] ", ""),
        ("[   12.345678][   T12] ", ""),
        ("[   12.345678] ", "\r"),
        ("<4>[   12.345678] ", ""),
        ("> [   12.345678] ", ""),
        ("> > [   12.345678][    C1] ", "\r"),
        ("Nov 27 10:00:00 host kernel: ", ""),
        ("Nov 27 10:00:00 host kernel: [   12.345678] ", ""),
        ("2026-11-27T10:00:00.123456+00:00 host kernel: ", ""),
        ("kern  :warn  : [   12.345678] ", ""),
        ("[Fri Nov 27 10:00:00 2026] ", ""),
        ("4,7,12345678,-,caller=T12;", ""),
        ("\u{1b}[33m[   12.345678] \u{1b}[0m", ""),
        ("", ""),
    ];

    const TEXT: &[&str] = &[
        "EXT4-fs (vda): mounted filesystem",
        "FAULT_INJECTION: forcing a failure.",
        "name failslab, interval 1, probability 0, space 0, times 0",
        "CPU: 0 UID: 0 PID: 73 Comm: sh",
        "Call Trace:",
        " <TASK>",
        " dump_stack_lvl+0x1/0x2",
        " should_fail_ex+0x1/0x2",
        " __kmalloc_noprof+0x1/0x2",
        " bar+0x1/0x2",
        " </TASK>",
        "------------[ cut here ]------------",
        "refcount_t: underflow; use-after-free.",
        "WARNING: CPU: 0 PID: 73 at lib/refcount.c:28 refcount_warn_saturate+0x1/0x2",
        "CPU: 0 UID: 0 PID: 73 Comm: sh",
        "RIP: 0010:refcount_warn_saturate+0x1/0x2",
        "Call Trace:",
        " <TASK>",
        " foo+0x1/0x2",
        " </TASK>",
        "---[ end trace 0000000000000000 ]---",
        "BUG: Bad rss-counter state mm:ffff888003bab360 type:MM_ANONPAGES val:1",
        "BUG: Bad rss-counter state mm:ffff888003bab360 type:MM_ANONPAGES val:1",
        "all is well again",
    ];

    #[test]
    fn all_forms_say_the_same() {
        for (before, after) in FORMS_OF_LINES {
            let text: String = TEXT.iter().map(|line| format!("{before}{line}{after}\n")).collect();
            let (all, summary) = reported(text.as_bytes()).unwrap();
            let of = |reported: &Reported| {
                let Reported { complaint, function, first_line, last_line, reports } = reported.clone();
                (complaint.title, function, first_line, last_line, reports)
            };
            let refcount = "refcount_t: underflow; use-after-free in foo".to_owned();
            assert_eq!(
                all.iter().map(of).collect::<Vec<_>>(),
                [
                    (refcount, Some("foo".to_owned()), 12, 21, 1),
                    ("BUG: Bad rss-counter state".to_owned(), None, 22, 22, 2)
                ],
                "{before}"
            );
            let failure =
                Failure { name: "failslab".to_owned(), function: Some("bar".to_owned()), first_line: 2, count: 1 };
            assert_eq!(summary, Summary { lines: 24, complaints: 2, failures: vec![failure] }, "{before}");
        }
    }

    /// Two CPUs that complain at once, line by line in turn.
    #[test]
    fn callers_are_told_apart() {
        let report = |caller: &str, function: &str| -> Vec<String> {
            TEXT[11..21]
                .iter()
                .map(|line| format!("[   12.345678][{caller}] {}\n", line.replace("foo", function)))
                .collect()
        };
        let (one, other) = (report("   T12", "foo"), report("    C1", "quux"));
        let text: String = one.iter().zip(&other).flat_map(|(one, other)| [one.as_str(), other.as_str()]).collect();
        let (all, _) = reported(text.as_bytes()).unwrap();
        let of = |reported: &Reported| (reported.function.clone().unwrap(), reported.first_line, reported.last_line);
        assert_eq!(all.iter().map(of).collect::<Vec<_>>(), [("foo".to_owned(), 1, 19), ("quux".to_owned(), 2, 20)]);
        assert!(!all[0].complaint.splat.contains("quux"));
    }

    /// Programs that write to the console between the kernel's lines, or whole complaints of their own.
    #[test]
    fn programs_are_not_the_kernel() {
        let mut text: String = TEXT.iter().map(|line| format!("[   12.345678] {line}\nBUG: of a program\n")).collect();
        text.push_str("Nov 27 10:00:00 host sshd[12]: BUG: of another\n");
        let (all, _) = reported(text.as_bytes()).unwrap();
        assert_eq!(all.len(), 2);
        assert_eq!(all[0].function.as_deref(), Some("foo"));
        assert!(!all[0].complaint.splat.contains("of a program"));
    }

    /// A quiet console does not say which kernel boots.
    #[test]
    fn a_boot_after_a_panic() {
        let panic = "[   50.000000] Kernel panic - not syncing: odd\n[   50.000001] BUG: Bad page state in process x\n";
        let next = "[    3.000000] BUG: Bad rss-counter state mm:ffff888003bab360 type:MM_ANONPAGES val:1\n";
        let (all, _) = reported(format!("{panic}{next}").as_bytes()).unwrap();
        let titles: Vec<_> = all.iter().map(|reported| reported.complaint.title.as_str()).collect();
        assert_eq!(titles, ["kernel panic: odd", "BUG: Bad rss-counter state"]);
    }

    #[test]
    fn hangs_that_have_nothing_to_do_with_each_other() {
        let hung = |seconds: u64, function: &str| {
            format!(
                "[{seconds:5}.000000] INFO: task sh:{seconds} blocked for more than 122 seconds.\n\
                 [{seconds:5}.000001] Call Trace:\n[{seconds:5}.000002]  <TASK>\n[{seconds:5}.000003]  {function}+0x1/0x2\n\
                 [{seconds:5}.000004]  </TASK>\n"
            )
        };
        let count =
            |second: u64| reported([hung(200, "foo"), hung(second, "bar")].concat().as_bytes()).unwrap().0.len();
        assert_eq!((count(320), count(9000)), (1, 2));
    }

    proptest! {
        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let _ = reported(&bytes);
        }

        /// What a cut leaves of a log is read, and lines are counted from 1.
        #[test]
        fn torn_at_both_ends(from in 0usize..900, to in 0usize..900, form in 0..FORMS_OF_LINES.len()) {
            let (before, after) = FORMS_OF_LINES[form];
            let text: String = TEXT.iter().map(|line| format!("{before}{line}{after}\n")).collect();
            let bytes = text.as_bytes();
            let (from, to) = (from.min(bytes.len()), to.min(bytes.len()));
            let torn = &bytes[from.min(to)..from.max(to)];
            if let Ok((all, summary)) = reported(torn) {
                for reported in all {
                    prop_assert!((1..=reported.last_line).contains(&reported.first_line));
                    prop_assert!(reported.last_line <= summary.lines);
                }
            }
        }

        /// Lines before a report move its numbers, and change nothing else.
        #[test]
        fn numbers_of_lines(count in 0u64..300) {
            let before: String = (0..count).map(|line| format!("[   11.000000] line {line}\n")).collect();
            let text: String = TEXT.iter().map(|line| format!("[   12.345678] {line}\n")).collect();
            let (all, _) = reported(format!("{before}{text}").as_bytes()).unwrap();
            prop_assert_eq!((all[0].first_line, all[0].last_line, all[1].first_line), (count + 12, count + 21, count + 22));
        }
    }
}
