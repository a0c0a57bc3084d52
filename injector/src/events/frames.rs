//! Stacks as text: whose frames they are.

use crate::kernel::allocator;

/// The stack from the code on that asked the allocator; all of it where everything is the allocator's.
#[must_use]
pub fn callers(stack: &[String]) -> &[String] {
    let first = stack.iter().position(|frame| !allocator::is_its_own(function(frame))).unwrap_or(0);
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
