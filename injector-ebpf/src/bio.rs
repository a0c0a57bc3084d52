//! The `bio` hook: every bio that is submitted to a block device.

use injector_common::HOOK_BIO;

use crate::{attach::programs, hook::Prototype};

/// match-proto:v6.1:block/blk-core.c: int should_fail_bio(struct bio *bio)
/// match-proto:v6.12:block/blk-core.c: int should_fail_bio(struct bio *bio)
const PROTOTYPE: Prototype = Prototype { hook: HOOK_BIO, gfp: None, cache: None, order: None };

programs!("bio", PROTOTYPE);
