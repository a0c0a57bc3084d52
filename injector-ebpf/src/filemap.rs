//! The `filemap` hook: every folio that comes into a page cache.

use injector_common::HOOK_FILEMAP;

use crate::{
    attach::{Arguments, programs},
    hook::{Call, Signature},
};

/// match-proto:v6.1:mm/filemap.c: int __filemap_add_folio(struct address_space *mapping, struct folio *folio, pgoff_t index, gfp_t gfp, void **shadowp)
/// match-proto:v6.12:mm/filemap.c: int __filemap_add_folio(struct address_space *mapping, struct folio *folio, pgoff_t index, gfp_t gfp, void **shadowp)
#[inline(always)]
fn gfp(arguments: &impl Arguments) -> Option<u32> {
    Some(arguments.argument(3)? as u32)
}

#[inline(always)]
fn call(arguments: &impl Arguments) -> Option<Call> {
    Some(Call { hook: HOOK_FILEMAP, gfp: gfp(arguments)?, cache: 0, order: 0 })
}

programs!("filemap", Signature { hook: HOOK_FILEMAP, gfp: Some(gfp), call });
