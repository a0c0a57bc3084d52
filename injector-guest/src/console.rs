//! Reads the kernel's console: finds complaints and panics in it.

use std::collections::VecDeque;

/// How a line that reports trouble begins, after its time stamp. The first that is found is the title.
const COMPLAINTS: [&str; 16] = [
    "Kernel panic - not syncing",
    "BUG: ",
    "WARNING: ",
    "Oops",
    "general protection fault",
    "kernel BUG at ",
    "INFO: task ",
    "INFO: rcu",
    "rcu: INFO: ",
    "watchdog: BUG: ",
    "UBSAN: ",
    "kmemleak: ",
    "divide error",
    "invalid opcode",
    "unregister_netdevice: waiting",
    "VFS: Busy inodes after unmount",
];

const PANIC: &str = "Kernel panic - not syncing";

/// What of the console is kept for the text of a verdict.
const KEPT_LINES: usize = 400;

/// Follows a console line by line.
#[derive(Debug, Default)]
pub struct Console {
    partial: Vec<u8>,
    recent: VecDeque<String>,
    /// Index into `recent` of the first complaint, if it is still there.
    first_complaint: Option<usize>,
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
                _ => self.partial.push(byte),
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

    /// From the first complaint on, or the last lines if there was none.
    pub fn excerpt(&self) -> String {
        let start = self.first_complaint.unwrap_or(self.recent.len().saturating_sub(40));
        let lines: Vec<&str> = self.recent.iter().skip(start).map(String::as_str).collect();
        lines.join("\n")
    }

    fn line(&mut self, line: String) {
        if self.recent.len() == KEPT_LINES {
            self.recent.pop_front();
            self.first_complaint = self.first_complaint.and_then(|index| index.checked_sub(1));
        }
        if let Some(title) = title(&line) {
            self.panicked |= title.starts_with(PANIC);
            self.complaints.push(title.to_owned());
            self.first_complaint.get_or_insert(self.recent.len());
        }
        self.recent.push_back(line);
    }
}

/// The title of a complaint, if the line is the first line of one.
pub fn title(line: &str) -> Option<&str> {
    let text = without_stamp(line);
    COMPLAINTS.iter().any(|start| text.starts_with(start)).then_some(text)
}

/// `[    1.234567][  T12] text` without its time stamp, and caller if the kernel prints it.
pub fn without_stamp(line: &str) -> &str {
    let mut text = line.trim_start();
    while let Some((_, rest)) = text.strip_prefix('[').and_then(|inner| inner.split_once(']')) {
        text = rest.trim_start();
    }
    text
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
    fn a_long_log_keeps_its_end() {
        let mut console = Console::default();
        console.feed(b"BUG: early\n");
        for number in 0..1000 {
            console.feed(format!("line {number}\n").as_bytes());
        }
        assert_eq!(console.complaints(), ["BUG: early"]);
        assert!(console.excerpt().ends_with("line 999"));
    }
}
