//! The `slab` hook: every allocation from a slab cache, kmalloc() up to KMALLOC_MAX_CACHE_SIZE included.

use aya_ebpf::{macros::kprobe, programs::ProbeContext};
use injector_common::HOOK_SLAB;

use crate::hook::{self, Call};

/// match-proto:v6.1:mm/slab_common.c: int should_failslab(struct kmem_cache *s, gfp_t gfpflags)
/// match-proto:v6.12:mm/failslab.c: int should_failslab(struct kmem_cache *s, gfp_t gfpflags)
#[kprobe]
pub fn slab(ctx: ProbeContext) -> u32 {
    let (Some(cache), Some(gfp)) = (ctx.arg::<u64>(0), ctx.arg::<u32>(1)) else { return 0 };
    hook::run(&ctx, &Call { hook: HOOK_SLAB, gfp, cache, order: 0 });
    0
}
