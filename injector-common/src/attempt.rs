//! Attempts: executions of a system call (or what a task does between two of them) within which a sweep lets failures
//! happen. Programs on the kernel's tracepoints for system calls open and close them; the hook counts in them; the tracer says what
//! may happen in them, and has the task stop after a call that it must see.

/// How many tasks can have attempts at a time: the slot of a task is its tid modulo this. A power of two.
pub const MAX_ATTEMPTS: u32 = 1 << 13;
/// How many failures of an attempt are named. A power of two.
pub const MAX_NAMED: usize = 32;

/// [`Slot::phase`]: the task is in a system call. Also the index of that attempt.
pub const IN_CALL: u32 = 0;
/// [`Slot::phase`]: the task is on its way back from one, or in user space. Also the index of that attempt.
pub const AFTER_CALL: u32 = 1;
/// [`Slot::phase`]: nothing is failed in what the task does.
pub const NOWHERE: u32 = 2;
/// How many attempts a task has.
pub const PHASES: usize = 2;

/// The value of [`Attempt::call`] while the task is in no system call.
pub const NO_CALL: u64 = u64::MAX;

/// The attempt of a task in one phase. Only the task itself and, while it is stopped, its tracer write to it: nothing here is
/// atomic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Attempt {
    /// The thread that it belongs to; 0: none.
    pub tid: u32,
    /// How many failures it may have; 0: it is over. Unless it is a multi, more than one only where the first is a repeated one.
    pub limit: u32,
    /// Failures in this attempt so far.
    pub failed: u32,
    /// Sites that it came to after its first failure and could still fail, and that nothing but a failure leads to.
    pub fresh: u32,
    /// Never the same for two attempts.
    pub number: u64,
    /// The site to fail first, however often it was failed before; 0: any that may still be failed.
    pub repeat: u64,
    /// The number of the system call that it is in, or comes after; [`NO_CALL`]: none that was seen.
    pub call: u64,
    /// At which hit of the first site it was failed.
    pub hit: u32,
    /// 1: whatever may be failed is, up to the limit; else only what a failure leads to is failed after it.
    pub multi: u32,
    /// 1: its first failure was of a site that was failed before: it is there for what it leads to.
    pub repeated: u32,
    /// Padding, zero.
    pub reserved: u32,
    /// The sites of the first failures, in order.
    pub sites: [u64; MAX_NAMED],
}

/// What a task may have failed, and where it is. The tracer writes to it while the task is stopped, but for `limit`, which it
/// may change at any time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Slot {
    /// The thread that it belongs to; 0: none.
    pub tid: u32,
    /// [`IN_CALL`], [`AFTER_CALL`] or [`NOWHERE`].
    pub phase: u32,
    /// How many failures an attempt may have; 0: the task is only watched.
    pub limit: u32,
    /// See [`Attempt::multi`].
    pub multi: u32,
    /// 1: in execve(), too.
    pub exec: u32,
    /// 1: a signal has the task stop after a call that its tracer must see; 0: it stops at every call.
    pub signals: u32,
    /// 1: it has been sent that signal, and the tracer has not looked yet.
    pub stopping: u32,
    /// 1: it is to stop after the next call, whatever comes of it.
    pub awaited: u32,
    /// See [`Attempt::repeat`], of the next attempt.
    pub repeat: u64,
    /// How many attempts this slot has had, whosever they were.
    pub opened: u64,
    /// What the last call returned.
    pub result: i64,
    /// The attempts by phase.
    pub attempts: [Attempt; PHASES],
}

impl Slot {
    /// A value that belongs to no thread.
    pub const NONE: Self = Self {
        tid: 0,
        phase: NOWHERE,
        limit: 0,
        multi: 0,
        exec: 0,
        signals: 0,
        stopping: 0,
        awaited: 0,
        repeat: 0,
        opened: 0,
        result: 0,
        attempts: [Attempt::NONE; PHASES],
    };

    /// The number of the slot's next attempt: no other attempt has it.
    #[must_use]
    #[inline(always)]
    pub const fn next_number(&mut self) -> u64 {
        self.opened += 1;
        self.opened * MAX_ATTEMPTS as u64 + (self.tid % MAX_ATTEMPTS) as u64
    }
}

/// Whether what a system call returned is an error. One that is to be restarted after a signal has not failed, nor has a connect()
/// that goes on in the background.
#[must_use]
#[inline(always)]
pub const fn is_error(result: i64) -> bool {
    const MAX_ERRNO: i64 = 4095; // include/linux/err.h, 6.12
    const EINPROGRESS: i64 = 115;
    // ERESTARTSYS… (include/linux/errno.h, 6.12)
    let restarts = result >= -516 && result <= -512;
    result < 0 && result >= -MAX_ERRNO && !restarts && result != -EINPROGRESS
}

impl Attempt {
    /// A value that belongs to no thread.
    pub const NONE: Self = Self {
        tid: 0,
        limit: 0,
        failed: 0,
        fresh: 0,
        number: 0,
        repeat: 0,
        call: NO_CALL,
        hit: 0,
        multi: 0,
        repeated: 0,
        reserved: 0,
        sites: [0; MAX_NAMED],
    };
}

/// What the choice needs to know of the site that an attempt has come to, this hit counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The signature of the site.
    pub signature: u64,
    /// How many failures it may still have.
    pub allowed: u64,
    /// How often this attempt has come to it.
    pub attempt_hits: u32,
    /// How often it was come to with no failure before, in any attempt.
    pub clean: u32,
    /// It was failed before, and may be failed again for what that leads to.
    pub known: bool,
}

/// What a hook makes of a site within an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The call is let go.
    Pass,
    /// The call is let go, and the site could be failed next time, with the same failure before it.
    Fresh,
    /// The call fails, for the attempt's own reason: it costs the site nothing.
    Repeat,
    /// The call fails, and the site has one failure less.
    Fail,
    /// The same of a site that was failed before, as the first of an attempt: for what it leads to.
    FailAgain,
}

impl Attempt {
    /// Whether the call at `site` fails. `hit`: at which hit within an attempt sites are failed, from 1. `persistent`: what
    /// was failed once is failed for the rest of the attempt.
    #[must_use]
    #[inline(always)]
    pub const fn choose(&self, site: &Candidate, hit: u32, persistent: bool) -> Choice {
        if self.failed == 0 {
            if self.limit == 0 || site.attempt_hits < hit {
                Choice::Pass
            } else if self.repeat != 0 {
                if self.repeat == site.signature { Choice::Repeat } else { Choice::Pass }
            } else if site.allowed > 0 {
                if site.known { Choice::FailAgain } else { Choice::Fail }
            } else {
                Choice::Pass
            }
        } else if persistent {
            if self.failed < self.limit && self.sites[0] == site.signature { Choice::Repeat } else { Choice::Pass }
        } else if site.allowed == 0 || site.attempt_hits < hit {
            Choice::Pass
        } else if self.multi != 0 {
            if self.failed < self.limit { Choice::Fail } else { Choice::Pass }
        } else if site.clean > 0 {
            Choice::Pass
        } else if self.repeated != 0 && self.failed < self.limit {
            Choice::Fail
        } else {
            Choice::Fresh
        }
    }
}

const _: () = {
    assert!(size_of::<Attempt>() == 56 + 8 * MAX_NAMED);
    assert!(size_of::<Slot>() == 56 + PHASES * size_of::<Attempt>());
    assert!(MAX_ATTEMPTS.is_power_of_two() && MAX_NAMED.is_power_of_two());
};

#[cfg(feature = "user")]
// SAFETY: repr(C), integers only, no padding that is not a field (asserted above), any bit pattern is valid.
unsafe impl aya::Pod for Attempt {}

#[cfg(feature = "user")]
// SAFETY: as above.
unsafe impl aya::Pod for Slot {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const OPEN: Attempt = Attempt { tid: 7, limit: 1, number: 1, ..Attempt::NONE };
    const NEW: Candidate = Candidate { signature: 5, allowed: 1, attempt_hits: 1, clean: 1, known: false };

    fn named(sites: &[u64]) -> [u64; MAX_NAMED] {
        let mut named = [0; MAX_NAMED];
        named[..sites.len()].copy_from_slice(sites);
        named
    }

    fn after(site: u64, limit: u32) -> Attempt {
        Attempt { failed: 1, limit, sites: named(&[site]), ..OPEN }
    }

    #[test]
    fn a_site_that_may_fail_does() {
        assert_eq!(OPEN.choose(&NEW, 1, false), Choice::Fail);
        assert_eq!(OPEN.choose(&Candidate { allowed: 0, ..NEW }, 1, false), Choice::Pass);
        assert_eq!(Attempt { limit: 0, ..OPEN }.choose(&NEW, 1, false), Choice::Pass, "the attempt is over");
    }

    #[test]
    fn at_the_hit_that_was_asked_for() {
        assert_eq!(OPEN.choose(&NEW, 2, false), Choice::Pass);
        assert_eq!(OPEN.choose(&Candidate { attempt_hits: 2, ..NEW }, 2, false), Choice::Fail);
    }

    #[test]
    fn one_failure_an_attempt() {
        assert_eq!(after(9, 1).choose(&NEW, 1, false), Choice::Pass, "it is reached without a failure as well");
        assert_eq!(after(9, 1).choose(&Candidate { clean: 0, ..NEW }, 1, false), Choice::Fresh);
    }

    #[test]
    fn a_repeated_failure_leads_to_the_next() {
        let repeat = Attempt { repeat: 9, limit: 2, ..OPEN };
        assert_eq!(repeat.choose(&NEW, 1, false), Choice::Pass, "not before the first");
        assert_eq!(repeat.choose(&Candidate { signature: 9, allowed: 0, ..NEW }, 1, false), Choice::Repeat);
        let repeated = Attempt { repeated: 1, ..after(9, 2) };
        assert_eq!(repeated.choose(&Candidate { clean: 0, ..NEW }, 1, false), Choice::Fail);
        assert_eq!(repeated.choose(&NEW, 1, false), Choice::Pass, "it needs no failure to be reached");
    }

    #[test]
    fn what_lies_behind_a_site_waits_until_that_has_a_verdict_of_its_own() {
        assert_eq!(OPEN.choose(&Candidate { known: true, ..NEW }, 1, false), Choice::FailAgain);
        assert_eq!(after(9, 2).choose(&Candidate { clean: 0, ..NEW }, 1, false), Choice::Fresh);
    }

    #[test]
    fn several_fail_whatever_may() {
        let multi = Attempt { multi: 1, ..after(9, 3) };
        assert_eq!(multi.choose(&NEW, 1, false), Choice::Fail, "though it is reached without a failure as well");
        assert_eq!(Attempt { failed: 3, ..multi }.choose(&NEW, 1, false), Choice::Pass);
        assert_eq!(multi.choose(&Candidate { allowed: 0, ..NEW }, 1, false), Choice::Pass);
    }

    #[test]
    fn persistent_failures_stay_at_their_site() {
        assert_eq!(after(5, 100).choose(&Candidate { allowed: 0, ..NEW }, 1, true), Choice::Repeat);
        assert_eq!(after(9, 100).choose(&Candidate { clean: 0, ..NEW }, 1, true), Choice::Pass);
        assert_eq!(Attempt { failed: 100, ..after(5, 100) }.choose(&NEW, 1, true), Choice::Pass, "capped");
    }

    #[test]
    fn what_is_an_error() {
        assert!([-1, -12, -117, -511, -517, -4095].into_iter().all(is_error));
        assert!(![0, 7, i64::MIN, -4096, -512, -516, -115].into_iter().any(is_error));
    }

    #[test]
    fn numbers_are_unlike_each_other() {
        let (mut one, mut other) = (Slot { tid: 1, ..Slot::NONE }, Slot { tid: 2 + MAX_ATTEMPTS, ..Slot::NONE });
        let numbers = [one.next_number(), one.next_number(), other.next_number(), other.next_number(), 0];
        let all: std::collections::BTreeSet<u64> = numbers.into_iter().collect();
        assert_eq!(all.len(), numbers.len());
    }

    proptest! {
        #[test]
        fn never_more_than_the_limit(
            failed in 0u32..4, limit in 0u32..4, repeat in 0u64..3, signature in 0u64..3, allowed in 0u64..2,
            attempt_hits in 0u32..3, clean in 0u32..2, hit in 1u32..3, persistent: bool, multi in 0u32..2, repeated in 0u32..2, known: bool,
        ) {
            let attempt = Attempt { failed, limit, repeat, sites: named(&[1, 2]), multi, repeated, ..OPEN };
            let site = Candidate { signature, allowed, attempt_hits, clean, known };
            let choice = attempt.choose(&site, hit, persistent);
            if failed >= limit {
                prop_assert!(!matches!(choice, Choice::Fail | Choice::FailAgain | Choice::Repeat));
            }
            if matches!(choice, Choice::Fail | Choice::FailAgain) {
                prop_assert!(allowed > 0);
            }
        }
    }
}
