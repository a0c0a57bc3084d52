//! The last part of a guest's console, which says why the guest went down.

use std::{
    io::{self, Write},
    sync::{Arc, Mutex, PoisonError},
};

use injector_guest::console;

use crate::{journal::Verdict, oracle::splat};

/// How many bytes of a console's end are kept: several reports of a checking kernel.
const KEPT: usize = 256 << 10;
/// How many bytes of it go into a journal.
const SPLAT: usize = 64 << 10;
/// Complaints less than this many seconds apart have one cause: KASAN reports a bad access, then comes the fault that it causes,
/// then the panic.
const TOGETHER: f64 = 2.0;
const PANIC: &str = "Kernel panic";

/// The console's text since the last run was armed, or the end of it.
#[derive(Clone, Debug, Default)]
pub struct ConsoleTail {
    text: Arc<Mutex<Vec<u8>>>,
}

/// The last trouble that a console reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CrashReport {
    /// The title of the worst of the last complaints; none if the kernel did not complain.
    pub title: Option<String>,
    /// The console's text from the first of them on.
    pub splat: String,
}

impl ConsoleTail {
    /// Drops the text so far.
    pub fn clear(&self) {
        self.text.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// The last trouble.
    pub fn report(&self) -> CrashReport {
        crash_report(&String::from_utf8_lossy(&self.text.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

impl Write for ConsoleTail {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut text = self.text.lock().unwrap_or_else(PoisonError::into_inner);
        text.extend_from_slice(bytes);
        if text.len() > 2 * KEPT {
            let surplus = text.len() - KEPT;
            text.drain(..surplus);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Finds the last complaints that have one cause.
fn crash_report(text: &str) -> CrashReport {
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    let mut found: Option<(usize, f64)> = None;
    for (number, line) in lines.iter().enumerate().rev() {
        let Some(_) = console::title(line) else { continue };
        let time = seconds(line);
        match (found, time) {
            (Some((_, later)), Some(time)) if later - time > TOGETHER => break,
            (_, Some(time)) => found = Some((number, time)),
            (None, None) => found = Some((number, f64::INFINITY)),
            // Without time stamps only the order is known.
            (Some((_, later)), None) => found = Some((number, later)),
        }
    }
    let Some((start, _)) = found else {
        return CrashReport { title: None, splat: bounded(&lines[lines.len().saturating_sub(40)..].join("\n")) };
    };
    // The oracle's titles are the same for the same defect.
    let complaints = splat::complaints(&lines[start..].join("\n"));
    let gravest = complaints.iter().rev().max_by_key(|complaint| Verdict::from(complaint.kind));
    if let Some(complaint) = gravest {
        return CrashReport { title: Some(complaint.title.clone()), splat: bounded(&lines[start..].join("\n")) };
    }
    let titles = || lines[start..].iter().filter_map(|line| console::title(line));
    let title = titles().find(|title| !title.starts_with(PANIC)).or(titles().next());
    CrashReport { title: title.map(str::to_owned), splat: bounded(&lines[start..].join("\n")) }
}

/// A line's time stamp: `[    3.141592] text`.
fn seconds(line: &str) -> Option<f64> {
    line.trim_start().strip_prefix('[')?.split_once(']')?.0.trim().parse().ok()
}

/// The beginning of a text: it says what happened, unlike a flood that follows.
fn bounded(text: &str) -> String {
    let mut end = text.len().min(SPLAT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONSOLE: &str = "\
[    9.000000] WARNING: CPU: 0 PID: 77 at fs/ext4/inode.c:3 ext4_x+0x1/0x2\r
[    9.100000] Call Trace:\r
[   20.000000] BUG: KASAN: slab-use-after-free in nfs4_put_stid+0x20/0x50\r
[   20.200000] Read of size 4\r
[   20.900000] Oops: general protection fault, probably for non-canonical address\r
[   21.500000] Kernel panic - not syncing: Fatal exception\r
[   21.600000] Kernel Offset: disabled\r
";

    #[test]
    fn the_first_of_the_last_complaints_is_the_title() {
        let report = crash_report(CONSOLE);
        assert_eq!(report.title.as_deref(), Some("KASAN: slab-use-after-free in nfs4_put_stid"));
        assert!(report.splat.starts_with("[   20.000000] BUG: KASAN") && report.splat.ends_with("disabled"));
        // Only what came together: the warning was ten seconds earlier.
        assert!(!report.splat.contains("WARNING"));
    }

    #[test]
    fn a_panic_alone_is_the_title_of_itself() {
        let report =
            crash_report("[    1.0] x\n[    2.0] Kernel panic - not syncing: sysrq triggered crash\n[    2.1] y\n");
        assert_eq!(report.title.as_deref(), Some("kernel panic: sysrq triggered crash"));
        // A message before it that begins the trouble is the title.
        let report = crash_report("BUG: x\nKernel panic - not syncing: Fatal exception\n");
        assert_eq!(report.title.as_deref(), Some("BUG: x"));
    }

    #[test]
    fn a_quiet_end_has_no_title() {
        let report = crash_report("[    1.0] Linux\n[    2.0] mounted\n");
        assert_eq!(report, CrashReport { title: None, splat: "[    1.0] Linux\n[    2.0] mounted".to_owned() });
    }

    #[test]
    fn what_was_before_the_run_is_dropped() {
        let mut tail = ConsoleTail::default();
        tail.write_all(b"[ 1.0] BUG: old\n").unwrap();
        tail.clear();
        tail.write_all(b"[ 1.1] BUG: new\n").unwrap();
        assert_eq!(tail.report().title.as_deref(), Some("BUG: new"));
    }

    #[test]
    fn a_flood_is_bounded() {
        let mut tail = ConsoleTail::default();
        for _ in 0..100_000 {
            tail.write_all("[ 1.0] WARNING: äöü\n".as_bytes()).unwrap();
        }
        assert!(tail.text.lock().unwrap().len() <= 2 * KEPT);
        assert!(tail.report().splat.len() <= SPLAT);
    }
}
