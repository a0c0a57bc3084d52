//! A sweep, described.

use std::{ffi::OsString, path::PathBuf, str::FromStr, time::Duration};

use super::StackPattern;

/// What a sweep does.
#[derive(Clone, Debug, PartialEq)]
pub struct SweepPlan {
    /// The workload.
    pub command: Vec<OsString>,
    /// A shell command that prepares it: once, and again after a reset. Nothing is failed in it.
    pub setup: Option<String>,
    /// A shell command that takes it all down: in the end, and to reset a workload that got stuck.
    pub cleanup: Option<String>,
    /// Which sites.
    pub only: Vec<StackPattern>,
    /// How many failures there may be in one attempt.
    pub depth: u32,
    /// At which hit within an attempt a site is failed, from 1.
    pub hit: u32,
    /// All hits from there on, at most so many in an attempt.
    pub persistent: Option<u32>,
    /// Kernel threads and softirqs too.
    pub kthreads: bool,
    /// Which part of the sites.
    pub shard: Option<ShardOf>,
    /// Stop after this time.
    pub budget: Option<Duration>,
    /// A task that does not come back for this long hangs.
    pub hang: Duration,
    /// A workload that fails is a finding.
    pub expect_success: bool,
    /// Go on with a damaged kernel.
    pub keep_going: bool,
    /// How leaks are looked for.
    pub leaks: Leaks,
    /// Where the journal goes.
    pub journal: Journal,
}

/// Where a sweep's journal is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Journal {
    /// A new file.
    New(PathBuf),
    /// A file that is there.
    Resume(PathBuf),
    /// The host's, through a port; what it has so far lies in a file.
    Port {
        /// The journal up to now; may be empty.
        so_far: PathBuf,
    },
}

/// How leaks are looked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Leaks {
    /// With kmemleak, where the kernel has it.
    #[default]
    Auto,
    /// By the growth of slab caches over repeated failures of each site, where the kernel has no kmemleak.
    Slab,
    /// Not at all.
    Off,
}

/// There is no such way.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is no way to look for leaks; ways are: auto, slab, off")]
pub struct UnknownLeaks(String);

impl FromStr for Leaks {
    type Err = UnknownLeaks;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Self::Auto),
            "slab" => Ok(Self::Slab),
            "off" => Ok(Self::Off),
            _ => Err(UnknownLeaks(text.to_owned())),
        }
    }
}

/// Part `index` of `count`: `0/4` to `3/4`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardOf {
    /// From 0.
    pub index: u32,
    /// How many parts.
    pub count: u32,
}

/// Text that is no shard.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is no shard; write I/N with I from 0 to N-1: 0/4")]
pub struct NoShard(String);

impl FromStr for ShardOf {
    type Err = NoShard;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (index, count) = text.split_once('/')?;
            let shard = Self { index: index.trim().parse().ok()?, count: count.trim().parse().ok()? };
            (shard.index < shard.count).then_some(shard)
        };
        parse().ok_or_else(|| NoShard(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards() {
        assert_eq!("0/4".parse(), Ok(ShardOf { index: 0, count: 4 }));
        assert_eq!("3/4".parse(), Ok(ShardOf { index: 3, count: 4 }));
        for bad in ["4/4", "0/0", "1", "a/b", "-1/2", ""] {
            assert_eq!(bad.parse::<ShardOf>(), Err(NoShard(bad.to_owned())));
        }
    }

    #[test]
    fn ways_to_look_for_leaks() {
        assert_eq!("slab".parse(), Ok(Leaks::Slab));
        assert!("valgrind".parse::<Leaks>().unwrap_err().to_string().contains("auto, slab, off"));
    }
}
