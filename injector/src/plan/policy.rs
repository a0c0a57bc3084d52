//! Which matches are failed.

use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;

use injector_common::config;
use serde::Serialize;

use super::number::{self, NotANumber};
use super::{ErrorNumber, PlanError, Probability, Target};
use crate::foreign::Foreign;

/// Which matches are failed. All conditions must hold; they are asked in the order of the fields, and what an earlier one
/// lets go does not count for a later one.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Policy {
    /// So many matches pass first.
    pub skip: u64,
    /// So many bytes of matches pass first (of the hooks that have a size), after `skip`.
    pub space: u64,
    /// Only every so-many-th match, counted after `skip` and `space`, from 1.
    pub every: Option<NonZeroU64>,
    /// Only these matches, counted from 1 as above; empty: no such condition. At most [`Policy::MAX_NTH`].
    pub nth: Vec<NonZeroU64>,
    /// Whose matches `nth` counts.
    pub nth_per: NthPer,
    /// How likely each match is.
    pub probability: Probability,
    /// With it, whether a match fails depends on this, the site's signature, and the how-manieth hit of the site it is.
    pub seed: Option<u64>,
    /// How many failures a site may have.
    pub per_site: Option<NonZeroU64>,
    /// How many failures a second there may be.
    pub rate: Option<NonZeroU64>,
    /// How many at most.
    pub times: Option<u64>,
    /// What hooks return whose type allows it; else -ENOMEM.
    pub errno: Option<ErrorNumber>,
}

/// Whose matches are counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum NthPer {
    /// Everybody's, together.
    #[default]
    Run,
    /// Each task's by themselves, as the kernel's fail-nth does.
    Task,
}

/// Neither of the two.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "`{0}` does not say whose matches count; write `run` (those of all tasks together) or `task` (those of each task)"
)]
pub struct UnknownNthPer(Foreign);

impl FromStr for NthPer {
    type Err = UnknownNthPer;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.trim() {
            "run" => Ok(Self::Run),
            "task" => Ok(Self::Task),
            _ => Err(UnknownNthPer(text.into())),
        }
    }
}

impl fmt::Display for NthPer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Run => "run",
            Self::Task => "task",
        })
    }
}

/// Not a rate.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is not a rate; write a whole number of failures a second, 1/s or more: 100/s")]
pub struct NotARate(Foreign);

/// Reads a rate: `100/s`.
///
/// # Errors
/// It isn't one, or is 0.
pub fn parse_rate(text: &str) -> Result<NonZeroU64, NotARate> {
    let number = text.trim().strip_suffix("/s").and_then(|number| number::parse(number, "").ok());
    number.ok_or_else(|| NotARate(text.into()))
}

/// Reads the number of `--times`.
///
/// # Errors
/// It isn't one.
pub fn parse_times(text: &str) -> Result<u64, NotANumber> {
    number::parse(text, "a number of failures; write a whole number, 1 or more")
}

/// Reads the number of `--skip`.
///
/// # Errors
/// It isn't one.
pub fn parse_skip(text: &str) -> Result<u64, NotANumber> {
    number::parse(text, "a number of matches; write a whole number")
}

/// Reads the number of `--every`.
///
/// # Errors
/// It isn't one, or is 0.
pub fn parse_every(text: &str) -> Result<NonZeroU64, NotANumber> {
    number::parse(text, "a distance between failures; write a whole number, 1 (every match) or more")
}

/// Reads a number of `--nth`.
///
/// # Errors
/// It isn't one, or is 0.
pub fn parse_nth(text: &str) -> Result<NonZeroU64, NotANumber> {
    number::parse(text, "the number of a match; write whole numbers, counted from 1: 7 or 1,3,5")
}

/// Reads the number of `--per-site`.
///
/// # Errors
/// It isn't one, or is 0.
pub fn parse_per_site(text: &str) -> Result<NonZeroU64, NotANumber> {
    number::parse(text, "a number of failures of each site; write a whole number, 1 or more")
}

/// Not a seed.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is not a seed; write a whole number of 64 bits: 1, 0x5eed")]
pub struct NotASeed(Foreign);

/// Reads a seed, decimal or hexadecimal.
///
/// # Errors
/// It isn't one.
pub fn parse_seed(text: &str) -> Result<u64, NotASeed> {
    number::hex_or_decimal(text.trim()).ok_or_else(|| NotASeed(text.into()))
}

impl Policy {
    /// How many numbers `nth` can have.
    pub const MAX_NTH: usize = config::MAX_NTH;

    pub(super) fn validate(&self) -> Result<(), PlanError> {
        let Self {
            skip: _,
            space: _,
            every,
            nth,
            nth_per,
            probability: _,
            seed: _,
            per_site: _,
            rate: _,
            times,
            errno: _,
        } = self;
        if every.is_some() && !nth.is_empty() {
            return Err(PlanError::EveryAndNth);
        }
        if nth.len() > Self::MAX_NTH {
            return Err(PlanError::TooManyNth(nth.len()));
        }
        if *nth_per == NthPer::Task && nth.is_empty() {
            return Err(PlanError::NthPerAlone);
        }
        if *times == Some(0) {
            return Err(PlanError::TimesZero);
        }
        Ok(())
    }

    /// The probability when none is given: always, where something else bounds the damage.
    ///
    /// # Errors
    /// Nothing else does.
    pub fn default_probability(&self, target: &Target) -> Result<Probability, PlanError> {
        let bounded = self.times.is_some()
            || self.rate.is_some()
            || self.per_site.is_some()
            || !self.nth.is_empty()
            || self.every.is_some_and(|every| every.get() > 1);
        if target.is_everybody() && !bounded {
            return Err(PlanError::NoProbability);
        }
        Ok(Probability::ALWAYS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rates() {
        assert_eq!(parse_rate("100/s").map(NonZeroU64::get), Ok(100));
        assert_eq!(
            parse_rate("5/min").unwrap_err().to_string(),
            "`5/min` is not a rate; write a whole number of failures a second, 1/s or more: 100/s"
        );
        for text in ["", "/s", "100", "0/s", "0.5/s", "1/2/s", "-1/s", "100/ms"] {
            assert!(parse_rate(text).is_err(), "{text}");
        }
    }

    #[test]
    fn numbers() {
        assert_eq!(parse_times("0"), Ok(0));
        assert_eq!(parse_every("1").map(NonZeroU64::get), Ok(1));
        assert_eq!(parse_seed("0x5eed"), Ok(0x5eed));
        for result in [parse_every("0"), parse_nth("0"), parse_per_site("0"), parse_nth("1,2")] {
            assert!(result.is_err());
        }
        assert!(parse_seed("dice").is_err() && parse_skip("-1").is_err());
        for per in [NthPer::Run, NthPer::Task] {
            assert_eq!(per.to_string().parse(), Ok(per));
        }
        assert!("thread".parse::<NthPer>().is_err());
    }

    proptest! {
        #[test]
        fn round_trip(rate: NonZeroU64, seed: u64) {
            prop_assert_eq!(parse_rate(&format!("{rate}/s")), Ok(rate));
            prop_assert_eq!(parse_seed(&seed.to_string()), Ok(seed));
            prop_assert_eq!(parse_seed(&format!("{seed:#x}")), Ok(seed));
        }

        #[test]
        fn never_panics(text in "[0-9/sx]*|\\PC*") {
            let _ = parse_rate(&text);
            let _ = parse_seed(&text);
            let _ = text.parse::<NthPer>();
        }
    }
}
