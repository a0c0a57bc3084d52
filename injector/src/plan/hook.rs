//! The hooks by name.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::suggest;

/// An error-injectable kernel function that the injector attaches to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hook {
    /// `should_failslab()`: every allocation of the slab allocator (kmalloc, kmem_cache_alloc).
    Slab,
    /// `should_fail_alloc_page()`: every allocation of the page allocator.
    Page,
}

/// There is no such hook.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("there is no hook `{name}` (hooks are: slab, page){}", hint(.name))]
pub struct UnknownHook {
    name: String,
}

fn hint(name: &str) -> String {
    suggest::did_you_mean(&suggest::close(name, Hook::ALL.map(Hook::name), 1))
}

impl Hook {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Slab, Self::Page];

    /// Its name on the command line and in outputs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Slab => "slab",
            Self::Page => "page",
        }
    }

    /// The kernel function.
    #[must_use]
    pub fn function(self) -> &'static str {
        match self {
            Self::Slab => "should_failslab",
            Self::Page => "should_fail_alloc_page",
        }
    }

    /// The prototype that the eBPF side relies on, as [`crate::kernel::btf`] writes prototypes.
    #[must_use]
    pub fn prototype(self) -> &'static str {
        match self {
            Self::Slab => "int should_failslab(struct kmem_cache *, gfp_t)",
            Self::Page => "bool should_fail_alloc_page(gfp_t, unsigned int)",
        }
    }

    /// The kernel option that kernels from 6.11 on need for it.
    #[must_use]
    pub fn option(self) -> &'static str {
        match self {
            Self::Slab => "CONFIG_FAILSLAB",
            Self::Page => "CONFIG_FAIL_PAGE_ALLOC",
        }
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Hook {
    type Err = UnknownHook;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let name = text.trim();
        Self::ALL
            .into_iter()
            .find(|hook| hook.name() == name || hook.function() == name)
            .ok_or_else(|| UnknownHook { name: name.to_owned() })
    }
}

impl<'de> Deserialize<'de> for Hook {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Serialize for Hook {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for hook in Hook::ALL {
            assert_eq!(hook.to_string().parse::<Hook>().unwrap(), hook);
        }
        assert_eq!("should_failslab".parse::<Hook>().unwrap(), Hook::Slab);
        assert_eq!(
            "slap".parse::<Hook>().unwrap_err().to_string(),
            "there is no hook `slap` (hooks are: slab, page); did you mean slab?"
        );
    }
}
