//! The lines of a journal: JSON objects, one a line, told apart by `type`.
//!
//! A journal is one section or, after a merge, several: a section starts with a [`Begin`] whose `part` is 0 and holds what
//! one sweep wrote. A sweep that is resumed goes on in its section with another `Begin` that has the same `sweep` and the
//! next `part`. Runs are numbered within a section and never reuse a number.

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Verdict;
pub use super::level::Level;
use crate::foreign::Foreign;
pub use crate::plan::sweep::Shard;
use crate::{events::Context, plan::Hook};

/// Version of the lines' schema: it changes when a field changes its meaning or goes; fields may be added.
/// 2: the levels `system-call`, `crowd` and `run` are called `retry`, `multi` and `whole`. The reader takes both.
pub const SCHEMA: u32 = 2;

/// A site's signature; 16 hexadecimal digits in text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signature(pub u64);

impl From<Signature> for u64 {
    fn from(signature: Signature) -> Self {
        signature.0
    }
}

/// Text that is no signature.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is not a site; write the 16 hexadecimal digits of its signature")]
pub struct NoSignature(Foreign);

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for Signature {
    type Err = NoSignature;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = digits.then(|| u64::from_str_radix(text, 16).ok()).flatten();
        number.map(Self).ok_or_else(|| NoSignature(text.into()))
    }
}

impl Serialize for Signature {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Signature {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl serde::de::Visitor<'_> for Text {
            type Value = Signature;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a site's signature")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Signature, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// A line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Record {
    /// A sweep begins or goes on.
    Begin(Box<Begin>),
    /// The workload ran without any injection.
    Plain(Plain),
    /// A site was seen for the first time.
    Site(Site),
    /// Written and synced before a run in which these sites may be failed.
    Armed(Armed),
    /// An allocation was failed, and what came of it.
    Failed(Failed),
    /// The kernel complained.
    Trouble(Trouble),
    /// A run came to its end.
    Ended(Ended),
    /// A run did not: the machine went down in it.
    Crash(Crash),
    /// kmemleak was asked for what the failures of this boot lost.
    Scanned(Scanned),
    /// Sites that could not be made to fail any more.
    Unreached(Unreached),
    /// A finding was tried again.
    Replayed(Replayed),
    /// The sweep is over.
    End(End),
}

/// Of which kernel, which workload, with which options.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begin {
    /// [`SCHEMA`].
    pub schema: u32,
    /// A random name of this sweep; the same when it is resumed.
    pub sweep: String,
    /// How often the sweep was begun before: 0 where it begins, which is where its section begins.
    #[serde(default)]
    pub part: u32,
    /// The kernel's boot_id (`/proc/sys/kernel/random`). Where it is that of the part before, a run without end is of a killed sweep.
    #[serde(default)]
    pub boot: Option<String>,
    /// Version of the injector.
    pub version: String,
    /// Wall-clock time, RFC 3339, UTC.
    pub time: String,
    /// The kernel under test.
    pub kernel: Kernel,
    /// The workload.
    pub workload: Workload,
    /// What was asked for.
    pub options: Options,
    /// Which part of all sites this sweep fails.
    pub shard: Option<Shard>,
    /// The options of the guests that it ran in, as for a command line: a replay needs the same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub guests: Vec<String>,
}

/// What makes a kernel the same kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kernel {
    /// `uname -r`.
    pub release: String,
    /// `uname -v`.
    pub version: String,
    /// GNU build id, from `/sys/kernel/notes`, hexadecimal. Site signatures are only comparable where it is the same.
    pub build_id: Option<String>,
    /// SHA-256 of `/proc/config.gz`'s content, hexadecimal; none without CONFIG_IKCONFIG_PROC.
    pub config: Option<String>,
}

/// What makes a workload the same workload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workload {
    /// The command.
    pub command: Vec<String>,
    /// Run before each run, outside of what is failed.
    pub setup: Option<String>,
    /// Run after each run, outside of what is failed.
    pub cleanup: Option<String>,
    /// SHA-256 over the files that the command line names, hexadecimal: an edited script is another workload.
    pub digest: String,
    /// Its name or file, if it was named (`--workload`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// What changes the meaning of the verdicts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Options {
    /// At most so many failures in one attempt.
    pub depth: u32,
    /// At which hit within an attempt a site is failed.
    pub hit: u32,
    /// All hits of an attempt are failed from there on, at most so many; none: one.
    pub persistent: Option<u32>,
    /// Kernel threads and softirqs are failed too.
    pub kthreads: bool,
    /// Only sites with one of these in their stack; empty: all.
    pub only: Vec<String>,
    /// A workload that fails is a finding.
    pub expect_success: bool,
}

/// The workload without injection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plain {
    /// Seconds.
    pub elapsed: f64,
    /// Exit status as a shell counts it.
    pub status: i32,
}

/// A site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Site {
    /// Its signature.
    pub site: Signature,
    /// Its hook.
    pub hook: Hook,
    /// In what kind of code it was first seen.
    pub context: Context,
    /// In a kernel thread.
    pub kthread: bool,
    /// A loadable module's name, or a subsystem of the kernel proper (`ext4`, `sunrpc`, `mm`).
    pub module: String,
    /// What kind of place it is.
    pub place: Place,
    /// Frames, innermost first: `symbol+0x1f`, `symbol+0x1f [module]`.
    pub stack: Vec<String>,
    /// It first appeared while this site's failure was being handled.
    pub after: Option<Signature>,
    /// What was asked for when it was first seen: all that is known of it where its failure takes the machine down.
    #[serde(default)]
    pub call: Option<Call>,
}

/// Where in a task's life a site lies: it decides how it can be failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// Inside a system call that can be retried.
    SystemCall,
    /// Inside execve().
    Exec,
    /// In a page fault.
    PageFault,
    /// In a kernel thread or worker.
    Kthread,
    /// In an interrupt.
    Interrupt,
    /// Elsewhere: signals, exit, what a task does on its way back to user space.
    Other,
}

impl Place {
    /// Process machinery, where a failure would end a script: only copies of the process fail it.
    #[must_use]
    pub fn is_machinery(self) -> bool {
        matches!(self, Self::Exec | Self::PageFault)
    }
}

/// A run begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Armed {
    /// Its number.
    pub run: u32,
    /// How.
    pub level: Level,
    /// Which sites may fail; none: the run names none, and every site that has not failed yet may.
    pub sites: Option<Vec<Signature>>,
    /// They fail in an attempt in which this site has failed before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<Signature>,
}

/// A failure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Failed {
    /// The run.
    pub run: u32,
    /// Where.
    pub site: Signature,
    /// With this failure before it, in the same attempt (depth 2).
    pub after: Option<Signature>,
    /// At which hit within the attempt.
    pub hit: u32,
    /// How many times (persistent failures: all of an attempt).
    pub times: u32,
    /// How.
    pub level: Level,
    /// What was asked for; none where the record of it was lost.
    pub call: Option<Call>,
    /// The system call that it happened in.
    pub syscall: Option<Syscall>,
    /// What came of it.
    pub outcome: Outcome,
}

/// What the allocation was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// Flags by name.
    pub gfp: String,
    /// Order.
    pub order: u32,
    /// Bytes.
    pub size: u64,
    /// Slab cache.
    pub cache: Option<String>,
    /// Name of the task.
    pub comm: String,
}

/// A system call with its result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Syscall {
    /// Its name: `openat`.
    pub name: String,
    /// What it returned with the failure in it; `-errno` for errors. None where it never returned (exit).
    pub result: Option<i64>,
}

/// What came of a failure, as far as user space can tell. The kernel's complaints are [`Trouble`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub enum Outcome {
    /// Out of memory is what came back.
    Clean,
    /// Nothing: it went well all the same.
    Masked,
    /// Another error came back.
    Misreported {
        /// Its name: `EIO`.
        error: String,
    },
    /// The repeated call failed without a failure in it: with this error.
    NotRepeatable {
        /// What came back with the failure in it.
        error: String,
        /// What came back then.
        then: String,
    },
    /// The program was killed or ended with this status, which it does not do without injection (whole level).
    ProgramFailed {
        /// As a shell counts it.
        status: i32,
    },
    /// From there on the same error came back again and again.
    Wedged {
        /// Its name.
        error: String,
    },
}

impl Outcome {
    /// What the name of an error that came back says. ENOBUFS is what the network says for ENOMEM.
    #[must_use]
    pub fn of_error(error: String) -> Self {
        if matches!(error.as_str(), "ENOMEM" | "ENOBUFS") { Self::Clean } else { Self::Misreported { error } }
    }

    /// The title of a workload that got stuck with an error, as long as several failures may be the cause.
    #[must_use]
    pub fn wedged_title(error: &str) -> String {
        format!("{error} again and again")
    }

    /// The verdict that this is.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        match self {
            Self::Clean => Verdict::Clean,
            Self::Masked => Verdict::Masked,
            Self::Misreported { .. } | Self::NotRepeatable { .. } | Self::ProgramFailed { .. } => Verdict::Error,
            Self::Wedged { .. } => Verdict::Wedged,
        }
    }
}

/// What user space saw of it: `user space got EIO`.
impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Clean => f.write_str("user space got ENOMEM"),
            Self::Masked => f.write_str("user space did not notice"),
            Self::Misreported { error } => write!(f, "user space got {error}"),
            Self::NotRepeatable { error, then } => {
                write!(f, "user space got {error}, and {then} when the call was retried")
            }
            Self::ProgramFailed { status } => write!(f, "the program ended with status {status}"),
            Self::Wedged { error } => write!(f, "from there on {error} came back again and again"),
        }
    }
}

/// The title where the workload failed without injection, after failures and a reset: the kernel did not get over them.
pub const WORKS_NO_MORE: &str = "the workload does not work any more";

/// A complaint of the kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// The run in which it came.
    pub run: u32,
    /// What kind: leak, warning, hang or oops.
    pub verdict: Verdict,
    /// The same for the same defect: `KASAN: slab-use-after-free in nfs4_put_stid`.
    pub title: String,
    /// All that the kernel said.
    pub splat: String,
    /// The failure that it followed, if one could be told.
    pub site: Option<Signature>,
    /// With this failure before it in the same attempt.
    pub after: Option<Signature>,
    /// Other failures that may be its cause, latest first.
    pub suspects: Vec<Signature>,
}

/// Why a run ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunEnd {
    /// The workload ended.
    #[default]
    Finished,
    /// It got nowhere any more and was ended.
    Stuck,
    /// It took too long and was killed.
    TimedOut,
    /// It could not be killed.
    Unkillable,
    /// The kernel is damaged: nothing that follows would mean anything.
    Damaged,
    /// By the user, or because the time was up.
    Interrupted,
}

/// The end of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ended {
    /// Its number.
    pub run: u32,
    /// Why.
    pub end: RunEnd,
    /// Seconds.
    pub elapsed: f64,
    /// Exit status of the workload as a shell counts it; none if it could not be had.
    pub status: Option<i32>,
    /// How often each site was reached, in runs that record.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub hits: BTreeMap<Signature, u64>,
    /// How many allocations the kernel's own fault injection failed in the run and before it, as far as its log says.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub kernel_injected: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
pub(crate) fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// How the machine went down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CrashKind {
    /// The kernel panicked.
    Panic,
    /// It was gone without a word.
    Reset,
    /// It showed no sign of life.
    Stall,
    /// Found afterwards: the journal stops inside a run.
    Unknown,
}

/// The machine went down. Written by who noticed: the controller outside, or the sweep that is resumed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Crash {
    /// The run that was going on; none: between runs.
    pub run: Option<u32>,
    /// How.
    pub kind: CrashKind,
    /// As in [`Trouble`].
    pub title: String,
    /// What the console said.
    pub splat: String,
}

impl Crash {
    /// Somebody took the machine down by sysrq: that says nothing of what was failed then, which is to be done again.
    #[must_use]
    pub fn is_on_purpose(&self) -> bool {
        // sysrq_handle_crash(), drivers/tty/sysrq.c.
        [&self.title, &self.splat].iter().any(|text| text.contains("sysrq triggered crash"))
    }
}

/// What was failed before this in the same boot needs no look for leaks any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scanned {
    /// How many places lost something.
    pub leaks: usize,
}

/// Sites that are given up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unreached {
    /// Which.
    pub sites: Vec<Signature>,
    /// Why: they did not come up again, the time was over…
    pub why: String,
}

/// A finding was tried again alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replayed {
    /// The finding's title.
    pub title: String,
    /// Which failure.
    pub site: Signature,
    /// With this one before it.
    pub after: Option<Signature>,
    /// How often it was tried.
    pub tries: u32,
    /// How often the same title came of it.
    pub reproduced: u32,
}

/// The end of a sweep.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct End {
    /// Every site that could be failed was; else the time was up.
    pub complete: bool,
    /// Seconds, of all its parts together, boots included where a controller measured them.
    pub elapsed: f64,
}
