//! System calls by name.

use serde::{Serialize, Serializer};
use syscalls::Sysno;

/// A system call of this architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Syscall(Sysno);

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

impl Serialize for Syscall {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}
