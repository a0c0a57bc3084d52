//! The `page-pool` hook: every allocation of a network driver's page pool.

use injector_common::HOOK_PAGE_POOL;

use crate::{attach::programs, hook::Prototype};

/// match-proto:v6.1:net/core/page_pool.c: struct page *page_pool_alloc_pages(struct page_pool *pool, gfp_t gfp)
/// match-proto:v6.12:net/core/page_pool.c: struct page *page_pool_alloc_pages(struct page_pool *pool, gfp_t gfp)
const PROTOTYPE: Prototype = Prototype { hook: HOOK_PAGE_POOL, gfp: Some(1), cache: None, order: None };

programs!("page_pool", PROTOTYPE);
