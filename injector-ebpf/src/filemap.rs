//! The `filemap` hook: every folio that comes into a page cache.

use injector_common::HOOK_FILEMAP;

use crate::{attach::programs, hook::Prototype};

/// match-proto:v6.1:mm/filemap.c: int __filemap_add_folio(struct address_space *mapping, struct folio *folio, pgoff_t index, gfp_t gfp, void **shadowp)
/// match-proto:v6.12:mm/filemap.c: int __filemap_add_folio(struct address_space *mapping, struct folio *folio, pgoff_t index, gfp_t gfp, void **shadowp)
const PROTOTYPE: Prototype = Prototype { hook: HOOK_FILEMAP, gfp: Some(3), cache: None, order: None };

programs!("filemap", PROTOTYPE);
