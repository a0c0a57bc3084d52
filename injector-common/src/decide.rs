//! The decisions of the hook, without eBPF: pure functions that the host tests and the hook calls.

use crate::{arch::PAGE_SHIFT, config::GfpTest};

/// `PF_MEMALLOC_NOFS`: the task is in a memalloc_nofs_save() scope (include/linux/sched.h, 6.1 and 6.12).
pub const PF_MEMALLOC_NOFS: u32 = 0x0004_0000;
/// `PF_MEMALLOC_NOIO`: the task is in a memalloc_noio_save() scope (include/linux/sched.h, 6.1 and 6.12).
pub const PF_MEMALLOC_NOIO: u32 = 0x0008_0000;

/// `PF_KTHREAD`: a kernel thread (include/linux/sched.h, 6.1 and 6.12).
pub const PF_KTHREAD: u32 = 0x0020_0000;

/// A coin that always fails.
pub const ALWAYS: u64 = 1 << 32;

/// The flags that the allocator will work with: what current_gfp_context() does (include/linux/sched/mm.h, 6.12).
#[must_use]
#[inline(always)]
pub const fn effective_gfp(gfp: u32, task_flags: u32, io: u32, fs: u32) -> u32 {
    if task_flags & PF_MEMALLOC_NOIO != 0 {
        gfp & !(io | fs)
    } else if task_flags & PF_MEMALLOC_NOFS != 0 {
        gfp & !fs
    } else {
        gfp
    }
}

/// Whether flags pass a test.
#[must_use]
#[inline(always)]
pub const fn test(flags: u32, test: GfpTest) -> bool {
    flags & test.mask == test.value
}

/// Whether flags pass one `--gfp` value: the test holds and none of the negated ones does.
#[must_use]
#[inline(always)]
pub fn gfp_matches(flags: u32, wanted: GfpTest, mut negated: impl Iterator<Item = GfpTest>) -> bool {
    test(flags, wanted) && !negated.any(|unwanted| test(flags, unwanted))
}

/// What flags must hold for some scope to make `wanted` hold: scopes only take the `scoped` flags away, so one of them
/// that is asked for must be there already. Spares the look at the task for most calls that don't match.
#[must_use]
pub const fn necessary(wanted: GfpTest, scoped: u32) -> GfpTest {
    let mask = (wanted.mask & !scoped) | (wanted.value & scoped);
    GfpTest { mask, value: wanted.value & mask }
}

/// The order that an object of this size needs: get_order() (include/asm-generic/getorder.h, 6.12), 0 for 0 bytes, at most 20.
#[must_use]
#[inline(always)]
pub const fn order_of_size(size: u64) -> u32 {
    // A loop of comparisons, since the eBPF target has no count-leading-zeros instruction.
    let pages = (size >> PAGE_SHIFT) + (size & ((1 << PAGE_SHIFT) - 1) != 0) as u64;
    let mut order = 0;
    while order < 20 {
        if pages <= 1 << order {
            return order;
        }
        order += 1;
    }
    order
}

/// Whether the coin says fail: `random` is uniform over `u32`, `threshold` in `0..=1 << 32`. 0 never fails and
/// [`ALWAYS`] always does; both without rounding.
#[must_use]
#[inline(always)]
pub const fn coin(random: u32, threshold: u64) -> bool {
    (random as u64) < threshold
}

/// The coin of `--seed`: 32 bits that depend on the seed, the site, and which of its hits it is, and on nothing else.
#[must_use]
#[inline(always)]
pub const fn seeded(seed: u64, site: u64, hit: u64) -> u32 {
    // The finalizer of splitmix64 (Vigna), twice: neighbouring seeds and hits have nothing in common.
    mix(mix(seed ^ site).wrapping_add(hit)) as u32
}

#[inline(always)]
const fn mix(word: u64) -> u64 {
    let word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// How far behind the pace of `--rate` failures may fall and still catch up, nanoseconds.
pub const CATCH_UP: u64 = 100_000_000;

/// With a limited rate: when the next failure after one at `now` is due, if one may happen now; the last one made `due` the
/// time. A bucket of tokens, told by the time at which it has one.
#[must_use]
#[inline(always)]
pub const fn next_due(due: u64, now: u64, interval: u64) -> Option<u64> {
    if due > now {
        return None;
    }
    let earliest = now.saturating_sub(CATCH_UP);
    let from = if due > earliest { due } else { earliest };
    Some(from.saturating_add(interval))
}

/// Which bits of a preempt count say what (include/linux/preempt.h).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct PreemptMasks {
    /// HARDIRQ_MASK.
    pub hardirq: u32,
    /// NMI_MASK.
    pub nmi: u32,
}

impl PreemptMasks {
    /// 5.10, 6.1 and 6.12.
    pub const PLAIN: Self = Self { hardirq: 0xf << 16, nmi: 0xf << 20 };
    /// 7.3, which counts in between how often hardirqs were disabled. The highest bit may mean something else there.
    pub const WITH_DISABLED: Self = Self { hardirq: 0xf << 24, nmi: 0x7 << 28 };
}

/// in_task() and its siblings from a preempt count: `CONTEXT_*`.
#[must_use]
#[inline(always)]
pub const fn context(preempt_count: u32, masks: PreemptMasks) -> u32 {
    const SOFTIRQ_OFFSET: u32 = 1 << 8; // serving; a mere local_bh_disable() counts in steps of two
    if preempt_count & masks.nmi != 0 {
        crate::record::CONTEXT_NMI
    } else if preempt_count & masks.hardirq != 0 {
        crate::record::CONTEXT_HARDIRQ
    } else if preempt_count & SOFTIRQ_OFFSET != 0 {
        crate::record::CONTEXT_SOFTIRQ
    } else {
        crate::record::CONTEXT_TASK
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const IO: u32 = 0x40;
    const FS: u32 = 0x80;

    #[test]
    fn scopes_take_flags_away() {
        assert_eq!(effective_gfp(0xc0, 0, IO, FS), 0xc0);
        assert_eq!(effective_gfp(0xc0, PF_MEMALLOC_NOFS, IO, FS), 0x40);
        assert_eq!(effective_gfp(0xc0, PF_MEMALLOC_NOIO, IO, FS), 0);
        assert_eq!(effective_gfp(0xc0, PF_MEMALLOC_NOIO | PF_MEMALLOC_NOFS, IO, FS), 0);
    }

    #[test]
    fn order_of_a_size() {
        for (size, order) in [
            (0, 0),
            (1, 0),
            (4096, 0),
            (4097, 1),
            (8192, 1),
            (8193, 2),
            (16384, 2),
            (1 << 20, 8),
            (1 << 32, 20),
            (u64::MAX, 20),
        ] {
            assert_eq!(order_of_size(size), order, "{size}");
        }
    }

    #[test]
    fn negated_tests_exclude() {
        let wanted = GfpTest { mask: 0xc0, value: 0xc0 };
        let unwanted = [GfpTest { mask: 0x100, value: 0x100 }];
        assert!(gfp_matches(0x1c0, wanted, [].into_iter()));
        assert!(!gfp_matches(0x1c0, wanted, unwanted.into_iter()));
        assert!(gfp_matches(0xc0, wanted, unwanted.into_iter()));
        assert!(!gfp_matches(0x40, wanted, unwanted.into_iter()));
    }

    #[test]
    fn contexts() {
        use crate::record::*;
        for masks in [PreemptMasks::PLAIN, PreemptMasks::WITH_DISABLED] {
            assert_eq!(context(0, masks), CONTEXT_TASK);
            assert_eq!(context(1, masks), CONTEXT_TASK, "preemption off");
            assert_eq!(context(0x200, masks), CONTEXT_TASK, "softirqs off, not serving one");
            assert_eq!(context(0x101, masks), CONTEXT_SOFTIRQ);
        }
        let plain = |count| context(count, PreemptMasks::PLAIN);
        assert_eq!([0x1_0100, 0x10_0000, 0x11_0000].map(plain), [CONTEXT_HARDIRQ, CONTEXT_NMI, CONTEXT_NMI]);
        let with_disabled = |count| context(count, PreemptMasks::WITH_DISABLED);
        assert_eq!([0x1_0000, 0xff_0000].map(with_disabled), [CONTEXT_TASK; 2], "hardirqs are off");
        assert_eq!([0x100_0100, 0x1100_0000].map(with_disabled), [CONTEXT_HARDIRQ, CONTEXT_NMI]);
        assert_eq!(with_disabled(0x8000_0000), CONTEXT_TASK, "nobody needs the CPU");
    }

    #[test]
    fn a_rate_is_kept_when_calls_come_in_bursts() {
        const INTERVAL: u64 = 1_000_000; // 1,000/s
        let (mut due, mut failures) = (0, 0);
        // For ten seconds, 50 ms of calls each 10 us and 50 ms of none.
        for now in (0..10_000_000_000_u64).step_by(10_000).filter(|now| now / 50_000_000 % 2 == 0) {
            if let Some(next) = next_due(due, now, INTERVAL) {
                due = next;
                failures += 1;
            }
        }
        assert!((9_940..=10_000).contains(&failures), "{failures}");
    }

    #[test]
    fn a_rate_does_not_catch_up_for_ever() {
        let hour = 3_600_000_000_000;
        let mut due = 0;
        let burst =
            (0..10_000).filter(|_| next_due(due, hour, 1_000_000).inspect(|next| due = *next).is_some()).count();
        assert_eq!(burst, 101, "100 ms of them, and the one that is due");
    }

    #[test]
    fn seeds_are_for_ever() {
        // A change here changes what a seed replays: bump ABI_VERSION and say so.
        assert_eq!(seeded(1, 2, 3), seeded(1, 2, 3));
        let below_half = (0..10_000).filter(|hit| coin(seeded(7, 0x1234, *hit), ALWAYS / 2)).count();
        assert!((4_800..5_200).contains(&below_half), "{below_half}");
        let differ = (0..1000).filter(|hit| seeded(7, 1, *hit) != seeded(8, 1, *hit)).count();
        assert!(differ > 990);
    }

    proptest! {
        #[test]
        fn never_and_always(random: u32) {
            prop_assert!(!coin(random, 0));
            prop_assert!(coin(random, ALWAYS));
        }

        #[test]
        fn what_is_necessary_is(gfp: u32, mask: u32, value: u32, flags: u32) {
            let wanted = GfpTest { mask, value: value & mask };
            if test(effective_gfp(gfp, flags, IO, FS), wanted) {
                prop_assert!(test(gfp, necessary(wanted, IO | FS)));
            }
        }
    }
}
