//! The `slab` hook: every allocation from a slab cache, kmalloc() up to KMALLOC_MAX_CACHE_SIZE included.

use injector_common::HOOK_SLAB;

use crate::{attach::programs, hook::Prototype};

/// match-proto:v6.1:mm/slab_common.c: int should_failslab(struct kmem_cache *s, gfp_t gfpflags)
/// match-proto:v6.12:mm/failslab.c: int should_failslab(struct kmem_cache *s, gfp_t gfpflags)
const PROTOTYPE: Prototype = Prototype { hook: HOOK_SLAB, gfp: Some(1), cache: Some(0), order: None };

programs!("slab", PROTOTYPE);
