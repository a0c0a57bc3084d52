//! What the sinks get: owned, symbolized, free of eBPF. The field order is that of the JSON.

use std::{borrow::Cow, rc::Rc, time::Duration};

use injector_common::counters::{Counters, DESCRIPTIONS};
use serde::{Deserialize, Serialize, Serializer, ser::SerializeMap as _};

use crate::plan::{Hook, Plan};

/// In what kind of code a call was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Context {
    /// On behalf of the task.
    Task,
    /// In a softirq, on top of whatever task.
    Softirq,
    /// In a hardware interrupt.
    Hardirq,
    /// In a non-maskable interrupt.
    Nmi,
    /// The kernel did not let us find out.
    Unknown,
}

impl Context {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Task => "task",
            Self::Softirq => "softirq",
            Self::Hardirq => "hardirq",
            Self::Nmi => "nmi",
            Self::Unknown => "unknown",
        }
    }
}

/// A run has begun.
#[derive(Clone, Debug, Serialize)]
pub struct Start<'a> {
    /// Version of the injector.
    pub version: &'static str,
    /// Release of the kernel.
    pub kernel: String,
    /// Its GNU build id, hexadecimal: what debug information must have to be of it.
    pub build_id: Option<String>,
    /// Wall-clock time, RFC 3339, UTC.
    pub time: String,
    /// CLOCK_MONOTONIC at the same moment, nanoseconds.
    pub time_ns: u64,
    /// Everything but the failing is done.
    pub dry_run: bool,
    /// What is attached.
    pub hooks: &'a [Hook],
    /// Those of the hooks that are attached by fmod_ret. What is in neither list is attached by a kprobe.
    pub fmod_ret: &'a [Hook],
    /// Those of the hooks that the module injector_hooks makes.
    pub module: &'a [Hook],
    /// What was asked for.
    pub plan: &'a Plan,
}

/// A failure.
#[derive(Clone, Debug, Serialize)]
pub struct Event {
    /// CLOCK_MONOTONIC, nanoseconds.
    pub time_ns: u64,
    /// Name of the rule that wanted it.
    pub rule: Rc<str>,
    /// The hook.
    pub hook: Hook,
    /// What the caller got: a negated errno, or 1 for `true`.
    pub error: i32,
    /// The flags asked for, by name.
    pub gfp: Rc<str>,
    /// The bits of `gfp`.
    pub gfp_bits: u32,
    /// The flags less what the task's scope takes away.
    pub effective_gfp: Rc<str>,
    /// The bits of `effective_gfp`.
    pub effective_gfp_bits: u32,
    /// Order asked for, or that the object's size needs.
    pub order: u32,
    /// Bytes.
    pub size: u64,
    /// Slab cache.
    pub cache: Option<String>,
    /// Process.
    pub pid: u32,
    /// Thread.
    pub tid: u32,
    /// Name of the task.
    pub comm: String,
    /// Cgroup id of the task.
    pub cgroup: u64,
    /// CPU number.
    pub cpu: u32,
    /// In what kind of code.
    pub context: Context,
    /// Site signature.
    #[serde(serialize_with = "hex")]
    pub site: u64,
    /// Frames, innermost first, beginning with the hook's caller: `symbol+0x1f`, `symbol+0x1f [module]`. JSON lines have it
    /// once for each site.
    #[serde(skip)]
    pub stack: Rc<[String]>,
}

/// What came of the system call that a failure was made in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OutcomeKind {
    /// It returned `ENOMEM`.
    Enomem,
    /// It returned another error.
    Error,
    /// It succeeded all the same.
    Masked,
    /// The task got a signal.
    Signal,
    /// The failure was not made in a system call.
    Outside,
}

/// The system call that a failure was made in has come back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// CLOCK_MONOTONIC, nanoseconds.
    pub time_ns: u64,
    /// Site signature of the failure.
    #[serde(serialize_with = "hex")]
    pub site: u64,
    /// Process.
    pub pid: u32,
    /// Thread.
    pub tid: u32,
    /// Name of the task.
    pub comm: String,
    /// The system call's name, where it was in one.
    pub syscall: Option<Cow<'static, str>>,
    /// What it returned: `-errno` for errors.
    pub result: Option<i64>,
    /// What that means.
    pub is: OutcomeKind,
    /// How many failures of the site were in it.
    pub count: u64,
}

/// Why a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    /// The command ended.
    Command,
    /// `--duration` was over.
    Duration,
    /// SIGINT or SIGTERM.
    Signal,
    /// `--times` was used up.
    Budget,
    /// All target processes and cgroups are gone.
    TargetGone,
    /// The output can't be written any more.
    Output,
    /// Somebody asked for it at the control socket.
    Control,
}

impl End {
    /// For people.
    #[must_use]
    pub fn describe(self) -> &'static str {
        match self {
            Self::Command => "the command ended",
            Self::Duration => "the duration was over",
            Self::Signal => "interrupted by a signal",
            Self::Budget => "the failure budget (--times) was used up",
            Self::TargetGone => "the target is gone",
            Self::Output => "the output can't be written any more",
            Self::Control => "stopped at the control socket (injector ctl stop)",
        }
    }
}

/// The counters of a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HookSummary {
    /// The hook.
    pub hook: Hook,
    /// What was counted.
    pub counters: Counters,
}

/// The counters of a rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RuleSummary {
    /// Its name.
    pub name: Rc<str>,
    /// The counters of each hook.
    #[serde(serialize_with = "hooks")]
    pub hooks: Vec<HookSummary>,
}

/// How many of a site's failures came to what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcomes {
    /// [`OutcomeKind::Enomem`]
    pub enomem: u64,
    /// [`OutcomeKind::Error`]
    pub error: u64,
    /// [`OutcomeKind::Masked`]
    pub masked: u64,
    /// [`OutcomeKind::Signal`]
    pub signal: u64,
    /// [`OutcomeKind::Outside`]
    pub outside: u64,
    /// The call had not come back when the run ended.
    pub open: u64,
}

impl Outcomes {
    /// Each with its word for people.
    #[must_use]
    pub fn named(&self) -> [(u64, &'static str); 6] {
        let Self { enomem, error, masked, signal, outside, open } = *self;
        [
            (enomem, "ENOMEM"),
            (error, "another error"),
            (masked, "masked"),
            (signal, "signal"),
            (outside, "outside of system calls"),
            (open, "not back yet"),
        ]
    }

    /// Counts so many.
    pub fn add(&mut self, kind: OutcomeKind, count: u64) {
        let counter = match kind {
            OutcomeKind::Enomem => &mut self.enomem,
            OutcomeKind::Error => &mut self.error,
            OutcomeKind::Masked => &mut self.masked,
            OutcomeKind::Signal => &mut self.signal,
            OutcomeKind::Outside => &mut self.outside,
        };
        *counter = counter.saturating_add(count);
    }

    /// All of them.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.named().into_iter().fold(0, |sum, (count, _)| u64::saturating_add(sum, count))
    }

    /// `12 ENOMEM, 29 masked`: those that there are.
    #[must_use]
    pub fn describe(&self) -> String {
        let there = self.named().into_iter().filter(|(count, _)| *count > 0);
        there.map(|(count, word)| format!("{count} {word}")).collect::<Vec<_>>().join(", ")
    }
}

impl std::iter::Sum for Outcomes {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |a, b| Self {
            enomem: a.enomem.saturating_add(b.enomem),
            error: a.error.saturating_add(b.error),
            masked: a.masked.saturating_add(b.masked),
            signal: a.signal.saturating_add(b.signal),
            outside: a.outside.saturating_add(b.outside),
            open: a.open.saturating_add(b.open),
        })
    }
}

/// A site and how often it was failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SiteSummary {
    /// Its signature.
    #[serde(serialize_with = "hex")]
    pub site: u64,
    /// The hook.
    pub hook: Hook,
    /// How often.
    pub count: u64,
    /// As in [`Event`].
    pub stack: Rc<[String]>,
    /// What came of its failures, where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcomes: Option<Outcomes>,
}

/// A filter that let no call through.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unmatched {
    /// The rule that has it.
    pub rule: Rc<str>,
    /// The option that has it, or several.
    pub option: String,
    /// Of a filter on stacks, the pattern that no call matched.
    pub pattern: Option<String>,
    /// How many calls came so far.
    pub calls: u64,
}

impl Unmatched {
    /// For people.
    #[must_use]
    pub fn describe(&self) -> String {
        let Self { rule: _, option, pattern, calls } = self;
        match (pattern, option.as_str()) {
            (Some(pattern), "--stack") => format!("0 of {calls} calls had {pattern} in their stack (--stack)"),
            (Some(pattern), "--caller") => format!("0 of {calls} calls were made by {pattern} (--caller)"),
            (Some(pattern), option) => format!("0 of {calls} calls matched {option} {pattern}"),
            (None, option) => format!("0 of {calls} calls matched {option}"),
        }
    }
}

/// A run has ended.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// From armed to disarmed.
    #[serde(rename = "elapsed_ns", serialize_with = "nanoseconds")]
    pub elapsed: Duration,
    /// Why the run ended.
    pub end: End,
    /// Exit status of the command, or 128 plus the signal that killed it.
    pub command_status: Option<i32>,
    /// Per hook, over all rules.
    #[serde(serialize_with = "hooks")]
    pub hooks: Vec<HookSummary>,
    /// Per rule, in the plan's order.
    pub rules: Vec<RuleSummary>,
    /// Executions of the hooks while armed.
    pub calls: u64,
    /// Calls that every filter accepted.
    pub matches: u64,
    /// Matches that were failed.
    pub failures: u64,
    /// Failures whose event arrived.
    pub delivered: u64,
    /// Failures whose event found the ring full.
    pub lost: u64,
    /// Matches that a guard held back.
    pub suppressed: u64,
    /// Filters that let no call through.
    pub unmatched: Vec<Unmatched>,
    /// The histogram, most frequent first.
    pub sites: Vec<SiteSummary>,
}

/// A signature as in all JSON: 16 hexadecimal digits.
pub(crate) fn hex<S: Serializer>(signature: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{signature:016x}"))
}

fn nanoseconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
}

fn hooks<S: Serializer>(hooks: &[HookSummary], serializer: S) -> Result<S::Ok, S::Error> {
    struct ByName<'a>(&'a Counters);
    impl Serialize for ByName<'_> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let mut map = serializer.serialize_map(Some(DESCRIPTIONS.len()))?;
            for (description, value) in DESCRIPTIONS.iter().zip(self.0.values()) {
                map.serialize_entry(description.name, &value)?;
            }
            map.end()
        }
    }
    let mut map = serializer.serialize_map(Some(hooks.len()))?;
    for summary in hooks {
        map.serialize_entry(&summary.hook, &ByName(&summary.counters))?;
    }
    map.end()
}
