//! The running kernel's log, `/dev/kmsg`, as it comes (Documentation/ABI/testing/dev-kmsg, `devkmsg_read` in
//! kernel/printk/printk.c).
//!
//! What user space wrote into the log (its facility is not 0: the kernel sees to that) is read and not listened to: a
//! workload may write `BUG:` there.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Seek, SeekFrom},
    os::{fd::AsFd, unix::fs::OpenOptionsExt},
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};

use injector_log::Caller;

use super::{
    Complaint,
    splat::{Collector, is_of_kmemleak},
};
use crate::kernel::{KernelError, KernelFiles};

const FILE: &str = "dev/kmsg";

/// More than a record can be: 2048 bytes with the prefix (PRINTK_MESSAGE_MAX), 8192 before 6.4 (CONSOLE_EXT_LOG_MAX).
const BUFFER: usize = 16 << 10;

/// How the kernel says that it ends now: panic() in kernel/panic.c, `sysrq_crash_op` in drivers/tty/sysrq.c.
const LAST_WORDS: [&str; 2] = ["Kernel panic - not syncing", "sysrq: Trigger a crash"];

/// More than a kernel needs to stop its other CPUs once it panics, with a slow console and an emulated machine.
const LAST_MOMENTS: Duration = Duration::from_secs(30);

/// One line of the log; a record of several lines is several of these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// 0 (emergency) to 7 (debug).
    pub level: u8,
    /// 0 is the kernel itself, all others are user space.
    pub facility: u32,
    /// The record's number since boot.
    pub sequence: u64,
    /// Microseconds since boot.
    pub time: u64,
    /// The kernel says that it is only a part of a line whose beginning is in an earlier record.
    pub fragment: bool,
    /// Who wrote it, where the kernel tells (CONFIG_PRINTK_CALLER): so reports that CPUs print at the same time are told apart.
    pub caller: Option<Caller>,
    /// The text.
    pub text: String,
}

impl Line {
    /// Whether no user space runs on after this.
    fn is_the_end(&self) -> bool {
        LAST_WORDS.iter().any(|words| self.text.starts_with(words))
    }
}

/// A reader of the log with the reports that are open in it.
#[derive(Debug)]
pub struct KernelLog {
    file: File,
    buffer: Vec<u8>,
    /// Read and not yet a whole record; the device gives whole ones, a file in a test need not.
    rest: Vec<u8>,
    next: Option<u64>,
    lost: u64,
    collector: Collector,
}

impl KernelLog {
    /// Listens to what is written from now on.
    ///
    /// # Errors
    /// The log can't be opened; it is root's.
    pub fn open_at_end() -> Result<Self, KernelError> {
        Self::open_at_end_of(&KernelFiles::default())
    }

    /// The same below another root, where the log may be a plain file.
    ///
    /// # Errors
    /// The log can't be opened.
    pub fn open_at_end_of(files: &KernelFiles) -> Result<Self, KernelError> {
        let path = files.path(FILE);
        let open = || -> io::Result<File> {
            let mut file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&path)?;
            file.seek(SeekFrom::End(0))?;
            Ok(file)
        };
        let file = open().map_err(|error| KernelError::File { path: path.clone(), error })?;
        Ok(Self { file, buffer: vec![0; BUFFER], rest: Vec::new(), next: None, lost: 0, collector: Collector::new() })
    }

    /// What was written since the last reading; does not wait.
    pub fn read(&mut self) -> Vec<Line> {
        let mut lines = Vec::new();
        loop {
            match self.file.read(&mut self.buffer) {
                Ok(0) => break,
                Ok(length) => {
                    self.rest.extend_from_slice(&self.buffer[..length]);
                    self.records(&mut lines);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Records that were not read yet were overwritten; the next reading gives the oldest that is left, and the
                // gap in the numbers says how many are gone. Without a number before them it is one at least.
                Err(error) if error.raw_os_error() == Some(libc::EPIPE) => {
                    if self.next.is_none() {
                        self.lost += 1;
                    }
                }
                // A record that is longer than the buffer: it is passed over.
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => self.lost += 1,
                // EAGAIN: nothing more.
                Err(_) => break,
            }
        }
        lines
    }

    /// Records that were overwritten before they were read, and with them perhaps complaints. The log is too small then:
    /// boot with `log_buf_len=4M`.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// How many allocations the kernel's own fault injection failed, as far as the log tells: it writes nothing of some, and
    /// not of all when there are many. What an injector wrote itself does not count: it is user space's.
    #[must_use]
    pub fn injected(&self) -> u64 {
        self.collector.failures().iter().map(|failure| failure.count).sum()
    }

    /// What the kernel complained about since the last call; does not wait. When a report is open, it says nothing yet.
    /// The next call is about something new: the same complaint again is one again.
    ///
    /// Does not come back once the kernel panics. The CPUs that panic() has not stopped yet go on for a while, but some of
    /// what is wrong there is not printed any more (`oops_in_progress`: `__schedule_bug()` in kernel/sched/core.c), so that
    /// nobody must take silence for health.
    pub fn poll(&mut self) -> Vec<Complaint> {
        for line in self.read() {
            if line.facility == 0 {
                if line.is_the_end() {
                    thread::sleep(LAST_MOMENTS);
                }
                // What kmemleak finds, its own sensor reports.
                if !is_of_kmemleak(&line.text) {
                    self.collector.feed(line.caller, &line.text);
                }
            }
        }
        if !self.collector.is_open() {
            self.collector.episode();
        }
        self.collector.take()
    }

    /// As [`Self::poll`]; but when a report is open, waits until its end was written, or nothing for `quiet`, or for `most` in
    /// all, and takes what is there as complete. The console is slow: a splat of 60 lines takes 50 ms at 115,200 baud.
    pub fn settle(&mut self, quiet: Duration, most: Duration) -> Vec<Complaint> {
        let end = Instant::now() + most;
        let mut complaints = self.poll();
        while self.collector.is_open() {
            let wait = quiet.min(end.saturating_duration_since(Instant::now()));
            let time = PollTimeout::try_from(wait).unwrap_or(PollTimeout::MAX);
            match poll(&mut [PollFd::new(self.file.as_fd(), PollFlags::POLLIN)], time) {
                Ok(0) => break,
                Err(error) if error != Errno::EINTR => break,
                _ if Instant::now() >= end => break,
                _ => {}
            }
            complaints.extend(self.poll());
        }
        complaints.extend(self.flush());
        complaints
    }

    /// All that was written until now; a report that is open is taken as complete.
    pub fn flush(&mut self) -> Vec<Complaint> {
        let mut complaints = self.poll();
        self.collector.flush();
        complaints.extend(self.collector.take());
        complaints
    }

    fn records(&mut self, lines: &mut Vec<Line>) {
        let Some(end) = self.rest.iter().rposition(|byte| *byte == b'\n') else { return };
        let text = String::from_utf8_lossy(&self.rest[..end]).into_owned();
        self.rest.drain(..=end);
        // Lines that start with a blank are keys and values of the record before.
        for record in text.split('\n').filter(|line| !line.starts_with(' ')) {
            let Some(record) = Record::parse(record) else { continue };
            if let Some(next) = self.next {
                self.lost += record.sequence.saturating_sub(next);
            }
            self.next = Some(record.sequence + 1);
            lines.extend(record.lines());
        }
    }
}

struct Record<'a> {
    priority: u32,
    sequence: u64,
    time: u64,
    fragment: bool,
    caller: Option<Caller>,
    text: &'a str,
}

impl<'a> Record<'a> {
    /// `prio,seq,usec,flags[,caller=T12];text` (`info_print_ext_header()` in kernel/printk/printk.c, 5.10 to 7.3)
    fn parse(record: &'a str) -> Option<Self> {
        let (prefix, text) = record.split_once(';')?;
        let mut fields = prefix.split(',');
        Some(Self {
            priority: fields.next()?.parse().ok()?,
            sequence: fields.next()?.parse().ok()?,
            time: fields.next()?.parse().ok()?,
            fragment: fields.next()?.contains('c'),
            caller: fields.find_map(|field| Caller::parse(field.strip_prefix("caller=")?)),
            text,
        })
    }

    fn lines(&self) -> Vec<Line> {
        let text = unescape(self.text);
        let line = |text: &str| Line {
            level: (self.priority & 7) as u8,
            facility: self.priority >> 3,
            sequence: self.sequence,
            time: self.time,
            fragment: self.fragment,
            caller: self.caller,
            text: text.to_owned(),
        };
        text.split('\n').map(line).collect()
    }
}

/// `\x0a` for what can't be printed, and for the backslash itself.
fn unescape(text: &str) -> String {
    if !text.contains('\\') {
        return text.to_owned();
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let escaped = match rest {
            [b'\\', b'x', high, low, ..] => hexadecimal(*high).zip(hexadecimal(*low)),
            _ => None,
        };
        match escaped {
            Some((high, low)) => {
                bytes.push(high << 4 | low);
                rest = &rest[4..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn hexadecimal(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::Kind;
    use proptest::prelude::*;
    use std::fs;
    use std::io::Write;

    struct Log {
        _root: tempfile::TempDir,
        writer: File,
        log: KernelLog,
    }

    impl Log {
        fn new(before: &str) -> Self {
            let root = tempfile::tempdir().unwrap();
            let files = KernelFiles::new(root.path());
            fs::create_dir(root.path().join("dev")).unwrap();
            fs::write(files.path(FILE), before).unwrap();
            let writer = OpenOptions::new().append(true).open(files.path(FILE)).unwrap();
            Self { log: KernelLog::open_at_end_of(&files).unwrap(), writer, _root: root }
        }

        fn write(&mut self, text: &str) {
            self.writer.write_all(text.as_bytes()).unwrap();
        }

        fn texts(&mut self) -> Vec<String> {
            self.log.read().into_iter().map(|line| line.text).collect()
        }
    }

    #[test]
    fn only_what_is_new() {
        let mut log = Log::new("6,1,0,-;old\n");
        assert!(log.texts().is_empty());
        log.write("4,2,1000,-;new\n SUBSYSTEM=acpi\n DEVICE=+acpi:PNP0A03:00\n12,3,2000,c,caller=T1;more\n");
        let lines = log.log.read();
        let line = |level, facility, sequence, time, fragment, caller, text: &str| Line {
            level,
            facility,
            sequence,
            time,
            fragment,
            caller: Caller::parse(caller),
            text: text.to_owned(),
        };
        assert_eq!(lines, [line(4, 0, 2, 1000, false, "", "new"), line(4, 1, 3, 2000, true, "T1", "more")]);
        assert!(log.texts().is_empty());
    }

    #[test]
    fn a_record_in_portions() {
        let mut log = Log::new("");
        log.write("4,2,10");
        assert!(log.texts().is_empty());
        log.write("00,-;new\n4,3,1000,-;x");
        assert_eq!(log.texts(), ["new"]);
        log.write("y\n");
        assert_eq!(log.texts(), ["xy"]);
    }

    #[test]
    fn escapes_and_records_of_several_lines() {
        let mut log = Log::new("");
        log.write("4,2,1,-;a\\x0a  b\\x5cx\\x09\\xc3\\xa4 \\y \\x4\n");
        assert_eq!(log.texts(), ["a", "  b\\x\tä \\y \\x4"]);
    }

    #[test]
    fn what_was_overwritten_is_counted() {
        let mut log = Log::new("");
        log.write("4,10,1,-;a\n4,11,1,-;b\n");
        assert_eq!(log.texts().len(), 2);
        assert_eq!(log.log.lost(), 0);
        log.write("4,15,1,-;c\n4,17,1,-;d\n");
        assert_eq!(log.texts().len(), 2);
        assert_eq!(log.log.lost(), 4);
    }

    #[test]
    fn what_is_no_record_is_passed_over() {
        let mut log = Log::new("");
        log.write("\nnonsense\n4,x,1,-;a\n4,5\n4,6,1,-;b\n");
        assert_eq!(log.texts(), ["b"]);
    }

    const WARNING: &str = "\
        4,1,1,-;------------[ cut here ]------------\n\
        4,2,1,-;WARNING: CPU: 1 PID: 68 at fs/x.c:40 foo+0x12/0x20 [x]\n\
        4,3,1,-;---[ end trace 0000000000000000 ]---\n";

    #[test]
    fn the_same_again_is_a_complaint_again() {
        let mut log = Log::new("");
        for _ in 0..2 {
            log.write(WARNING);
            let complaints = log.log.poll();
            assert_eq!(complaints.len(), 1);
            assert_eq!((complaints[0].kind, &*complaints[0].title), (Kind::Warning, "WARNING in foo"));
        }
        log.write(&WARNING.repeat(2));
        assert_eq!(log.log.poll().len(), 1, "but not twice at once");
    }

    /// Two CPUs warn at the same time. With the callers there are two reports, each with its own lines.
    #[test]
    fn reports_of_two_cpus_are_told_apart() {
        let report = |function: &str| {
            let frames = format!(" {function}+0x12/0x20 [x]|{function}_caller+0x1/0x20 [x]");
            let head = format!("------------[ cut here ]------------|WARNING: CPU: 1 PID: 68 at fs/x.c:40{frames}");
            let lines = format!("{head}|Call Trace:| <TASK>|{frames}| </TASK>|---[ end trace 0000000000000000 ]---");
            lines.split('|').map(str::to_owned).collect::<Vec<_>>()
        };
        let interleaved = |callers: [&str; 2]| -> Vec<String> {
            let mut log = Log::new("");
            let mut number = 0;
            for (foo, bar) in report("foo").iter().zip(&report("bar")) {
                for (caller, line) in callers.iter().zip([foo, bar]) {
                    number += 1;
                    log.write(&format!("4,{number},1,-{caller};{line}\n"));
                }
            }
            log.log.flush().iter().map(|complaint| format!("{}: {}", complaint.title, complaint.splat.len())).collect()
        };
        let told_apart = interleaved([",caller=T68", ",caller=C1"]);
        let alone = |function: &str| {
            let mut log = Log::new("");
            report(function).iter().zip(1..).for_each(|(line, number)| log.write(&format!("4,{number},1,-;{line}\n")));
            log.log.flush().iter().map(|complaint| format!("{}: {}", complaint.title, complaint.splat.len())).collect()
        };
        let both: [Vec<String>; 2] = ["foo", "bar"].map(alone);
        assert_eq!(told_apart, both.concat());
        assert_eq!(told_apart.len(), 2, "{told_apart:?}");
        assert_ne!(interleaved(["", ""]), told_apart, "without callers nobody can tell");
    }

    #[test]
    fn last_words() {
        let is_the_end = |record: &str| Record::parse(record).unwrap().lines()[0].is_the_end();
        assert!(is_the_end("0,5,1,-;Kernel panic - not syncing: Fatal exception"));
        assert!(is_the_end("6,5,1,-;sysrq: Trigger a crash"));
        assert!(!is_the_end("6,5,1,-;sysrq: Emergency Sync"));
    }

    #[test]
    fn user_space_is_not_listened_to() {
        let mut log = Log::new("");
        log.write(&WARNING.replace("4,", "12,"));
        assert!(log.log.flush().is_empty());
    }

    /// Only what the kernel itself injected is counted, and nothing of it is a complaint.
    #[test]
    fn injected_failures_are_told_apart() {
        let block = "\
            N,1,1,-;FAULT_INJECTION: forcing a failure.\\x0aname failslab, interval 1, probability 0, space 0, times 0\n\
            N,2,1,-;CPU: 1 PID: 73 Comm: sh Not tainted 7.3.1 #1\nN,3,1,-;Call Trace:\nN,4,1,-; <TASK>\n\
            N,5,1,-; foo+0x1/0x2\nN,6,1,-; </TASK>\nN,7,1,-;injector: site 04cdb1042331fd3b was failed\n";
        let mut log = Log::new("");
        log.write(&block.replace("N,", "12,"));
        assert_eq!((log.log.flush().len(), log.log.injected()), (0, 0), "ours");
        log.write(&block.replace("N,", "4,").repeat(2));
        assert_eq!((log.log.flush().len(), log.log.injected()), (0, 2), "the kernel's");
        log.write(&block.replace("N,", "12,"));
        log.write(WARNING);
        assert_eq!((log.log.flush().len(), log.log.injected()), (1, 2));
    }

    #[test]
    fn an_open_report_is_waited_for_and_then_taken() {
        let mut log = Log::new("");
        log.write(WARNING.rsplit_once("4,3").unwrap().0);
        assert!(log.log.poll().is_empty());
        let start = Instant::now();
        let complaints = log.log.settle(Duration::from_millis(30), Duration::from_millis(60));
        assert_eq!(complaints.len(), 1);
        assert!(start.elapsed() < Duration::from_secs(5));
        assert!(log.log.flush().is_empty());
    }

    #[test]
    fn a_log_that_is_not_there_is_named() {
        let error = KernelLog::open_at_end_of(&KernelFiles::new("/nonexistent")).unwrap_err();
        assert!(error.to_string().starts_with("/nonexistent/dev/kmsg: "), "{error}");
    }

    proptest! {
        #[test]
        fn never_panics(text in "([0-9,;c\\\\xa-f \n-]|\\PC){0,200}") {
            let mut log = Log::new("");
            log.write(&text);
            log.log.read();
            log.log.flush();
        }

        #[test]
        fn escaping_is_undone(text in "\\PC{0,40}") {
            let escaped: String = text
                .bytes()
                .map(|byte| match byte {
                    b' '..=b'~' if byte != b'\\' => char::from(byte).to_string(),
                    _ => format!("\\x{byte:02x}"),
                })
                .collect();
            prop_assert_eq!(unescape(&escaped), text);
        }
    }
}
