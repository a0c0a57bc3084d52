//! How a command ended that an engine ran, and how its guest ended.

use std::fmt;
use std::time::Duration;

use crate::console::without_stamp;

/// How a guest ended. Only [`GuestEnd::Exited`] says something about the command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GuestEnd {
    /// The command ended with this status, as a shell counts (128 + the signal's number).
    Exited(i32),
    /// The kernel panicked; the text is what the console said about it.
    Panic(String),
    /// The guest was gone without an exit status or a panic (a triple fault, or QEMU itself ended).
    Reset(String),
    /// The guest showed no sign of life for this long.
    Stall(Duration),
    /// The command was not done after this long.
    Timeout(Duration),
    /// The caller ended the guest (see `Streams::stop`).
    Stopped,
}

impl GuestEnd {
    /// The exit status that passes this on: the command's own; 120 to 123 where there is none; 130 as after Ctrl-C.
    pub fn exit_code(&self) -> i32 {
        match self {
            GuestEnd::Exited(status) => *status,
            GuestEnd::Panic(_) => 120,
            GuestEnd::Stall(_) => 121,
            GuestEnd::Timeout(_) => 122,
            GuestEnd::Reset(_) => 123,
            GuestEnd::Stopped => 130,
        }
    }

    /// The command ended, and with status 0.
    pub fn is_success(&self) -> bool {
        *self == GuestEnd::Exited(0)
    }
}

impl fmt::Display for GuestEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GuestEnd::Exited(status) => write!(f, "the command ended with status {status}"),
            GuestEnd::Panic(text) => write!(f, "the guest's kernel stopped: {}", headline(text)),
            GuestEnd::Reset(_) => write!(f, "the guest ended without a word: neither an exit status nor a panic"),
            GuestEnd::Stall(time) => write!(f, "the guest stalled: no sign of life for {} s", time.as_secs()),
            GuestEnd::Stopped => f.write_str("the guest was ended from outside"),
            GuestEnd::Timeout(time) => write!(f, "time-out: the command was not done after {} s", time.as_secs_f32()),
        }
    }
}

fn headline(text: &str) -> &str {
    let line = text.lines().find(|line| line.contains("Kernel panic")).or(text.lines().next()).unwrap_or("");
    without_stamp(line)
}

/// What is known of a command that an engine ran.
#[derive(Debug, Clone)]
pub struct GuestRun {
    /// How it ended.
    pub end: GuestEnd,
    /// The time from the engine's start to the command's.
    pub boot: Duration,
    /// The time from the command's start until its end was known.
    pub run: Duration,
    /// Titles of the kernel's complaints (BUG, WARNING, Oops…), in order.
    pub complaints: Vec<String>,
    /// The kernel's console, at most 326 KiB: from the first complaint on, without the middle if it is long; its last lines if
    /// there was no complaint.
    pub console: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_their_own() {
        assert_eq!(GuestEnd::Exited(3).exit_code(), 3);
        let codes = [
            GuestEnd::Panic(String::new()),
            GuestEnd::Stall(Duration::ZERO),
            GuestEnd::Timeout(Duration::ZERO),
            GuestEnd::Reset(String::new()),
        ]
        .map(|end| end.exit_code());
        assert_eq!(codes, [120, 121, 122, 123]);
    }

    #[test]
    fn a_panic_is_reported_in_one_line() {
        let end =
            GuestEnd::Panic("BUG: x\nRIP: y\n[    3.3] Kernel panic - not syncing: Fatal exception\nend".to_owned());
        assert_eq!(end.to_string(), "the guest's kernel stopped: Kernel panic - not syncing: Fatal exception");
    }
}
