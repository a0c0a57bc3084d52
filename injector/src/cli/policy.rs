//! The options that say which matches fail.

use std::num::NonZeroU64;

use clap::Args;

use crate::plan::{ErrorNumber, NthPer, Policy, Probability, policy, size};

pub(super) const POLICY: &str = "Policy (which matches fail; asked in this order, all must agree)";

#[derive(Args)]
pub(super) struct PolicyArgs {
    /// Let the first N matches pass
    ///
    /// What an option lets pass does not count for those below it.
    #[arg(long, value_name = "N", value_parser = policy::parse_skip, allow_negative_numbers = true, help_heading = POLICY)]
    skip: Option<u64>,

    /// Let the first so many bytes of matches pass: 64K, 1M
    ///
    /// Of hooks whose calls have a size: slab and page. K, M and G are units of 1024.
    #[arg(long, value_name = "BYTES", value_parser = size::parse_bytes, allow_negative_numbers = true, help_heading = POLICY)]
    space: Option<u64>,

    /// Fail every N-th match: N, 2N, 3N…
    ///
    /// --skip 100 --every 10 fails the matches 110, 120, 130…
    #[arg(long, value_name = "N", value_parser = policy::parse_every, allow_negative_numbers = true, help_heading = POLICY)]
    every: Option<NonZeroU64>,

    /// Fail the N-th match, counted from 1: 7 or 1,3,5
    ///
    /// At most 16 numbers. A loop over --nth 1, 2, 3… fails one allocation of a command after the other:
    /// for n in $(seq 50); do injector --nth $n -- ./test.sh; done
    #[arg(long, value_name = "N,…", value_delimiter = ',', value_parser = policy::parse_nth, allow_negative_numbers = true, help_heading = POLICY)]
    nth: Vec<NonZeroU64>,

    /// Whose matches --nth counts: run (all together) or task (each task's)
    ///
    /// --nth 3 --nth-per task fails the third match of each thread, like 3 in the kernel's /proc/PID/task/TID/fail-nth.
    #[arg(long, value_name = "WHOSE", default_value = "run", help_heading = POLICY)]
    nth_per: NthPer,

    /// How likely a match fails: 0.01, 1% or 1/1000
    ///
    /// 0 is never, 1 is always; the resolution is 2^-32. The default is 1 where there is a target, or --times, --rate,
    /// --nth, --every, --per-site or --once-per-site; without any of them, the option is required.
    #[arg(long = "prob", value_name = "P", allow_negative_numbers = true, help_heading = POLICY)]
    probability: Option<Probability>,

    /// Choose by this number instead of by chance: 1, 0x5eed
    ///
    /// Whether a match fails then depends on the seed, on the stack that it comes from, and on how often that was there
    /// before: the same workload fails at the same places again, after a reboot too.
    #[arg(long, value_name = "S", value_parser = policy::parse_seed, allow_negative_numbers = true, help_heading = POLICY)]
    seed: Option<u64>,

    /// Fail each site (hook and stack) N times at most
    ///
    /// Code that tries again until it has what it wants gets it at last: --per-site 3 -- ./test.sh
    #[arg(long, value_name = "N", value_parser = policy::parse_per_site, allow_negative_numbers = true, help_heading = POLICY)]
    per_site: Option<NonZeroU64>,

    /// Fail each site once: --per-site 1
    ///
    /// The quickest way to many different failures: --once-per-site --stack '[nfs]' -- ./test.sh
    #[arg(long, help_heading = POLICY)]
    once_per_site: bool,

    /// At most so many failures a second: 100/s
    ///
    /// What a whole machine survives for a while: --rate 10/s --gfp NOFS. Matches beyond it pass.
    #[arg(long, value_name = "N/s", value_parser = policy::parse_rate, allow_negative_numbers = true, help_heading = POLICY)]
    rate: Option<NonZeroU64>,

    /// Fail N matches, not more
    ///
    /// Exact on any number of CPUs. The run ends when they are used up, unless it has a command.
    #[arg(long, value_name = "N", value_parser = policy::parse_times, allow_negative_numbers = true, help_heading = POLICY)]
    times: Option<u64>,

    /// What fails with an error fails with this one: EIO or 5 [default: ENOMEM]
    ///
    /// Of slab, filemap, bio and functions that return errors. page and page-pool have none to return.
    #[arg(long, value_name = "ERROR", allow_hyphen_values = true, help_heading = POLICY)]
    errno: Option<ErrorNumber>,
}

impl PolicyArgs {
    /// The policy, its probability as it was given, and whether each site fails once.
    pub(super) fn into_parts(self) -> (Policy, Option<Probability>, bool) {
        let Self { skip, space, every, nth, nth_per, probability, seed, per_site, once_per_site, rate, times, errno } =
            self;
        let policy = Policy {
            skip: skip.unwrap_or_default(),
            space: space.unwrap_or_default(),
            every,
            nth,
            nth_per,
            probability: Probability::ALWAYS,
            seed,
            per_site,
            rate,
            times,
            errno,
        };
        (policy, probability, once_per_site)
    }
}
