//! Reads the kernel's console: finds complaints and panics in it.

use std::collections::VecDeque;

use injector_log::splat;

const PANIC: &str = "Kernel panic - not syncing";

/// Of the console's text these are kept: so many lines from the first complaint on…
const FIRST_LINES: usize = 250;
/// …and so many of the last ones. More than a panic with the report that led to it.
const LAST_LINES: usize = 400;
/// Longer lines are cut: a broken kernel may well print no newline any more.
const LINE_LENGTH: usize = 512;
/// More titles say nothing more.
const MAX_COMPLAINTS: usize = 1000;
/// Without a complaint, this many of the last lines are of interest.
const QUIET_LINES: usize = 40;

/// Follows a console line by line. What it keeps is bounded.
#[derive(Debug, Default)]
pub struct Console {
    partial: Vec<u8>,
    /// Complete lines so far.
    count: usize,
    /// The last lines.
    last: VecDeque<String>,
    /// The number of the first complaint's line, and the lines from there on.
    first: Option<(usize, Vec<String>)>,
    complaints: Vec<String>,
    panicked: bool,
}

impl Console {
    /// Takes bytes as they come, in any portions.
    pub fn feed(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            match byte {
                b'\n' => {
                    let line = std::mem::take(&mut self.partial);
                    self.line(String::from_utf8_lossy(&line).trim_end().to_owned());
                }
                _ if self.partial.len() < LINE_LENGTH => self.partial.push(byte),
                _ => {}
            }
        }
    }

    /// The kernel said that it panics.
    pub fn panicked(&self) -> bool {
        self.panicked
    }

    /// Titles of what the kernel complained about, in order.
    pub fn complaints(&self) -> &[String] {
        &self.complaints
    }

    /// From the first complaint on, with the middle left out if it is long; the last lines if there was no complaint.
    pub fn excerpt(&self) -> String {
        let last_start = self.count - self.last.len();
        let Some((start, first)) = &self.first else {
            let lines: Vec<&str> = self.last.iter().map(String::as_str).collect();
            return lines[lines.len().saturating_sub(QUIET_LINES)..].join("\n");
        };
        let next = start + first.len();
        let mut lines = first.clone();
        if last_start > next {
            lines.push(format!("[{} lines are left out here]", last_start - next));
        }
        lines.extend(self.last.iter().skip(next.saturating_sub(last_start)).cloned());
        lines.join("\n")
    }

    fn line(&mut self, line: String) {
        if let Some(title) = title(&line) {
            self.panicked |= title.starts_with(PANIC);
            if self.complaints.len() < MAX_COMPLAINTS {
                self.complaints.push(title.to_owned());
            }
            self.first.get_or_insert((self.count, Vec::new()));
        }
        if let Some((_, first)) = &mut self.first
            && first.len() < FIRST_LINES
        {
            first.push(line.clone());
        }
        if self.last.len() == LAST_LINES {
            self.last.pop_front();
        }
        self.last.push_back(line);
        self.count += 1;
    }
}

/// The kernel's text, if the line is the first line of a complaint.
pub fn title(line: &str) -> Option<&str> {
    let text = without_stamp(line);
    splat::begins_report(text).then_some(text)
}

/// `[    1.234567][  T12] text` without its time stamp, and caller if the kernel prints it.
pub fn without_stamp(line: &str) -> &str {
    splat::console_line(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OOPS: &str = "\
[    2.100000] EXT4-fs (loop0): mounted filesystem\r
[    3.141592] BUG: kernel NULL pointer dereference, address: 0000000000000008\r
[    3.141600] #PF: supervisor write access in kernel mode\r
[    3.141700] Oops: 0002 [#1] PREEMPT SMP NOPTI\r
[    3.141800] RIP: 0010:injector_test_write+0x1f/0x90\r
[    3.150000] Kernel panic - not syncing: Fatal exception\r
[    3.160000] Kernel Offset: 0x1e00000 from 0xffffffff81000000\r
";

    #[test]
    fn a_panic_is_seen_and_its_text_starts_at_the_first_complaint() {
        let mut console = Console::default();
        // in odd portions, as a pipe gives them
        for portion in OOPS.as_bytes().chunks(7) {
            console.feed(portion);
        }
        assert!(console.panicked());
        assert_eq!(
            console.complaints(),
            [
                "BUG: kernel NULL pointer dereference, address: 0000000000000008",
                "Oops: 0002 [#1] PREEMPT SMP NOPTI",
                "Kernel panic - not syncing: Fatal exception"
            ]
        );
        let excerpt = console.excerpt();
        assert!(excerpt.starts_with("[    3.141592] BUG: kernel NULL"), "{excerpt}");
        assert!(excerpt.ends_with("from 0xffffffff81000000"), "{excerpt}");
    }

    #[test]
    fn an_ordinary_boot_has_no_complaints() {
        let mut console = Console::default();
        console.feed(b"[    0.1] Linux version 6.12\n[    0.2] BUGS: none\n[    0.3] warning: foo\n");
        assert!(!console.panicked());
        assert!(console.complaints().is_empty());
        assert!(console.excerpt().contains("Linux version"));
    }

    #[test]
    fn callers_before_the_text_do_not_hide_it() {
        assert_eq!(
            title("[    5.0][  T123] WARNING: CPU: 0 PID: 1 at mm/slub.c:1"),
            Some("WARNING: CPU: 0 PID: 1 at mm/slub.c:1")
        );
        assert_eq!(title("say: BUG: no"), None);
    }

    #[test]
    fn a_long_log_keeps_both_ends() {
        let mut console = Console::default();
        for number in 0..1000 {
            console.feed(format!("before {number}\n").as_bytes());
        }
        console.feed(b"BUG: early\n");
        for number in 0..100 {
            console.feed(format!("line {number}\n").as_bytes());
        }
        let short = console.excerpt();
        let lines: Vec<&str> = short.lines().collect();
        assert_eq!((lines.len(), lines[0], lines[1], lines[100]), (101, "BUG: early", "line 0", "line 99"));
        for number in 100..2000 {
            console.feed(format!("line {number}\n").as_bytes());
        }
        let long = console.excerpt();
        let lines: Vec<&str> = long.lines().collect();
        assert_eq!(console.complaints(), ["BUG: early"]);
        assert_eq!((lines[0], lines[249]), ("BUG: early", "line 248"));
        // 249 lines follow the complaint at the beginning, 400 stand at the end.
        assert_eq!((lines[250], lines[251]), ("[1351 lines are left out here]", "line 1600"));
        assert_eq!((lines.len(), lines[650]), (651, "line 1999"));
    }

    #[test]
    fn what_never_ends_is_bounded() {
        let mut console = Console::default();
        console.feed(b"BUG: ");
        console.feed(&vec![b'x'; 1 << 20]);
        console.feed(b"\n");
        for _ in 0..5000 {
            console.feed(format!("BUG: {}\n", "y".repeat(5000)).as_bytes());
        }
        assert!(console.excerpt().len() <= (FIRST_LINES + LAST_LINES + 1) * (LINE_LENGTH + 1));
        assert_eq!(console.complaints().len(), MAX_COMPLAINTS);
    }

    #[test]
    fn kmemleak_complains_only_of_leaks() {
        assert_eq!(title("[    0.9] kmemleak: Kernel memory leak detector initialized (mem pool available: 15)"), None);
        assert_eq!(title("[   60.1] kmemleak: Automatic memory scanning thread started"), None);
        assert!(title("[  600.1] kmemleak: 3 new suspected memory leaks (see /sys/kernel/debug/kmemleak)").is_some());
    }
}
