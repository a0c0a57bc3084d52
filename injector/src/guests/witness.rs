//! What a guest's console said of late: who wants to know how a machine went down looks there.

use std::{
    io::{self, Write},
    sync::{Arc, Mutex, PoisonError},
};

use injector_guest::console;

use crate::sweep::{Verdict, oracle::splat};

/// So much of the end of a console is kept, in bytes: several reports of a checking kernel.
const KEPT: usize = 256 << 10;
/// So much of it goes into a journal.
const SPLAT: usize = 64 << 10;
/// Complaints that follow one another within so many seconds have one cause: a bad access is reported by KASAN, then by the
/// fault that it causes, then by the panic.
const TOGETHER: f64 = 2.0;
const PANIC: &str = "Kernel panic";

/// The end of a console's text, since the last run was armed.
#[derive(Clone, Debug, Default)]
pub struct Witness {
    text: Arc<Mutex<Vec<u8>>>,
}

/// The last trouble that a console tells of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastWords {
    /// The first complaint of the last that came together; none if the kernel did not complain.
    pub title: Option<String>,
    /// From there on.
    pub splat: String,
}

impl Witness {
    /// What came so far is of no interest any more.
    pub fn forget(&self) {
        self.text.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// What is known of the end.
    pub fn last_words(&self) -> LastWords {
        last_words(&String::from_utf8_lossy(&self.text.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

impl Write for Witness {
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

/// Finds the last complaints that came together.
fn last_words(text: &str) -> LastWords {
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    let mut found: Option<(usize, f64)> = None;
    for (number, line) in lines.iter().enumerate().rev() {
        let Some(_) = console::title(line) else { continue };
        let time = seconds(line);
        match (found, time) {
            (Some((_, later)), Some(time)) if later - time > TOGETHER => break,
            (_, Some(time)) => found = Some((number, time)),
            (None, None) => found = Some((number, f64::INFINITY)),
            // Without times only the order tells.
            (Some((_, later)), None) => found = Some((number, later)),
        }
    }
    let Some((start, _)) = found else {
        return LastWords { title: None, splat: bounded(&lines[lines.len().saturating_sub(40)..].join("\n")) };
    };
    // The oracle's titles are the same for the same defect.
    let complaints = splat::complaints(&lines[start..].join("\n"));
    let gravest = complaints.iter().rev().max_by_key(|complaint| Verdict::from(complaint.kind));
    if let Some(complaint) = gravest {
        return LastWords { title: Some(complaint.title.clone()), splat: bounded(&lines[start..].join("\n")) };
    }
    let titles = || lines[start..].iter().filter_map(|line| console::title(line));
    let title = titles().find(|title| !title.starts_with(PANIC)).or(titles().next());
    LastWords { title: title.map(str::to_owned), splat: bounded(&lines[start..].join("\n")) }
}

/// A line's time stamp: `[    3.141592] text`.
fn seconds(line: &str) -> Option<f64> {
    line.trim_start().strip_prefix('[')?.split_once(']')?.0.trim().parse().ok()
}

/// The beginning says what happened; a flood that follows does not.
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
        let words = last_words(CONSOLE);
        assert_eq!(words.title.as_deref(), Some("KASAN: slab-use-after-free in nfs4_put_stid"));
        assert!(words.splat.starts_with("[   20.000000] BUG: KASAN") && words.splat.ends_with("disabled"));
        // Only what came together: the warning was ten seconds earlier.
        assert!(!words.splat.contains("WARNING"));
    }

    #[test]
    fn a_panic_alone_is_the_title_of_itself() {
        let words =
            last_words("[    1.0] x\n[    2.0] Kernel panic - not syncing: sysrq triggered crash\n[    2.1] y\n");
        assert_eq!(words.title.as_deref(), Some("kernel panic: sysrq triggered crash"));
        // A message that begins the trouble is before it.
        let words = last_words("BUG: x\nKernel panic - not syncing: Fatal exception\n");
        assert_eq!(words.title.as_deref(), Some("BUG: x"));
    }

    #[test]
    fn a_quiet_end_has_no_title() {
        let words = last_words("[    1.0] Linux\n[    2.0] mounted\n");
        assert_eq!(words, LastWords { title: None, splat: "[    1.0] Linux\n[    2.0] mounted".to_owned() });
    }

    #[test]
    fn what_was_before_the_run_is_forgotten() {
        let mut witness = Witness::default();
        witness.write_all(b"[ 1.0] BUG: old\n").unwrap();
        witness.forget();
        witness.write_all(b"[ 1.1] BUG: new\n").unwrap();
        assert_eq!(witness.last_words().title.as_deref(), Some("BUG: new"));
    }

    #[test]
    fn a_flood_is_bounded() {
        let mut witness = Witness::default();
        for _ in 0..100_000 {
            witness.write_all("[ 1.0] WARNING: äöü\n".as_bytes()).unwrap();
        }
        assert!(witness.text.lock().unwrap().len() <= 2 * KEPT);
        assert!(witness.last_words().splat.len() <= SPLAT);
    }
}
