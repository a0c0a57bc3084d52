//! Which functions a stack must, or must not, contain.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use super::glob::{Glob, Token};

/// Functions by name (`nfs4_do_open`), by glob (`xfs_*`), or all of a module (`[nfs]`).
///
/// A symbol without a dot also means the copies that the compiler made of it (`nfs4_do_open.isra.0`).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StackPattern {
    text: String,
    kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Symbol,
    Glob(Glob),
    Module(Glob),
}

/// Why a text is no pattern.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum StackError {
    /// Nothing there.
    #[error("stack pattern is empty; write a symbol (nfs4_do_open), a glob (xfs_*) or a module ([nfs])")]
    Empty,
    /// No symbol or module has such a character.
    #[error(
        "stack pattern `{pattern}` has `{character}` in it, which no kernel symbol has; write a symbol (nfs4_do_open), a glob (xfs_*) or a module ([nfs])"
    )]
    Character {
        /// The pattern.
        pattern: String,
        /// The character.
        character: char,
    },
    /// A `[` without its `]`, or with nothing inside.
    #[error(
        "stack pattern `{0}` has an unfinished [ ]; inside a glob it lists characters ([a-f]), alone it names a module ([nfs])"
    )]
    Bracket(String),
}

/// What a pattern is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StackPatternKind {
    /// One function (and the compiler's copies of it).
    Symbol,
    /// Functions whose names match.
    Glob,
    /// All functions of a module.
    Module,
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
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StackPath(Vec<StackPattern>);

impl StackPath {
    /// How many patterns a path can have.
    pub const MAX_LEN: usize = 4;

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
    /// Whether every stack matches.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.any_of.is_empty() && self.none_of.is_empty() && self.caller.is_empty()
    }

    /// A pattern that is wanted and unwanted, where no other is wanted.
    #[must_use]
    pub fn contradiction(&self) -> Option<&StackPattern> {
        let excluded = |path: &&StackPath| path.patterns().iter().any(|pattern| self.none_of.contains(pattern));
        // Only when all that are wanted are unwanted too is there nothing left.
        let first = self.any_of.first().filter(|_| self.any_of.iter().all(|path| excluded(&path)))?;
        first.patterns().iter().find(|pattern| self.none_of.contains(pattern))
    }
}

impl StackPattern {
    /// What the pattern is about.
    #[must_use]
    pub fn kind(&self) -> StackPatternKind {
        match self.kind {
            Kind::Symbol => StackPatternKind::Symbol,
            Kind::Glob(_) => StackPatternKind::Glob,
            Kind::Module(_) => StackPatternKind::Module,
        }
    }

    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The name without brackets: what near misses are looked for with.
    #[must_use]
    pub fn bare(&self) -> &str {
        match self.kind {
            Kind::Module(_) => self.text.trim_start_matches('[').trim_end_matches(']'),
            Kind::Symbol | Kind::Glob(_) => &self.text,
        }
    }

    /// Whether a function of that name, in that module or in the kernel proper, is meant.
    #[must_use]
    pub fn matches(&self, symbol: &str, module: Option<&str>) -> bool {
        match &self.kind {
            Kind::Symbol => {
                symbol.strip_prefix(self.text.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            }
            Kind::Glob(glob) => glob.matches(symbol),
            Kind::Module(glob) => module.is_some_and(|module| glob.matches(module)),
        }
    }
}

impl FromStr for StackPattern {
    type Err = StackError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        if text.is_empty() {
            return Err(StackError::Empty);
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || "_.$-*?[]!^".contains(c);
        if let Some(character) = text.chars().find(|c| !allowed(*c)) {
            return Err(StackError::Character { pattern: text.to_owned(), character });
        }
        if let Some(module) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'))
            && !module.contains(['[', ']'])
        {
            if module.is_empty() {
                return Err(StackError::Bracket(text.to_owned()));
            }
            // Module files are often written with `-`, the kernel always says `_`.
            let module = module.replace('-', "_");
            if let Some(character) = module.chars().find(|c| "!^.$".contains(*c)) {
                return Err(StackError::Character { pattern: text.to_owned(), character });
            }
            let glob = Glob::new(&module).ok_or_else(|| StackError::Bracket(text.to_owned()))?;
            return Ok(Self { text: format!("[{module}]"), kind: Kind::Module(glob) });
        }
        let glob = Glob::new(text).ok_or_else(|| StackError::Bracket(text.to_owned()))?;
        let stray = |token: &Token| match token {
            Token::Byte(byte @ (b'-' | b'!' | b'^' | b']')) => Some(char::from(*byte)),
            _ => None,
        };
        if let Some(character) = glob.tokens.iter().find_map(stray) {
            return Err(StackError::Character { pattern: text.to_owned(), character });
        }
        let kind = if glob.is_literal() { Kind::Symbol } else { Kind::Glob(glob) };
        Ok(Self { text: text.to_owned(), kind })
    }
}

impl fmt::Display for StackPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for StackPattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> StackPattern {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn symbols_and_their_copies() {
        let open = parse("nfs4_do_open");
        assert_eq!(open.kind(), StackPatternKind::Symbol);
        assert!(open.matches("nfs4_do_open", None));
        assert!(open.matches("nfs4_do_open", Some("nfsv4")));
        assert!(open.matches("nfs4_do_open.isra.0", None));
        assert!(!open.matches("nfs4_do_open_2", None));
        assert!(!open.matches("_nfs4_do_open", None));
        assert!(!parse("f.isra.0").matches("f", None));
    }

    #[test]
    fn globs() {
        for (glob, yes, no) in [
            ("xfs_*", "xfs_alloc", "_xfs_alloc"),
            ("*_alloc", "xfs_alloc", "xfs_allocate"),
            ("*a*b*c", "xaxbxc", "xaxbx"),
            ("xfs_?", "xfs_a", "xfs_ab"),
            ("xfs_[a-c]*", "xfs_bmap", "xfs_inode"),
            ("xfs_[!a-c]*", "xfs_inode", "xfs_bmap"),
            ("[xy]fs_a", "yfs_a", "zfs_a"),
            ("*", "anything", "\u{0}"),
        ] {
            let pattern = parse(glob);
            assert_eq!(pattern.kind(), StackPatternKind::Glob, "{glob}");
            assert!(pattern.matches(yes, None), "{glob} {yes}");
            assert!(glob == "*" || !pattern.matches(no, None), "{glob} {no}");
        }
    }

    #[test]
    fn modules() {
        let nfs = parse("[nfs]");
        assert_eq!(nfs.kind(), StackPatternKind::Module);
        assert!(nfs.matches("any", Some("nfs")));
        assert!(!nfs.matches("nfs", None));
        assert!(!nfs.matches("any", Some("nfsd")));
        assert!(parse("[nfs*]").matches("any", Some("nfsd")));
        assert_eq!(parse("[nfs-layout]").to_string(), "[nfs_layout]");
    }

    #[test]
    fn refused() {
        for text in ["", "  "] {
            assert_eq!(text.parse::<StackPattern>(), Err(StackError::Empty));
        }
        for text in ["[", "[]", "xfs_[", "x[]", "xfs_[z-a]"] {
            assert!(matches!(text.parse::<StackPattern>(), Err(StackError::Bracket(_))), "{text}");
        }
        for text in ["a b", "a/b", "xfs_]", "a-b", "!a", "ä", "[!nfs]"] {
            assert!(matches!(text.parse::<StackPattern>(), Err(StackError::Character { .. })), "{text}");
        }
    }

    proptest! {
        #[test]
        fn round_trip(text in "[a-z_*?.]{1,12}|\\[[a-z_*]{1,6}\\]|[a-z]{0,3}\\[[!^]?[a-z]{1,3}\\]\\*") {
            let pattern = parse(&text);
            prop_assert_eq!(parse(&pattern.to_string()), pattern);
        }

        #[test]
        fn never_panics(text in "[a-z\\[\\]*?!^-]{0,12}|\\PC*", name in "[a-z_]{0,20}") {
            if let Ok(pattern) = text.parse::<StackPattern>() {
                let _ = pattern.matches(&name, Some(&name));
            }
        }

        #[test]
        fn a_literal_matches_itself(name in "[a-z_][a-z0-9_]{0,20}") {
            prop_assert!(parse(&name).matches(&name, None));
            let globbed = format!("{}*", &name[..1]);
            prop_assert!(parse(&globbed).matches(&name, None));
        }
    }
}
