//! eBPF instructions, for programs of a few lines (Documentation/bpf/standardization/instruction-set.rst).

pub(crate) const R0: u64 = 0;
pub(crate) const R1: u64 = 1;
pub(crate) const R2: u64 = 2;
pub(crate) const R3: u64 = 3;
pub(crate) const R4: u64 = 4;
pub(crate) const R6: u64 = 6;
/// The frame pointer: the stack lies below it.
pub(crate) const FRAME: u64 = 10;

/// `return r0`
pub(crate) const EXIT: u64 = 0x95;

const fn instruction(code: u64, to: u64, from: u64, offset: i16, immediate: u32) -> u64 {
    code | to << 8 | from << 12 | (offset as u16 as u64) << 16 | (immediate as u64) << 32
}

/// `to = from`
pub(crate) const fn copy(to: u64, from: u64) -> u64 {
    instruction(0xbf, to, from, 0, 0)
}

/// `to = value`
pub(crate) const fn set(to: u64, value: u32) -> u64 {
    instruction(0xb7, to, 0, 0, value)
}

/// `to += value`
pub(crate) const fn add(to: u64, value: i16) -> u64 {
    instruction(0x07, to, 0, 0, value as i32 as u32)
}

/// `*(u32 *)(to + offset) = value`
pub(crate) const fn store_word(to: u64, offset: i16, value: u32) -> u64 {
    instruction(0x62, to, 0, offset, value)
}

/// `*(u64 *)(to + offset) = from`
pub(crate) const fn store(to: u64, offset: i16, from: u64) -> u64 {
    instruction(0x7b, to, from, offset, 0)
}

/// `to = *(u64 *)(from + offset)`
pub(crate) const fn load(to: u64, from: u64, offset: i16) -> u64 {
    instruction(0x79, to, from, offset, 0)
}

/// `from = atomic_fetch_add((u64 *)(to + offset), from)`
pub(crate) const fn fetch_add(to: u64, offset: i16, from: u64) -> u64 {
    const ADD_AND_FETCH: u32 = 0x01;
    instruction(0xdb, to, from, offset, ADD_AND_FETCH)
}

/// `r0 = atomic_cmpxchg((u64 *)(to + offset), r0, from)`
pub(crate) const fn compare_exchange(to: u64, offset: i16, from: u64) -> u64 {
    const COMPARE_EXCHANGE: u32 = 0xf1;
    instruction(0xdb, to, from, offset, COMPARE_EXCHANGE)
}

/// `r0 = helper(r1, r2…)`
pub(crate) const fn call(helper: u32) -> u64 {
    instruction(0x85, 0, 0, 0, helper)
}
