//! A site by name: by its signature, or by the line of the source that asks for the memory.

use std::{fmt, str::FromStr};

use injector_common::config;
use serde::{Serialize, Serializer};

use crate::foreign::{Foreign, steers};

/// A site that is to fail.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SiteName {
    /// Hook and call chain, by the signature that summaries, reports and journals show: `ebdf6829778f5bc5`.
    Signature(u64),
    /// Whatever is asked for on a line of the kernel's sources: `fs/jbd2/journal.c:1234`.
    Line(SourceLine),
}

/// A line of the kernel's sources.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SourceLine {
    /// The file, relative to the root of the sources.
    pub file: String,
    /// The line, from 1.
    pub line: u32,
}

/// Text that names no site.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "`{0}` is no site; write the 16 hexadecimal digits of its signature (injector sites JOURNAL -v lists them), or a line of the kernel's sources: fs/jbd2/journal.c:1234"
)]
pub struct NoSite(Foreign);

impl SiteName {
    /// How many signatures a rule can have.
    pub const MAX_SIGNATURES: usize = config::MAX_SIGNATURES;
}

impl FromStr for SiteName {
    type Err = NoSite;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let no_site = || NoSite(text.into());
        if let Some((file, line)) = text.rsplit_once(':') {
            let line = line.parse().ok().filter(|line| *line > 0).ok_or_else(no_site)?;
            let bad = |c: char| steers(c) || c.is_whitespace();
            if file.is_empty() || file.ends_with('/') || file.contains(bad) {
                return Err(no_site());
            }
            return Ok(Self::Line(SourceLine { file: file.strip_prefix("./").unwrap_or(file).to_owned(), line }));
        }
        let digits = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let signature = digits.then(|| u64::from_str_radix(text, 16).ok()).flatten();
        signature.map(Self::Signature).ok_or_else(no_site)
    }
}

impl fmt::Display for SourceLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

impl fmt::Display for SiteName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signature(signature) => write!(f, "{signature:016x}"),
            Self::Line(line) => line.fmt(f),
        }
    }
}

impl Serialize for SiteName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names() {
        assert_eq!("ebdf6829778F5BC5".parse(), Ok(SiteName::Signature(0xebdf_6829_778f_5bc5)));
        let line = SourceLine { file: "fs/jbd2/journal.c".to_owned(), line: 1234 };
        assert_eq!("./fs/jbd2/journal.c:1234".parse(), Ok(SiteName::Line(line)));
        for bad in [
            "",
            "ebdf6829778f5bc",
            "ebdf6829778f5bc50",
            "0xdf6829778f5bc5",
            "fs/a.c",
            "fs/a.c:0",
            "fs/a.c:x",
            ":7",
            "fs/:7",
            "a b:7",
        ] {
            assert!(bad.parse::<SiteName>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn round_trip(signature: u64, file in "[a-z][a-z0-9/_.-]{0,20}[a-z]", line in 1u32..) {
            for name in [SiteName::Signature(signature), SiteName::Line(SourceLine { file, line })] {
                prop_assert_eq!(name.to_string().parse(), Ok(name));
            }
        }

        #[test]
        fn never_panics(text in "\\PC*|[0-9a-f:]*") {
            let _ = text.parse::<SiteName>();
        }
    }
}
