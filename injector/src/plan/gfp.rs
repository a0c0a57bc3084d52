//! GFP filters: names here; [`GfpFilter::resolve`] makes bits of them when the kernel is known.
//!
//! | name | matches flags with |
//! |---|---|
//! | `NOFS` | `DIRECT_RECLAIM` and `IO`, without `FS` |
//! | `NOIO` | `DIRECT_RECLAIM`, without `IO` and `FS` |
//! | `KERNEL` | `DIRECT_RECLAIM`, `IO` and `FS`, without `HARDWALL` and `HIGHMEM` |
//! | `USER` | `DIRECT_RECLAIM`, `IO`, `FS` and `HARDWALL`, without `HIGHMEM` |
//! | `HIGHUSER` | `DIRECT_RECLAIM`, `IO`, `FS`, `HARDWALL` and `HIGHMEM`, movable or not |
//! | `ATOMIC` | `HIGH` and `KSWAPD_RECLAIM`, without `DIRECT_RECLAIM` |
//! | `NOWAIT` | `KSWAPD_RECLAIM`, without `DIRECT_RECLAIM` and `HIGH` |
//! | a single flag (`ZERO`, `__GFP_ZERO`) | that bit |
//!
//! Other flags may be set or not. `!X` matches what `X` does not. Inside one value all terms must hold; of several
//! values any may.

use std::fmt;
use std::str::FromStr;

use injector_common::config::{GfpAlternative, GfpTest, MAX_GFP_ALTERNATIVES, MAX_GFP_NEGATED};
use serde::{Serialize, Serializer};

use super::suggest;
use crate::foreign::Foreign;

/// The single flags of every kernel since 4.17; which of them the running kernel has is known when the filter is resolved.
const FLAGS: [&str; 31] = [
    "DMA",
    "HIGHMEM",
    "DMA32",
    "MOVABLE",
    "RECLAIMABLE",
    "HIGH",
    "IO",
    "FS",
    "ZERO",
    "DIRECT_RECLAIM",
    "KSWAPD_RECLAIM",
    "WRITE",
    "NOWARN",
    "RETRY_MAYFAIL",
    "NOFAIL",
    "NORETRY",
    "MEMALLOC",
    "COMP",
    "NOMEMALLOC",
    "HARDWALL",
    "THISNODE",
    "ACCOUNT",
    "ZEROTAGS",
    "SKIP_ZERO",
    "SKIP_KASAN",
    "SKIP_KASAN_POISON",
    "SKIP_KASAN_UNPOISON",
    "NOLOCKDEP",
    "NO_OBJ_EXT",
    "ATOMIC",
    "NOTRACK",
];

/// A named combination: what must be set and what must be clear.
#[derive(Debug, PartialEq, Eq)]
struct Composite {
    name: &'static str,
    set: &'static [&'static str],
    clear: &'static [&'static str],
}

const COMPOSITES: [Composite; 7] = [
    Composite { name: "NOFS", set: &["DIRECT_RECLAIM", "IO"], clear: &["FS"] },
    Composite { name: "NOIO", set: &["DIRECT_RECLAIM"], clear: &["IO", "FS"] },
    Composite { name: "KERNEL", set: &["DIRECT_RECLAIM", "IO", "FS"], clear: &["HARDWALL", "HIGHMEM"] },
    Composite { name: "ATOMIC", set: &["HIGH", "KSWAPD_RECLAIM"], clear: &["DIRECT_RECLAIM"] },
    Composite { name: "NOWAIT", set: &["KSWAPD_RECLAIM"], clear: &["DIRECT_RECLAIM", "HIGH"] },
    Composite { name: "USER", set: &["DIRECT_RECLAIM", "IO", "FS", "HARDWALL"], clear: &["HIGHMEM"] },
    Composite { name: "HIGHUSER", set: &["DIRECT_RECLAIM", "IO", "FS", "HARDWALL", "HIGHMEM"], clear: &[] },
];

/// `__GFP_RECLAIM` is the one flag of the kernel that is two bits.
const RECLAIM: Composite = Composite { name: "RECLAIM", set: &["DIRECT_RECLAIM", "KSWAPD_RECLAIM"], clear: &[] };

/// The GFP flags of a kernel.
pub trait KernelFlags {
    /// The bit of a flag, by its name without prefix.
    fn bit(&self, name: &str) -> Option<u32>;
    /// The names of all flags, without prefix.
    fn names(&self) -> Vec<&str>;
    /// Where they were read, for messages.
    fn source(&self) -> &'static str;
}

/// Which GFP flags the filters look at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum GfpScope {
    /// The flags after the task's memalloc_nofs/memalloc_noio scopes: what the allocation may really do.
    #[default]
    Effective,
    /// The argument of the call alone.
    Raw,
}

impl fmt::Display for GfpScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Effective => "effective",
            Self::Raw => "raw",
        })
    }
}

/// What a `--gfp` value can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Name {
    Composite(&'static Composite),
    Flag(&'static str),
}

/// One condition on the flags: a named combination or a flag, perhaps negated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Term {
    name: Name,
    negated: bool,
}

/// One `--gfp` value: terms that must all hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GfpValue {
    terms: Vec<Term>,
}

/// All `--gfp` values: any of them must hold. Without any, all flags match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GfpFilter {
    any_of: Vec<GfpValue>,
}

/// Why there is no such GFP filter.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum GfpError {
    /// Not a name of any kernel.
    #[error("there is no GFP flag `{name}`{hint}", hint = unknown_hint(.name))]
    Unknown {
        /// As it was given.
        name: Foreign,
    },
    /// A value, or a part of one, is empty.
    #[error("GFP value `{0}` has an empty part; join names with a comma: NOFS,!NOWARN")]
    Empty(Foreign),
    /// The terms exclude each other.
    #[error("GFP value `{value}` can never match: {flag} would have to be set and clear")]
    Contradiction {
        /// The value.
        value: Foreign,
        /// The flag that is asked to be both.
        flag: String,
    },
    /// A negated combination contains all that the others demand.
    #[error("GFP value `{value}` can never match: whatever its other parts accept, `!{excluded}` refuses")]
    Excluded {
        /// The value.
        value: Foreign,
        /// The combination.
        excluded: String,
    },
    /// Would match only what a guard protects.
    #[error(
        "GFP value `{0}` can never fail anything: allocations with __GFP_NOFAIL are never failed, their callers rightly don't check"
    )]
    NoFail(Foreign),
    /// More than the kernel side holds.
    #[error("too many --gfp values ({0}); at most {MAX_GFP_ALTERNATIVES} are possible")]
    TooManyValues(usize),
    /// More than the kernel side holds.
    #[error("GFP value `{0}` negates too many combinations; at most {MAX_GFP_NEGATED} are possible")]
    TooManyNegated(Foreign),
    /// This kernel does not have the flag.
    #[error("this kernel has no {flag} (GFP names from {source_name}); it has {have}")]
    NotInKernel {
        /// The flag.
        flag: String,
        /// Where the names were read.
        source_name: &'static str,
        /// What there is.
        have: String,
    },
}

fn unknown_hint(name: &str) -> String {
    let bare = bare_name(name).0;
    let composites = COMPOSITES.iter().map(|composite| composite.name);
    let close = suggest::close(&bare, composites.clone().chain(FLAGS).chain(["RECLAIM"]), 3);
    if close.is_empty() {
        let names: Vec<&str> = composites.collect();
        format!("; there are {} and single flags such as ZERO, NOWARN, DIRECT_RECLAIM", names.join(", "))
    } else {
        suggest::did_you_mean(&close)
    }
}

/// How a name was prefixed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Prefix {
    None,
    Composite,
    Flag,
}

fn bare_name(text: &str) -> (String, Prefix) {
    let upper = text.to_ascii_uppercase();
    if let Some(flag) = upper.strip_prefix("__GFP_") {
        (flag.to_owned(), Prefix::Flag)
    } else if let Some(composite) = upper.strip_prefix("GFP_") {
        (composite.to_owned(), Prefix::Composite)
    } else {
        (upper, Prefix::None)
    }
}

impl FromStr for Name {
    type Err = GfpError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (bare, prefix) = bare_name(text);
        // `ATOMIC` alone is GFP_ATOMIC; the flag of that name (gone since 6.3) is only meant by `__GFP_ATOMIC`.
        let composite = || COMPOSITES.iter().find(|composite| composite.name == bare).map(Self::Composite);
        let flag = || {
            if bare == RECLAIM.name {
                return Some(Self::Composite(&RECLAIM));
            }
            FLAGS.into_iter().find(|flag| *flag == bare).map(Self::Flag)
        };
        let found = match prefix {
            Prefix::None => composite().or_else(flag),
            Prefix::Composite => composite(),
            Prefix::Flag => flag(),
        };
        found.ok_or_else(|| GfpError::Unknown { name: text.into() })
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Composite(composite) if composite.name == RECLAIM.name => f.write_str("__GFP_RECLAIM"),
            Self::Composite(composite) => write!(f, "GFP_{}", composite.name),
            Self::Flag(flag) => write!(f, "__GFP_{flag}"),
        }
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.negated { "!" } else { "" }, self.name)
    }
}

/// Names of flags that must be set and must be clear.
#[derive(Default)]
struct Demands {
    set: Vec<&'static str>,
    clear: Vec<&'static str>,
}

impl GfpValue {
    fn checked(terms: Vec<Term>, text: &str) -> Result<Self, GfpError> {
        let value = Self { terms };
        let demands = value.demands();
        if let Some(flag) = demands.set.iter().find(|flag| demands.clear.contains(flag)) {
            return Err(GfpError::Contradiction { value: text.into(), flag: format!("__GFP_{flag}") });
        }
        if demands.set.contains(&"NOFAIL") {
            return Err(GfpError::NoFail(text.into()));
        }
        let implied = |composite: &Composite| {
            composite.set.iter().all(|flag| demands.set.contains(flag))
                && composite.clear.iter().all(|flag| demands.clear.contains(flag))
        };
        if let Some(excluded) = value.negated_composites().find(|composite| implied(composite)) {
            let excluded = Name::Composite(excluded).to_string();
            return Err(GfpError::Excluded { value: text.into(), excluded });
        }
        if value.negated_composites().count() > MAX_GFP_NEGATED {
            return Err(GfpError::TooManyNegated(text.into()));
        }
        Ok(value)
    }

    fn demands(&self) -> Demands {
        let mut demands = Demands::default();
        for term in &self.terms {
            match (term.name, term.negated) {
                (Name::Flag(flag), false) => demands.set.push(flag),
                (Name::Flag(flag), true) => demands.clear.push(flag),
                (Name::Composite(composite), false) => {
                    demands.set.extend(composite.set);
                    demands.clear.extend(composite.clear);
                }
                (Name::Composite(_), true) => {}
            }
        }
        demands
    }

    fn negated_composites(&self) -> impl Iterator<Item = &'static Composite> + '_ {
        self.terms.iter().filter(|term| term.negated).filter_map(|term| match term.name {
            Name::Composite(composite) => Some(composite),
            Name::Flag(_) => None,
        })
    }

    fn resolve(&self, bits: &impl KernelFlags) -> Result<GfpAlternative, GfpError> {
        let Demands { set, clear } = self.demands();
        let mut alternative = GfpAlternative { test: test(&set, &clear, bits)?, ..GfpAlternative::default() };
        for (slot, composite) in alternative.negated.iter_mut().zip(self.negated_composites()) {
            *slot = test(composite.set, composite.clear, bits)?;
            alternative.negated_len += 1;
        }
        Ok(alternative)
    }
}

/// The test for `set` and `clear`. A flag that this kernel lacks is always clear there, but can't be asked to be set.
fn test(set: &[&str], clear: &[&str], bits: &impl KernelFlags) -> Result<GfpTest, GfpError> {
    let mut value = 0;
    for flag in set {
        value |= bits.bit(flag).ok_or_else(|| GfpError::NotInKernel {
            flag: format!("__GFP_{flag}"),
            source_name: bits.source(),
            have: bits.names().join(", "),
        })?;
    }
    let cleared = clear.iter().filter_map(|flag| bits.bit(flag)).fold(0, |all, bit| all | bit);
    Ok(GfpTest { mask: value | cleared, value })
}

impl FromStr for GfpValue {
    type Err = GfpError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut terms: Vec<Term> = Vec::new();
        for part in text.split([',', '|', '+']) {
            let part = part.trim();
            let (negated, name) = part.strip_prefix('!').map_or((false, part), |name| (true, name.trim()));
            if name.is_empty() {
                return Err(GfpError::Empty(text.into()));
            }
            let term = Term { name: name.parse()?, negated };
            if !terms.contains(&term) {
                terms.push(term);
            }
        }
        Self::checked(terms, text)
    }
}

impl fmt::Display for GfpValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, term) in self.terms.iter().enumerate() {
            write!(f, "{}{term}", if i == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl Serialize for GfpValue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for GfpFilter {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.any_of.serialize(serializer)
    }
}

impl GfpFilter {
    /// A filter that any of the values satisfies; without values, all flags match.
    ///
    /// # Errors
    /// There are more values than the kernel side holds.
    pub fn any_of(values: Vec<GfpValue>) -> Result<Self, GfpError> {
        if values.len() > MAX_GFP_ALTERNATIVES {
            return Err(GfpError::TooManyValues(values.len()));
        }
        Ok(Self { any_of: values })
    }

    /// Whether all flags match.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.any_of.is_empty()
    }

    /// The values.
    #[must_use]
    pub fn values(&self) -> &[GfpValue] {
        &self.any_of
    }

    /// What the kernel side tests, with the bits of the running kernel; empty when all flags match.
    ///
    /// # Errors
    /// The kernel has no such flag.
    pub fn resolve(&self, bits: &impl KernelFlags) -> Result<Vec<GfpAlternative>, GfpError> {
        self.any_of.iter().map(|value| value.resolve(bits)).collect()
    }
}

#[cfg(test)]
mod tests;
