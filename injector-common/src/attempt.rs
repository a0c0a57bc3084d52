//! Attempts: executions of a system call (or what a task does between two of them) within which a sweep lets failures
//! happen. The tracer opens and closes them in memory that both sides see; the hook counts in it.

/// How many tasks can have an attempt at a time: the slot of a task is its tid modulo this. A power of two.
pub const MAX_ATTEMPTS: u32 = 1 << 13;
/// How many failures of an attempt are named. A power of two.
pub const MAX_NAMED: usize = 32;

/// The attempt of a task. Only the task itself and, while it is stopped, its tracer write to it: nothing here is atomic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Attempt {
    /// Whose it is; 0: nobody's.
    pub tid: u32,
    /// How many failures it may have; 0: it is over.
    pub limit: u32,
    /// How many it has had.
    pub failed: u32,
    /// Sites that it came to after its first failure and could still fail, and that nothing but a failure leads to.
    pub fresh: u32,
    /// Never the same for two attempts.
    pub number: u64,
    /// The site to fail first, however often it was failed before; 0: any that may still be failed.
    pub repeat: u64,
    /// At which hit of the first site it was failed.
    pub hit: u32,
    /// 1: whatever may be failed is, up to the limit; else only what a failure leads to is failed after it.
    pub crowd: u32,
    /// The sites of the first failures, in order.
    pub sites: [u64; MAX_NAMED],
}

impl Attempt {
    /// Nobody's.
    pub const NONE: Self =
        Self { tid: 0, limit: 0, failed: 0, fresh: 0, number: 0, repeat: 0, hit: 0, crowd: 0, sites: [0; MAX_NAMED] };
}

/// What the choice needs to know of the site that an attempt has come to, this hit counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its signature.
    pub signature: u64,
    /// How many failures it may still have.
    pub allowed: u64,
    /// How often this attempt has come to it.
    pub attempt_hits: u32,
    /// How often it was come to with no failure before, in any attempt.
    pub clean: u32,
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
                Choice::Fail
            } else {
                Choice::Pass
            }
        } else if persistent {
            if self.failed < self.limit && self.sites[0] == site.signature { Choice::Repeat } else { Choice::Pass }
        } else if site.allowed == 0 || site.attempt_hits < hit {
            Choice::Pass
        } else if self.crowd != 0 {
            if self.failed < self.limit { Choice::Fail } else { Choice::Pass }
        } else if site.clean > 0 {
            Choice::Pass
        } else if self.failed < self.limit {
            Choice::Fail
        } else {
            Choice::Fresh
        }
    }
}

const _: () = {
    assert!(size_of::<Attempt>() == 40 + 8 * MAX_NAMED);
    assert!(MAX_ATTEMPTS.is_power_of_two() && MAX_NAMED.is_power_of_two());
};

#[cfg(feature = "user")]
// SAFETY: repr(C), integers only, no padding that is not a field (asserted above), any bit pattern is valid.
unsafe impl aya::Pod for Attempt {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const OPEN: Attempt = Attempt { tid: 7, limit: 1, number: 1, ..Attempt::NONE };
    const NEW: Candidate = Candidate { signature: 5, allowed: 1, attempt_hits: 1, clean: 1 };

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
        assert_eq!(after(9, 2).choose(&Candidate { clean: 0, ..NEW }, 1, false), Choice::Fail);
        assert_eq!(after(9, 2).choose(&NEW, 1, false), Choice::Pass, "it needs no failure to be reached");
    }

    #[test]
    fn a_crowd_fails_whatever_may_be() {
        let crowd = Attempt { crowd: 1, ..after(9, 3) };
        assert_eq!(crowd.choose(&NEW, 1, false), Choice::Fail, "though it is reached without a failure as well");
        assert_eq!(Attempt { failed: 3, ..crowd }.choose(&NEW, 1, false), Choice::Pass);
        assert_eq!(crowd.choose(&Candidate { allowed: 0, ..NEW }, 1, false), Choice::Pass);
    }

    #[test]
    fn persistent_failures_stay_at_their_site() {
        assert_eq!(after(5, 100).choose(&Candidate { allowed: 0, ..NEW }, 1, true), Choice::Repeat);
        assert_eq!(after(9, 100).choose(&Candidate { clean: 0, ..NEW }, 1, true), Choice::Pass);
        assert_eq!(Attempt { failed: 100, ..after(5, 100) }.choose(&NEW, 1, true), Choice::Pass, "capped");
    }

    proptest! {
        #[test]
        fn never_more_than_the_limit(
            failed in 0u32..4, limit in 0u32..4, repeat in 0u64..3, signature in 0u64..3, allowed in 0u64..2,
            attempt_hits in 0u32..3, clean in 0u32..2, hit in 1u32..3, persistent: bool, crowd in 0u32..2,
        ) {
            let attempt = Attempt { failed, limit, repeat, sites: named(&[1, 2]), crowd, ..OPEN };
            let site = Candidate { signature, allowed, attempt_hits, clean };
            let choice = attempt.choose(&site, hit, persistent);
            if failed >= limit {
                prop_assert!(!matches!(choice, Choice::Fail | Choice::Repeat));
            }
            if choice == Choice::Fail {
                prop_assert!(allowed > 0);
            }
        }
    }
}
