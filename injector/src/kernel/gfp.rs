//! The GFP bits of the running kernel. They move between versions and configurations, and a wrong bit for
//! `__GFP_NOFAIL` would make correct code crash; so without that bit there is no [`GfpBits`].

use super::btf::Btf;
use super::{KernelError, KernelFiles};
use crate::foreign::Foreign;
use crate::plan::gfp::KernelFlags;

/// GFP flags and their combinations, by name and value.
#[derive(Clone, Debug)]
pub struct GfpBits {
    /// Single bits by bare name (`NOFAIL`).
    flags: Vec<(String, u32)>,
    /// What flags are printed as, the kernel's names in the kernel's order: combinations with most bits first.
    printed: Vec<(String, u32)>,
    source: Source,
}

/// Where the bits were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The enum that kernels since 6.9 have in their type information.
    Btf,
    /// The print format of a tracepoint.
    Tracefs,
}

impl Source {
    /// For messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Btf => "BTF",
            Self::Tracefs => "tracefs events/kmem/kmalloc/format",
        }
    }
}

/// The first enumerator of the enum that kernels since 6.9 have.
pub const FIRST_ENUMERATOR: &str = "___GFP_DMA_BIT";

/// The kernel's combinations (include/linux/gfp_types.h, 6.12), in the order in which it prints them
/// (include/trace/events/mmflags.h). Bits that a kernel lacks are left out of them.
const COMBINATIONS: [(&str, &[&str]); 11] = [
    (
        "GFP_TRANSHUGE",
        &["DIRECT_RECLAIM", "IO", "FS", "HARDWALL", "HIGHMEM", "MOVABLE", "SKIP_KASAN", "COMP", "NOMEMALLOC", "NOWARN"],
    ),
    (
        "GFP_TRANSHUGE_LIGHT",
        &["IO", "FS", "HARDWALL", "HIGHMEM", "MOVABLE", "SKIP_KASAN", "COMP", "NOMEMALLOC", "NOWARN"],
    ),
    (
        "GFP_HIGHUSER_MOVABLE",
        &["DIRECT_RECLAIM", "KSWAPD_RECLAIM", "IO", "FS", "HARDWALL", "HIGHMEM", "MOVABLE", "SKIP_KASAN"],
    ),
    ("GFP_HIGHUSER", &["DIRECT_RECLAIM", "KSWAPD_RECLAIM", "IO", "FS", "HARDWALL", "HIGHMEM"]),
    ("GFP_USER", &["DIRECT_RECLAIM", "KSWAPD_RECLAIM", "IO", "FS", "HARDWALL"]),
    ("GFP_KERNEL_ACCOUNT", &["DIRECT_RECLAIM", "KSWAPD_RECLAIM", "IO", "FS", "ACCOUNT"]),
    ("GFP_KERNEL", &["DIRECT_RECLAIM", "KSWAPD_RECLAIM", "IO", "FS"]),
    ("GFP_NOFS", &["DIRECT_RECLAIM", "KSWAPD_RECLAIM", "IO"]),
    ("GFP_ATOMIC", &["HIGH", "KSWAPD_RECLAIM"]),
    ("GFP_NOIO", &["DIRECT_RECLAIM", "KSWAPD_RECLAIM"]),
    ("GFP_NOWAIT", &["KSWAPD_RECLAIM", "NOWARN"]),
];

/// A text that names no GFP flags of this kernel.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("this kernel has no GFP flag `{0}`")]
pub struct UnknownFlag(Foreign);

impl GfpBits {
    /// Takes them from BTF if they are there, else from tracefs.
    ///
    /// # Errors
    /// They are in neither, or `__GFP_NOFAIL` is not among them.
    pub fn read(files: &KernelFiles, btf: Option<&Btf>) -> Result<Self, KernelError> {
        if let Some(bits) = btf.and_then(Self::from_btf) {
            return bits.checked();
        }
        let mut first_error = None;
        for tracefs in ["sys/kernel/tracing", "sys/kernel/debug/tracing"] {
            match files.read_text(format!("{tracefs}/events/kmem/kmalloc/format")) {
                Ok(format) => return Self::from_format(&format).checked(),
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        Err(first_error.unwrap_or(KernelError::NoFailUnknown("nowhere")))
    }

    /// From the enum `___GFP_*_BIT`; `None`: this kernel has no such enum. The [`Btf`] must have been asked for
    /// [`FIRST_ENUMERATOR`].
    #[must_use]
    pub fn from_btf(btf: &Btf) -> Option<Self> {
        let flags: Vec<(String, u32)> = btf
            .enumerators()
            .filter_map(|(name, bit)| {
                let name = name.strip_prefix("___GFP_")?.strip_suffix("_BIT")?;
                let mask = 1u32.checked_shl(bit)?;
                (name != "LAST" && name != "UNUSED").then(|| (name.to_owned(), mask))
            })
            .collect();
        if flags.is_empty() {
            return None;
        }
        let bit = |name: &str| flags.iter().find(|(flag, _)| flag == name).map(|(_, bit)| *bit);
        let combinations = COMBINATIONS.into_iter().map(|(name, parts)| {
            (name.to_owned(), parts.iter().filter_map(|part| bit(part)).fold(0, |all, bit| all | bit))
        });
        let single = flags.iter().map(|(name, bit)| match name.as_str() {
            // The kernel prints these two without underscores.
            "DMA" | "DMA32" => (format!("GFP_{name}"), *bit),
            _ => (format!("__GFP_{name}"), *bit),
        });
        let printed = combinations.chain(single).filter(|(_, mask)| *mask != 0).collect();
        Some(Self { flags, printed, source: Source::Btf })
    }

    /// From the print format of a tracepoint with GFP flags:
    /// `… __print_flags(REC->gfp_flags, "|", {( unsigned long)(( gfp_t)0x8000u), "__GFP_NOFAIL"}, …`
    #[must_use]
    pub fn from_format(format: &str) -> Self {
        let mut flags: Vec<(String, u32)> = Vec::new();
        let mut printed: Vec<(String, u32)> = Vec::new();
        let start = format.find("__print_flags").unwrap_or(format.len());
        for entry in format[start..].split('{').skip(1) {
            let Some((value, rest)) = entry.split_once(", \"") else { continue };
            let Some((name, _)) = rest.split_once('"') else { continue };
            let Some(mask) = Expression::evaluate(value).filter(|mask| *mask != 0) else { continue };
            printed.push((name.to_owned(), mask));
            let single = name.strip_prefix("__GFP_").or(match name {
                "GFP_DMA" | "GFP_DMA32" => name.strip_prefix("GFP_"),
                _ => None,
            });
            if let Some(single) = single
                && mask.is_power_of_two()
                && !flags.iter().any(|(flag, _)| flag == single)
            {
                flags.push((single.to_owned(), mask));
            }
        }
        Self { flags, printed, source: Source::Tracefs }
    }

    fn checked(self) -> Result<Self, KernelError> {
        if self.bit("NOFAIL").is_none() {
            return Err(KernelError::NoFailUnknown(self.source.name()));
        }
        // Two names for one bit would mean that the source was misread, then NOFAIL can't be trusted either.
        let distinct = self.flags.iter().try_fold(0, |seen, (_, bit)| (seen & bit == 0).then_some(seen | bit));
        if distinct.is_none() {
            let why = "two GFP flags have the same bit".to_owned();
            return Err(KernelError::Malformed { what: self.source.name().to_owned(), why });
        }
        Ok(self)
    }

    /// Where they were read.
    #[must_use]
    pub fn source(&self) -> Source {
        self.source
    }

    /// All single flags, by bare name.
    pub fn flags(&self) -> impl Iterator<Item = (&str, u32)> {
        self.flags.iter().map(|(name, bit)| (name.as_str(), *bit))
    }

    /// The bit of a single flag, by its bare name (`NOFAIL`) or with its prefix (`__GFP_NOFAIL`).
    #[must_use]
    pub fn bit(&self, name: &str) -> Option<u32> {
        let bare = name.strip_prefix("__GFP_").unwrap_or(name);
        self.flags().find(|(flag, _)| *flag == bare).map(|(_, bit)| bit)
    }

    /// As the kernel prints them: `GFP_KERNEL|__GFP_ZERO`; bits without a name in hex; `none` for 0.
    #[must_use]
    pub fn format(&self, flags: u32) -> String {
        let mut text = String::new();
        let mut left = flags;
        let mut add = |part: &str| {
            if !text.is_empty() {
                text.push('|');
            }
            text.push_str(part);
        };
        for (name, mask) in &self.printed {
            if left & mask == *mask {
                left &= !mask;
                add(name);
            }
        }
        if left != 0 {
            add(&format!("{left:#x}"));
        }
        if text.is_empty() { "none".to_owned() } else { text }
    }

    /// The opposite of [`GfpBits::format`].
    ///
    /// # Errors
    /// A name is not one of this kernel's.
    pub fn parse(&self, text: &str) -> Result<u32, UnknownFlag> {
        let mut flags = 0;
        for part in text.split('|').map(str::trim) {
            let hex = part.strip_prefix("0x").and_then(|digits| u32::from_str_radix(digits, 16).ok());
            let named = || self.printed.iter().find(|(name, _)| name == part).map(|(_, mask)| *mask);
            let none = || (part == "none" || part == "0").then_some(0);
            flags |=
                hex.or_else(named).or_else(|| self.bit(part)).or_else(none).ok_or_else(|| UnknownFlag(part.into()))?;
        }
        Ok(flags)
    }
}

/// The C expressions in tracepoint formats: numbers, casts, brackets, `|`, `&`, `~`, `<<`.
struct Expression<'a> {
    rest: &'a [u8],
    depth: u32,
}

impl<'a> Expression<'a> {
    /// `None`: something else is in it, such as the name of an enumerator.
    fn evaluate(text: &'a str) -> Option<u32> {
        let mut this = Self { rest: text.as_bytes(), depth: 0 };
        let value = this.or()?;
        this.peek().is_none().then_some(value).and_then(|value| u32::try_from(value & u64::from(u32::MAX)).ok())
    }

    fn peek(&mut self) -> Option<u8> {
        self.rest = self.rest.trim_ascii_start();
        self.rest.first().copied()
    }

    fn take(&mut self, token: &str) -> bool {
        self.peek();
        match self.rest.strip_prefix(token.as_bytes()) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn or(&mut self) -> Option<u64> {
        let mut value = self.and()?;
        while self.take("|") {
            value |= self.and()?;
        }
        Some(value)
    }

    fn and(&mut self) -> Option<u64> {
        let mut value = self.shift()?;
        while self.take("&") {
            value &= self.shift()?;
        }
        Some(value)
    }

    fn shift(&mut self) -> Option<u64> {
        let mut value = self.unary()?;
        while self.take("<<") {
            value = value.checked_shl(u32::try_from(self.unary()?).ok()?)?;
        }
        Some(value)
    }

    fn unary(&mut self) -> Option<u64> {
        self.depth += 1;
        if self.depth > 64 {
            return None;
        }
        let value = if self.take("~") {
            !self.unary()?
        } else if self.take("(") {
            let cast = ["gfp_t", "unsigned long"].into_iter().find(|cast| {
                self.peek();
                self.rest.strip_prefix(cast.as_bytes()).is_some_and(|rest| rest.trim_ascii_start().starts_with(b")"))
            });
            if let Some(cast) = cast {
                self.take(cast);
                self.take(")");
                self.unary()?
            } else {
                let value = self.or()?;
                self.take(")").then_some(value)?
            }
        } else {
            self.number()?
        };
        self.depth -= 1;
        Some(value)
    }

    fn number(&mut self) -> Option<u64> {
        let radix = if self.take("0x") { 16 } else { 10 };
        self.peek();
        let length = self.rest.iter().position(|b| !char::from(*b).is_digit(radix)).unwrap_or(self.rest.len());
        let (digits, rest) = self.rest.split_at(length);
        let value = u64::from_str_radix(std::str::from_utf8(digits).ok()?, radix).ok()?;
        let suffix = rest.iter().position(|b| !matches!(b, b'u' | b'U' | b'l' | b'L')).unwrap_or(rest.len());
        self.rest = &rest[suffix..];
        Some(value)
    }
}

impl KernelFlags for GfpBits {
    fn bit(&self, name: &str) -> Option<u32> {
        self.bit(name)
    }

    fn names(&self) -> Vec<&str> {
        self.flags().map(|(name, _)| name).collect()
    }

    fn source(&self) -> &'static str {
        self.source.name()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn expressions() {
        for (text, value) in [
            ("( unsigned long)(( gfp_t)0x8000u)", Some(0x8000)),
            ("(unsigned long)(((gfp_t)(0x400u|0x800u)) | ((gfp_t)0x40u))", Some(0xc40)),
            ("(( gfp_t)((((1UL))) << (15)))", Some(0x8000)),
            ("(0xfu & ~(0x1u|0x2u))", Some(0xc)),
            ("(( gfp_t)0)", Some(0)),
            ("((((1UL))) << (___GFP_DMA_BIT))", None),
            ("", None),
            ("(1", None),
            ("1 2", None),
        ] {
            assert_eq!(Expression::evaluate(text), value, "{text}");
        }
    }

    #[test]
    fn without_nofail_there_are_no_bits() {
        let bits = GfpBits::from_format(r#"__print_flags(x, "|", {(( gfp_t)0x40u), "__GFP_IO"})"#);
        assert_eq!(bits.bit("IO"), Some(0x40));
        assert!(matches!(bits.checked(), Err(KernelError::NoFailUnknown(_))));
    }

    #[test]
    fn one_bit_with_two_names_is_not_trusted() {
        let format = r#"__print_flags(x, "|", {(( gfp_t)0x40u), "__GFP_IO"}, {(( gfp_t)0x40u), "__GFP_NOFAIL"})"#;
        assert!(matches!(GfpBits::from_format(format).checked(), Err(KernelError::Malformed { .. })));
    }

    proptest! {
        #[test]
        fn never_panics(text in "[0-9a-fxuL()|&~< ]{0,40}|\\PC*") {
            let _ = Expression::evaluate(&text);
            let _ = GfpBits::from_format(&format!("__print_flags({{{text}, \"__GFP_IO\"}}"));
        }
    }
}
