//! Stacks as text: whose frames they are.

use crate::kernel::allocator;

/// The stack from the code on that asked the allocator; all of it where everything is the allocator's.
#[must_use]
pub fn callers(stack: &[String]) -> &[String] {
    let first = stack.iter().position(|frame| !allocator::is_its_own(function(frame))).unwrap_or(0);
    &stack[first..]
}

/// The place in the code that a stack is one way to: who asked the allocator, and its caller.
#[must_use]
pub fn static_site(stack: &[String]) -> Option<&[String]> {
    let callers = callers(stack);
    (!callers.is_empty()).then(|| &callers[..callers.len().min(2)])
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
    fn ways_to_one_static_site() {
        let stack = |frames: &[&str]| frames.iter().map(|&frame| frame.to_owned()).collect::<Vec<_>>();
        let read = stack(&["kmem_cache_alloc_noprof+0x1", "start+0x2", "join+0x3", "read+0x4"]);
        let write = stack(&["kmem_cache_alloc_noprof+0x9", "start+0x2", "join+0x3", "write+0x4"]);
        let attach = stack(&["kmem_cache_alloc_noprof+0x1", "start+0x2", "attach+0x3", "write+0x4"]);
        assert_eq!(static_site(&read), Some(&read[1..3]));
        assert_eq!(static_site(&read), static_site(&write));
        assert_ne!(static_site(&read), static_site(&attach));
        assert_eq!(static_site(&stack(&["start+0x2"])), Some(&stack(&["start+0x2"])[..]));
        assert_eq!(static_site(&[]), None);
    }

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
