//! A container, as people name it.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use crate::foreign::Foreign;

/// The id of a container, the beginning of one, or the name of a container whose cgroup has that name (LXC, systemd-nspawn).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ContainerName(String);

/// Why a text names no container.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ContainerError {
    /// Nothing there.
    #[error("the container is empty; write its id, or {LEAST} digits of it at least: 3f2a9c")]
    Empty,
    /// It could be many.
    #[error("`{0}` is too short for a container's id; write {LEAST} digits of it at least")]
    TooShort(Foreign),
    /// Neither an id nor a name.
    #[error("`{0}` is neither a container's id nor a name; the directory of a cgroup goes with --cgroup")]
    NoName(Foreign),
}

/// So many digits of an id must be given.
const LEAST: usize = 4;
/// Names are shorter: an id has 64 digits.
const MOST: usize = 128;

impl ContainerName {
    /// As it was given, without the runtime that Kubernetes writes before it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// It may be the beginning of an id.
    #[must_use]
    pub fn is_hexadecimal(&self) -> bool {
        is_hexadecimal(&self.0)
    }
}

fn is_hexadecimal(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

impl FromStr for ContainerName {
    type Err = ContainerError;

    fn from_str(text: &str) -> Result<Self, ContainerError> {
        // `kubectl get pod -o jsonpath='{..containerID}'` writes containerd://3f2a…
        let name = text.split_once("://").map_or(text, |(_, id)| id);
        if name.is_empty() {
            return Err(ContainerError::Empty);
        }
        let is_of_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
        if name.len() > MOST || !name.bytes().all(is_of_name) {
            return Err(ContainerError::NoName(text.into()));
        }
        if name.len() < LEAST && is_hexadecimal(name) {
            return Err(ContainerError::TooShort(text.into()));
        }
        Ok(Self(name.to_owned()))
    }
}

impl fmt::Display for ContainerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for ContainerName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_names() {
        let parsed = |text: &str| text.parse::<ContainerName>().map(|name| (name.0.clone(), name.is_hexadecimal()));
        assert_eq!(parsed("3f2a"), Ok(("3f2a".to_owned(), true)));
        assert_eq!(parsed("containerd://3f2a9c"), Ok(("3f2a9c".to_owned(), true)));
        assert_eq!(parsed("my-machine"), Ok(("my-machine".to_owned(), false)));
        assert_eq!(parsed("web"), Ok(("web".to_owned(), false)));
        let error = |text: &str| text.parse::<ContainerName>().unwrap_err().to_string();
        assert_eq!(error("3f2"), "`3f2` is too short for a container's id; write 4 digits of it at least");
        assert!(error("").starts_with("the container is empty; write its id"));
        assert!(error("docker://").starts_with("the container is empty"));
        for bad in ["/sys/fs/cgroup/x", "a b", "ä", &"x".repeat(129), "a\nb"] {
            assert!(error(bad).ends_with("goes with --cgroup"), "{bad:?}");
        }
    }
}
