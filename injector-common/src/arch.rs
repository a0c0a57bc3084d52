//! What is particular to x86-64 in what both sides know.

/// log2 of the size of a page.
pub const PAGE_SHIFT: u32 = 12;

/// System calls have smaller numbers (some 470 in 6.12).
pub const MAX_SYSCALLS: u32 = 512;
