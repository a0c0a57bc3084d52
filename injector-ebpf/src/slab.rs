//! The `slab` hook: every allocation from a slab cache, kmalloc() up to KMALLOC_MAX_CACHE_SIZE included.

use injector_common::HOOK_SLAB;

use crate::{
    attach::{Arguments, programs},
    hook::{Call, Signature},
};

/// match-proto:v6.1:mm/slab_common.c: int should_failslab(struct kmem_cache *s, gfp_t gfpflags)
/// match-proto:v6.12:mm/failslab.c: int should_failslab(struct kmem_cache *s, gfp_t gfpflags)
#[inline(always)]
fn gfp(arguments: &impl Arguments) -> Option<u32> {
    Some(arguments.argument(1)? as u32)
}

#[inline(always)]
fn call(arguments: &impl Arguments) -> Option<Call> {
    Some(Call { hook: HOOK_SLAB, gfp: gfp(arguments)?, cache: arguments.argument(0)?, order: 0 })
}

programs!("slab", Signature { hook: HOOK_SLAB, gfp: Some(gfp), call });
