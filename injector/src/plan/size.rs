//! Which sizes match.

use serde::{Serialize, Serializer};

/// A range of allocation sizes in bytes, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SizeRange {
    min: u64,
    max: u64,
}

impl SizeRange {
    /// Every size.
    pub const ALL: Self = Self { min: 0, max: u64::MAX };

    /// Smallest and largest size, both included.
    #[must_use]
    pub fn bounds(self) -> (u64, u64) {
        (self.min, self.max)
    }

    /// Whether every size matches.
    #[must_use]
    pub fn is_all(self) -> bool {
        self == Self::ALL
    }
}

impl Default for SizeRange {
    fn default() -> Self {
        Self::ALL
    }
}

impl Serialize for SizeRange {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (min, max) = self.bounds();
        serializer.collect_str(&format_args!("{min}..={max}"))
    }
}
