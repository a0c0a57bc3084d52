//! The `page` hook: every allocation from the page allocator, new slabs included.

use aya_ebpf::{macros::kprobe, programs::ProbeContext};
use injector_common::HOOK_PAGE;

use crate::hook::{self, Call};

/// match-proto:v6.1:mm/page_alloc.c: bool should_fail_alloc_page(gfp_t gfp_mask, unsigned int order)
/// match-proto:v6.12:mm/fail_page_alloc.c: bool should_fail_alloc_page(gfp_t gfp_mask, unsigned int order)
#[kprobe]
pub fn page(ctx: ProbeContext) -> u32 {
    let (Some(gfp), Some(order)) = (ctx.arg::<u32>(0), ctx.arg::<u32>(1)) else { return 0 };
    hook::run(&ctx, &Call { hook: HOOK_PAGE, gfp, cache: 0, order });
    0
}
