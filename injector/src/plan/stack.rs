//! Which functions a stack must, or must not, contain.

mod pattern;

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use injector_common::config;
use serde::{Serialize, Serializer};

use super::number::{self, NotANumber};
use crate::foreign::Foreign;
pub use pattern::{StackError, StackPattern, StackPatternKind};

/// Reads the number of `--stack-depth`.
///
/// # Errors
/// It isn't one, or is 0.
pub fn parse_depth(text: &str) -> Result<NonZeroU32, NotANumber> {
    number::parse(text, "a number of frames; write a whole number, 1 or more")
}

/// What stacks must look like.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct StackFilter {
    /// Some frames are as one of these says; empty: no such condition.
    pub any_of: Vec<StackPath>,
    /// No frame is in any of these.
    pub none_of: Vec<StackPattern>,
    /// The first frame that is no allocator's is in one of these; empty: no such condition.
    pub caller: Vec<StackPattern>,
    /// So many frames are looked at, from that one on; `None`: all.
    pub depth: Option<NonZeroU32>,
}

/// Functions that are in a stack together: each but the first is called from the one before it, at any distance.
/// `nfs4_do_open..rpc_*`: the outermost caller first.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StackPath(Vec<StackPattern>);

/// Why a text is no path.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PathError {
    /// A part of it is no pattern.
    #[error(transparent)]
    Pattern(#[from] StackError),
    /// Nothing on one side of `..`.
    #[error("stack path `{0}` has nothing on one side of `..`; write caller..callee: nfs4_do_open..rpc_*")]
    Empty(Foreign),
    /// More than the kernel side follows.
    #[error("stack path `{text}` has {len} patterns; at most {} are possible", StackPath::MAX_LEN)]
    TooLong {
        /// The path.
        text: Foreign,
        /// How many patterns it has.
        len: usize,
    },
}

impl StackPath {
    /// How many patterns a path can have.
    pub const MAX_LEN: usize = config::MAX_PATH_LEN;

    /// Its patterns, the outermost caller first; one at least.
    #[must_use]
    pub fn patterns(&self) -> &[StackPattern] {
        &self.0
    }
}

impl From<StackPattern> for StackPath {
    fn from(pattern: StackPattern) -> Self {
        Self(vec![pattern])
    }
}

impl FromStr for StackPath {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts: Vec<&str> = text.split("..").collect();
        if parts.len() > Self::MAX_LEN {
            return Err(PathError::TooLong { text: text.into(), len: parts.len() });
        }
        if parts.len() > 1 && parts.iter().any(|part| part.trim().is_empty()) {
            return Err(PathError::Empty(text.into()));
        }
        let patterns: Result<Vec<StackPattern>, StackError> = parts.into_iter().map(str::parse).collect();
        Ok(Self(patterns?))
    }
}

impl fmt::Display for StackPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, pattern) in self.0.iter().enumerate() {
            write!(f, "{}{pattern}", if i > 0 { ".." } else { "" })?;
        }
        Ok(())
    }
}

impl Serialize for StackPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl StackFilter {
    /// How many paths of more than one pattern there can be.
    pub const MAX_PATHS: usize = config::MAX_PATHS;

    /// Whether every stack matches.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.any_of.is_empty() && self.none_of.is_empty() && self.caller.is_empty()
    }

    /// A pattern that is wanted, with its option, and the one that excludes it, where no other is wanted.
    #[must_use]
    pub fn contradiction(&self) -> Option<(&'static str, &StackPattern, &StackPattern)> {
        let excludes = |wanted: &StackPattern| self.none_of.iter().find(|unwanted| unwanted.covers(wanted));
        let is_excluded = |path: &StackPath| path.patterns().iter().any(|pattern| excludes(pattern).is_some());
        // Only when all that are wanted are unwanted too is there nothing left.
        if self.any_of.iter().all(is_excluded)
            && let Some(wanted) =
                self.any_of.iter().flat_map(StackPath::patterns).find(|wanted| excludes(wanted).is_some())
        {
            return excludes(wanted).map(|unwanted| ("--stack", wanted, unwanted));
        }
        let wanted = self.caller.first().filter(|_| self.caller.iter().all(|wanted| excludes(wanted).is_some()))?;
        excludes(wanted).map(|unwanted| ("--caller", wanted, unwanted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Result<StackPath, PathError> {
        text.parse()
    }

    #[test]
    fn paths() {
        let parts = |text| parse(text).unwrap().patterns().iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(parts("nfs4_do_open..rpc_*"), ["nfs4_do_open", "rpc_*"]);
        assert_eq!(parts("a .. [nfs]..f+1-2..0x1-0x2"), ["a", "[nfs]", "f+0x1-0x2", "0x1-0x2"]);
        assert_eq!(parts("f.isra.0..g"), ["f.isra.0", "g"]);
        assert_eq!(parts("xfs_*"), ["xfs_*"]);
    }

    #[test]
    fn refused() {
        assert_eq!(parse(""), Err(PathError::Pattern(StackError::Empty)));
        for text in ["..", "a..", "..b", "a....b", "a.. ..b"] {
            assert_eq!(parse(text), Err(PathError::Empty(text.into())));
        }
        assert_eq!(
            parse("a..b..c..d..e").unwrap_err().to_string(),
            "stack path `a..b..c..d..e` has 5 patterns; at most 4 are possible"
        );
        assert!(matches!(parse("a..b c"), Err(PathError::Pattern(StackError::Character { .. }))));
    }

    proptest! {
        #[test]
        fn round_trip(text in "[a-z_*.]{1,6}(\\.\\.[a-z_*.]{1,6}){0,3}|\\[[a-z]{1,3}\\]\\.\\.[a-z]{1,4}") {
            if let Ok(path) = parse(&text) {
                prop_assert_eq!(parse(&path.to_string()), Ok(path));
            }
        }

        #[test]
        fn never_panics(text in "[a-z.*\\[\\]]*|\\PC*") {
            let _ = parse(&text);
        }
    }
}
