//! How a run in a guest ended.

use std::fmt;
use std::time::Duration;

use crate::console::without_stamp;

/// How a run ended. Only the first says anything about the command itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The command ended with this status, as a shell counts (128 + the signal's number).
    Exited(i32),
    /// The kernel panicked; the text is what the console said about it.
    Panic(String),
    /// The machine stopped without a word (a triple fault, or QEMU itself ended).
    Reset(String),
    /// The guest showed no sign of life for this long.
    Stall(Duration),
    /// The command was not done after this long.
    Timeout(Duration),
    /// This side ended the guest (see `Streams::stop`).
    Stopped,
}

impl Verdict {
    /// Exit status of a process that passes this on: the command's own, or for what has none 120..=123, and 130 as after Ctrl-C.
    pub fn exit_code(&self) -> i32 {
        match self {
            Verdict::Exited(status) => *status,
            Verdict::Panic(_) => 120,
            Verdict::Stall(_) => 121,
            Verdict::Timeout(_) => 122,
            Verdict::Reset(_) => 123,
            Verdict::Stopped => 130,
        }
    }

    /// The command ended, and with status 0.
    pub fn is_success(&self) -> bool {
        *self == Verdict::Exited(0)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Exited(status) => write!(f, "the command ended with status {status}"),
            Verdict::Panic(text) => write!(f, "the guest's kernel stopped: {}", headline(text)),
            Verdict::Reset(_) => write!(f, "the guest ended without a word: neither an exit status nor a panic"),
            Verdict::Stall(time) => write!(f, "the guest stalled: no sign of life for {} s", time.as_secs()),
            Verdict::Stopped => f.write_str("the guest was ended from outside"),
            Verdict::Timeout(time) => write!(f, "time-out: the command was not done after {} s", time.as_secs_f32()),
        }
    }
}

fn headline(text: &str) -> &str {
    let line = text.lines().find(|line| line.contains("Kernel panic")).or(text.lines().next()).unwrap_or("");
    without_stamp(line)
}

/// All that is known after a run.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// How it ended.
    pub verdict: Verdict,
    /// From the start of QEMU until the command started.
    pub boot: Duration,
    /// From the start of the command until its end was known.
    pub run: Duration,
    /// Titles of what the kernel complained about (BUG, WARNING, Oops…), in order.
    pub complaints: Vec<String>,
    /// The kernel's console, at most 326 KiB: from the first complaint on, the middle left out where it is long;
    /// its last lines if there was no complaint.
    pub console: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_their_own() {
        assert_eq!(Verdict::Exited(3).exit_code(), 3);
        let codes = [
            Verdict::Panic(String::new()),
            Verdict::Stall(Duration::ZERO),
            Verdict::Timeout(Duration::ZERO),
            Verdict::Reset(String::new()),
        ]
        .map(|verdict| verdict.exit_code());
        assert_eq!(codes, [120, 121, 122, 123]);
    }

    #[test]
    fn a_panic_is_said_in_one_line() {
        let verdict =
            Verdict::Panic("BUG: x\nRIP: y\n[    3.3] Kernel panic - not syncing: Fatal exception\nend".to_owned());
        assert_eq!(verdict.to_string(), "the guest's kernel stopped: Kernel panic - not syncing: Fatal exception");
    }
}
