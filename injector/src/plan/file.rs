//! Plan files: several rules for one run, as TOML. Keys are called as the options of the command line, values have their
//! grammar; what is wrong is said with line and column.

mod keys;
mod print;

use std::convert::Infallible;
use std::path::Path;
use std::time::Duration;
use std::{
    fmt,
    fs::File,
    io::{self, Read as _},
};

use super::{
    Backend, Filter, Hook, Limits, MAX_RULES, Output, Plan, PlanError, Policy, Probability, Rule, RuleDraft, Target,
    duration, policy, size, task,
};
use crate::foreign::Foreign;
pub(super) use keys::{Keys, Source};
pub use print::{NotText, to_toml};
pub(super) use print::{Printer, differs};

/// A plan as a file has it. A command and the output are not in it: they belong to the command line.
#[derive(Clone, Debug, PartialEq)]
pub struct PlanFile {
    name: String,
    rules: Vec<(Position, RuleDraft)>,
    /// Whose calls can fail.
    pub target: Target,
    /// How long the run lasts.
    pub duration: Option<Duration>,
    /// How long failures go on without the daemon.
    pub ttl: Option<Duration>,
    /// Everything but the failing.
    pub dry_run: bool,
    /// What the system calls returned.
    pub outcome: bool,
    /// How the hooks are attached.
    pub backend: Option<Backend>,
}

/// Where something stands, both counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    line: usize,
    column: usize,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// What is wrong with a plan file: bad input, exit code 2.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It can't be read.
    #[error("can't read {name}: {error}")]
    Read {
        /// The file.
        name: String,
        /// The error.
        error: io::Error,
    },
    /// Nobody writes such a plan.
    #[error("{name} has more than {} KiB; a plan has at most {MAX_RULES} rules", PlanFile::MOST_BYTES >> 10)]
    TooLarge {
        /// The file.
        name: String,
    },
    /// Something in it is wrong.
    #[error("{name}:{position}: {message}")]
    At {
        /// The file.
        name: String,
        /// The place in the file.
        position: Position,
        /// The message.
        message: String,
    },
    /// Something in it contradicts something else.
    #[error("{name}: {error}")]
    Plan {
        /// The file.
        name: String,
        /// The error.
        error: PlanError,
    },
}

impl PlanFile {
    /// How large a file can be. To parse it takes some 25 times as much memory.
    pub const MOST_BYTES: u64 = 1 << 20;

    /// Reads a file.
    ///
    /// # Errors
    /// It can't be read, or is no plan.
    pub fn read(path: &Path) -> Result<Self, FileError> {
        let name = Foreign::path(path).to_string();
        let read = || {
            let mut text = String::new();
            File::open(path)?.take(Self::MOST_BYTES + 1).read_to_string(&mut text)?;
            Ok(text)
        };
        match read() {
            Ok(text) if text.len() as u64 > Self::MOST_BYTES => Err(FileError::TooLarge { name }),
            Ok(text) => Self::parse(&name, &text),
            Err(error) => Err(FileError::Read { name, error }),
        }
    }

    /// Reads the text of a file; the name is for messages.
    ///
    /// # Errors
    /// It is no plan.
    pub fn parse(name: &str, text: &str) -> Result<Self, FileError> {
        let source = Source::new(name, text);
        let mut keys = Keys::of_file(&source)?;
        let mut this = Self {
            name: name.to_owned(),
            rules: Vec::new(),
            target: Target::default(),
            duration: keys.one("duration", duration::parse)?,
            ttl: keys.one("ttl", duration::parse)?,
            dry_run: keys.flag("dry-run")?,
            outcome: keys.flag("outcome")?,
            backend: keys.one("backend", str::parse)?,
        };
        if let Some(mut target) = keys.table("target")? {
            this.target = Target {
                all: target.flag("all")?,
                pids: target.list("pid", task::parse_pid)?,
                cgroups: target.any("cgroup", |path| Ok::<_, Infallible>(path.into()))?,
                containers: target.any("container", str::parse)?,
                pid_namespaces: target.any("pidns", str::parse)?,
                command: None,
                follow: target.flag("follow")?,
            };
            let nobody = target.error(
                "[target] names nobody; write pid, cgroup, container, pidns or all = true, or leave the table out",
            );
            target.finish()?;
            if !this.target.is_named() {
                return Err(nobody);
            }
        }
        for (position, rule) in keys.tables("rule")? {
            this.rules.push((position, draft(rule)?));
        }
        keys.finish()?;
        let several = this.rules.len() > 1;
        if let Some((position, _)) = this.rules.iter().find(|(_, rule)| several && rule.name.is_none()) {
            return Err(source.error(*position, PlanError::UnnamedRule.to_string()));
        }
        Ok(this)
    }

    /// The plan, with what the command line has added.
    ///
    /// # Errors
    /// Its parts contradict each other.
    pub fn into_plan(self, output: Output) -> Result<Plan, FileError> {
        let Self { name, rules: drafts, target, duration, ttl, dry_run, outcome, backend } = self;
        let mut rules: Vec<Rule> = Vec::new();
        for (position, draft) in drafts {
            let at = |error: PlanError| FileError::At { name: name.clone(), position, message: error.to_string() };
            let rule = draft.finish(&target).map_err(at)?;
            if rules.iter().any(|other| other.name == rule.name) {
                return Err(at(PlanError::SameName(rule.name.into())));
            }
            rules.push(rule);
        }
        let limits = Limits { duration, ttl: ttl.unwrap_or(Limits::DEFAULT_TTL) };
        let backend = backend.unwrap_or_default();
        let plan = Plan { rules, backend, target, limits, dry_run, outcome, vmlinux: None, output };
        match plan.validate() {
            Ok(()) => Ok(plan),
            Err(error) => Err(FileError::Plan { name, error }),
        }
    }
}

/// One `[[rule]]`.
fn draft(mut keys: Keys<'_>) -> Result<RuleDraft, FileError> {
    let name = keys.one("name", |name| Ok::<_, Infallible>(name.to_owned()))?;
    let hooks = keys.list("hook", str::parse::<Hook>)?;
    let functions = keys.any("function", str::parse)?;
    let filter = Filter::read(&mut keys)?;
    let draft = RuleDraft {
        name,
        hooks,
        functions,
        filter,
        policy: Policy {
            skip: keys.one("skip", policy::parse_skip)?.unwrap_or_default(),
            space: keys.one("space", size::parse_bytes)?.unwrap_or_default(),
            every: keys.one("every", policy::parse_every)?,
            nth: keys.list("nth", policy::parse_nth)?,
            nth_per: keys.one("nth-per", str::parse)?.unwrap_or_default(),
            probability: Probability::ALWAYS,
            seed: keys.one("seed", policy::parse_seed)?,
            per_site: keys.one("per-site", policy::parse_per_site)?,
            rate: keys.one("rate", policy::parse_rate)?,
            times: keys.one("times", policy::parse_times)?,
            errno: keys.one("errno", str::parse)?,
        },
        probability: keys.one("prob", str::parse)?,
        once_per_site: keys.flag("once-per-site")?,
    };
    keys.finish()?;
    Ok(draft)
}

#[cfg(test)]
mod tests;
