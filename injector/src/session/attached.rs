//! The programs of one rule, and what they share with us.

use std::collections::BTreeMap;

use aya::maps::{HashMap, Map, MapData, RingBuf};
use aya_log::EbpfLogger;
use injector_common::{
    config::{
        Config, LIVE_ALLOWED, LIVE_ARMED, LIVE_BUDGET, LIVE_DEADLINE, LIVE_HIT, LIVE_INTERVAL, LIVE_KNOBS, LIVE_LEVEL,
        LIVE_THRESHOLD, ON, STATE_DUE, STATE_SPENT, STATES, StackRange,
    },
    counters::{Counters, DESCRIPTIONS},
    hooks::HOOKS,
    record::{SITE_AGAIN, SiteRecord},
};

use super::{
    ArmedPattern, Attempts, Hooks, ProgramConfig, Streams, hooks, maps,
    module_hooks::ModuleHooks,
    monotonic_ns, object,
    programs::{Kind, Program},
    shared::Shared,
};
use crate::{
    bpf,
    exit::{Context as _, Result},
    kernel::hooks::Attach,
    plan::Hook,
};

/// Programs on tracepoints, for what hooks on allocations don't see.
const OF_OUTCOMES: [(&str, &str); 2] = [("syscall_exit", "sys_exit"), ("task_exit", "sched_process_exit")];
const OF_ATTEMPTS: [(&str, &str); 2] = [("call_begins", "sys_enter"), ("call_ends", "sys_exit")];
const OF_FAMILIES: [(&str, &str); 2] = [("task_fork", "sched_process_fork"), ("task_free", "sched_process_free")];

/// Programs that are loaded, attached, and detached when this is dropped.
pub struct Attached {
    live: Shared,
    state: Shared,
    counters: Shared,
    cpus: u32,
    sites: Map,
    stack_ranges: Map,
    stack_patterns: Vec<ArmedPattern>,
    targets: HashMap<MapData, u32, u32>,
    /// What is attached to, and how.
    wanted: Vec<(Hook, Attach)>,
    /// The programs there, until they are detached.
    on_hooks: Vec<(Hook, Program)>,
    on_tracepoints: Vec<Program>,
    /// What the module injector_hooks hooks for them, if they are attached so.
    module: Option<ModuleHooks>,
    /// How often hooks were missed, when they were detached.
    missed: BTreeMap<Hook, u64>,
    hooks: Hooks,
    budget: Option<u64>,
    /// What was counted before arming: whoever allocated then, the canaries too if they are looked at.
    before: BTreeMap<Hook, Counters>,
}

/// The names of a rule's programs and what they are: one for each of its hooks in their order, then those on tracepoints.
pub(super) fn programs_of(wire: &ProgramConfig) -> Result<Vec<(String, Kind)>> {
    let numbers = Hooks::new(wire.hooks.iter().map(|(point, _)| point.hook));
    let mut programs = Vec::with_capacity(wire.hooks.len());
    for (point, attach) in &wire.hooks {
        let number = numbers.number(point.hook).context("a hook without a number")?;
        let name = hooks::program(number, *attach, wire.config.whose());
        let kind = match *attach {
            Attach::FmodRet { function } => Kind::FmodRet(function),
            Attach::Kprobe => Kind::Kprobe(point.function),
            Attach::Module => Kind::Module(point.hook),
        };
        programs.push((name, kind));
    }
    let Config { outcome, follow, sites_on, .. } = wire.config;
    for (on, tracepoints) in [(outcome, OF_OUTCOMES), (follow, OF_FAMILIES), (sites_on, OF_ATTEMPTS)] {
        if on == ON {
            programs.extend(tracepoints.map(|(name, at)| (name.to_owned(), Kind::RawTracepoint(at))));
        }
    }
    Ok(programs)
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
    pub(super) fn load(wire: &ProgramConfig, rules: usize, ebpf_log: bool) -> Result<(Self, Streams)> {
        let config = &wire.config;
        let all = programs_of(wire)?;
        let names: Vec<&str> = all.iter().map(|(name, _)| name.as_str()).collect();
        let (programs, mut maps) = object::prepare(wire, rules, ebpf_log, &names)?;
        let mut loaded = all.iter().map(|(name, kind)| programs.load(name, *kind));
        let wanted: Vec<_> = wire.hooks.iter().map(|(point, attach)| (point.hook, *attach)).collect();
        let on_hooks = wanted.iter().zip(loaded.by_ref()).map(|((hook, _), program)| Ok((*hook, program?)));
        let on_hooks = on_hooks.collect::<Result<Vec<_>>>()?;
        let on_tracepoints = loaded.collect::<Result<Vec<_>>>()?;
        let log = match on_hooks.first().filter(|_| ebpf_log) {
            Some((_, program)) => {
                Some(EbpfLogger::init_from_id(program.info()?.id).context("can't read the eBPF log")?)
            }
            None => None,
        };
        let streams = Streams {
            events: RingBuf::try_from(maps.take("EVENTS")?)?,
            attempts: (config.sites_on == ON).then(|| Attempts::new(maps.get("ATTEMPTS")?)).transpose()?,
            log,
        };
        let rows = config.cpus * HOOKS as u32;
        let attached = Self {
            live: Shared::new(maps.get("LIVE")?, LIVE_KNOBS)?,
            state: Shared::new(maps.get("STATE")?, STATES)?,
            counters: Shared::new(maps.get("COUNTERS")?, rows * WORDS)?,
            cpus: config.cpus,
            sites: maps.take("SITES")?,
            stack_ranges: maps.take("STACK_RANGES")?,
            stack_patterns: wire.stacks.patterns.clone(),
            targets: HashMap::try_from(maps.take("PIDS")?)?,
            hooks: Hooks::new(wanted.iter().map(|(hook, _)| *hook)),
            wanted,
            on_hooks,
            on_tracepoints,
            module: None,
            missed: BTreeMap::new(),
            budget: None,
            before: BTreeMap::new(),
        };
        Ok((attached, streams))
    }

    /// Attaches the programs, unarmed, but for those that [`Attached::attach_to_module`] attaches.
    pub(super) fn attach(&mut self) -> Result<()> {
        // What a failure leads to is seen before there are failures.
        self.on_tracepoints.iter_mut().try_for_each(Program::attach)?;
        self.attach_those(|program| !program.is_of_module())
    }

    /// Has the module injector_hooks hook what it is to hook, and attaches those programs.
    pub(super) fn attach_to_module(&mut self) -> Result<()> {
        let by_module = self.attached().filter(|(_, attach)| *attach == Attach::Module);
        let hooks: Vec<Hook> = by_module.map(|(hook, _)| hook).collect();
        if hooks.is_empty() {
            return Ok(());
        }
        self.module = Some(ModuleHooks::open(&hooks)?);
        self.attach_those(Program::is_of_module)
    }

    fn attach_those(&mut self, wanted: impl Fn(&Program) -> bool) -> Result<()> {
        let mut programs = self.on_hooks.iter_mut().filter(|(_, program)| wanted(program));
        programs.try_for_each(|(hook, program)| program.attach().with_context(|| format!("hook {hook}")))
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

    /// How many failures a site may still have; `again`: for what they lead to. Only while disarmed: a system call on a map keeps
    /// the programs off its CPU.
    ///
    /// # Errors
    /// When the table of sites is full.
    pub fn allow(&mut self, signature: u64, allowed: u64, again: bool) -> Result<()> {
        let mut sites: HashMap<_, u64, SiteRecord> = HashMap::try_from(&mut self.sites)?;
        let known = sites.get(&signature, 0).unwrap_or(SiteRecord { signature, ..SiteRecord::ZERO });
        let flags = if again { known.flags | SITE_AGAIN } else { known.flags & !SITE_AGAIN };
        let site = SiteRecord { allowed, flags, attempt_hits: 0, ..known };
        sites.insert(signature, site, 0).context("the table of sites is full")
    }

    /// Allows failures until `deadline_ns` (CLOCK_MONOTONIC).
    pub fn heartbeat(&self, deadline_ns: u64) {
        self.live.set(LIVE_DEADLINE, deadline_ns);
    }

    /// Ends the failures and detaches; what was counted stays readable.
    pub fn detach(&mut self) {
        self.disarm();
        let missed: Vec<_> = self.on_hooks.iter().map(|(hook, _)| (*hook, self.missed(*hook))).collect();
        self.missed.extend(missed);
        self.on_hooks.clear();
        self.on_tracepoints.clear();
        self.module = None;
    }

    /// The attached hooks.
    pub fn hooks(&self) -> impl Iterator<Item = Hook> {
        self.wanted.iter().map(|(hook, _)| *hook)
    }

    /// What is attached to, and how.
    pub fn attached(&self) -> impl Iterator<Item = (Hook, Attach)> {
        self.wanted.iter().copied()
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

    /// How often a hook was called and its program was not: [`Program::missed`], and what the module has not asked about.
    fn missed(&self, hook: Hook) -> u64 {
        match self.program(hook) {
            Some(program) => program.missed() + self.module.as_ref().map_or(0, |module| module.missed(hook)),
            None => self.missed.get(&hook).copied().unwrap_or_default(),
        }
    }

    /// How often a hook's program has run while the kernel counted it ([`crate::bpf::count_runs`]).
    pub(super) fn runs(&self, hook: Hook) -> Result<u64> {
        let program = self.program(hook).with_context(|| format!("{hook} is not attached"))?;
        Ok(program.info()?.run_cnt)
    }

    fn program(&self, hook: Hook) -> Option<&Program> {
        self.on_hooks.iter().find(|(of, _)| *of == hook).map(|(_, program)| program)
    }

    /// A hook's counters since it was armed, summed over the CPUs. No system call on a map: it can be asked at any time.
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
        sum.missed = self.missed(hook);
        self.before.get(&hook).map_or(sum, |before| sum.since(before))
    }

    /// Whether a process or one that it left behind is still a target.
    #[must_use]
    pub fn has_targets(&self) -> bool {
        self.targets.keys().next().is_some()
    }

    /// The site with this signature, if it was recorded.
    #[must_use]
    pub fn site(&self, signature: u64) -> Option<SiteRecord> {
        HashMap::<_, u64, SiteRecord>::try_from(&self.sites).ok()?.get(&signature, 0).ok()
    }

    /// The stack patterns, and those of them that no call's stack was as they want it. Only after the programs were detached: a
    /// system call on a map keeps them off its CPU.
    ///
    /// # Errors
    /// When the map can't be read.
    pub fn stack_patterns(&self) -> Result<Vec<(&ArmedPattern, bool)>> {
        if self.stack_patterns.is_empty() {
            return Ok(Vec::new());
        }
        let map = maps::fd(&self.stack_ranges).context("the stack filter is no map: a defect of the injector")?;
        let mut table: Vec<(u32, StackRange)> = bpf::entries(map).context("can't read the stack filter")?;
        table.sort_unstable_by_key(|(i, _)| *i);
        let table: Vec<StackRange> = table.into_iter().map(|(_, range)| range).collect();
        Ok(self.stack_patterns.iter().map(|pattern| (pattern, pattern.is_unmatched(&table))).collect())
    }

    /// All sites with their signatures, in no order.
    ///
    /// # Errors
    /// When the map can't be read.
    pub fn sites(&self) -> Result<Vec<(u64, SiteRecord)>> {
        let sites = maps::fd(&self.sites).context("the histogram is no map: a defect of the injector")?;
        bpf::entries(sites).context("can't read the histogram")
    }
}

/// 64-bit words of a row of counters.
const WORDS: u32 = DESCRIPTIONS.len() as u32;

impl Drop for Attached {
    fn drop(&mut self) {
        self.detach();
    }
}
