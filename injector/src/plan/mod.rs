//! The plan: what to fail, when, for whom. Validated and immutable; everything after the command line works from it.
//!
//! Nothing here touches a kernel: a plan can be made, checked and printed on a machine that has no such kernel. Every
//! value has one grammar, its `FromStr`, which the command line and plan files use and whose errors name the good values.

pub mod backend;
pub mod cache;
mod container;
pub mod context;
pub mod duration;
pub mod errno;
mod error;
pub mod file;
mod filter;
pub mod gfp;
pub mod glob;
pub mod hook;
pub mod number;
pub mod order;
mod pidns;
pub mod policy;
pub mod probability;
mod rule;
mod site;
pub mod size;
pub mod stack;
pub(crate) mod suggest;
pub mod sweep;
pub mod syscall;
pub mod task;
pub mod workload;

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::foreign::Foreign;

pub use backend::Backend;
pub use cache::CachePattern;
pub use container::{ContainerError, ContainerName};
pub use context::{Contexts, Kthreads};
pub use errno::ErrorNumber;
pub use error::PlanError;
pub use file::PlanFile;
pub use filter::Filter;
pub use gfp::{GfpFilter, GfpScope, GfpValue};
pub use glob::Glob;
pub use hook::{Function, FunctionError, FunctionName, Hook};
pub use order::OrderRange;
pub use pidns::{NoPidNamespace, PidNamespaceName};
pub use policy::{NthPer, Policy};
pub use probability::Probability;
pub use rule::{Rule, RuleDraft};
pub use site::{NoSite, SiteName, SourceLine};
pub use size::SizeRange;
pub use stack::{StackFilter, StackPath, StackPattern, StackPatternKind};
pub use syscall::Syscall;
pub use task::{CommPattern, TaskFilter};

/// How many rules a plan can have: each is a program of its own on its hooks.
pub const MAX_RULES: usize = 8;

/// A run, described.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Plan {
    /// What is failed when; of several rules that would fail a call, the first does.
    pub rules: Vec<Rule>,
    /// How the hooks are attached.
    pub backend: Backend,
    /// Whose calls, for all rules.
    pub target: Target,
    /// When the run ends.
    pub limits: Limits,
    /// Everything but the failing: what would be failed is counted and reported.
    pub dry_run: bool,
    /// What the system call returned in which a failure happened is reported too.
    pub outcome: bool,
    /// The vmlinux with debug information, for sites by line; `None`: it is looked for in the usual places.
    #[serde(serialize_with = "lossy_path")]
    pub vmlinux: Option<PathBuf>,
    /// Where the outcome goes.
    pub output: Output,
}

/// When a run ends by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// After this time.
    #[serde(serialize_with = "duration::serialize_option")]
    pub duration: Option<Duration>,
    /// Failures stop when the daemon's last heartbeat is older.
    #[serde(serialize_with = "duration::serialize")]
    pub ttl: Duration,
}

/// Whose calls are failed; several: any of them; none: everybody's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Target {
    /// The whole machine was asked for by `--all`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub all: bool,
    /// Processes, with all their threads.
    pub pids: Vec<u32>,
    /// Directories of cgroups (v2), descendants included.
    #[serde(serialize_with = "lossy_paths")]
    pub cgroups: Vec<PathBuf>,
    /// Containers, by their cgroups.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub containers: Vec<ContainerName>,
    /// PID namespaces, those inside of them included.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pid_namespaces: Vec<PidNamespaceName>,
    /// A command that runs in a cgroup of its own.
    #[serde(serialize_with = "lossy_command")]
    pub command: Option<Vec<OsString>>,
    /// Of the processes, the children too, and theirs, from fork on.
    pub follow: bool,
}

/// Where the outcome goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Output {
    /// How it is written.
    pub format: Format,
    /// The file; `None`: standard output, or standard error when a command owns standard output.
    #[serde(serialize_with = "lossy_path")]
    pub path: Option<PathBuf>,
    /// How many sites the text summary shows; 0: all.
    pub top: usize,
    /// No line per failure.
    pub quiet: bool,
    /// Failures go into the kernel's log, too.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub kmsg: bool,
}

/// How events and summary are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// JSON lines.
    Json,
}

/// There is no such output format.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("there is no format `{0}`; formats are: text, json")]
pub struct UnknownFormat(Foreign);

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(UnknownFormat(text.into())),
        }
    }
}

/// There is no such GFP scope.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("there is no GFP scope `{0}`; scopes are: effective, raw")]
pub struct UnknownScope(Foreign);

impl FromStr for GfpScope {
    type Err = UnknownScope;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "effective" => Ok(Self::Effective),
            "raw" => Ok(Self::Raw),
            _ => Err(UnknownScope(text.into())),
        }
    }
}

impl Target {
    /// Whether everybody's calls are failed.
    #[must_use]
    pub fn is_everybody(&self) -> bool {
        let Self { all: _, pids, cgroups, containers, pid_namespaces, command, follow: _ } = self;
        let is_some = !pids.is_empty() || !cgroups.is_empty() || !containers.is_empty() || !pid_namespaces.is_empty();
        !is_some && command.is_none()
    }

    /// Whether anything says whose calls are failed.
    #[must_use]
    pub fn is_named(&self) -> bool {
        self.all || !self.is_everybody()
    }

    fn validate(&self) -> Result<(), PlanError> {
        let Self { all, pids, cgroups, containers: _, pid_namespaces: _, command, follow } = self;
        if *all && !self.is_everybody() {
            return Err(PlanError::AllAndTarget);
        }
        if cgroups.iter().any(|path| path.as_os_str().is_empty()) {
            return Err(PlanError::EmptyCgroup);
        }
        if pids.contains(&0) {
            return Err(PlanError::PidZero);
        }
        if *follow && pids.is_empty() {
            return Err(PlanError::FollowWithoutPid);
        }
        if command.as_ref().is_some_and(|command| command.first().is_none_or(|program| program.is_empty())) {
            return Err(PlanError::EmptyCommand);
        }
        Ok(())
    }
}

impl fmt::Display for Target {
    /// For the line that says that a run is armed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { all: _, pids, cgroups, containers, pid_namespaces, command, follow } = self;
        if self.is_everybody() {
            return f.write_str("the whole machine");
        }
        let count = |n: usize, one: &str, more: &str| match n {
            0 => None,
            1 => Some(one.to_owned()),
            n => Some(format!("{n} {more}")),
        };
        let children = if *follow { " and children" } else { "" };
        let processes = match pids.as_slice() {
            [pid] => Some(format!("process {pid}{children}")),
            pids => count(pids.len(), "", "processes").map(|text| format!("{text}{children}")),
        };
        let cgroups = match cgroups.as_slice() {
            [path] => Some(format!("cgroup {}", Foreign::path(path))),
            paths => count(paths.len(), "", "cgroups"),
        };
        let containers = match containers.as_slice() {
            [name] => Some(format!("container {name}")),
            names => count(names.len(), "", "containers"),
        };
        let namespaces = match pid_namespaces.as_slice() {
            [PidNamespaceName::Of(pid)] => Some(format!("the PID namespace of process {pid}")),
            [PidNamespaceName::File(path)] => Some(format!("PID namespace {}", Foreign::path(path))),
            names => count(names.len(), "", "PID namespaces"),
        };
        let command = command.as_ref().map(|_| "the command".to_owned());
        let parts: Vec<String> = [processes, cgroups, containers, namespaces, command].into_iter().flatten().collect();
        f.write_str(&parts.join(", "))
    }
}

impl Limits {
    /// How long failures go on after the daemon's last heartbeat, unless `--ttl` says otherwise.
    pub const DEFAULT_TTL: Duration = Duration::from_secs(5);
    /// Shorter, and a busy machine would stop its own failures between two heartbeats.
    pub const MIN_TTL: Duration = Duration::from_millis(100);
    /// Longer, and a daemon that hangs leaves the machine without memory for too long.
    pub const MAX_TTL: Duration = Duration::from_secs(3600);
}

impl Default for Limits {
    fn default() -> Self {
        Self { duration: None, ttl: Self::DEFAULT_TTL }
    }
}

impl Default for Output {
    fn default() -> Self {
        Self { format: Format::Text, path: None, top: 10, quiet: false, kmsg: false }
    }
}

impl Plan {
    /// A plan of one rule, with the defaults of everything else.
    ///
    /// # Errors
    /// See [`Plan::validate`].
    pub fn of(rule: Rule, target: Target) -> Result<Self, PlanError> {
        let plan = Self {
            rules: vec![rule],
            backend: Backend::default(),
            target,
            limits: Limits::default(),
            dry_run: false,
            outcome: false,
            vmlinux: None,
            output: Output::default(),
        };
        plan.validate()?;
        Ok(plan)
    }

    /// The first rule: the only one, where none was named.
    ///
    /// # Panics
    /// There is none, which [`Plan::validate`] refuses.
    #[must_use]
    pub fn first(&self) -> &Rule {
        &self.rules[0]
    }

    /// Whether it makes sense.
    ///
    /// # Errors
    /// Its parts contradict each other.
    pub fn validate(&self) -> Result<(), PlanError> {
        let Self { rules, backend: _, target, limits, dry_run, outcome: _, vmlinux: _, output } = self;
        match rules.len() {
            0 => return Err(PlanError::NoRule),
            1..=MAX_RULES => {}
            more => return Err(PlanError::TooManyRules(more)),
        }
        for (i, rule) in rules.iter().enumerate() {
            rule.validate()?;
            rule.validate_for(target)?;
            if rules[..i].iter().any(|other| other.name == rule.name) {
                return Err(PlanError::SameName(rule.name.as_str().into()));
            }
        }
        target.validate()?;
        if output.kmsg && *dry_run {
            return Err(PlanError::KmsgDryRun);
        }
        let Limits { duration, ttl } = limits;
        if let Some(duration) = duration
            && duration.is_zero()
        {
            return Err(PlanError::DurationZero(*duration));
        }
        if !(Limits::MIN_TTL..=Limits::MAX_TTL).contains(ttl) {
            return Err(PlanError::Ttl(*ttl));
        }
        // A target that got lost must not make the whole machine the target.
        let fails_anybody = |rule: &Rule| !rule.is_narrow() && rule.policy.probability != Probability::NEVER;
        if !target.is_named() && !dry_run && rules.iter().any(fails_anybody) {
            return Err(PlanError::NoTarget);
        }
        Ok(())
    }
}

// The plan is printed for people and for logs; what is not UTF-8 is shown as well as it can be.

fn lossy_path<S: Serializer>(path: &Option<PathBuf>, serializer: S) -> Result<S::Ok, S::Error> {
    path.as_ref().map(|path| path.to_string_lossy()).serialize(serializer)
}

fn lossy_paths<S: Serializer>(paths: &[PathBuf], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(paths.iter().map(|path| path.to_string_lossy()))
}

fn lossy_command<S: Serializer>(command: &Option<Vec<OsString>>, serializer: S) -> Result<S::Ok, S::Error> {
    let words = command.as_ref().map(|words| words.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>());
    words.serialize(serializer)
}

#[cfg(test)]
mod tests;
