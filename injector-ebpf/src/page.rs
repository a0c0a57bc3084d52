//! The `page` hook: every allocation from the page allocator, new slabs included.

use injector_common::HOOK_PAGE;

use crate::{attach::programs, hook::Prototype};

/// match-proto:v6.1:mm/page_alloc.c: bool should_fail_alloc_page(gfp_t gfp_mask, unsigned int order)
/// match-proto:v6.12:mm/fail_page_alloc.c: bool should_fail_alloc_page(gfp_t gfp_mask, unsigned int order)
const PROTOTYPE: Prototype = Prototype { hook: HOOK_PAGE, gfp: Some(0), cache: None, order: Some(1) };

programs!("page", PROTOTYPE);
