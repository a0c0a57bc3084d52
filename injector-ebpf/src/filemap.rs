//! The `filemap` hook: every folio that comes into a page cache.

use aya_ebpf::{macros::kprobe, programs::ProbeContext};
use injector_common::HOOK_FILEMAP;

use crate::hook::{self, Call};

/// match-proto:v6.1:mm/filemap.c: int __filemap_add_folio(struct address_space *mapping, struct folio *folio, pgoff_t index, gfp_t gfp, void **shadowp)
/// match-proto:v6.12:mm/filemap.c: int __filemap_add_folio(struct address_space *mapping, struct folio *folio, pgoff_t index, gfp_t gfp, void **shadowp)
#[kprobe]
pub fn filemap(ctx: ProbeContext) -> u32 {
    let Some(gfp) = ctx.arg::<u32>(3) else { return 0 };
    hook::run(&ctx, &Call { hook: HOOK_FILEMAP, gfp, cache: 0, order: 0 });
    0
}
