//! Error numbers that a failed call can return.

use serde::{Serialize, Serializer};

/// An error number, from 1 to [`ErrorNumber::MAX`]; the call returns it negated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ErrorNumber(u16);

impl ErrorNumber {
    /// `MAX_ERRNO` (include/linux/err.h, 6.12).
    pub const MAX: u16 = 4095;
    /// Out of memory.
    pub const ENOMEM: Self = Self(12);

    /// The number.
    #[must_use]
    pub fn get(self) -> u16 {
        self.0
    }

    /// What the kernel function returns.
    #[must_use]
    pub fn result(self) -> i32 {
        -i32::from(self.0)
    }
}

impl Serialize for ErrorNumber {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u16(self.0)
    }
}
