//! The programs of one rule, and what they share with us.

use std::{
    collections::BTreeMap,
    os::fd::{AsFd, OwnedFd},
};

use anyhow::{Context as _, Result, bail};
use aya::{
    Ebpf, EbpfLoader, VerifierLogLevel,
    maps::{HashMap, RingBuf},
    programs::{KProbe, Program, ProgramError, RawTracePoint},
};
use aya_log::EbpfLogger;
use aya_obj::generated::bpf_prog_info;
use injector_common::{
    HOOKS,
    config::{
        LIVE_ALLOWED, LIVE_ARMED, LIVE_BUDGET, LIVE_DEADLINE, LIVE_HIT, LIVE_INTERVAL, LIVE_KNOBS, LIVE_LEVEL,
        LIVE_THRESHOLD, ON, STATE_DUE, STATE_SPENT, STATES,
    },
    counters::{Counters, DESCRIPTIONS},
    record::Site,
};
use tracing::debug;

use super::{
    Attempts, Hooks, Streams, Wire, bpf, hooks, monotonic_ns, object,
    programs::{self, Kind, Programs},
    shared::Shared,
};
use crate::{kernel::hooks::Attach, plan::Hook};

/// Programs on tracepoints, for what hooks on allocations don't see.
pub(super) const OF_OUTCOMES: [(&str, &str); 2] = [("syscall_exit", "sys_exit"), ("task_exit", "sched_process_exit")];
pub(super) const OF_FAMILIES: [(&str, &str); 2] =
    [("task_fork", "sched_process_fork"), ("task_free", "sched_process_free")];

/// Programs that are loaded, attached, and detached when this is dropped.
pub struct Attached {
    ebpf: Option<Ebpf>,
    live: Shared,
    state: Shared,
    counters: Shared,
    cpus: u32,
    sites: HashMap<aya::maps::MapData, u64, Site>,
    targets: HashMap<aya::maps::MapData, u32, u32>,
    wanted: Vec<Wanted>,
    /// Programs that aya can't load, by hook.
    fmod_rets: Vec<(Hook, OwnedFd)>,
    /// What they are attached by.
    links: Vec<OwnedFd>,
    /// Ids of the links of kprobes, by hook.
    kprobes: Vec<(Hook, u32)>,
    /// How often hooks were missed, when they were detached.
    missed: BTreeMap<Hook, u64>,
    hooks: Hooks,
    tracepoints: Vec<(&'static str, &'static str)>,
    budget: Option<u64>,
    /// What was counted before arming: whoever allocated then, the canaries too if they are looked at.
    before: BTreeMap<Hook, Counters>,
}

/// A hook to attach to.
#[derive(Clone, Debug)]
struct Wanted {
    hook: Hook,
    function: &'static str,
    /// The name of its program.
    program: String,
    attach: Attach,
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
        let config = &wire.config;
        let sites_on = config.sites_on == ON;
        object::configure(loader, wire, rules, ebpf_log)?;
        let hooks = Hooks::new(wire.hooks.iter().map(|(point, _)| point.hook));
        let mut wanted = Vec::with_capacity(wire.hooks.len());
        for (point, attach) in &wire.hooks {
            let number = hooks.number(point.hook).context("a hook without a number")?;
            let program = hooks::program(number, *attach);
            wanted.push(Wanted { hook: point.hook, function: point.function, program, attach: *attach });
        }
        let mut tracepoints = Vec::new();
        if config.outcome == ON {
            tracepoints.extend(OF_OUTCOMES);
        }
        if config.follow == ON {
            tracepoints.extend(OF_FAMILIES);
        }
        let by_aya =
            wanted.iter().filter(|wanted| wanted.attach == Attach::Kprobe).map(|wanted| wanted.program.as_str());
        let by_aya: Vec<&str> = by_aya.chain(tracepoints.iter().map(|(program, _)| *program)).collect();
        let mut ebpf = match object::load(loader, &by_aya, wire) {
            Err(error) if error.is::<ProgramError>() => {
                debug!("refused, and again for the verifier's reasons: {error:#}");
                object::load(loader.verifier_log_level(VerifierLogLevel::default()), &by_aya, wire)?
            }
            loaded => loaded?,
        };
        let fmod_rets = load_fmod_rets(&wanted, &ebpf)?;
        let streams = Streams {
            events: RingBuf::try_from(object::take(&mut ebpf, "EVENTS")?)?,
            attempts: sites_on.then(|| Attempts::new(object::map(&mut ebpf, "ATTEMPTS")?)).transpose()?,
            log: ebpf_log.then(|| EbpfLogger::init(&mut ebpf)).transpose().context("can't read the eBPF log")?,
        };
        let rows = config.cpus * HOOKS as u32;
        let attached = Self {
            live: Shared::new(object::map(&mut ebpf, "LIVE")?, LIVE_KNOBS)?,
            state: Shared::new(object::map(&mut ebpf, "STATE")?, STATES)?,
            counters: Shared::new(object::map(&mut ebpf, "COUNTERS")?, rows * WORDS)?,
            cpus: config.cpus,
            sites: HashMap::try_from(object::take(&mut ebpf, "SITES")?)?,
            targets: HashMap::try_from(object::take(&mut ebpf, "PIDS")?)?,
            ebpf: Some(ebpf),
            wanted,
            fmod_rets,
            links: Vec::new(),
            kprobes: Vec::new(),
            missed: BTreeMap::new(),
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
            let program: &mut RawTracePoint = object::program(ebpf, name)?.try_into()?;
            program.attach(tracepoint).with_context(|| format!("can't attach to the tracepoint {tracepoint}"))?;
        }
        for Wanted { hook, function, program: name, attach } in &self.wanted {
            let loaded = self.fmod_rets.iter().find(|(loaded, _)| loaded == hook);
            match (attach, loaded) {
                (Attach::FmodRet { .. }, Some((_, program))) => {
                    let link = programs::attach(program.as_fd());
                    let refused = || format!("can't attach to {function} by fmod_ret; --backend kprobe may do");
                    self.links.push(link.with_context(refused)?);
                }
                _ => {
                    let program: &mut KProbe = object::program(ebpf, name)?.try_into()?;
                    program.attach(function, 0).with_context(|| format!("can't attach to {function}"))?;
                    let id = bpf::program_info(program.fd()?.as_fd()).map(|info| info.id);
                    let links = id.and_then(bpf::links_of).unwrap_or_default();
                    self.kprobes.extend(links.into_iter().map(|link| (*hook, link)));
                }
            }
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
        if self.ebpf.is_some() {
            self.missed = self.hooks().map(|hook| (hook, self.missed(hook))).collect();
        }
        self.links.clear();
        self.fmod_rets.clear();
        self.ebpf = None;
    }

    /// The attached hooks.
    pub fn hooks(&self) -> impl Iterator<Item = Hook> {
        self.wanted.iter().map(|wanted| wanted.hook)
    }

    /// The hooks that are attached by fmod_ret, not by a kprobe.
    pub fn by_fmod_ret(&self) -> impl Iterator<Item = Hook> {
        let by = |wanted: &&Wanted| matches!(wanted.attach, Attach::FmodRet { .. });
        self.wanted.iter().filter(by).map(|wanted| wanted.hook)
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

    /// How often a hook was called and its program was not, as far as the kernel tells: because it, or for a kprobe any other
    /// program on a kprobe, ran on that CPU already.
    fn missed(&self, hook: Hook) -> u64 {
        if let Some(missed) = self.missed.get(&hook) {
            return *missed;
        }
        let by_program = self.program_info(hook).map_or(0, |info| info.recursion_misses);
        let by_kprobe: u64 =
            self.kprobes.iter().filter(|(of, _)| *of == hook).map(|(_, link)| bpf::missed_by_kprobe(*link)).sum();
        by_program + by_kprobe
    }

    /// How often a hook's program has run while the kernel counted it ([`bpf::count_runs`]).
    pub(super) fn runs(&self, hook: Hook) -> Result<u64> {
        Ok(self.program_info(hook)?.run_cnt)
    }

    /// What the kernel knows of a hook's program, while it is attached.
    fn program_info(&self, hook: Hook) -> Result<bpf_prog_info> {
        if let Some((_, program)) = self.fmod_rets.iter().find(|(loaded, _)| *loaded == hook) {
            return Ok(bpf::program_info(program.as_fd())?);
        }
        let wanted = self.wanted.iter().find(|wanted| wanted.hook == hook).context("no such hook")?;
        let program = self.ebpf.as_ref().and_then(|ebpf| ebpf.program(&wanted.program));
        let Some(Program::KProbe(program)) = program else { bail!("{} is not attached", wanted.program) };
        Ok(bpf::program_info(program.fd()?.as_fd())?)
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

/// Has the kernel verify the programs that aya can't load, by hook.
fn load_fmod_rets(wanted: &[Wanted], ebpf: &Ebpf) -> Result<Vec<(Hook, OwnedFd)>> {
    let mut loaded = Vec::new();
    let mut programs = None;
    for Wanted { hook, program, attach, .. } in wanted {
        let Attach::FmodRet { function } = *attach else { continue };
        let programs = match &mut programs {
            Some(programs) => programs,
            none => none.insert(Programs::new(ebpf)?),
        };
        let fd = programs.load(program, Kind::FmodRet { function })?;
        let verified = bpf::program_info(fd.as_fd()).map_or(0, |info| info.verified_insns);
        debug!(verified, "the verifier accepted program {program}");
        loaded.push((*hook, fd));
    }
    Ok(loaded)
}
