//! The programs of one rule, and what they share with us.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, anyhow};
use aya::{
    Ebpf, EbpfLoader, VerifierLogLevel,
    maps::{Array, HashMap, Map, RingBuf},
    programs::{KProbe, Program, ProgramError, RawTracePoint},
};
use aya_log::EbpfLogger;
use injector_common::{
    HOOKS,
    attempt::MAX_ATTEMPTS,
    automaton::Automaton,
    config::{
        AddressRange, GLOB_CACHE, GLOB_COMM, LIVE_ALLOWED, LIVE_ARMED, LIVE_BUDGET, LIVE_DEADLINE, LIVE_HIT,
        LIVE_INTERVAL, LIVE_KNOBS, LIVE_LEVEL, LIVE_THRESHOLD, Module, ON, STATE_DUE, STATE_SPENT, STATES,
    },
    counters::{Counters, DESCRIPTIONS},
    record::Site,
};
use tracing::debug;

use super::{Attempts, Hooks, Streams, Wire, hooks, monotonic_ns, shared::Shared};
use crate::plan::Hook;

/// The eBPF object, compiled by the build script.
static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("INJECTOR_EBPF_OBJECT"));

/// aya-log's level for everything.
const LOG_ALL: u8 = 5;
/// Bytes of the ring for events, and sites in the histogram, of a run with one rule. Several share them.
const RING_BYTES: u32 = 4 << 20;
const MAX_SITES: u32 = 16384;
/// Tasks whose matches are counted, and system calls with failures in them, at a time.
const MAX_TASKS: u32 = 16384;

/// Programs on tracepoints, for what hooks on allocations don't see.
const OF_OUTCOMES: [(&str, &str); 2] = [("syscall_exit", "sys_exit"), ("task_exit", "sched_process_exit")];
const OF_FAMILIES: [(&str, &str); 2] = [("task_fork", "sched_process_fork"), ("task_free", "sched_process_free")];

/// Programs that are loaded, attached, and detached when this is dropped.
pub struct Attached {
    ebpf: Option<Ebpf>,
    live: Shared,
    state: Shared,
    counters: Shared,
    cpus: u32,
    sites: HashMap<aya::maps::MapData, u64, Site>,
    targets: HashMap<aya::maps::MapData, u32, u32>,
    wanted: Vec<(Hook, String)>,
    hooks: Hooks,
    tracepoints: Vec<(&'static str, &'static str)>,
    budget: Option<u64>,
    /// What was counted before arming: calls of whoever allocated then, and the canaries.
    before: BTreeMap<Hook, Counters>,
}

/// How a rule fails matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuleArming {
    /// So many of 2^32.
    pub threshold: u64,
    /// So many in all; `None`: no limit.
    pub budget: Option<u64>,
    /// Nanoseconds from one failure to the next; `None`: no limit.
    pub interval: Option<u64>,
}

/// Where and which sites are failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arming {
    /// `LEVEL_*` of [`injector_common::config`].
    pub level: u64,
    /// How many failures a site may have that [`Attached::allow`] said nothing about.
    pub allowed: u64,
    /// At which hit, from 1.
    pub hit: u32,
}

impl Attached {
    /// Has the kernel verify the programs. `rules`: how many rules the run has.
    pub(super) fn load<'a>(
        loader: &mut EbpfLoader<'a>,
        wire: &'a Wire,
        rules: usize,
        ebpf_log: bool,
    ) -> Result<(Self, Streams)> {
        let log_level: &'static u8 = if ebpf_log { &LOG_ALL } else { &0 };
        let config = &wire.config;
        let sites_on = config.sites_on == ON;
        let ranges = u32::try_from(wire.stack_ranges.len()).context("too many address ranges")?.max(1);
        let share = u32::try_from(rules.next_power_of_two()).context("too many rules")?;
        let only_if = |condition, entries| if condition { entries } else { 1 };
        loader
            // Only needed for CO-RE relocations, which Rust eBPF has none of.
            .btf(None)
            .override_global("CONFIG", config, true)
            .override_global(aya_log::LEVEL, log_level, false)
            .map_max_entries("STACK_RANGES", ranges)
            .map_max_entries("ATTEMPTS", only_if(sites_on, MAX_ATTEMPTS))
            .map_max_entries("TASKS", only_if(config.nth_per_task == ON, MAX_TASKS))
            .map_max_entries("PENDING", only_if(config.outcome == ON, MAX_TASKS))
            .map_max_entries("COUNTERS", config.cpus * HOOKS as u32)
            .map_max_entries("EVENTS", RING_BYTES / share)
            .map_max_entries("SITES", MAX_SITES / share)
            // Writing its log takes the verifier longer than verifying; a refusal is repeated with the log on.
            .verifier_log_level(VerifierLogLevel::DISABLE);
        let hooks = Hooks::new(wire.hooks.iter().map(|hook| hook.hook));
        let mut programs: Vec<String> = Vec::new();
        for hook in &wire.hooks {
            programs.push(hooks::program(hooks.number(hook.hook).context("a hook without a number")?));
        }
        let mut tracepoints = Vec::new();
        if config.outcome == ON {
            tracepoints.extend(OF_OUTCOMES);
        }
        if config.follow == ON {
            tracepoints.extend(OF_FAMILIES);
        }
        let all: Vec<&str> =
            programs.iter().map(String::as_str).chain(tracepoints.iter().map(|(program, _)| *program)).collect();
        let mut ebpf = match load(loader, &all, wire) {
            Err(error) if error.is::<ProgramError>() => {
                debug!("refused, and again for the verifier's reasons: {error:#}");
                load(loader.verifier_log_level(VerifierLogLevel::default()), &all, wire)?
            }
            loaded => loaded?,
        };
        let streams = Streams {
            events: RingBuf::try_from(take(&mut ebpf, "EVENTS")?)?,
            attempts: sites_on.then(|| Attempts::new(map(&mut ebpf, "ATTEMPTS")?)).transpose()?,
            log: ebpf_log.then(|| EbpfLogger::init(&mut ebpf)).transpose().context("can't read the eBPF log")?,
        };
        let rows = config.cpus * HOOKS as u32;
        let attached = Self {
            live: Shared::new(map(&mut ebpf, "LIVE")?, LIVE_KNOBS)?,
            state: Shared::new(map(&mut ebpf, "STATE")?, STATES)?,
            counters: Shared::new(map(&mut ebpf, "COUNTERS")?, rows * WORDS)?,
            cpus: config.cpus,
            sites: HashMap::try_from(take(&mut ebpf, "SITES")?)?,
            targets: HashMap::try_from(take(&mut ebpf, "PIDS")?)?,
            ebpf: Some(ebpf),
            wanted: wire.hooks.iter().map(|hook| (hook.hook, hook.function.to_owned())).collect(),
            hooks,
            tracepoints,
            budget: None,
            before: BTreeMap::new(),
        };
        Ok((attached, streams))
    }

    /// Attaches the programs, unarmed.
    pub(super) fn attach(&mut self) -> Result<()> {
        let ebpf = self.ebpf.as_mut().context("detached already")?;
        // What a failure leads to is seen before there are failures.
        for (name, tracepoint) in &self.tracepoints {
            let program: &mut RawTracePoint = program(ebpf, name)?.try_into()?;
            program.attach(tracepoint).with_context(|| format!("can't attach to the tracepoint {tracepoint}"))?;
        }
        for (hook, function) in &self.wanted {
            let name = hooks::program(self.hooks.number(*hook).context("a hook without a number")?);
            let program: &mut KProbe = program(ebpf, &name)?.try_into()?;
            program.attach(function, 0).with_context(|| format!("can't attach to {function}"))?;
        }
        Ok(())
    }

    /// Lets failures happen, none after `deadline_ns` (CLOCK_MONOTONIC) unless [`Attached::heartbeat`] moves it on.
    pub fn arm(&mut self, arming: RuleArming, deadline_ns: u64) {
        let RuleArming { threshold, budget, interval } = arming;
        self.budget = budget;
        self.live.set(LIVE_THRESHOLD, threshold);
        self.live.set(LIVE_BUDGET, budget.unwrap_or(u64::MAX));
        self.live.set(LIVE_INTERVAL, interval.unwrap_or(0));
        // Nothing has fallen behind yet.
        self.state.set(STATE_DUE, monotonic_ns());
        self.heartbeat(deadline_ns);
        self.before = self.hooks().map(|hook| (hook, self.counters(hook))).collect();
        self.live.set(LIVE_ARMED, 1);
    }

    /// Where sites are chosen: begins to count at them, and to fail those that may be failed. Unlike [`Attached::arm`] it can
    /// be done again, after [`Attached::disarm`].
    pub fn arm_sites(&self, arming: Arming, deadline_ns: u64) {
        let Arming { level, allowed, hit } = arming;
        self.live.set(LIVE_LEVEL, level);
        self.live.set(LIVE_ALLOWED, allowed);
        self.live.set(LIVE_HIT, u64::from(hit));
        self.live.set(LIVE_BUDGET, u64::MAX);
        self.heartbeat(deadline_ns);
        self.live.set(LIVE_ARMED, 1);
    }

    /// Ends the failures for now; everything stays attached.
    pub fn disarm(&self) {
        self.live.set(LIVE_ARMED, 0);
    }

    /// Lets failures go on that [`Attached::disarm`] has ended.
    pub fn rearm(&self) {
        self.live.set(LIVE_ARMED, 1);
    }

    /// Changes how likely a match fails: so many of 2^32.
    pub fn set_threshold(&self, threshold: u64) {
        self.live.set(LIVE_THRESHOLD, threshold);
    }

    /// Changes how many failures there may be in all.
    pub fn set_budget(&mut self, budget: Option<u64>) {
        self.budget = budget;
        self.live.set(LIVE_BUDGET, budget.unwrap_or(u64::MAX));
    }

    /// Changes how many failures there may be: so many more, from now on. What is spent by now stays spent, which without a
    /// budget is nothing.
    pub fn allow_more(&mut self, times: u64) {
        self.set_budget(Some(self.state.get(STATE_SPENT).saturating_add(times).min(u64::MAX - 1)));
    }

    /// How many failures there may still be; `None`: any number.
    #[must_use]
    pub fn left(&self) -> Option<u64> {
        // While a CPU finds the budget used up, more is spent than there is, for a moment.
        self.budget.map(|budget| budget.saturating_sub(self.state.get(STATE_SPENT)))
    }

    /// Changes how many nanoseconds there are from one failure to the next. Only where there is such a limit.
    pub fn set_interval(&self, interval: u64) {
        self.live.set(LIVE_INTERVAL, interval);
    }

    /// How many failures a site may still have. Only while disarmed: a system call on a map keeps the programs off its CPU.
    ///
    /// # Errors
    /// When the table of sites is full.
    pub fn allow(&mut self, signature: u64, allowed: u64) -> Result<()> {
        let known = self.sites.get(&signature, 0).unwrap_or(Site { signature, ..Site::ZERO });
        let site = Site { allowed, attempt_hits: 0, ..known };
        self.sites.insert(signature, site, 0).context("the table of sites is full")
    }

    /// Allows failures until `deadline_ns` (CLOCK_MONOTONIC).
    pub fn heartbeat(&self, deadline_ns: u64) {
        self.live.set(LIVE_DEADLINE, deadline_ns);
    }

    /// Ends the failures and detaches; what was counted stays readable.
    pub fn detach(&mut self) {
        self.disarm();
        self.ebpf = None;
    }

    /// The attached hooks.
    pub fn hooks(&self) -> impl Iterator<Item = Hook> {
        self.wanted.iter().map(|(hook, _)| *hook)
    }

    /// The hook that the eBPF side has this number for.
    #[must_use]
    pub fn numbers(&self) -> &Hooks {
        &self.hooks
    }

    /// Whether the failure budget is used up; never without one.
    #[must_use]
    pub fn is_spent(&self) -> bool {
        self.budget.is_some_and(|budget| self.state.get(STATE_SPENT) >= budget)
    }

    /// A hook's counters since it was armed, summed over the CPUs. No system call: it can be asked at any time.
    #[must_use]
    pub fn counters(&self, hook: Hook) -> Counters {
        let mut sum = Counters::default();
        let Some(number) = self.hooks.number(hook) else { return sum };
        for cpu in 0..self.cpus {
            let first = (cpu * HOOKS as u32 + number) * WORDS;
            let mut words = first..first + WORDS;
            sum.add(&Counters::from_values(std::array::from_fn(|_| {
                words.next().map_or(0, |word| self.counters.get(word))
            })));
        }
        self.before.get(&hook).map_or(sum, |before| sum.since(before))
    }

    /// Whether a process or one that it left behind is still a target.
    #[must_use]
    pub fn has_targets(&self) -> bool {
        self.targets.keys().next().is_some()
    }

    /// The site with this signature, if it was recorded.
    #[must_use]
    pub fn site(&self, signature: u64) -> Option<Site> {
        self.sites.get(&signature, 0).ok()
    }

    /// All sites with their signatures, in no order.
    ///
    /// # Errors
    /// When the map can't be read.
    pub fn sites(&self) -> Result<Vec<(u64, Site)>> {
        self.sites.iter().collect::<Result<_, _>>().context("can't read the histogram")
    }
}

/// 64-bit words of a row of counters.
const WORDS: u32 = DESCRIPTIONS.len() as u32;

impl Drop for Attached {
    fn drop(&mut self) {
        self.detach();
    }
}

/// Makes the maps, fills them, and has the kernel verify the programs.
fn load(loader: &mut EbpfLoader<'_>, programs: &[&str], wire: &Wire) -> Result<Ebpf> {
    let mut ebpf = loader.load(OBJECT).context("can't load the eBPF object")?;
    fill(&mut ebpf, wire)?;
    debug!("the object is relocated, its maps are filled");
    for name in programs {
        let refused = || format!("the kernel refused program {name}");
        let info = match program(&mut ebpf, name)? {
            Program::RawTracePoint(program) => program.load().map(|()| program.info()),
            program => {
                let program: &mut KProbe = program.try_into()?;
                program.load().map(|()| program.info())
            }
        };
        let verified = info.with_context(refused)?.ok().and_then(|info| info.verified_instruction_count());
        debug!(verified, "the verifier accepted program {name}");
    }
    Ok(ebpf)
}

fn program<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Program> {
    ebpf.program_mut(name).ok_or_else(|| anyhow!("the eBPF object has no program {name}"))
}

/// Puts into the maps what the programs look up.
fn fill(ebpf: &mut Ebpf, wire: &Wire) -> Result<()> {
    let mut pids: HashMap<_, u32, u32> = HashMap::try_from(map(ebpf, "PIDS")?)?;
    for pid in &wire.pids {
        pids.insert(pid, 0, 0).with_context(|| format!("can't make process {pid} a target"))?;
    }
    let mut modules: Array<_, Module> = Array::try_from(map(ebpf, "MODULES")?)?;
    for (i, module) in (0..).zip(&wire.modules) {
        modules.set(i, module, 0).context("can't hand over the module table")?;
    }
    let mut ranges: Array<_, AddressRange> = Array::try_from(map(ebpf, "STACK_RANGES")?)?;
    for (i, range) in (0..).zip(&wire.stack_ranges) {
        ranges.set(i, range, 0).context("can't hand over the stack filter")?;
    }
    let mut names: Array<_, Automaton> = Array::try_from(map(ebpf, "NAMES")?)?;
    for (which, automaton) in [(GLOB_COMM, &wire.comms), (GLOB_CACHE, &wire.caches)] {
        if let Some(automaton) = automaton {
            names.set(which, **automaton, 0).context("can't hand over the filter on names")?;
        }
    }
    Ok(())
}

fn map<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Map> {
    ebpf.map_mut(name).ok_or_else(|| anyhow!("the eBPF object has no map {name}"))
}

fn take(ebpf: &mut Ebpf, name: &str) -> Result<Map> {
    ebpf.take_map(name).ok_or_else(|| anyhow!("the eBPF object has no map {name}"))
}
