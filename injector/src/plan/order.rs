//! Which allocation orders match.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use crate::foreign::Foreign;

/// A range of allocation orders (an allocation of order n is 2^n pages): `3`, `0..=3`, `0..4`, `2..`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrderRange {
    min: u32,
    max: u32,
}

/// Why there is no such range.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum OrderError {
    /// Neither a number nor a range.
    #[error("`{0}` is not an order range; write one order (3), 0..=3 (3 included) or 0..4 (4 left out)")]
    NotARange(Foreign),
    /// Not a number.
    #[error("`{0}` is not an order; write a number from 0 to 63 (an allocation of order n is 2^n pages)")]
    NotAnOrder(Foreign),
    /// Larger than any kernel's.
    #[error("order {0} is out of range; orders go from 0 to 63")]
    TooLarge(u64),
    /// Nothing is in it.
    #[error("order range `{0}` is empty: no allocation can match it")]
    Empty(Foreign),
    /// Each range is fine, but they have nothing in common.
    #[error("order ranges {0} and {1} do not overlap: no allocation can match both")]
    Disjoint(OrderRange, OrderRange),
}

impl OrderRange {
    /// The largest order there is: the kernel's own limit (10) moves with configuration, this one is far beyond.
    pub const MAX: u32 = 63;
    /// Every order.
    pub const ALL: Self = Self { min: 0, max: Self::MAX };

    /// Orders from `min` to `max`, both included.
    ///
    /// # Errors
    /// The range is empty, or ends above [`OrderRange::MAX`].
    pub fn new(min: u32, max: u32) -> Result<Self, OrderError> {
        if max > Self::MAX {
            return Err(OrderError::TooLarge(max.into()));
        }
        if min > max {
            return Err(OrderError::Empty(format!("{min}..={max}").into()));
        }
        Ok(Self { min, max })
    }

    /// Orders less than `n`.
    ///
    /// # Errors
    /// `n` is 0, or above [`OrderRange::MAX`].
    pub fn less_than(n: u32) -> Result<Self, OrderError> {
        match n {
            0 => Err(OrderError::Empty("less than 0".into())),
            n if n > Self::MAX => Err(OrderError::TooLarge(n.into())),
            n => Self::new(0, n - 1),
        }
    }

    /// Orders greater than `n`.
    ///
    /// # Errors
    /// `n` is [`OrderRange::MAX`] or more.
    pub fn greater_than(n: u32) -> Result<Self, OrderError> {
        match n {
            Self::MAX => Err(OrderError::Empty(format!("greater than {n}").into())),
            n if n > Self::MAX => Err(OrderError::TooLarge(n.into())),
            n => Self::new(n + 1, Self::MAX),
        }
    }

    /// Reads the number of [`OrderRange::less_than`].
    ///
    /// # Errors
    /// As there, or it is not a number.
    pub fn parse_less_than(text: &str) -> Result<Self, OrderError> {
        Self::less_than(number(text).ok_or_else(|| OrderError::NotAnOrder(text.into()))??)
    }

    /// Reads the number of [`OrderRange::greater_than`].
    ///
    /// # Errors
    /// As there, or it is not a number.
    pub fn parse_greater_than(text: &str) -> Result<Self, OrderError> {
        Self::greater_than(number(text).ok_or_else(|| OrderError::NotAnOrder(text.into()))??)
    }

    /// What lies in both.
    ///
    /// # Errors
    /// Nothing does.
    pub fn intersection(self, other: Self) -> Result<Self, OrderError> {
        let (min, max) = (self.min.max(other.min), self.max.min(other.max));
        if min > max {
            return Err(OrderError::Disjoint(self, other));
        }
        Ok(Self { min, max })
    }

    /// Smallest and largest order, both included.
    #[must_use]
    pub fn bounds(self) -> (u32, u32) {
        (self.min, self.max)
    }

    /// Whether every order matches.
    #[must_use]
    pub fn is_all(self) -> bool {
        self == Self::ALL
    }
}

/// A number up to one more than the largest order, which is a fine end of a half-open range; `None`: not a number.
fn number(text: &str) -> Option<Result<u32, OrderError>> {
    let text = text.trim();
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let n: u64 = text.parse().unwrap_or(u64::MAX);
    Some(u32::try_from(n).ok().filter(|n| *n <= OrderRange::MAX + 1).ok_or(OrderError::TooLarge(n)))
}

impl Default for OrderRange {
    fn default() -> Self {
        Self::ALL
    }
}

impl FromStr for OrderRange {
    type Err = OrderError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let order = |part: &str| number(part).ok_or_else(|| OrderError::NotARange(text.into()))?;
        let empty = || OrderError::Empty(text.trim().into());
        let (min, end) = if let Some((a, b)) = text.split_once("..=") {
            (a, order(b)?.checked_add(1))
        } else if let Some((a, b)) = text.split_once("..") {
            (a, if b.trim().is_empty() { Some(Self::MAX + 1) } else { Some(order(b)?) })
        } else {
            let n = order(text)?;
            return Self::new(n, n);
        };
        let min = if min.trim().is_empty() { 0 } else { order(min)? };
        let end = end.filter(|end| *end <= Self::MAX + 1).ok_or(OrderError::TooLarge(u64::from(Self::MAX) + 1))?;
        if min >= end {
            return Err(empty());
        }
        Self::new(min, end - 1)
    }
}

impl fmt::Display for OrderRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.min, self.max) {
            (min, max) if min == max => write!(f, "{min}"),
            (min, Self::MAX) => write!(f, "{min}.."),
            (min, max) => write!(f, "{min}..={max}"),
        }
    }
}

impl Serialize for OrderRange {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Result<OrderRange, OrderError> {
        text.parse()
    }

    #[test]
    fn notations() {
        assert_eq!(parse("3").unwrap().bounds(), (3, 3));
        assert_eq!(parse("0..=3"), parse("0..4"));
        assert_eq!(parse("0..4").unwrap(), OrderRange::less_than(4).unwrap());
        assert_eq!(parse("4..").unwrap(), OrderRange::greater_than(3).unwrap());
        assert_eq!(parse("..2").unwrap().bounds(), (0, 1));
        assert_eq!(parse("..=2").unwrap().bounds(), (0, 2));
        assert!(parse("..").unwrap().is_all());
        assert!(parse("0..=63").unwrap().is_all());
        assert!(parse("0..64").unwrap().is_all());
    }

    #[test]
    fn refused() {
        for text in ["", "x", "-1", "1-3", "1..x", "3.5", "1...4", "+3", "1..=2..=3"] {
            assert!(matches!(parse(text), Err(OrderError::NotARange(_))), "{text}: {:?}", parse(text));
        }
        for text in ["64", "0..65", "0..=64", "99999999999999999999", "70..80"] {
            assert!(matches!(parse(text), Err(OrderError::TooLarge(_))), "{text}: {:?}", parse(text));
        }
        for text in ["3..3", "4..=3", "..0", "64.."] {
            assert!(matches!(parse(text), Err(OrderError::Empty(_))), "{text}: {:?}", parse(text));
        }
        assert!(matches!(OrderRange::less_than(0), Err(OrderError::Empty(_))));
        assert!(matches!(OrderRange::greater_than(63), Err(OrderError::Empty(_))));
        assert!(matches!(OrderRange::greater_than(64), Err(OrderError::TooLarge(64))));
    }

    #[test]
    fn intersections() {
        let three = OrderRange::less_than(4).unwrap().intersection(OrderRange::greater_than(2).unwrap()).unwrap();
        assert_eq!(three.bounds(), (3, 3));
        let error = OrderRange::less_than(2).unwrap().intersection(OrderRange::greater_than(5).unwrap()).unwrap_err();
        assert_eq!(error.to_string(), "order ranges 0..=1 and 6.. do not overlap: no allocation can match both");
    }

    #[test]
    fn bounds_as_texts() {
        assert_eq!(OrderRange::parse_less_than("4"), parse("0..4"));
        assert_eq!(OrderRange::parse_greater_than(" 3 "), parse("4.."));
        assert!(matches!(OrderRange::parse_less_than("x"), Err(OrderError::NotAnOrder(_))));
        assert!(matches!(OrderRange::parse_greater_than("99"), Err(OrderError::TooLarge(99))));
    }

    proptest! {
        #[test]
        fn round_trip(a in 0..=63u32, b in 0..=63u32) {
            let range = OrderRange::new(a.min(b), a.max(b)).unwrap();
            prop_assert_eq!(parse(&range.to_string()).unwrap(), range);
        }

        #[test]
        fn never_panics(text in "[0-9.= ]*|\\PC*") {
            let _ = parse(&text);
        }
    }
}
