//! Which functions are the allocator's own: who is before them on a stack asked for memory.

/// What their names begin with: 6.1 and 6.12 (mm/slub.c, mm/slab_common.c, mm/page_alloc.c, mm/mempolicy.c, mm/filemap.c).
const ALLOCATOR: [&str; 22] = [
    "kmem_cache_alloc",
    "__kmem_cache_alloc",
    "kmalloc_trace",
    "__kmalloc",
    "kmalloc_large",
    "__alloc_pages",
    "alloc_pages",
    "alloc_page",
    "folio_alloc",
    "__folio_alloc",
    "vma_alloc_folio",
    "filemap_alloc_folio",
    "__get_free_pages",
    "get_zeroed_page",
    "allocate_slab",
    "new_slab",
    "___slab_alloc",
    "__slab_alloc",
    "slab_pre_alloc_hook",
    "prepare_alloc_pages",
    "should_fail",
    "krealloc",
];

/// Whether a function is the allocator's own.
#[must_use]
pub fn is_its_own(function: &str) -> bool {
    ALLOCATOR.iter().any(|name| function.starts_with(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose() {
        for own in [
            "kmem_cache_alloc_noprof",
            "__kmalloc_node_track_caller_noprof",
            "___slab_alloc.isra.0",
            "alloc_pages_mpol",
        ] {
            assert!(is_its_own(own), "{own}");
        }
        for other in ["rpc_malloc", "getname_flags", "kstrdup", "alloc_inode"] {
            assert!(!is_its_own(other), "{other}");
        }
    }
}
