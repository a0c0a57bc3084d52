//! The `page` hook: every allocation from the page allocator, new slabs included.

use injector_common::HOOK_PAGE;

use crate::{
    attach::{Arguments, programs},
    hook::{Call, Signature},
};

/// match-proto:v6.1:mm/page_alloc.c: bool should_fail_alloc_page(gfp_t gfp_mask, unsigned int order)
/// match-proto:v6.12:mm/fail_page_alloc.c: bool should_fail_alloc_page(gfp_t gfp_mask, unsigned int order)
#[inline(always)]
fn gfp(arguments: &impl Arguments) -> Option<u32> {
    Some(arguments.argument(0)? as u32)
}

#[inline(always)]
fn call(arguments: &impl Arguments) -> Option<Call> {
    Some(Call { hook: HOOK_PAGE, gfp: gfp(arguments)?, cache: 0, order: arguments.argument(1)? as u32 })
}

programs!("page", Signature { hook: HOOK_PAGE, gfp: Some(gfp), call });
