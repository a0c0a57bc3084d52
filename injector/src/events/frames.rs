//! Stacks as text: whose frames they are.

/// Frames that every stack has at its inner end: the allocator's own.
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

/// The stack from the code on that asked the allocator; all of it where everything is the allocator's.
#[must_use]
pub fn callers(stack: &[String]) -> &[String] {
    let first = stack.iter().position(|frame| !ALLOCATOR.iter().any(|name| frame.starts_with(name))).unwrap_or(0);
    &stack[first..]
}

/// The function of a frame: `rpc_malloc` of `rpc_malloc+0x89 [sunrpc]`.
#[must_use]
pub fn function(frame: &str) -> &str {
    frame.split(['+', ' ']).next().unwrap_or(frame)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asked() {
        let stack =
            ["kmem_cache_alloc_noprof+0x3c", "rpc_malloc+0x89 [sunrpc]", "kmalloc_trace+0x1"].map(str::to_owned);
        assert_eq!(callers(&stack), &stack[1..]);
        assert_eq!(callers(&stack[..1]), &stack[..1]);
        assert!(callers(&[]).is_empty());
        assert_eq!(function(&stack[1]), "rpc_malloc");
        assert_eq!(function("0xffffffffc0001234"), "0xffffffffc0001234");
    }
}
