//! What host and guest say to each other: the file with the command, and lines of JSON on the control port.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Where the guest finds its [`Command`].
pub const COMMAND_FILE: &str = "/injector-command.json";
/// Where the host's directory is mounted in the guest.
pub const SHARE_DIR: &str = "/share";
/// The mount tag of the host's directory.
pub const SHARE_TAG: &str = "injector-share";
/// Name of the virtio port that carries the command's standard output.
pub const STDOUT_PORT: &str = "injector.stdout";
/// Name of the virtio port that carries the command's standard error.
pub const STDERR_PORT: &str = "injector.stderr";
/// Name of the virtio port that carries [`Message`]s to the host and [`Request`]s to the guest.
pub const CONTROL_PORT: &str = "injector.control";
/// Name of the virtio port that the command itself may use: bytes to the host, and from it, after each flush of
/// `Streams::data`, a line with the number of bytes that it has had.
pub const DATA_PORT: &str = "injector.data";

/// Environment variable that names the socket for data, where a command runs on this machine and has no virtio ports.
pub const DATA_SOCKET: &str = "INJECTOR_DATA_SOCKET";
/// Environment variable that names the file with the [`Command`], where another program is the guest's PID 1.
pub const AGENT_COMMAND: &str = "INJECTOR_AGENT_COMMAND";

/// Environment variable of a command whose guest has virtual time ([`crate::Clock::Virtual`]): while no processor has anything
/// to do, its clock runs ahead of the host's. Who waits for the host keeps a processor busy, or what is timed meanwhile is over.
pub const VIRTUAL_TIME: &str = "INJECTOR_VIRTUAL_TIME";

/// The signal that says that the sweep's budget is used up. A command in virtual time starts with it ignored.
pub const BUDGET_SIGNAL: i32 = libc::SIGUSR1;

/// A command to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// The program, found by PATH, and its arguments.
    pub argv: Vec<String>,
    /// Added to the environment that the engine gives it.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Where it starts; `/root` in a guest with a root of its own, else the caller's directory.
    #[serde(default)]
    pub directory: Option<String>,
    /// Whether the host gave a directory to mount.
    #[serde(default)]
    pub share: bool,
}

impl Command {
    /// A command with the guest's own environment.
    pub fn new<S: Into<String>>(argv: impl IntoIterator<Item = S>) -> Self {
        Self { argv: argv.into_iter().map(Into::into).collect(), env: BTreeMap::new(), directory: None, share: false }
    }

    /// Sets a variable of the command's environment.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.insert(name.to_owned(), value.to_owned());
        self
    }
}

/// Guest to host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Message {
    /// The guest is set up, the command starts now.
    Ready {
        /// Milliseconds since the kernel started.
        uptime_ms: u64,
    },
    /// Once a second.
    Heartbeat {
        /// Counts up.
        beat: u64,
    },
    /// The command ended.
    Exit {
        /// As a shell counts: the exit status, or 128 + the signal's number; 127 when it could not be started.
        status: i32,
    },
}

/// Host to guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Request {
    /// Send a signal to the command and what it started (its process group), as a terminal does.
    Signal {
        /// Its number.
        number: i32,
    },
    /// In virtual time: tell the command, and nothing that it started, that its time is over: [`BUDGET_SIGNAL`].
    BudgetSpent,
}

/// One message as a line, newline included.
pub fn encode<T: Serialize>(message: &T) -> Vec<u8> {
    // These types hold numbers only: serializing them cannot fail.
    let mut line = serde_json::to_vec(message).unwrap_or_default();
    line.push(b'\n');
    line
}

/// Reads a line; `None` for what is no message (a channel of a broken kernel may carry anything).
pub fn decode<'a, T: Deserialize<'a>>(line: &'a [u8]) -> Option<T> {
    serde_json::from_slice(line.trim_ascii()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_round_trip_as_lines() {
        for message in
            [Message::Ready { uptime_ms: 1200 }, Message::Heartbeat { beat: 3 }, Message::Exit { status: 137 }]
        {
            let line = encode(&message);
            assert_eq!(line.iter().filter(|&&byte| byte == b'\n').count(), 1);
            assert_eq!(decode::<Message>(&line), Some(message));
        }
        assert_eq!(encode(&Message::Exit { status: 0 }), b"{\"type\":\"exit\",\"status\":0}\n");
    }

    #[test]
    fn rubbish_is_no_message() {
        assert_eq!(decode::<Message>(b"\0\0{\"type\":\"exit\""), None);
        assert_eq!(decode::<Message>(b"{\"type\":\"later\"}"), None);
        assert_eq!(decode::<Message>(b""), None);
    }

    #[test]
    fn a_command_file_needs_only_argv() {
        let command: Command = serde_json::from_str(r#"{"argv":["true"]}"#).unwrap();
        assert_eq!(command, Command::new(["true"]));
    }
}
