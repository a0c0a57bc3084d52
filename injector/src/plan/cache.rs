//! Slab caches by name.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use super::Glob;
use crate::foreign::Foreign;

/// Slab caches whose name matches: `ext4_inode_cache`, `kmalloc-*`, `:A-*`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CachePattern {
    text: String,
    glob: Glob,
}

/// Why a text names no caches.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum CacheError {
    /// Nothing there.
    #[error("the name of a slab cache is empty; write one (dentry) or a glob (kmalloc-*), as in /proc/slabinfo")]
    Empty,
    /// No cache has such a character.
    #[error(
        "slab cache `{text}` has `{character}` in it, which no cache has; write a name (dentry) or a glob (kmalloc-*), as in /proc/slabinfo"
    )]
    Character {
        /// What was given.
        text: Foreign,
        /// The character.
        character: char,
    },
    /// A `[` without its `]`, or with nothing inside.
    #[error("slab cache `{0}` has an unfinished [ ]; it lists characters: kmalloc-[1-9]k")]
    Bracket(Foreign),
}

impl CachePattern {
    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The same as a glob.
    #[must_use]
    pub fn glob(&self) -> &Glob {
        &self.glob
    }

    /// Whether the cache is meant.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        self.glob.matches(name)
    }
}

impl FromStr for CachePattern {
    type Err = CacheError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        if text.is_empty() {
            return Err(CacheError::Empty);
        }
        if let Some(character) = text.chars().find(|c| !c.is_ascii_graphic()) {
            return Err(CacheError::Character { text: text.into(), character });
        }
        let glob = Glob::new(text).ok_or_else(|| CacheError::Bracket(text.into()))?;
        Ok(Self { text: text.to_owned(), glob })
    }
}

impl fmt::Display for CachePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for CachePattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Result<CachePattern, CacheError> {
        text.parse()
    }

    #[test]
    fn names_and_globs() {
        for (pattern, yes, no) in [
            ("dentry", "dentry", "dentry_cache"),
            ("kmalloc-*", "kmalloc-1k", "dma-kmalloc-1k"),
            ("kmalloc-rnd-[01]?-*", "kmalloc-rnd-05-64", "kmalloc-64"),
            (":A-*", ":A-0000064", ":0000064"),
            ("UDP-Lite", "UDP-Lite", "UDP"),
        ] {
            let pattern = parse(pattern).unwrap();
            assert!(pattern.matches(yes) && !pattern.matches(no), "{pattern}");
        }
    }

    #[test]
    fn refused() {
        assert_eq!(parse(" "), Err(CacheError::Empty));
        assert!(matches!(parse("a b"), Err(CacheError::Character { character: ' ', .. })));
        assert!(matches!(parse("dentrý"), Err(CacheError::Character { character: 'ý', .. })));
        assert!(matches!(parse("kmalloc-["), Err(CacheError::Bracket(_))));
    }

    proptest! {
        #[test]
        fn round_trip(text in "[a-zA-Z0-9_.:*?-]{1,20}") {
            let pattern = parse(&text).unwrap();
            prop_assert_eq!(parse(&pattern.to_string()), Ok(pattern));
        }

        #[test]
        fn never_panics(text in "[a-z\\[\\]*?!^-]{0,12}|\\PC*", name in "\\PC{0,20}") {
            if let Ok(pattern) = parse(&text) {
                let _ = pattern.matches(&name);
            }
        }
    }
}
