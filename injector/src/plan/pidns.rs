//! A PID namespace, as people name it.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use crate::foreign::Foreign;

/// Which PID namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PidNamespaceName {
    /// That of this process.
    Of(u32),
    /// That of this file: `/proc/1234/ns/pid`, or what is bound there.
    File(PathBuf),
}

/// A text that names no PID namespace.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "`{0}` is neither a process id nor a path; write the number of a process in the namespace, or the namespace's file: /proc/1234/ns/pid"
)]
pub struct NoPidNamespace(Foreign);

impl FromStr for PidNamespaceName {
    type Err = NoPidNamespace;

    fn from_str(text: &str) -> Result<Self, NoPidNamespace> {
        match text.parse() {
            Ok(0) => Err(NoPidNamespace(text.into())),
            // `+7` is a number for Rust.
            Ok(pid) if text.bytes().all(|byte| byte.is_ascii_digit()) => Ok(Self::Of(pid)),
            _ if text.contains('/') => Ok(Self::File(text.into())),
            _ => Err(NoPidNamespace(text.into())),
        }
    }
}

impl fmt::Display for PidNamespaceName {
    /// As it is written.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Of(pid) => write!(f, "{pid}"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

impl Serialize for PidNamespaceName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_and_files() {
        assert_eq!("1234".parse(), Ok(PidNamespaceName::Of(1234)));
        assert_eq!("/proc/1/ns/pid".parse(), Ok(PidNamespaceName::File("/proc/1/ns/pid".into())));
        assert_eq!("./ns".parse(), Ok(PidNamespaceName::File("./ns".into())));
        for bad in ["", "0", "-1", "+7", "nginx", "4294967296"] {
            let error = bad.parse::<PidNamespaceName>().unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("`{bad}` is neither a process id nor a path; write the number")),
                "{error}"
            );
        }
    }
}
