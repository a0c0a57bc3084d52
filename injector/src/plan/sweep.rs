//! A sweep, described.

use std::{ffi::OsString, fmt, path::PathBuf, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

use super::{Backend, StackPattern};

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
    pub shard: Option<Shard>,
    /// Stop after this time.
    pub budget: Option<Duration>,
    /// A task that does not come back for this long hangs.
    pub hang: Duration,
    /// A workload that fails is a finding.
    pub expect_success: bool,
    /// Go on with a damaged kernel.
    pub keep_going: bool,
    /// How hooks are attached.
    pub backend: Backend,
    /// How leaks are looked for.
    pub leaks: Leaks,
    /// Where the journal goes.
    pub journal: Journal,
    /// Else sites are only recorded.
    pub failing: bool,
}

impl SweepPlan {
    /// A command with the defaults of everything.
    #[must_use]
    pub fn new(command: Vec<OsString>, journal: Journal) -> Self {
        Self {
            command,
            setup: None,
            cleanup: None,
            only: Vec::new(),
            depth: 2,
            hit: 1,
            persistent: None,
            kthreads: true,
            shard: None,
            budget: None,
            hang: Duration::from_secs(45),
            expect_success: false,
            keep_going: false,
            backend: Backend::Auto,
            leaks: Leaks::Auto,
            journal,
            failing: true,
        }
    }

    /// The options that make the same plan, but for journal, shard and command.
    #[must_use]
    pub fn options(&self) -> Vec<String> {
        let Self {
            command: _,
            setup,
            cleanup,
            only,
            depth,
            hit,
            persistent,
            kthreads,
            shard: _,
            budget,
            hang,
            expect_success,
            keep_going,
            backend,
            leaks,
            journal: _,
            failing: _,
        } = self;
        let mut words = Vec::new();
        let mut option = |name: &str, value: Option<String>| {
            words.push(format!("--{name}"));
            words.extend(value);
        };
        for (name, command) in [("setup", setup), ("cleanup", cleanup)] {
            if let Some(command) = command {
                option(name, Some(command.clone()));
            }
        }
        for pattern in only {
            option("only", Some(pattern.to_string()));
        }
        option("depth", Some(depth.to_string()));
        option("hit", Some(hit.to_string()));
        if let Some(times) = persistent {
            option("persistent", Some(times.to_string()));
        }
        if let Some(budget) = budget {
            option("budget", Some(format!("{}ms", budget.as_millis())));
        }
        option("hang", Some(format!("{}ms", hang.as_millis())));
        option("leaks", Some(leaks.name().to_owned()));
        if *backend != Backend::Auto {
            option("backend", Some(backend.to_string()));
        }
        for (name, on) in [("no-kthreads", !kthreads), ("expect-success", *expect_success), ("keep-going", *keep_going)]
        {
            if on {
                option(name, None);
            }
        }
        words
    }
}

/// Guests that a sweep is done in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guests {
    /// The kernel.
    pub image: PathBuf,
    /// How many at a time.
    pub jobs: u32,
    /// Memory of each, MiB.
    pub memory_mb: u32,
    /// Processors of each.
    pub cpus: u32,
    /// Files and directories of this machine, and where they go.
    pub added: Vec<(PathBuf, String)>,
    /// Programs of this machine.
    pub programs: Vec<String>,
    /// Words for the kernel's command line.
    pub append: Vec<String>,
}

/// Where a sweep's journal is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Journal {
    /// A new file.
    New(PathBuf),
    /// A file that is there.
    Resume(PathBuf),
    /// The host's, through a port.
    Port {
        /// The file that has what the host has so far, if it has something.
        so_far: Option<PathBuf>,
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

impl Leaks {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Slab => "slab",
            Self::Off => "off",
        }
    }
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shard {
    /// Which, `0..count`.
    pub index: u32,
    /// How many parts.
    pub count: u32,
}

impl Shard {
    /// Whether the site with this signature belongs to this part: a property of the signature alone. The hook has the same rule.
    #[must_use]
    pub fn has(self, signature: impl Into<u64>) -> bool {
        signature.into() % u64::from(self.count.max(1)) == u64::from(self.index)
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

/// Text that is no shard.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is no shard; write I/N with I from 0 to N-1: 0/4")]
pub struct NoShard(String);

impl FromStr for Shard {
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
        assert_eq!("0/4".parse(), Ok(Shard { index: 0, count: 4 }));
        assert_eq!("3/4".parse(), Ok(Shard { index: 3, count: 4 }));
        for bad in ["4/4", "0/0", "1", "a/b", "-1/2", ""] {
            assert_eq!(bad.parse::<Shard>(), Err(NoShard(bad.to_owned())));
        }
    }

    #[test]
    fn ways_to_look_for_leaks() {
        assert_eq!("slab".parse(), Ok(Leaks::Slab));
        assert!("valgrind".parse::<Leaks>().unwrap_err().to_string().contains("auto, slab, off"));
    }
}
