//! How a run injects failures, by name.

use std::{borrow::Cow, fmt};

use serde::{Deserialize, Deserializer, Serialize};

/// How a run injects failures.
///
/// A journal holds the name alone. So a reader takes journals of an injector that has more levels, and a new level changes
/// nothing here: what a level does is in the sweep's schedule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Level(Cow<'static, str>);

impl Level {
    /// Nothing fails: the run records sites.
    pub const RECORD: Self = Self::named("record");
    /// One failure in each system call. A system call that returns an error is retried.
    pub const RETRY: Self = Self::named("retry");
    /// Several failures in each system call, and failures in kernel threads and interrupts. Failed system calls are retried.
    pub const MULTI: Self = Self::named("multi");
    /// As [`Self::MULTI`], but only suspects of a complaint fail.
    pub const GROUP: Self = Self::named("group");
    /// Copies of the process make the system calls that can't be retried (execve), with one failure each; page faults fail too.
    pub const COPY: Self = Self::named("copy");
    /// One failure of each site in the whole run. Nothing is retried, and no tracer watches.
    pub const WHOLE: Self = Self::named("whole");

    /// A level with this name.
    #[must_use]
    pub const fn named(name: &'static str) -> Self {
        Self(Cow::Borrowed(name))
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Level {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        // Schema 1 had other names.
        Ok(match name.as_str() {
            "system-call" => Self::RETRY,
            "crowd" => Self::MULTI,
            "run" => Self::WHOLE,
            _ => Self(Cow::Owned(name)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_schema_1_are_read() {
        for (old, level) in [("record", Level::RECORD), ("system-call", Level::RETRY), ("crowd", Level::MULTI)] {
            assert_eq!(serde_json::from_str::<Level>(&format!("\"{old}\"")).unwrap(), level);
        }
        assert_eq!(serde_json::from_str::<Level>("\"run\"").unwrap(), Level::WHOLE);
        assert_eq!(serde_json::to_string(&Level::WHOLE).unwrap(), "\"whole\"");
    }

    #[test]
    fn a_level_of_another_injector_keeps_its_name() {
        let level: Level = serde_json::from_str("\"sideways\"").unwrap();
        assert_eq!(
            (level.to_string(), serde_json::to_string(&level).unwrap()),
            ("sideways".into(), "\"sideways\"".into())
        );
    }
}
