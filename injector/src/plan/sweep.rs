//! A sweep, described.
//!
//! A [`SweepPlan`] reaches the injector in a guest as a file, which serde makes of it: a new option needs a field here, with its
//! default in [`SweepPlan::new`], and an argument in `cli/sweep.rs`.

pub(crate) mod text;

use std::{
    ffi::OsString,
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use injector_guest::{Clock, EngineChoice, Root};
use injector_kernels::{Stock, selection::Wanted};
use serde::{Deserialize, Serialize};

use super::{Backend, StackPattern, workload::WorkloadFile};
use crate::foreign::Foreign;

/// What a sweep does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SweepPlan {
    /// The workload.
    #[serde(with = "text::words")]
    pub command: Vec<OsString>,
    /// The workload's name or file, if it was named.
    pub workload: Option<String>,
    /// The options of guests, as they were given: what a replay needs to have the same guests.
    pub guests: Vec<String>,
    /// A shell command that prepares the workload: once, and again after a reset. Nothing fails in it.
    pub setup: Option<String>,
    /// A shell command that takes down what the workload leaves: in the end, and to reset a workload that got stuck.
    pub cleanup: Option<String>,
    /// Only sites with one of these in their stack; all sites if it is empty.
    #[serde(with = "text::list")]
    pub only: Vec<StackPattern>,
    /// No site with one of these in its stack.
    #[serde(with = "text::list")]
    pub spared: Vec<StackPattern>,
    /// How many failures one attempt may have.
    pub depth: u32,
    /// The hit within an attempt at which a site fails, from 1.
    pub hit: u32,
    /// A site fails at all hits from there on, at most so many in an attempt.
    pub persistent: Option<u32>,
    /// Whether sites in kernel threads and softirqs fail too.
    pub kthreads: bool,
    /// The part of the sites that this sweep does.
    pub shard: Option<Shard>,
    /// The sweep stops after this time.
    pub budget: Option<Duration>,
    /// A task hangs that does not return from the kernel for this long.
    pub hang: Duration,
    /// Whether a workload that fails is a finding.
    pub expect_success: bool,
    /// Whether the sweep goes on with a damaged kernel.
    pub keep_going: bool,
    /// How hooks are attached.
    pub backend: Backend,
    /// How to look for leaks.
    pub leaks: Leaks,
    /// Where the journal goes.
    pub journal: Journal,
    /// Whether failures go into the kernel's log.
    pub kmsg: bool,
    /// Whether sites fail. If not, they are only recorded.
    pub failing: bool,
}

impl SweepPlan {
    /// A task hangs that does not return from the kernel for this long, if nothing else is asked for.
    pub const DEFAULT_HANG: Duration = Duration::from_secs(45);

    /// How long the workload may take without injection, and its set-up and clean-up.
    #[must_use]
    pub fn patience(&self) -> Duration {
        self.hang.saturating_mul(10)
    }

    /// A sweep of this command, with the default of every option.
    #[must_use]
    pub fn new(command: Vec<OsString>, journal: Journal) -> Self {
        Self {
            command,
            workload: None,
            guests: Vec::new(),
            setup: None,
            cleanup: None,
            only: Vec::new(),
            spared: Vec::new(),
            depth: 2,
            hit: 1,
            persistent: None,
            kthreads: true,
            shard: None,
            budget: None,
            hang: Self::DEFAULT_HANG,
            expect_success: false,
            keep_going: false,
            backend: Backend::Auto,
            leaks: Leaks::Auto,
            journal,
            kmsg: false,
            failing: true,
        }
    }
}

/// Guests in which a sweep is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guests {
    /// What runs them.
    pub engine: EngineChoice,
    /// The kernel; none if the engine boots nothing.
    pub kernel: Option<GuestKernel>,
    /// How many run at the same time.
    pub jobs: u32,
    /// Memory of each, in MiB.
    pub memory_mb: u32,
    /// Processors of each; none: one in virtual time, otherwise two.
    pub cpus: Option<u32>,
    /// Files and directories of this machine, and their paths in the guests.
    pub added: Vec<(PathBuf, String)>,
    /// Programs of this machine that the guests get.
    pub programs: Vec<String>,
    /// The only modules of the kernel's that guests with a root of their own get; none: all for hardware that a guest can have.
    pub modules: Vec<Wanted>,
    /// Options that their kernel must have, as `CONFIG_NET_NS`.
    pub options: Vec<String>,
    /// Devices of theirs, as QEMU's `-device` names them.
    pub devices: Vec<String>,
    /// Words for the kernel's command line.
    pub append: Vec<String>,
    /// What their clocks count.
    pub clock: Clock,
}

/// The kernel that guests boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GuestKernel {
    /// This image.
    Image {
        /// Its path.
        image: PathBuf,
        /// The directory with its modules, if it was named.
        modules: Option<PathBuf>,
    },
    /// A stock kernel of Debian, which is fetched if it is not there.
    Stock(Stock),
}

impl GuestKernel {
    /// The image that was named.
    #[must_use]
    pub fn image(&self) -> Option<&Path> {
        match self {
            Self::Image { image, modules: _ } => Some(image),
            Self::Stock(_) => None,
        }
    }
}

impl Guests {
    /// Memory of a guest, if nothing else is asked for.
    pub const DEFAULT_MEMORY_MB: u32 = 2048;

    /// Adds what a workload needs. Guests that have this machine's files have its programs and modules, too. `memory` is said if
    /// the memory was asked for.
    pub fn need(&mut self, file: &WorkloadFile, memory: bool) {
        if self.engine.root() == Root::Images {
            self.added.splice(0..0, file.added());
            let new = file.programs.iter().filter(|program| !self.programs.contains(program));
            let new: Vec<String> = new.cloned().collect();
            self.programs.splice(0..0, new);
            self.modules.extend(file.modules.iter().cloned());
        }
        self.options.extend(file.options.iter().cloned());
        self.devices.splice(0..0, file.devices.iter().cloned());
        self.append.splice(0..0, file.append.iter().cloned());
        if let Some(wanted) = file.memory_mb.filter(|_| !memory) {
            self.memory_mb = wanted;
        }
        self.cpus = self.cpus.or(file.cpus);
    }

    /// One guest with 2 GiB.
    #[must_use]
    pub fn new(engine: EngineChoice, image: Option<PathBuf>) -> Self {
        Self {
            engine,
            kernel: image.map(|image| GuestKernel::Image { image, modules: None }),
            jobs: 1,
            memory_mb: Self::DEFAULT_MEMORY_MB,
            cpus: None,
            added: Vec::new(),
            programs: Vec::new(),
            modules: Vec::new(),
            options: Vec::new(),
            devices: Vec::new(),
            append: Vec::new(),
            clock: Clock::Virtual,
        }
    }
}

/// Where a sweep's journal is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Journal {
    /// Nowhere: nothing fails, so there is nothing to resume.
    None,
    /// In a new file.
    New(PathBuf),
    /// In a file that exists.
    Resume(PathBuf),
    /// On the host, which gets it through a port.
    Port {
        /// A copy of what the host has so far.
        so_far: PathBuf,
    },
}

/// How to look for leaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Leaks {
    /// By kmemleak if the kernel has it; else not at all.
    #[default]
    Auto,
    /// By the growth of slab caches while each site fails many times. For kernels without kmemleak.
    Slab,
    /// Not at all.
    Off,
}

impl Leaks {
    /// The name that `--leaks` takes.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Slab => "slab",
            Self::Off => "off",
        }
    }
}

/// `--leaks` has no such value.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is not a way to look for leaks; write auto, slab or off")]
pub struct UnknownLeaks(Foreign);

impl FromStr for Leaks {
    type Err = UnknownLeaks;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Self::Auto),
            "slab" => Ok(Self::Slab),
            "off" => Ok(Self::Off),
            _ => Err(UnknownLeaks(text.into())),
        }
    }
}

/// Part `index` of `count`: `0/4` to `3/4`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shard {
    /// The part, `0..count`.
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

/// A text that is no shard.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is not a shard; write I/N with I from 0 to N-1: 0/4")]
pub struct NoShard(Foreign);

impl FromStr for Shard {
    type Err = NoShard;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (index, count) = text.split_once('/')?;
            let shard = Self { index: index.trim().parse().ok()?, count: count.trim().parse().ok()? };
            (shard.index < shard.count).then_some(shard)
        };
        parse().ok_or_else(|| NoShard(text.into()))
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
            assert_eq!(bad.parse::<Shard>(), Err(NoShard(bad.into())));
        }
    }

    #[test]
    fn ways_to_look_for_leaks() {
        assert_eq!("slab".parse(), Ok(Leaks::Slab));
        assert!("valgrind".parse::<Leaks>().unwrap_err().to_string().contains("auto, slab or off"));
    }
}
