//! The task that makes a call.

use serde::{Serialize, Serializer};

use super::Glob;

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
    pub const MAX_IDS: usize = 8;

    /// Whether every task matches.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.comms.is_empty() && self.uids.is_empty() && self.not_pids.is_empty()
    }
}

/// Tasks whose name (`comm`, 15 bytes) matches.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CommPattern {
    text: String,
    glob: Glob,
}

impl CommPattern {
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
}

impl Serialize for CommPattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}
