//! The task that makes a call.

use std::fmt;
use std::str::FromStr;

use injector_common::config;
use serde::{Serialize, Serializer};

use super::Glob;
use super::number::{self, NotANumber};
use crate::foreign::Foreign;

/// Conditions on the task. In an interrupt it is a bystander, so each of them implies task context.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TaskFilter {
    /// Its name: any of these; empty: no such condition.
    pub comms: Vec<CommPattern>,
    /// Its real user id: any of these, at most [`TaskFilter::MAX_IDS`]; empty: no such condition.
    pub uids: Vec<u32>,
    /// Its process: none of these, at most [`TaskFilter::MAX_IDS`].
    pub not_pids: Vec<u32>,
}

impl TaskFilter {
    /// How many user ids, and how many processes, can be named.
    pub const MAX_IDS: usize = config::MAX_IDS;

    /// Whether every task matches.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.comms.is_empty() && self.uids.is_empty() && self.not_pids.is_empty()
    }
}

/// Reads a user's id.
///
/// # Errors
/// It isn't one.
pub fn parse_uid(text: &str) -> Result<u32, NotANumber> {
    number::parse(text, "a user id; write a number, as `id -u NAME` prints it")
}

/// Reads a process's id.
///
/// # Errors
/// It isn't one.
pub fn parse_pid(text: &str) -> Result<u32, NotANumber> {
    number::parse(text, "a process id; write the number of a running process")
}

/// Tasks whose name (`comm`, at most 15 bytes) matches: `mount`, `kworker/*`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CommPattern {
    text: String,
    glob: Glob,
}

/// Why a text names no tasks.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum CommError {
    /// Nothing there.
    #[error("the name of a task is empty; write one (mount) or a glob (kworker/*), as in /proc/PID/comm")]
    Empty,
    /// No task's name has a zero byte in it.
    #[error("a task's name has no zero byte in it; write one (mount) or a glob (kworker/*), as in /proc/PID/comm")]
    Zero,
    /// A `[` without its `]`, or with nothing inside.
    #[error("the name of a task `{0}` has an unfinished [ ]; it lists ASCII characters: kworker/[0-3]:*")]
    Bracket(Foreign),
    /// Longer than any task's name.
    #[error(
        "the name of a task `{text}` can never match: it needs {length} bytes, and the kernel cuts names off after {max}; write {}*",
        cut(.text), max = CommPattern::MAX
    )]
    TooLong {
        /// What was given.
        text: Foreign,
        /// How many bytes a name must have to match.
        length: usize,
    },
}

/// As many whole characters of it as a name can have.
fn cut(text: &str) -> &str {
    let end = (0..=CommPattern::MAX.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    // What is left of a class would be no glob.
    text[..end.unwrap_or(0)].split(['*', '[']).next().unwrap_or_default()
}

impl CommPattern {
    /// How long a task's name can be: `TASK_COMM_LEN` less the zero at its end.
    pub const MAX: usize = 15;

    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The same as a glob.
    #[must_use]
    pub fn glob(&self) -> &Glob {
        &self.glob
    }

    /// Whether a task of this name is meant.
    #[must_use]
    pub fn matches(&self, comm: &[u8]) -> bool {
        self.glob.matches_bytes(comm)
    }
}

impl FromStr for CommPattern {
    type Err = CommError;

    // Names may begin and end with blanks.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() {
            return Err(CommError::Empty);
        }
        if text.contains('\0') {
            return Err(CommError::Zero);
        }
        let glob = Glob::new(text).ok_or_else(|| CommError::Bracket(text.into()))?;
        let length = glob.min_len();
        if length > Self::MAX {
            return Err(CommError::TooLong { text: text.into(), length });
        }
        Ok(Self { text: text.to_owned(), glob })
    }
}

impl fmt::Display for CommPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for CommPattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Result<CommPattern, CommError> {
        text.parse()
    }

    #[test]
    fn names_and_globs() {
        for (pattern, yes, no) in [
            ("mount", "mount", "umount"),
            ("kworker/*", "kworker/0:1-eve", "kthreadd"),
            ("Web Content", "Web Content", "Web"),
            ("tmux: *", "tmux: server", "tmux"),
            ("näme", "näme", "name"),
            ("a-very-long-name*", "", "a-very-long-nam"),
        ] {
            let Ok(pattern) = parse(pattern) else {
                assert!(yes.is_empty(), "{pattern}");
                continue;
            };
            assert!(pattern.matches(yes.as_bytes()) && !pattern.matches(no.as_bytes()), "{pattern}");
        }
        assert!(parse("*").unwrap().matches(b"\xff\xfe"));
        assert!(parse("?[!a]").unwrap().matches(b"\xff\xfe"));
    }

    #[test]
    fn refused() {
        assert_eq!(parse(""), Err(CommError::Empty));
        assert_eq!(parse("a\0"), Err(CommError::Zero));
        for text in ["[", "[]", "[ä]"] {
            assert!(matches!(parse(text), Err(CommError::Bracket(_))), "{text}");
        }
        assert!(parse("exactly-15-byte").is_ok());
        assert_eq!(
            parse("systemd-journald").unwrap_err().to_string(),
            "the name of a task `systemd-journald` can never match: it needs 16 bytes, and the kernel cuts names off after 15; write systemd-journal*"
        );
        assert!(parse("*[ab]??????????????").is_ok());
        assert!(parse("*[ab]???????????????").is_err());
    }

    proptest! {
        #[test]
        fn round_trip(text in "[a-z */:?-]{1,15}|\\PC{1,3}") {
            if let Ok(pattern) = parse(&text) {
                prop_assert_eq!(parse(&pattern.to_string()), Ok(pattern));
            }
        }

        #[test]
        fn a_name_matches_itself(name in "[a-z /:-]{1,15}|[äöü]{1,7}") {
            prop_assert!(parse(&name).unwrap().matches(name.as_bytes()));
        }

        #[test]
        fn never_panics(text in "[a-zä\\[\\]*?!^-]{0,40}|\\PC*", name: Vec<u8>) {
            match parse(&text) {
                Ok(pattern) => { let _ = pattern.matches(&name); }
                Err(error) => { let _ = error.to_string(); }
            }
        }
    }
}
