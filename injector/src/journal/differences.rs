//! Whether a journal belongs to this kernel, this workload and these options.

use std::{collections::BTreeSet, fmt};

use super::record::{Begin, Kernel, Options, Shard, Workload};

/// What can differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum What {
    /// Release, version or build id: sites mean something else.
    Kernel,
    /// The kernel's options.
    KernelConfig,
    /// The workload's command.
    Command,
    /// `--setup`.
    Setup,
    /// `--cleanup`.
    Cleanup,
    /// The files that the command names.
    Files,
    /// `--depth`.
    Depth,
    /// `--hit`.
    Hit,
    /// `--persistent`.
    Persistent,
    /// `--no-kthreads`.
    Kthreads,
    /// `--only`.
    Only,
    /// `--expect-success`.
    ExpectSuccess,
    /// `--shard`.
    Shard,
}

impl What {
    /// In messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::KernelConfig => "kernel configuration",
            Self::Command => "workload",
            Self::Setup => "--setup",
            Self::Cleanup => "--cleanup",
            Self::Files => "content of the workload's files",
            Self::Depth => "--depth",
            Self::Hit => "--hit",
            Self::Persistent => "--persistent",
            Self::Kthreads => "kernel threads",
            Self::Only => "--only",
            Self::ExpectSuccess => "--expect-success",
            Self::Shard => "--shard",
        }
    }

    /// Sweeps that differ in nothing else fail the same sites of the same workload: their journals can be merged.
    #[must_use]
    pub fn may_be_merged(self) -> bool {
        matches!(self, Self::Shard | Self::Hit | Self::Persistent | Self::Depth)
    }
}

/// A difference between a journal and a sweep, or between two journals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// In what.
    pub what: What,
    /// What the journal has.
    pub journal: String,
    /// What the other has.
    pub other: String,
}

impl Difference {
    /// One line, with names for both: `in the journal`, `here`.
    #[must_use]
    pub fn line(&self, journal: &str, other: &str) -> String {
        format!("{}: {} {journal}, {} {other}", self.what.name(), self.journal, self.other)
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line("in the journal", "here"))
    }
}

/// In what a journal's sweep differs from another. A sweep may be resumed where there is no difference.
#[must_use]
pub fn differences(journal: &Begin, other: &Begin) -> Vec<Difference> {
    let mut all = Vec::new();
    let mut note = |differs: bool, what, describe: &dyn Fn(&Begin) -> String| {
        if differs {
            all.push(Difference { what, journal: describe(journal), other: describe(other) });
        }
    };
    let (a, b) = (&journal.kernel, &other.kernel);
    if !same_kernel(a, b) {
        let release = a.release == b.release;
        note(true, What::Kernel, &|begin| describe_kernel(&begin.kernel, release));
    }
    let configs = a.config.is_some() && b.config.is_some() && a.config != b.config;
    note(configs, What::KernelConfig, &|begin| begin.kernel.config.as_deref().map_or_else(String::new, short));

    // A name says where the others come from.
    let Workload { command, setup, cleanup, digest, name: _ } = &journal.workload;
    let theirs = &other.workload;
    note(*command != theirs.command, What::Command, &|begin| words(&begin.workload.command));
    note(*setup != theirs.setup, What::Setup, &|begin| quoted(begin.workload.setup.as_deref()));
    note(*cleanup != theirs.cleanup, What::Cleanup, &|begin| quoted(begin.workload.cleanup.as_deref()));
    // Another command names other files: that was said.
    let files = *digest != theirs.digest && *command == theirs.command;
    note(files, What::Files, &|begin| short(&begin.workload.digest));

    let Options { depth, hit, persistent, kthreads, only, expect_success } = &journal.options;
    let theirs = &other.options;
    note(*depth != theirs.depth, What::Depth, &|begin| begin.options.depth.to_string());
    note(*hit != theirs.hit, What::Hit, &|begin| begin.options.hit.to_string());
    note(*persistent != theirs.persistent, What::Persistent, &|begin| number(begin.options.persistent));
    note(*kthreads != theirs.kthreads, What::Kthreads, &|begin| {
        if begin.options.kthreads { "failed too" } else { "left alone" }.to_owned()
    });
    note(set(only) != set(&theirs.only), What::Only, &|begin| patterns(&begin.options.only));
    note(*expect_success != theirs.expect_success, What::ExpectSuccess, &|begin| {
        if begin.options.expect_success { "given" } else { "not given" }.to_owned()
    });
    note(journal.shard != other.shard, What::Shard, &|begin| shard(begin.shard));
    all
}

/// The build id says it all; without one, release and version must do.
fn same_kernel(a: &Kernel, b: &Kernel) -> bool {
    match (&a.build_id, &b.build_id) {
        (Some(a), Some(b)) => a == b,
        _ => a.release == b.release && a.version == b.version,
    }
}

/// Only as much as tells it from the other.
fn describe_kernel(kernel: &Kernel, same_release: bool) -> String {
    let mut text = kernel.release.clone();
    if same_release {
        text = format!("{text} {}", kernel.version);
    }
    if let Some(id) = &kernel.build_id {
        text = format!("{text} (build id {})", short(id));
    }
    text
}

/// Enough of a hash to see that it is another.
pub(crate) fn short(hash: &str) -> String {
    match hash.char_indices().nth(12) {
        Some((end, _)) => format!("{}…", &hash[..end]),
        None => hash.to_owned(),
    }
}

fn words(command: &[String]) -> String {
    format!("`{}`", command.join(" "))
}

fn quoted(command: Option<&str>) -> String {
    command.map_or("none".to_owned(), |command| format!("`{command}`"))
}

fn number(number: Option<u32>) -> String {
    number.map_or("not given".to_owned(), |number| number.to_string())
}

fn set(patterns: &[String]) -> BTreeSet<&str> {
    patterns.iter().map(String::as_str).collect()
}

fn patterns(patterns: &[String]) -> String {
    if patterns.is_empty() { "all".to_owned() } else { patterns.join(",") }
}

fn shard(shard: Option<Shard>) -> String {
    shard.map_or("none".to_owned(), |shard| shard.to_string())
}
