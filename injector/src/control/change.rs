//! `prob=0.05`, `RULE.times=3`: a knob of a rule and where it is to stand.

use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::foreign::Foreign;
use crate::plan::{
    Probability,
    policy::{NotARate, parse_rate},
    probability::ProbabilityError,
};

/// A knob of a rule, and where it is to stand.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Knob {
    /// How likely a match fails.
    Probability(Probability),
    /// How many failures a second there may be.
    Rate(NonZeroU64),
    /// How many more failures there may be, from now on.
    Times(NonZeroU64),
}

/// A change that is asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The rule's name; `None`: the only rule.
    pub rule: Option<String>,
    /// What is to be changed.
    pub knob: Knob,
}

/// Why a text is no change.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ChangeError {
    /// No `=` in it.
    #[error("`{0}` is not a change; write KNOB=VALUE or RULE.KNOB=VALUE: prob=0.05, rate=100/s, times=10")]
    NoChange(Foreign),
    /// Another knob.
    #[error("there is no knob `{0}`; knobs are: prob, rate, times")]
    Unknown(Foreign),
    /// A bad probability.
    #[error("prob: {0}")]
    Probability(#[from] ProbabilityError),
    /// A bad rate.
    #[error("rate: {0}")]
    Rate(#[from] NotARate),
    /// A bad number.
    #[error("times: `{0}` is not a number of further failures; write a whole number, 1 or more")]
    Times(Foreign),
}

/// A knob that isn't there.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum NoKnob {
    /// Not of that name.
    #[error("there is no rule `{name}`; rules are: {}", .rules.join(", "))]
    Unknown {
        /// What was asked for.
        name: Foreign,
        /// What there is.
        rules: Vec<String>,
    },
    /// It was loaded without a rate.
    #[error("rule {0} has no rate that could be changed; give it one at the start: --rate")]
    NoRate(String),
    /// Several, and none was named.
    #[error("there are several rules, so name one: {}", .rules.iter().map(|rule| format!("{rule}.{knob}=…")).collect::<Vec<_>>().join(", "))]
    Unnamed {
        /// The knob.
        knob: &'static str,
        /// What there is.
        rules: Vec<String>,
    },
}

impl Change {
    /// The rule's place among those with these names.
    ///
    /// # Errors
    /// There is none of that name, or several to choose from.
    pub fn place(&self, rules: &[&str]) -> Result<usize, NoKnob> {
        let all = || rules.iter().map(|&rule| rule.to_owned()).collect();
        match &self.rule {
            Some(name) => rules
                .iter()
                .position(|rule| rule == name)
                .ok_or_else(|| NoKnob::Unknown { name: name.as_str().into(), rules: all() }),
            None if rules.len() == 1 => Ok(0),
            None => Err(NoKnob::Unnamed { knob: word(self.knob), rules: all() }),
        }
    }
}

fn word(knob: Knob) -> &'static str {
    match knob {
        Knob::Probability(_) => "prob",
        Knob::Rate(_) => "rate",
        Knob::Times(_) => "times",
    }
}

impl FromStr for Change {
    type Err = ChangeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // A rule's name may have any of these characters, a knob and its value have none.
        let (place, value) = text.rsplit_once('=').ok_or_else(|| ChangeError::NoChange(text.into()))?;
        let (rule, name) = match place.rsplit_once('.') {
            Some((rule, knob)) => (Some(rule.to_owned()), knob),
            None => (None, place),
        };
        let positive = |text: &str| text.trim().parse::<NonZeroU64>().ok();
        let knob = match name.trim() {
            "prob" => Knob::Probability(value.parse()?),
            "rate" => Knob::Rate(parse_rate(value)?),
            "times" => Knob::Times(positive(value).ok_or_else(|| ChangeError::Times(value.into()))?),
            other => return Err(ChangeError::Unknown(other.into())),
        };
        Ok(Self { rule, knob })
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(rule) = &self.rule {
            write!(f, "{rule}.")?;
        }
        write!(f, "{}=", word(self.knob))?;
        match self.knob {
            Knob::Probability(probability) => write!(f, "{probability}"),
            Knob::Rate(rate) => write!(f, "{rate}/s"),
            Knob::Times(times) => write!(f, "{times}"),
        }
    }
}

impl Serialize for Change {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Change {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Result<Change, ChangeError> {
        text.parse()
    }

    fn said(text: &str) -> String {
        parse(text).unwrap_err().to_string()
    }

    /// Any change.
    pub(in crate::control) fn change() -> impl Strategy<Value = Change> {
        let more = || any::<NonZeroU64>();
        let knob = prop_oneof![
            (0.0..=1.0f64).prop_filter_map("too small", |p| Probability::new(p).ok()).prop_map(Knob::Probability),
            more().prop_map(Knob::Rate),
            more().prop_map(Knob::Times),
        ];
        (proptest::option::of("\\PC*"), knob).prop_map(|(rule, knob)| Change { rule, knob })
    }

    #[test]
    fn notations() {
        let change = parse("prob=1%").unwrap();
        assert_eq!((change.rule.clone(), change.to_string()), (None, "prob=0.01".to_owned()));
        assert_eq!(parse("rate=100/s").unwrap().knob, Knob::Rate(NonZeroU64::new(100).unwrap()));
        let change = parse("a.b=c.times=3").unwrap();
        assert_eq!(change, Change { rule: Some("a.b=c".to_owned()), knob: Knob::Times(NonZeroU64::new(3).unwrap()) });
    }

    #[test]
    fn refused() {
        assert!(said("prob").contains("KNOB=VALUE"));
        assert!(said("proob=1").contains("`proob`; knobs are: prob, rate, times"));
        assert!(said("prob=2").contains("out of range"));
        assert!(said("prob=").contains("not a probability"));
        assert!(said("rate=0/s").contains("100/s"));
        assert!(said("rate=1/m").contains("100/s"));
        assert!(said("times=0").contains("1 or more"));
        assert!(said("times=-1").contains("1 or more"));
    }

    #[test]
    fn which_rule() {
        let unnamed = parse("prob=1").unwrap();
        let named = parse("flaky.prob=1").unwrap();
        assert_eq!(unnamed.place(&["default"]), Ok(0));
        assert_eq!(named.place(&["other", "flaky"]), Ok(1));
        let error = unnamed.place(&["other", "flaky"]).unwrap_err().to_string();
        assert!(error.ends_with("other.prob=…, flaky.prob=…"), "{error}");
        assert!(named.place(&["default"]).unwrap_err().to_string().ends_with("rules are: default"));
    }

    proptest! {
        #[test]
        fn round_trip(change in change()) {
            prop_assert_eq!(parse(&change.to_string()).unwrap(), change);
        }

        #[test]
        fn never_panics(text in "[a-z.]*=?[0-9/s%]*|\\PC*") {
            let _ = parse(&text);
        }
    }
}
