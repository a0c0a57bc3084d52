//! The `page-pool` hook: every allocation of a network driver's page pool.

use injector_common::HOOK_PAGE_POOL;

use crate::{
    attach::{Arguments, programs},
    hook::{Call, Signature},
};

/// match-proto:v6.1:net/core/page_pool.c: struct page *page_pool_alloc_pages(struct page_pool *pool, gfp_t gfp)
/// match-proto:v6.12:net/core/page_pool.c: struct page *page_pool_alloc_pages(struct page_pool *pool, gfp_t gfp)
#[inline(always)]
fn gfp(arguments: &impl Arguments) -> Option<u32> {
    Some(arguments.argument(1)? as u32)
}

#[inline(always)]
fn call(arguments: &impl Arguments) -> Option<Call> {
    Some(Call { hook: HOOK_PAGE_POOL, gfp: gfp(arguments)?, cache: 0, order: 0 })
}

programs!("page_pool", Signature { hook: HOOK_PAGE_POOL, gfp: Some(gfp), call });
