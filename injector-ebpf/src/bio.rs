//! The `bio` hook: every bio that is submitted to a block device.

use aya_ebpf::{macros::kprobe, programs::ProbeContext};
use injector_common::HOOK_BIO;

use crate::hook::{self, Call};

/// match-proto:v6.1:block/blk-core.c: int should_fail_bio(struct bio *bio)
/// match-proto:v6.12:block/blk-core.c: int should_fail_bio(struct bio *bio)
#[kprobe]
pub fn bio(ctx: ProbeContext) -> u32 {
    hook::run(&ctx, &Call { hook: HOOK_BIO, gfp: 0, cache: 0, order: 0 });
    0
}
