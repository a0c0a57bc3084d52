//! Kernel code by name or by address.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use crate::foreign::Foreign;
use crate::plan::glob::{Glob, Token};
use crate::plan::number::hex_or_decimal;

/// Functions by name (`nfs4_do_open`), by glob (`xfs_*`), or all of a module (`[nfs]`); a piece of a function
/// (`nfs4_do_open+0x10-0x40`), or addresses (`0xffffffff81000000-0xffffffff81001000`), their ends left out.
///
/// A symbol without a dot also means the copies that the compiler made of it (`nfs4_do_open.isra.0`); of a piece it is the
/// function of just that name. What lies where is the call, which is the instruction before the address on the stack.
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
    Piece { name_len: usize, start: u64, end: u64 },
    Range { start: u64, end: u64 },
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
        pattern: Foreign,
        /// The character.
        character: char,
    },
    /// A `[` without its `]`, or with nothing inside.
    #[error(
        "stack pattern `{0}` has an unfinished [ ]; inside a glob it lists characters ([a-f]), alone it names a module ([nfs])"
    )]
    Bracket(Foreign),
    /// No addresses.
    #[error(
        "stack pattern `{0}` is not an address range; write 0x and hexadecimal digits on both sides, the second is left out: 0xffffffff81000000-0xffffffff81001000"
    )]
    Addresses(Foreign),
    /// Not where in a function.
    #[error(
        "stack pattern `{0}` is no piece of a function; write a symbol and two offsets, the second is left out: nfs4_do_open+0x10-0x40"
    )]
    Piece(Foreign),
    /// Nothing lies in it.
    #[error("stack pattern `{0}` is an empty range: it ends where it starts, or before")]
    EmptyRange(Foreign),
    /// Several functions.
    #[error("stack pattern `{0}` is a path; here, each pattern is one function, glob or module")]
    Path(Foreign),
}

crate::exit::has_exit_code!(StackError => USAGE);

/// What a pattern is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StackPatternKind {
    /// One function (and the compiler's copies of it).
    Symbol,
    /// Functions whose names match.
    Glob,
    /// All functions of a module.
    Module,
    /// A piece of a function, at these offsets; [`StackPattern::bare`] is its name.
    Piece {
        /// The first address.
        start: u64,
        /// The first after it.
        end: u64,
    },
    /// What lies at these addresses.
    Range {
        /// The first address.
        start: u64,
        /// The first after them.
        end: u64,
    },
}

impl StackPattern {
    /// What the pattern is about.
    #[must_use]
    pub fn kind(&self) -> StackPatternKind {
        match self.kind {
            Kind::Symbol => StackPatternKind::Symbol,
            Kind::Glob(_) => StackPatternKind::Glob,
            Kind::Module(_) => StackPatternKind::Module,
            Kind::Piece { name_len: _, start, end } => StackPatternKind::Piece { start, end },
            Kind::Range { start, end } => StackPatternKind::Range { start, end },
        }
    }

    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The name without brackets or offsets: what near misses are looked for with.
    #[must_use]
    pub fn bare(&self) -> &str {
        match self.kind {
            Kind::Module(_) => self.text.trim_start_matches('[').trim_end_matches(']'),
            Kind::Piece { name_len, .. } => &self.text[..name_len],
            Kind::Symbol | Kind::Glob(_) | Kind::Range { .. } => &self.text,
        }
    }

    /// Whether it means everything that another pattern means. Where that is not certain, it says no.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        match (&self.kind, &other.kind) {
            _ if self.kind == other.kind && self.text == other.text => true,
            (Kind::Glob(ours), Kind::Glob(theirs)) | (Kind::Module(ours), Kind::Module(theirs)) => ours.covers(theirs),
            // The compiler's copies of a function are called name.something.
            (Kind::Glob(glob), Kind::Symbol) => glob.is_open() && glob.matches(&other.text),
            (Kind::Symbol, Kind::Symbol) => self.matches(&other.text, None),
            (Kind::Glob(_) | Kind::Symbol, Kind::Piece { .. }) => self.matches(other.bare(), None),
            (Kind::Range { start, end }, Kind::Range { start: first, end: last }) => start <= first && last <= end,
            _ => false,
        }
    }

    /// Whether a function of that name, in that module or in the kernel proper, is meant, or a piece of it; addresses mean
    /// none.
    #[must_use]
    pub fn matches(&self, symbol: &str, module: Option<&str>) -> bool {
        match &self.kind {
            Kind::Symbol => {
                symbol.strip_prefix(self.text.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            }
            Kind::Glob(glob) => glob.matches(symbol),
            Kind::Module(glob) => module.is_some_and(|module| glob.matches(module)),
            Kind::Piece { .. } => symbol == self.bare(),
            Kind::Range { .. } => false,
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
        if text.contains("..") {
            return Err(StackError::Path(text.into()));
        }
        if text.starts_with("0x") {
            return addresses(text);
        }
        if let Some((name, offsets)) = text.split_once('+') {
            return piece(text, name, offsets);
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || "_.$-*?[]!^".contains(c);
        if let Some(character) = text.chars().find(|c| !allowed(*c)) {
            return Err(StackError::Character { pattern: text.into(), character });
        }
        if let Some(module) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'))
            && !module.contains(['[', ']'])
        {
            if module.is_empty() {
                return Err(StackError::Bracket(text.into()));
            }
            // Module files are often written with `-`, the kernel always says `_`.
            let module = module.replace('-', "_");
            if let Some(character) = module.chars().find(|c| "!^.$".contains(*c)) {
                return Err(StackError::Character { pattern: text.into(), character });
            }
            let glob = Glob::new(&module).ok_or_else(|| StackError::Bracket(text.into()))?;
            return Ok(Self { text: format!("[{module}]"), kind: Kind::Module(glob) });
        }
        let glob = Glob::new(text).ok_or_else(|| StackError::Bracket(text.into()))?;
        let stray = |token: &Token| match token {
            Token::Byte(byte @ (b'-' | b'!' | b'^' | b']')) => Some(char::from(*byte)),
            _ => None,
        };
        if let Some(character) = glob.tokens.iter().find_map(stray) {
            return Err(StackError::Character { pattern: text.into(), character });
        }
        let kind = if glob.is_literal() { Kind::Symbol } else { Kind::Glob(glob) };
        Ok(Self { text: text.to_owned(), kind })
    }
}

/// `0xffffffff81000000-0xffffffff81001000`
fn addresses(text: &str) -> Result<StackPattern, StackError> {
    let address = |digits: &str| digits.starts_with("0x").then(|| hex_or_decimal(digits)).flatten();
    let ends = text.split_once('-').and_then(|(start, end)| Some((address(start)?, address(end)?)));
    let (start, end) = ends.ok_or_else(|| StackError::Addresses(text.into()))?;
    if start >= end {
        return Err(StackError::EmptyRange(text.into()));
    }
    Ok(StackPattern { text: format!("{start:#x}-{end:#x}"), kind: Kind::Range { start, end } })
}

/// `nfs4_do_open+0x10-0x40`
fn piece(text: &str, name: &str, offsets: &str) -> Result<StackPattern, StackError> {
    let ends = offsets.split_once('-').and_then(|(start, end)| Some((hex_or_decimal(start)?, hex_or_decimal(end)?)));
    let is_symbol = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "_.$".contains(c));
    let (start, end) = ends.filter(|_| is_symbol).ok_or_else(|| StackError::Piece(text.into()))?;
    if start >= end {
        return Err(StackError::EmptyRange(text.into()));
    }
    let kind = Kind::Piece { name_len: name.len(), start, end };
    Ok(StackPattern { text: format!("{name}+{start:#x}-{end:#x}"), kind })
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
    fn code_by_place() {
        let addresses = parse("0xffffffff81000000-0xffffffff81001000");
        let (start, end) = (0xffff_ffff_8100_0000, 0xffff_ffff_8100_1000);
        assert_eq!(addresses.kind(), StackPatternKind::Range { start, end });
        assert!(!addresses.matches("f", None));
        let piece = parse("nfs4_do_open+16-0x40");
        assert_eq!(piece.kind(), StackPatternKind::Piece { start: 0x10, end: 0x40 });
        assert_eq!((piece.bare(), piece.as_str()), ("nfs4_do_open", "nfs4_do_open+0x10-0x40"));
        assert!(piece.matches("nfs4_do_open", None) && !piece.matches("nfs4_do_open.isra.0", None));
    }

    #[test]
    fn refused() {
        for text in ["", "  "] {
            assert_eq!(text.parse::<StackPattern>(), Err(StackError::Empty));
        }
        for text in ["[", "[]", "xfs_[", "x[]", "xfs_[z-a]"] {
            assert!(matches!(text.parse::<StackPattern>(), Err(StackError::Bracket(_))), "{text}");
        }
        for text in ["a..b", "..", "xfs_*..ext4_*"] {
            assert!(matches!(text.parse::<StackPattern>(), Err(StackError::Path(_))), "{text}");
        }
        for text in ["0x", "0x10", "0x10-", "0x10-20", "0xg-0xh", "0x1-0x2-0x3", "0x10000000000000000-0x1", "0x1 - 0x2"]
        {
            assert!(matches!(text.parse::<StackPattern>(), Err(StackError::Addresses(_))), "{text}");
        }
        for text in ["f+", "f+0x10", "f+1f-20", "+1-2", "f*+1-2", "[nfs]+1-2", "f+0x1f4/0x2b0", "f+1-2-3"] {
            assert!(matches!(text.parse::<StackPattern>(), Err(StackError::Piece(_))), "{text}");
        }
        for text in ["0x2-0x2", "0x2-0x1", "f+0x40-0x10", "f+0-0"] {
            assert!(matches!(text.parse::<StackPattern>(), Err(StackError::EmptyRange(_))), "{text}");
        }
        for text in ["a b", "a/b", "xfs_]", "a-b", "!a", "ä", "[!nfs]"] {
            assert!(matches!(text.parse::<StackPattern>(), Err(StackError::Character { .. })), "{text}");
        }
    }

    proptest! {
        #[test]
        fn round_trip(text in "([a-z_*?]\\.?){1,8}|[a-z_]{1,9}\\+0x[1-9]-0x[a-f]{2,9}|0x[1-9][0-9]{3}-0x[a-f]{5,16}|\\[[a-z_*]{1,6}\\]|[a-z]{0,3}\\[[!^]?[a-z]{1,3}\\]\\*") {
            let pattern = parse(&text);
            prop_assert_eq!(parse(&pattern.to_string()), pattern);
        }

        #[test]
        fn never_panics(text in "[a-z\\[\\]*?!^-]{0,12}|(0x|f\\+)?[0-9a-fx.-]*|\\PC*", name in "[a-z_]{0,20}") {
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
