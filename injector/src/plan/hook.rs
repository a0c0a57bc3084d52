//! The hooks by name.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{ErrorNumber, suggest};

/// An error-injectable kernel function that the injector attaches to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hook {
    /// `should_failslab()`: every allocation of the slab allocator (kmalloc, kmem_cache_alloc).
    Slab,
    /// `should_fail_alloc_page()`: every allocation of the page allocator.
    Page,
    /// `__filemap_add_folio()`: every folio that comes into a page cache.
    Filemap,
    /// `should_fail_bio()`: every bio that is submitted to a block device.
    Bio,
    /// `page_pool_alloc_pages()`: every allocation of a network driver's page pool.
    PagePool,
    /// Any other that the kernel lists, by the name of its symbol.
    Function(FunctionName),
}

/// The symbol of a kernel function. It lives as long as the process: a run names few, and each once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FunctionName(&'static str);

impl FunctionName {
    /// The symbol.
    #[must_use]
    pub fn new(symbol: &str) -> Self {
        static KNOWN: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
        let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        Self(known.get(symbol).copied().unwrap_or_else(|| {
            let symbol = Box::leak(Box::<str>::from(symbol));
            known.insert(symbol);
            symbol
        }))
    }

    /// The same as text.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.0
    }
}

/// A function to attach to, as it was asked for: which symbol that is, and whether it may return the error, the kernel says.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Function {
    /// `openat`, `__x64_sys_openat`, `open_ctree`.
    pub name: String,
    /// What it returns instead of being called; `None`: what its type suggests.
    pub error: Option<FunctionError>,
}

/// What a function returns instead of being called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "UPPERCASE", untagged)]
pub enum FunctionError {
    /// A negated error number.
    Errno(ErrorNumber),
    /// NULL.
    Null,
    /// 1.
    True,
}

/// There is no such hook.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("there is no hook `{name}` (hooks are: slab, page){}", hint(.name))]
pub struct UnknownHook {
    name: String,
}

fn hint(name: &str) -> String {
    suggest::did_you_mean(&suggest::close(name, Hook::MEMORY.map(Hook::name), 1))
}

impl Hook {
    /// Those of the allocators: what a run attaches to where nothing else is said.
    pub const MEMORY: [Self; 2] = [Self::Slab, Self::Page];
    /// Those with a name of their own.
    pub const NAMED: [Self; 5] = [Self::Slab, Self::Page, Self::Filemap, Self::Bio, Self::PagePool];

    /// Its name on the command line and in outputs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Slab => "slab",
            Self::Page => "page",
            Self::Filemap => "filemap",
            Self::Bio => "bio",
            Self::PagePool => "page-pool",
            Self::Function(name) => name.as_str(),
        }
    }

    /// The kernel function.
    #[must_use]
    pub fn function(self) -> &'static str {
        match self {
            Self::Slab => "should_failslab",
            Self::Page => "should_fail_alloc_page",
            Self::Filemap => "__filemap_add_folio",
            Self::Bio => "should_fail_bio",
            Self::PagePool => "page_pool_alloc_pages",
            Self::Function(name) => name.as_str(),
        }
    }

    /// The prototype that the eBPF side relies on, as [`crate::kernel::btf`] writes prototypes; `None`: on none.
    #[must_use]
    pub fn prototype(self) -> Option<&'static str> {
        match self {
            Self::Slab => Some("int should_failslab(struct kmem_cache *, gfp_t)"),
            Self::Page => Some("bool should_fail_alloc_page(gfp_t, unsigned int)"),
            Self::Filemap => {
                Some("int __filemap_add_folio(struct address_space *, struct folio *, pgoff_t, gfp_t, void **)")
            }
            Self::Bio => Some("int should_fail_bio(struct bio *)"),
            Self::PagePool => Some("struct page *page_pool_alloc_pages(struct page_pool *, gfp_t)"),
            Self::Function(_) => None,
        }
    }

    /// The kernel option without which it is not there: of slab and page, in kernels from 6.11 on.
    #[must_use]
    pub fn option(self) -> Option<&'static str> {
        match self {
            Self::Slab => Some("CONFIG_FAILSLAB"),
            Self::Page => Some("CONFIG_FAIL_PAGE_ALLOC"),
            Self::Filemap => None,
            Self::Bio => Some("CONFIG_BLOCK"),
            Self::PagePool => Some("CONFIG_PAGE_POOL"),
            Self::Function(_) => None,
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
        Self::NAMED
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
        for hook in Hook::NAMED {
            assert_eq!(hook.to_string().parse::<Hook>().unwrap(), hook);
        }
        assert_eq!("should_failslab".parse::<Hook>().unwrap(), Hook::Slab);
        assert_eq!(
            "slap".parse::<Hook>().unwrap_err().to_string(),
            "there is no hook `slap` (hooks are: slab, page); did you mean slab?"
        );
    }
}
