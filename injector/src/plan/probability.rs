//! How likely a match is failed.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use crate::foreign::Foreign;

/// A probability in `0..=1`: `0.01`, `1%` or `1/1000`.
///
/// 0 is never, 1 is always; the smallest other one is 2^-32, because the kernel side compares 32 random bits.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Probability(f64);

/// Why a text is no probability.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ProbabilityError {
    /// Not a number in any of the three notations.
    #[error("`{0}` is not a probability; write a number from 0 to 1 (0.01), a percentage (1%) or a fraction (1/1000)")]
    NotANumber(Foreign),
    /// Below 0 or above 1.
    #[error("probability `{0}` is out of range; it goes from 0 (never) to 1 (always), or 0% to 100%")]
    OutOfRange(Foreign),
    /// Would be rounded to never.
    #[error("probability `{0}` is too small; the smallest one above 0 is 1/4294967296")]
    TooSmall(Foreign),
}

/// Always.
impl Default for Probability {
    fn default() -> Self {
        Self::ALWAYS
    }
}

impl Probability {
    /// Never.
    pub const NEVER: Self = Self(0.0);
    /// Always.
    pub const ALWAYS: Self = Self(1.0);
    const STEPS: f64 = (1u64 << 32) as f64;

    /// The probability `p`.
    ///
    /// # Errors
    /// `p` is not in `0..=1`, not a number, or not 0 and smaller than 2^-32.
    pub fn new(p: f64) -> Result<Self, ProbabilityError> {
        Self::checked(p, &p.to_string())
    }

    fn checked(p: f64, text: &str) -> Result<Self, ProbabilityError> {
        if p.is_nan() {
            return Err(ProbabilityError::NotANumber(text.into()));
        }
        if !(0.0..=1.0).contains(&p) {
            return Err(ProbabilityError::OutOfRange(text.into()));
        }
        if p > 0.0 && p * Self::STEPS < 1.0 {
            return Err(ProbabilityError::TooSmall(text.into()));
        }
        // `-0` is in range and would print as such.
        Ok(Self(p.abs()))
    }

    /// The number.
    #[must_use]
    pub fn get(self) -> f64 {
        self.0
    }

    /// What 32 random bits must be below: 0 is never, `1 << 32` is always.
    #[must_use]
    pub fn threshold(self) -> u64 {
        (self.0 * Self::STEPS).round() as u64
    }
}

impl FromStr for Probability {
    type Err = ProbabilityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let trimmed = text.trim();
        let no_number = || ProbabilityError::NotANumber(text.into());
        let p = if let Some(percent) = trimmed.strip_suffix('%') {
            number(percent).ok_or_else(no_number)? / 100.0
        } else if let Some((part, whole)) = trimmed.split_once('/') {
            let part: u64 = part.trim().parse().map_err(|_| no_number())?;
            let whole: u64 = whole.trim().parse().map_err(|_| no_number())?;
            if whole == 0 {
                return Err(no_number());
            }
            part as f64 / whole as f64
        } else {
            number(trimmed).ok_or_else(no_number)?
        };
        Self::checked(p, text)
    }
}

/// A decimal number; unlike `f64::from_str` neither `nan` nor `inf`.
fn number(text: &str) -> Option<f64> {
    let text = text.trim();
    if !text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'-' | b'+')) {
        return None;
    }
    text.parse().ok()
}

impl fmt::Display for Probability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Probability {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Result<Probability, ProbabilityError> {
        text.parse()
    }

    #[test]
    fn notations() {
        assert_eq!(parse("0.01").unwrap(), parse("1%").unwrap());
        assert_eq!(parse("1/1000").unwrap(), parse("1e-3").unwrap());
        assert_eq!(parse("100%").unwrap(), Probability::ALWAYS);
        assert_eq!(parse("-0").unwrap().to_string(), "0");
    }

    #[test]
    fn ends_of_the_range() {
        assert_eq!(parse("0").unwrap().threshold(), 0);
        assert_eq!(parse("1").unwrap().threshold(), 1 << 32);
        assert_eq!(parse("1/4294967296").unwrap().threshold(), 1);
        assert_eq!(parse("1/1000000").unwrap().threshold(), 4295);
        // The largest number below 1 rounds to always: one in 2^53 is below the resolution.
        assert_eq!(parse("0.9999999999").unwrap().threshold(), 1 << 32);
    }

    #[test]
    fn refused() {
        for text in ["", "nan", "NaN", "inf", "-inf", "1/0", "x", "%", "1/2/3", "0x1", "1 %5", "1,5", "infinity%"] {
            assert!(matches!(parse(text), Err(ProbabilityError::NotANumber(_))), "{text}");
        }
        for text in ["-0.1", "1.1", "101%", "2/1", "1e400"] {
            assert!(matches!(parse(text), Err(ProbabilityError::OutOfRange(_))), "{text}");
        }
        assert!(matches!(parse("1e-10"), Err(ProbabilityError::TooSmall(_))));
    }

    proptest! {
        #[test]
        fn round_trip(p in 1e-9f64..=1.0) {
            let p = Probability::new(p).unwrap();
            prop_assert_eq!(parse(&p.to_string()).unwrap(), p);
            prop_assert!((1..=1u64 << 32).contains(&p.threshold()));
        }

        #[test]
        fn never_panics(text in "\\PC*") {
            let _ = parse(&text);
        }
    }
}
