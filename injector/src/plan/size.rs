//! Which sizes match.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use crate::foreign::Foreign;

/// A range of allocation sizes in bytes, both ends included: `64`, `64..=256`, `1K..8K`, `4096..`, `..128`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SizeRange {
    min: u64,
    max: u64,
}

/// Why there is no such size, or range of sizes.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SizeError {
    /// Neither a size nor a range.
    #[error("`{0}` is not a range of sizes; write bytes (64), 64..=256 (256 included), 1K..8K (8K left out) or 4K..")]
    NotARange(Foreign),
    /// Not a size.
    #[error("`{0}` is not a size; write a number of bytes, or with a unit of 1024: 64, 4K, 1M")]
    NotASize(Foreign),
    /// Nothing is in it.
    #[error("size range `{0}` is empty: no allocation can match it")]
    Empty(Foreign),
}

impl SizeRange {
    /// Every size.
    pub const ALL: Self = Self { min: 0, max: u64::MAX };

    /// Sizes from `min` to `max`, both included.
    ///
    /// # Errors
    /// The range is empty.
    pub fn new(min: u64, max: u64) -> Result<Self, SizeError> {
        if min > max {
            return Err(SizeError::Empty(format!("{min}..={max}").into()));
        }
        Ok(Self { min, max })
    }

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

/// Reads a number of bytes: `64`, `4K`, `4KiB`, `1M`, `1G`; units are of 1024.
///
/// # Errors
/// It isn't one, or more than 64 bits hold.
pub fn parse_bytes(text: &str) -> Result<u64, SizeError> {
    bytes(text).ok_or_else(|| SizeError::NotASize(text.into()))
}

fn bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let shift = match unit.to_ascii_uppercase().as_str() {
        "" | "B" => 0,
        "K" | "KIB" => 10,
        "M" | "MIB" => 20,
        "G" | "GIB" => 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}

impl Default for SizeRange {
    fn default() -> Self {
        Self::ALL
    }
}

impl FromStr for SizeRange {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let size = |part: &str| bytes(part).ok_or_else(|| SizeError::NotARange(text.into()));
        let (min, max) = if let Some((min, max)) = text.split_once("..=") {
            (min, Some(size(max)?))
        } else if let Some((min, end)) = text.split_once("..") {
            let max = match end.trim() {
                "" => Some(u64::MAX),
                // Nothing is below 0.
                end => size(end)?.checked_sub(1),
            };
            (min, max)
        } else {
            let size = size(text)?;
            return Self::new(size, size);
        };
        let min = if min.trim().is_empty() { 0 } else { size(min)? };
        let max = max.filter(|max| min <= *max).ok_or_else(|| SizeError::Empty(text.trim().into()))?;
        Self::new(min, max)
    }
}

impl fmt::Display for SizeRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.bounds() {
            (min, max) if min == max => write!(f, "{min}"),
            (min, u64::MAX) => write!(f, "{min}.."),
            (min, max) => write!(f, "{min}..={max}"),
        }
    }
}

impl Serialize for SizeRange {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Result<SizeRange, SizeError> {
        text.parse()
    }

    #[test]
    fn notations() {
        for (text, bounds) in [
            ("64", (64, 64)),
            ("64..=256", (64, 256)),
            ("1K..8K", (1024, 8191)),
            ("4096..", (4096, u64::MAX)),
            ("..128", (0, 127)),
            ("..=128", (0, 128)),
            (" 1KiB .. 1MiB ", (1024, (1 << 20) - 1)),
            ("4k", (4096, 4096)),
            ("1g..", (1 << 30, u64::MAX)),
            ("8b", (8, 8)),
            ("0", (0, 0)),
        ] {
            assert_eq!(parse(text).map(SizeRange::bounds), Ok(bounds), "{text}");
        }
        assert!(parse("..").unwrap().is_all());
        assert_eq!(parse_bytes("64M"), Ok(64 << 20));
    }

    #[test]
    fn refused() {
        for text in ["", "x", "-1", "64-256", "1..x", "1.5K", "1KB", "1T", "K", "+1", "1..=2..=3", "99999999999G"] {
            assert!(matches!(parse(text), Err(SizeError::NotARange(_))), "{text}: {:?}", parse(text));
            assert!(matches!(parse_bytes(text), Err(SizeError::NotASize(_))), "{text}");
        }
        for text in ["3..3", "4K..=3K", "..0"] {
            assert!(matches!(parse(text), Err(SizeError::Empty(_))), "{text}: {:?}", parse(text));
        }
    }

    proptest! {
        #[test]
        fn round_trip(a: u64, b: u64) {
            let range = SizeRange::new(a.min(b), a.max(b)).unwrap();
            prop_assert_eq!(parse(&range.to_string()), Ok(range));
            prop_assert_eq!(parse_bytes(&a.to_string()), Ok(a));
        }

        #[test]
        fn never_panics(text in "[0-9.=KMGiB ]*|\\PC*") {
            let _ = parse(&text);
            let _ = parse_bytes(&text);
        }
    }
}
