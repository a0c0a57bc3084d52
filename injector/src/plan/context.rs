//! In what kind of code a call is made.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use super::suggest;
use crate::foreign::Foreign;

/// A set of contexts: `task,softirq`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contexts {
    /// On behalf of the task.
    pub task: bool,
    /// In a softirq, on top of whatever task.
    pub softirq: bool,
    /// In a hardware interrupt.
    pub hardirq: bool,
    /// In a non-maskable interrupt.
    pub nmi: bool,
}

/// There is no such context.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("there is no context `{name}` (contexts are: task, softirq, hardirq, nmi){}", hint(.name))]
pub struct UnknownContext {
    name: Foreign,
}

fn hint(name: &str) -> String {
    suggest::did_you_mean(&suggest::close(name, Contexts::ALL.names(), 1))
}

impl Contexts {
    /// All of them.
    pub const ALL: Self = Self { task: true, softirq: true, hardirq: true, nmi: true };
    /// Task context.
    pub const TASK: Self = Self { task: true, softirq: false, hardirq: false, nmi: false };

    /// The names of those that are in it.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        let Self { task, softirq, hardirq, nmi } = self;
        [(task, "task"), (softirq, "softirq"), (hardirq, "hardirq"), (nmi, "nmi")]
            .into_iter()
            .filter_map(|(is_in, name)| is_in.then_some(name))
    }
}

impl FromStr for Contexts {
    type Err = UnknownContext;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut contexts = Self { task: false, softirq: false, hardirq: false, nmi: false };
        for name in text.split(',') {
            let name = name.trim();
            match name {
                "task" => contexts.task = true,
                "softirq" => contexts.softirq = true,
                "hardirq" => contexts.hardirq = true,
                "nmi" => contexts.nmi = true,
                _ => return Err(UnknownContext { name: name.into() }),
            }
        }
        Ok(contexts)
    }
}

impl fmt::Display for Contexts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, name) in self.names().enumerate() {
            write!(f, "{}{name}", if i > 0 { "," } else { "" })?;
        }
        Ok(())
    }
}

impl Serialize for Contexts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.names())
    }
}

/// Whether kernel threads' calls match.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kthreads {
    /// As everybody's.
    #[default]
    Any,
    /// Only theirs.
    Only,
    /// Everybody's but theirs.
    Exclude,
}

/// Neither of the two.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` does not say what to do with kernel threads; write `only` or `exclude`")]
pub struct UnknownKthreads(Foreign);

impl FromStr for Kthreads {
    type Err = UnknownKthreads;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.trim() {
            "any" => Ok(Self::Any),
            "only" => Ok(Self::Only),
            "exclude" => Ok(Self::Exclude),
            _ => Err(UnknownKthreads(text.into())),
        }
    }
}

impl fmt::Display for Kthreads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Any => "any",
            Self::Only => "only",
            Self::Exclude => "exclude",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn contexts() {
        assert_eq!("task".parse(), Ok(Contexts::TASK));
        assert_eq!("nmi, task,hardirq,softirq,task".parse(), Ok(Contexts::ALL));
        let error = |text: &str| text.parse::<Contexts>().unwrap_err().to_string();
        assert_eq!(
            error("task,sofirq"),
            "there is no context `sofirq` (contexts are: task, softirq, hardirq, nmi); did you mean softirq?"
        );
        assert_eq!(error(""), "there is no context `` (contexts are: task, softirq, hardirq, nmi)");
        assert!(error("task,").starts_with("there is no context ``"));
    }

    #[test]
    fn kthreads() {
        for kthreads in [Kthreads::Any, Kthreads::Only, Kthreads::Exclude] {
            assert_eq!(kthreads.to_string().parse(), Ok(kthreads));
        }
        assert_eq!(
            "none".parse::<Kthreads>().unwrap_err().to_string(),
            "`none` does not say what to do with kernel threads; write `only` or `exclude`"
        );
    }

    proptest! {
        #[test]
        fn round_trip(task: bool, softirq: bool, hardirq: bool, nmi: bool) {
            let contexts = Contexts { task, softirq, hardirq, nmi };
            prop_assert_eq!(contexts.to_string().parse().ok(), (contexts.names().count() > 0).then_some(contexts));
        }

        #[test]
        fn never_panics(text in "\\PC*") {
            let _ = text.parse::<Contexts>();
            let _ = text.parse::<Kthreads>();
        }
    }
}
