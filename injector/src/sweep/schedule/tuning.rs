//! Every threshold of a sweep, in one place.

use std::time::Duration;

/// The thresholds of a sweep. What they are was found by sweeping ext4, XFS, btrfs and NFS on 6.1, 6.12 and 7.3 in emulated
/// guests: each trades a run of the workload, or a boot, against failures that it would bring.
#[derive(Clone, Debug, PartialEq)]
pub struct Tuning {
    /// At most so many uninjected runs record sites.
    pub record_runs: u32,
    /// Recording ends when a run brings fewer than one new site in so many. Sites of a slab's refill come and go for ever.
    pub steady: usize,
    /// The injector records for this long without the workload: these sites have nothing to do with it.
    pub idle: Duration,

    /// At most so many runs at the retry level.
    pub retry_runs: u32,
    /// A run at the retry level that comes to its end must bring one new failure for so many sites that have failed by
    /// then, or it is the last. What is left comes cheaper at the multi level.
    pub retry_worth: usize,
    /// So often a retry run repeats a failure that leads to new sites. Each time it reaches one of them.
    pub nested_repeats: u64,
    /// At most so many runs for sites that only failures lead to, when the other runs are over.
    pub nested_runs: u32,
    /// So many failures repeat for such a site if nobody knows which of them leads to it.
    pub nested_guesses: usize,
    /// When at most so many sites are left that only failures lead to, retry runs go on as long as each of them brings one.
    pub nested_few: usize,
    /// At most so many runs at the multi level.
    pub multi_runs: u32,
    /// The same as `retry_worth`, for the multi level.
    pub multi_worth: usize,
    /// At most so many failures in one system call at the multi level. Not more than the hook's table of an attempt has.
    pub multi_limit: u32,
    /// At most so many runs at the copy level.
    pub copy_runs: u32,
    /// A run of any of these levels that brings fewer new failures is poor.
    pub worth: usize,
    /// A run that reaches this part of the recorded sites came to its end, whatever the workload's exit status is.
    pub through: (usize, usize),

    /// At most so many sites fail in one whole run.
    pub whole_sites: usize,
    /// A site that does not come up in so many poor whole runs is given up. A poor run that ends well counts for all.
    pub whole_misses: u32,
    /// A whole run is poor when it fails fewer than one in so many of its sites.
    pub whole_few: usize,

    /// At most so many suspects of a complaint are tried.
    pub suspects_tried: usize,
    /// So many of them, the likeliest, fail alone before groups of them fail in one run.
    pub suspects_alone: usize,
    /// All suspects fail in one run at most so often until the complaint comes again.
    pub suspects_together: usize,
    /// Of the smallest group that led to the complaint so many fail alone, and their pairs.
    pub suspects_paired: usize,
    /// After a crash in a run in which every site could fail: so many of the last failures fail alone,
    pub crash_last: usize,
    /// so many of the sites that come next,
    pub crash_next: usize,
    /// and so many sites that only a failure leads to fail together with that.
    pub crash_pairs: usize,
    /// A level is left after so many crashes for which no failure is known. The whole level names its sites.
    pub unexplained_crashes: u32,
    /// At most so many sites fail alone to find the cause of one leak,
    pub leak_suspects: usize,
    /// and at most so many pairs of them together, where nobody knows what leads to one.
    pub leak_pairs: usize,
    /// At most so many runs repeat failures for which a boot ended before kmemleak was asked.
    pub leak_repeats: u32,
    /// So often a failure repeats to make a slab cache grow visibly.
    pub growth_repeats: u64,
    /// A run in which failures repeat may take so many times longer: each reading of the slab caches takes a while.
    pub growth_patience: u32,

    /// So many bad ends of the workload in a row, and it is reset and must work without injection.
    pub patience: u32,
    /// A run may take this many times the hang limit,
    pub deadline_hangs: u32,
    /// and this many times the uninjected run.
    pub deadline_plains: u32,
    /// The same error so often in a row, without a failure in between, and the workload is stuck.
    pub stuck_after: u32,
    /// At most so many earlier failures are suspects of a complaint that comes late.
    pub late_suspects: usize,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            record_runs: 3,
            steady: 25,
            idle: Duration::from_millis(300),
            retry_runs: 12,
            retry_worth: 8,
            nested_repeats: 4,
            nested_runs: 6,
            nested_guesses: 3,
            nested_few: 8,
            multi_runs: 24,
            multi_worth: 20,
            multi_limit: 32,
            copy_runs: 8,
            worth: 10,
            through: (4, 5),
            whole_sites: 512,
            whole_misses: 2,
            whole_few: 20,
            suspects_tried: 24,
            suspects_alone: 3,
            suspects_together: 2,
            suspects_paired: 4,
            crash_last: 2,
            crash_next: 2,
            crash_pairs: 8,
            unexplained_crashes: 3,
            leak_suspects: 8,
            leak_pairs: 16,
            leak_repeats: 8,
            growth_repeats: 16,
            growth_patience: 10,
            patience: 4,
            deadline_hangs: 2,
            deadline_plains: 20,
            stuck_after: 24,
            late_suspects: 8,
        }
    }
}
