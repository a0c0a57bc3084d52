//! The `page-pool` hook: every allocation of a network driver's page pool.

use aya_ebpf::{macros::kprobe, programs::ProbeContext};
use injector_common::HOOK_PAGE_POOL;

use crate::hook::{self, Call};

/// match-proto:v6.1:net/core/page_pool.c: struct page *page_pool_alloc_pages(struct page_pool *pool, gfp_t gfp)
/// match-proto:v6.12:net/core/page_pool.c: struct page *page_pool_alloc_pages(struct page_pool *pool, gfp_t gfp)
#[kprobe]
pub fn page_pool(ctx: ProbeContext) -> u32 {
    let Some(gfp) = ctx.arg::<u32>(1) else { return 0 };
    hook::run(&ctx, &Call { hook: HOOK_PAGE_POOL, gfp, cache: 0, order: 0 });
    0
}
