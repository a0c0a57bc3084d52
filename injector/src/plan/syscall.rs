//! System calls by name.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};
use syscalls::Sysno;

use super::suggest;
use crate::arch::SYSCALL_PREFIX;
use crate::foreign::Foreign;

/// A system call of this architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Syscall(Sysno);

/// There is no such system call.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("there is no system call `{name}`{}", hint(.name))]
pub struct UnknownSyscall {
    name: Foreign,
}

fn hint(name: &str) -> String {
    match suggest::close(name, Sysno::iter().map(|sysno| sysno.name()), 3) {
        close if close.is_empty() => "; write its name as in `man 2 syscalls`: openat, mount".to_owned(),
        close => suggest::did_you_mean(&close),
    }
}

impl Syscall {
    /// Its name: `openat`.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.0.name()
    }

    /// Its number.
    #[must_use]
    pub fn number(self) -> u32 {
        self.0.id().unsigned_abs()
    }
}

impl FromStr for Syscall {
    type Err = UnknownSyscall;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let name = text.trim();
        // As kernel code and stacks have it.
        let bare = name.strip_prefix(SYSCALL_PREFIX).unwrap_or(name);
        let bare = bare.strip_prefix("sys_").unwrap_or(bare);
        bare.parse().map(Self).map_err(|_| UnknownSyscall { name: name.into() })
    }
}

impl fmt::Display for Syscall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for Syscall {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Result<Syscall, UnknownSyscall> {
        text.parse()
    }

    #[test]
    fn names() {
        for sysno in Sysno::iter() {
            let call = parse(sysno.name()).unwrap();
            assert_eq!((call.name(), call.to_string().as_str()), (sysno.name(), sysno.name()));
        }
        for text in [" openat ", "sys_openat", "__x64_sys_openat"] {
            assert_eq!(parse(text).unwrap().name(), "openat", "{text}");
        }
        assert_eq!(parse("openat").unwrap().number(), Sysno::openat.id() as u32);
    }

    #[test]
    fn refused() {
        let error = |text| parse(text).unwrap_err().to_string();
        assert_eq!(error("opnat"), "there is no system call `opnat`; did you mean openat, openat2, open?");
        assert_eq!(
            error("xyzzy"),
            "there is no system call `xyzzy`; write its name as in `man 2 syscalls`: openat, mount"
        );
        for text in ["", "257", "openat,mount", "openat()"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in "[a-z_]*|\\PC*") {
            let _ = parse(&text);
        }
    }
}
