//! The `bio` hook: every bio that is submitted to a block device.

use injector_common::HOOK_BIO;

use crate::{
    attach::{Arguments, programs},
    hook::{Call, Signature},
};

/// match-proto:v6.1:block/blk-core.c: int should_fail_bio(struct bio *bio)
/// match-proto:v6.12:block/blk-core.c: int should_fail_bio(struct bio *bio)
#[inline(always)]
fn call(_: &impl Arguments) -> Option<Call> {
    Some(Call { hook: HOOK_BIO, gfp: 0, cache: 0, order: 0 })
}

programs!("bio", Signature { hook: HOOK_BIO, gfp: None, call });
