//! Failures in the kernel's own log, in the form of its fault injection (`fail_dump()` in lib/fault-inject.c, `dump_stack()`):
//! what reads such logs (syzkaller's pkg/report, NIPA, `injector log`) finds there which failure came before a splat.
//!
//! The kernel marks the lines as user space's (their facility is not 0). So the oracle does not listen to them.

use std::{
    fs::OpenOptions,
    io::{self, Write as _},
    path::PathBuf,
    time::{Duration, Instant},
};

use tracing::warn;

use crate::{
    events::Context,
    foreign,
    kernel::{KernelError, KernelFiles},
    oracle::taint::Taint,
    plan::Hook,
};

const FILE: &str = "dev/kmsg";
/// `on`, `off` or `ratelimit`.
const ALLOWED: &str = "proc/sys/kernel/printk_devkmsg";
/// How many blocks go into the log in [`INTERVAL`]: what the kernel's own messages may (DEFAULT_RATELIMIT_BURST).
const BURST: u32 = 10;
/// As DEFAULT_RATELIMIT_INTERVAL.
const INTERVAL: Duration = Duration::from_secs(5);
/// The kernel takes so many records from each opening of the file in 5 s, and drops the others (`devkmsg_open()`).
const RECORDS: usize = 10;

/// Nothing can be written into the kernel's log.
#[derive(Debug, thiserror::Error)]
pub enum KmsgError {
    /// It takes nothing.
    #[error(
        "--kmsg: the kernel drops what is written to its log: /{ALLOWED} says off; allow it: sysctl kernel.printk_devkmsg=ratelimit (with printk.devkmsg=off on the kernel's command line that takes a boot)"
    )]
    Off,
    /// The file can't be opened for writing.
    #[error("--kmsg: can't write to the kernel's log: {path}: {error}; run as root")]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

crate::exit::has_exit_code!(KmsgError => MISSING);

/// A failure that is written into the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Its hook.
    pub hook: Hook,
    /// The signature of its site.
    pub site: u64,
    /// In what kind of code it is.
    pub context: Context,
    /// Who asked for memory; none before it is known.
    pub task: Option<Teller>,
}

/// On whose behalf a failure was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Teller {
    /// CPU number.
    pub cpu: u32,
    /// Thread.
    pub tid: u32,
    /// Name of the task.
    pub comm: String,
}

/// The kernel's log, for writing.
#[derive(Debug)]
pub struct Kmsg {
    files: KernelFiles,
    limit: Limit,
    /// `7.3.1 #1`
    kernel: String,
    told: u64,
    held_back: u64,
    broken: bool,
}

impl Kmsg {
    /// The log of this machine.
    ///
    /// # Errors
    /// It can't be written.
    pub fn open(files: &KernelFiles) -> Result<Self, KmsgError> {
        // Without the file, the kernel is one that takes everything.
        if files.read_text(ALLOWED).is_ok_and(|value| value.trim() == "off") {
            return Err(KmsgError::Off);
        }
        let path = files.path(FILE);
        OpenOptions::new().write(true).open(&path).map_err(|error| KmsgError::Open { path, error })?;
        let word = |file: &str| -> Result<String, KernelError> {
            Ok(files.read_text(file)?.split_whitespace().next().unwrap_or_default().to_owned())
        };
        let words = ["proc/sys/kernel/osrelease", "proc/sys/kernel/version"].map(|file| word(file).unwrap_or_default());
        let kernel = words.join(" ");
        Ok(Self { files: files.clone(), limit: Limit::default(), kernel, told: 0, held_back: 0, broken: false })
    }

    /// Writes a failure, unless too many came before it. `frames`: its stack as the kernel prints it; only asked for then.
    /// False: it was held back.
    pub fn tell(&mut self, told: &Told, frames: impl FnOnce() -> Vec<String>) -> bool {
        if !self.limit.allows(Instant::now()) {
            self.held_back += 1;
            return false;
        }
        self.write(told, &frames());
        true
    }

    /// Writes a failure that was held back: somebody must know of it.
    pub fn tell_after_all(&mut self, told: &Told, frames: Vec<String>) {
        self.held_back = self.held_back.saturating_sub(1);
        self.write(told, &frames);
    }

    /// What was written and what was not, if something was held back.
    #[must_use]
    pub fn summary(&self) -> Option<String> {
        let Self { told, held_back, .. } = self;
        (*held_back > 0).then(|| {
            format!(
                "{told} of {} failures are in the kernel's log; the others came faster than {BURST} in {} s",
                told + held_back,
                INTERVAL.as_secs()
            )
        })
    }

    fn write(&mut self, told: &Told, frames: &[String]) {
        self.told += 1;
        let taint = Taint::read(&self.files).unwrap_or_default();
        let records = records(told, frames, &format!("{} {}", tainted(taint), self.kernel));
        for records in records.chunks(RECORDS) {
            if let Err(error) = self.append(records)
                && !std::mem::replace(&mut self.broken, true)
            {
                warn!(
                    "--kmsg: {}: {error}; what was not written is missing in the kernel's log",
                    self.files.path(FILE).display()
                );
            }
        }
    }

    /// Each write is a record.
    fn append(&self, records: &[String]) -> io::Result<()> {
        let mut file = OpenOptions::new().append(true).open(self.files.path(FILE))?;
        // A record without its newline can't be read until the next one is written.
        records.iter().try_for_each(|record| file.write_all(format!("{record}\n").as_bytes()))
    }
}

/// What the kernel's fault injection calls failures of a hook (the names of its `fault_attr`s).
fn name(hook: Hook) -> &'static str {
    match hook {
        Hook::Slab => "failslab",
        Hook::Page => "fail_page_alloc",
        Hook::Bio => "fail_make_request",
        _ => "fail_function",
    }
}

/// The taint flags as `print_tainted()` writes them.
fn tainted(taint: Taint) -> String {
    if taint.0 == 0 {
        return "Not tainted".to_owned();
    }
    let mut columns = String::new();
    for flag in &crate::oracle::taint::FLAGS {
        let unset = if flag.bit == 0 { 'G' } else { ' ' };
        columns.push(if taint.0 & 1 << flag.bit != 0 { flag.letter } else { unset });
    }
    format!("Tainted: {}", columns.trim_end())
}

/// The records of a failure, each with its level (KERN_NOTICE, then KERN_WARNING, the default of what has none).
fn records(told: &Told, frames: &[String], kernel: &str) -> Vec<String> {
    let Told { hook, site, context, task } = told;
    let attributes = "interval 1, probability 0, space 0, times 0";
    let mut records = vec![format!("<5>FAULT_INJECTION: forcing a failure.\nname {}, {attributes}", name(*hook))];
    if let Some(Teller { cpu, tid, comm }) = task {
        records.push(format!("<4>CPU: {cpu} PID: {tid} Comm: {} {kernel}", foreign::masked(comm)));
    }
    let stack = match context {
        Context::Task | Context::Unknown => "TASK",
        Context::Softirq | Context::Hardirq => "IRQ",
        Context::Nmi => "NMI",
    };
    records.push("<4>Call Trace:".to_owned());
    records.push(format!("<4> <{stack}>"));
    records.extend(frames.iter().map(|frame| format!("<4> {}", foreign::masked(frame))));
    records.push(format!("<4> </{stack}>"));
    let what = if task.is_some() { "was failed" } else { "is failed next" };
    records.push(format!("<5>injector: site {site:016x} {what}"));
    records
}

/// How many go through in a time.
#[derive(Clone, Copy, Debug, Default)]
struct Limit {
    begun: Option<Instant>,
    count: u32,
}

impl Limit {
    /// Whether one more goes through now.
    fn allows(&mut self, now: Instant) -> bool {
        if self.begun.is_none_or(|begun| now.duration_since(begun) >= INTERVAL) {
            *self = Self { begun: Some(now), count: 0 };
        }
        self.count += 1;
        self.count <= BURST
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn told(task: bool) -> Told {
        let task = task.then(|| Teller { cpu: 1, tid: 73, comm: "s\nh".to_owned() });
        Told { hook: Hook::Slab, site: 0x04cd_b104_2331_fd3b, context: Context::Task, task }
    }

    fn frames() -> Vec<String> {
        ["__kmalloc_noprof+0x1a/0x2b0", "ext4_foo+0x12/0x40 [ext4]", "do_syscall_64+0xbb/0x1e0"]
            .map(str::to_owned)
            .into()
    }

    struct Root {
        _directory: tempfile::TempDir,
        files: KernelFiles,
    }

    impl Root {
        fn new(allowed: &str) -> Self {
            let root = tempfile::tempdir().unwrap();
            let files = KernelFiles::new(root.path());
            for directory in ["dev", "proc/sys/kernel"] {
                fs::create_dir_all(files.path(directory)).unwrap();
            }
            let content = [
                (FILE, ""),
                (ALLOWED, allowed),
                ("proc/sys/kernel/osrelease", "7.3.1\n"),
                ("proc/sys/kernel/version", "#1 SMP PREEMPT_DYNAMIC\n"),
                ("proc/sys/kernel/tainted", "4609\n"),
            ];
            content.iter().for_each(|(file, text)| fs::write(files.path(file), text).unwrap());
            Self { _directory: root, files }
        }

        fn log(&self) -> String {
            fs::read_to_string(self.files.path(FILE)).unwrap()
        }
    }

    #[test]
    fn the_form_is_the_kernels() {
        assert_eq!(
            records(&told(true), &frames(), "Not tainted 7.3.1 #1"),
            [
                "<5>FAULT_INJECTION: forcing a failure.\nname failslab, interval 1, probability 0, space 0, times 0",
                "<4>CPU: 1 PID: 73 Comm: s?h Not tainted 7.3.1 #1",
                "<4>Call Trace:",
                "<4> <TASK>",
                "<4> __kmalloc_noprof+0x1a/0x2b0",
                "<4> ext4_foo+0x12/0x40 [ext4]",
                "<4> do_syscall_64+0xbb/0x1e0",
                "<4> </TASK>",
                "<5>injector: site 04cdb1042331fd3b was failed",
            ]
        );
        let next = records(&Told { hook: Hook::Page, context: Context::Softirq, ..told(false) }, &[], "");
        assert!(next[0].contains("\nname fail_page_alloc, "), "{next:?}");
        assert_eq!(
            next[1..],
            ["<4>Call Trace:", "<4> <IRQ>", "<4> </IRQ>", "<5>injector: site 04cdb1042331fd3b is failed next"]
        );
    }

    /// What `injector log` makes of it: an injected failure with its function, and no complaint.
    #[test]
    fn injector_log_recognises_it() {
        for task in [true, false] {
            let records = records(&told(task), &frames(), "Not tainted 7.3.1 #1");
            let lines = records.iter().flat_map(|record| record[3..].split('\n'));
            let text: String = lines.map(|line| format!("[   12.345678] {line}\n")).collect();
            let mut complaints = 0;
            let summary = injector_log::reader::read(text.as_bytes(), &mut |_| {
                complaints += 1;
                Ok(())
            });
            let failures = summary.unwrap().failures;
            assert_eq!((complaints, failures.len()), (0, 1), "{text}");
            assert_eq!((failures[0].name.as_str(), failures[0].function.as_deref()), ("failslab", Some("ext4_foo")));
        }
    }

    #[test]
    fn taint_flags_stand_in_their_columns() {
        assert_eq!(tainted(Taint(0)), "Not tainted");
        // The documentation's example.
        assert_eq!(tainted(Taint(4609)), "Tainted: P        W  O");
        assert_eq!(tainted(Taint(1 << 9)), "Tainted: G        W");
    }

    #[test]
    fn ten_in_five_seconds() {
        let begin = Instant::now();
        let mut limit = Limit::default();
        let at = |ms| begin + Duration::from_millis(ms);
        let through = |limit: &mut Limit, from: u64| (0..30).filter(|i| limit.allows(at(from + i))).count();
        assert_eq!(through(&mut limit, 0), 10);
        assert_eq!(through(&mut limit, 4900), 0);
        assert_eq!(through(&mut limit, 5000), 10);
    }

    #[test]
    fn what_is_held_back_is_counted_and_can_be_told_after_all() {
        let root = Root::new("ratelimit\n");
        let mut kmsg = Kmsg::open(&root.files).unwrap();
        assert_eq!((0..12).filter(|_| kmsg.tell(&told(true), frames)).count(), 10);
        assert_eq!(
            kmsg.summary().unwrap(),
            "10 of 12 failures are in the kernel's log; the others came faster than 10 in 5 s"
        );
        kmsg.tell_after_all(&told(true), frames());
        let log = root.log();
        assert_eq!(log.matches("FAULT_INJECTION").count(), 11);
        assert!(log.contains("Comm: s?h Tainted: P        W  O 7.3.1 #1"), "{log}");
        assert!(kmsg.summary().unwrap().starts_with("11 of 12 failures"));
    }

    #[test]
    fn a_log_that_takes_nothing_is_refused() {
        let root = Root::new("off\n");
        let error = Kmsg::open(&root.files).unwrap_err().to_string();
        assert!(error.contains("printk_devkmsg says off; allow it: sysctl kernel.printk_devkmsg=ratelimit"), "{error}");
        let root = Root::new("on\n");
        fs::remove_file(root.files.path(FILE)).unwrap();
        let error = Kmsg::open(&root.files).unwrap_err().to_string();
        assert!(error.contains("/dev/kmsg: No such file") && error.ends_with("run as root"), "{error}");
    }
}
