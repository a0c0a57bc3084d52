//! The site signature: a 64-bit hash of hook and call stack that is the same on every boot of the same kernel.
//!
//! A frame counts as (module, offset in it), so neither KASLR nor the order in which modules were loaded is in
//! it. The same function runs in the hook and on the user side, which can so compute it from symbols.

/// What stands for the kernel image itself in place of a module's id.
pub const KERNEL_ID: u64 = 0;
/// What a frame in unknown code (loaded after the start, or JIT-compiled) counts as, with its place in its page.
const UNKNOWN_FRAME: u64 = 0x756e_6b6e_6f77_6e21;
/// Modules begin with a page, so this much of an address in one is the same on every boot.
const IN_PAGE: u64 = 0xfff;

const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15; // 2^64 / golden ratio: odd, no simple bit pattern

/// Start of a signature.
#[must_use]
#[inline(always)]
pub const fn start(hook: u32) -> u64 {
    add(0x696e_6a65_6374_6f72, hook as u64)
}

/// Adds a frame that lies `offset` bytes into the module with this id.
#[must_use]
#[inline(always)]
pub const fn frame(signature: u64, module: u64, offset: u64) -> u64 {
    add(signature, module ^ offset)
}

/// Adds a frame of code that is in no module that is known: one that was loaded meanwhile, or that was compiled in the kernel.
#[must_use]
#[inline(always)]
pub const fn unknown_frame(signature: u64, address: u64) -> u64 {
    add(signature, UNKNOWN_FRAME ^ (address & IN_PAGE))
}

/// Adds a word: every bit of both reaches every bit of the result within two words.
#[must_use]
#[inline(always)]
pub const fn add(signature: u64, word: u64) -> u64 {
    let mixed = (signature.rotate_left(23) ^ word).wrapping_mul(MULTIPLIER);
    mixed ^ (mixed >> 29)
}

/// Id of a module: FNV-1a of its name. Never [`KERNEL_ID`] for a real name.
#[must_use]
pub fn module_id(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    #[test]
    fn neighbours_differ() {
        let mut seen = HashSet::new();
        for hook in 0..2 {
            for a in 0..100 {
                for b in 0..100 {
                    assert!(seen.insert(frame(frame(start(hook), KERNEL_ID, 0x1000 + a * 4), KERNEL_ID, b * 4)));
                }
            }
        }
    }

    proptest! {
        #[test]
        fn order_of_frames_counts(a: u64, b: u64) {
            prop_assume!(a != b);
            prop_assert_ne!(
                frame(frame(start(0), KERNEL_ID, a), KERNEL_ID, b),
                frame(frame(start(0), KERNEL_ID, b), KERNEL_ID, a)
            );
        }
    }

    #[test]
    fn frames_of_a_module_that_came_later_differ_and_are_the_same_wherever_it_lies() {
        let frames = |base: u64| unknown_frame(unknown_frame(start(0), base + 0x1234), base + 0x2350);
        assert_eq!(frames(0xffff_ffff_c000_0000), frames(0xffff_ffff_c123_4000));
        assert_ne!(unknown_frame(start(0), 0x1234), unknown_frame(start(0), 0x1238));
    }

    #[test]
    fn module_ids_are_stable() {
        // A change here changes every signature in every journal: bump ABI_VERSION and say so.
        assert_eq!(module_id("nfs"), 0x2143_c919_257b_aa52);
        assert_ne!(module_id("nfs"), module_id("nfsd"));
        assert_ne!(module_id("nfs"), KERNEL_ID);
    }
}
