//! The attached state. Dropping a [`Session`] disarms and detaches everything; if the process dies, the kernel does,
//! since nothing is pinned.

mod attached;
mod attempts;
mod canary;
mod hooks;
mod maps;
mod module_hooks;
mod names;
mod object;
mod program_config;
mod programs;
mod shared;
mod stack_patterns;
mod verify;

use std::{collections::BTreeSet, time::Duration};

use aya::maps::{MapData, RingBuf};
use aya_log::EbpfLogger;
use nix::time::{ClockId, clock_gettime};
use tracing::debug;

use crate::exit::{Context as _, Result};
use crate::kernel::hooks::Attach;
use crate::plan::Hook;

pub use attached::{Arming, Attached, RuleArming};
pub use attempts::{Admission, AttemptReport, Attempts};
pub use canary::CanaryError;
pub use hooks::Hooks;
pub use module_hooks::ModuleHooksError;
pub use names::TooIntricate;
pub use program_config::{ProgramConfig, ResolveError, Sites};
pub use stack_patterns::{ArmedPattern, StackTable};
pub use verify::{Verified, verify};

/// All rules of a run, each with programs of its own on its hooks. Dropping it detaches them.
pub struct Session {
    rules: Vec<Attached>,
}

/// What streams out of a rule's programs, next to what can be asked of them.
pub struct Streams {
    /// A record per failure.
    pub events: RingBuf<MapData>,
    /// Where a sweep opens its attempts; none where sites are not chosen.
    pub attempts: Option<Attempts>,
    /// The eBPF side's diagnostics, if they were asked for.
    pub log: Option<EbpfLogger<&'static dyn log::Log>>,
}

/// Nanoseconds of CLOCK_MONOTONIC: the clock of bpf_ktime_get_ns().
#[must_use]
pub fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from);
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}

/// The moment this far ahead, as [`monotonic_ns`] counts.
#[must_use]
pub fn deadline_in(left: Duration) -> u64 {
    monotonic_ns().saturating_add(u64::try_from(left.as_nanos()).unwrap_or(u64::MAX))
}

impl Session {
    /// Loads the programs of each rule, specialised to it, attaches them to their hooks unarmed, and proves by canary
    /// allocations that they are called.
    ///
    /// # Errors
    /// When the kernel refuses a program, or a hook is attached and never called.
    pub fn attach(wires: &[ProgramConfig], ebpf_log: bool) -> Result<(Self, Vec<Streams>)> {
        let mut rules = Vec::with_capacity(wires.len());
        let mut streams = Vec::with_capacity(wires.len());
        for wire in wires {
            let (rule, stream) = Attached::load(wire, wires.len(), ebpf_log)?;
            rules.push(rule);
            streams.push(stream);
        }
        // Of several probes on a function the one that came last is called first, and when it overrides the call the others
        // are not called any more (add_new_kprobe() and aggr_pre_handler(), kernel/kprobes.c, 6.1 and 6.12).
        for rule in rules.iter_mut().rev() {
            rule.attach()?;
        }
        // Of several programs on a tracepoint the one that came first is called first (func_add(), kernel/tracepoint.c, 6.1
        // and 6.12). When it fails the call the others don't look at it (injector-ebpf, `attach::module`).
        for rule in &mut rules {
            rule.attach_to_module()?;
        }
        debug!("the hooks are attached");
        canary::prove(&rules)?;
        debug!("every hook saw its canary");
        Ok((Self { rules }, streams))
    }

    /// The only rule of a session that has one.
    ///
    /// # Errors
    /// It has several.
    pub fn only(mut self) -> Result<Attached> {
        let rule = self.rules.pop().filter(|_| self.rules.is_empty());
        rule.context("not one rule: a defect of the injector")
    }

    /// Its rules, in the plan's order.
    #[must_use]
    pub fn rules(&self) -> &[Attached] {
        &self.rules
    }

    /// A rule, by its place in the plan.
    ///
    /// # Panics
    /// There are fewer.
    pub fn rule(&mut self, place: usize) -> &mut Attached {
        &mut self.rules[place]
    }

    /// Ends the failures until [`Session::resume`]; nothing matches either.
    pub fn pause(&self) {
        self.rules.iter().for_each(Attached::disarm);
    }

    /// Goes on as before [`Session::pause`].
    pub fn resume(&self) {
        self.rules.iter().for_each(Attached::rearm);
    }

    /// All that is attached to, each hook once, whatever the rule.
    #[must_use]
    pub fn hooks(&self) -> Vec<Hook> {
        let hooks: BTreeSet<Hook> = self.rules.iter().flat_map(Attached::hooks).collect();
        hooks.into_iter().collect()
    }

    /// Those of them that are attached in such a way.
    #[must_use]
    pub fn hooks_by(&self, way: impl Fn(Attach) -> bool) -> Vec<Hook> {
        let attached = self.rules.iter().flat_map(Attached::attached);
        let hooks: BTreeSet<Hook> = attached.filter(|(_, attach)| way(*attach)).map(|(hook, _)| hook).collect();
        hooks.into_iter().collect()
    }

    /// Those of them that are attached by fmod_ret.
    #[must_use]
    pub fn hooks_by_fmod_ret(&self) -> Vec<Hook> {
        self.hooks_by(|attach| matches!(attach, Attach::FmodRet { .. }))
    }

    /// Those of them that the module injector_hooks makes.
    #[must_use]
    pub fn hooks_by_module(&self) -> Vec<Hook> {
        self.hooks_by(|attach| attach == Attach::Module)
    }

    /// Lets failures happen: each rule as it is armed, none after `deadline_ns` (CLOCK_MONOTONIC) unless
    /// [`Session::heartbeat`] moves it on.
    pub fn arm(&mut self, armings: &[RuleArming], deadline_ns: u64) {
        for (rule, arming) in self.rules.iter_mut().zip(armings) {
            rule.arm(*arming, deadline_ns);
        }
    }

    /// Allows failures until `deadline_ns` (CLOCK_MONOTONIC).
    pub fn heartbeat(&self, deadline_ns: u64) {
        self.rules.iter().for_each(|rule| rule.heartbeat(deadline_ns));
    }

    /// Ends the failures first, then detaches; what was counted stays readable.
    pub fn detach(&mut self) {
        self.rules.iter().for_each(Attached::disarm);
        self.rules.iter_mut().for_each(Attached::detach);
    }

    /// Whether every rule has a failure budget, and has used it up.
    #[must_use]
    pub fn is_spent(&self) -> bool {
        self.rules.iter().all(Attached::is_spent)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.detach();
    }
}
