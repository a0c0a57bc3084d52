//! The options that say which matches fail.

use std::num::NonZeroU64;

use clap::Args;

use crate::plan::{ErrorNumber, NthPer, Policy, Probability, policy, size};

pub(super) const POLICY: &str = "Policy (which matches fail; checked in this order, all must agree)";

#[derive(Args)]
pub(super) struct PolicyArgs {
    /// Let the first N matches pass
    ///
    /// A match that one option lets pass does not count for the options below it.
    #[arg(long, value_name = "N", value_parser = policy::parse_skip, allow_negative_numbers = true, help_heading = POLICY)]
    skip: Option<u64>,

    /// Let matches pass until they add up to this many bytes: 64K, 1M
    ///
    /// It applies to hooks whose calls have a size: slab and page. K, M and G are powers of 1024.
    #[arg(long, value_name = "BYTES", value_parser = size::parse_bytes, allow_negative_numbers = true, help_heading = POLICY)]
    space: Option<u64>,

    /// Fail every N-th match: N, 2N, 3N…
    ///
    /// --skip 100 --every 10 fails matches 110, 120, 130…
    #[arg(long, value_name = "N", value_parser = policy::parse_every, allow_negative_numbers = true, help_heading = POLICY)]
    every: Option<NonZeroU64>,

    /// Fail the N-th match, counted from 1: 7 or 1,3,5
    ///
    /// At most 16 numbers. A loop over --nth fails the allocations of a command one by one:
    /// for n in $(seq 50); do injector --nth $n -- ./test.sh; done
    #[arg(long, value_name = "N,…", value_delimiter = ',', value_parser = policy::parse_nth, allow_negative_numbers = true, help_heading = POLICY)]
    nth: Vec<NonZeroU64>,

    /// What --nth counts: all matches of the run (run) or those of each task (task)
    ///
    /// --nth 3 --nth-per task fails the third match of each thread, like 3 in the kernel's /proc/PID/task/TID/fail-nth.
    #[arg(long, value_name = "WHOSE", default_value = "run", help_heading = POLICY)]
    nth_per: NthPer,

    /// Probability that a match fails: 0.01, 1% or 1/1000
    ///
    /// 0 is never, 1 is always; the resolution is 2^-32. The default is 1 if there is a target, --times, --rate, --nth, --every,
    /// --per-site or --once-per-site. Without any of them, the option is required.
    #[arg(long = "prob", value_name = "P", allow_negative_numbers = true, help_heading = POLICY)]
    probability: Option<Probability>,

    /// Make --prob repeatable with this number: 1, 0x5eed
    ///
    /// Whether a match fails then depends on the seed, its site, and how often the site was hit before. The same workload fails
    /// at the same places again, even after a reboot.
    #[arg(long, value_name = "S", value_parser = policy::parse_seed, allow_negative_numbers = true, help_heading = POLICY)]
    seed: Option<u64>,

    /// Fail each site (hook and stack) at most N times
    ///
    /// Code that retries until it succeeds then succeeds in the end: --per-site 3 -- ./test.sh
    #[arg(long, value_name = "N", value_parser = policy::parse_per_site, allow_negative_numbers = true, help_heading = POLICY)]
    per_site: Option<NonZeroU64>,

    /// Fail each site once, like --per-site 1
    ///
    /// This is the quickest way to many different failures: --once-per-site --stack '[nfs]' -- ./test.sh
    #[arg(long, help_heading = POLICY)]
    once_per_site: bool,

    /// Fail at most this many matches per second: 100/s
    ///
    /// Further matches pass. A whole machine survives --rate 10/s --gfp NOFS for a while.
    #[arg(long, value_name = "N/s", value_parser = policy::parse_rate, allow_negative_numbers = true, help_heading = POLICY)]
    rate: Option<NonZeroU64>,

    /// Fail at most N matches in all
    ///
    /// The count is exact on any number of CPUs. The run ends after N failures, unless it has a command.
    #[arg(long, value_name = "N", value_parser = policy::parse_times, allow_negative_numbers = true, help_heading = POLICY)]
    times: Option<u64>,

    /// The error that failed calls return: EIO or 5 [default: ENOMEM]
    ///
    /// It applies to slab, filemap, bio and to functions that return errors. The others return no error number.
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
