//! The contract between the injector's eBPF programs and its user side.
//!
//! Everything that crosses the boundary lies here, once: fixed-size integers, `repr(C)`, explicit padding,
//! no `bool`, `Option`, enum or `usize`. [`decide`] holds the pure decisions, which the host can test and
//! the hook calls.
#![cfg_attr(not(test), no_std)]

pub mod attempt;
pub mod automaton;
pub mod config;
pub mod counters;
pub mod decide;
pub mod record;
pub mod site;

/// Version of the layout of everything in this crate. Both sides are built from one tree and the object is
/// embedded in the binary, so a mismatch means a broken build; the user side refuses it.
pub const ABI_VERSION: u32 = 4;

/// The `should_failslab` hook; also the index of its row in [`counters`].
pub const HOOK_SLAB: u32 = 0;
/// The `should_fail_alloc_page` hook; also the index of its row in [`counters`].
pub const HOOK_PAGE: u32 = 1;
/// The `__filemap_add_folio` hook.
pub const HOOK_FILEMAP: u32 = 2;
/// The `should_fail_bio` hook.
pub const HOOK_BIO: u32 = 3;
/// The `page_pool_alloc_pages` hook.
pub const HOOK_PAGE_POOL: u32 = 4;
/// The first of the hooks that are on functions that a run names.
pub const HOOK_FUNCTION: u32 = 5;
/// How many functions one rule can name.
pub const MAX_FUNCTIONS: usize = 8;
/// How many hooks there are.
pub const HOOKS: usize = HOOK_FUNCTION as usize + MAX_FUNCTIONS;
