//! The attached state. Dropping a [`Session`] disarms and detaches everything; if the process dies, the kernel does,
//! since nothing is pinned.

mod attempts;
mod canary;
mod shared;
mod wire;

use std::{
    collections::BTreeMap,
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow};
use aya::{
    Ebpf, EbpfLoader, VerifierLogLevel,
    maps::{Array, HashMap, MapData, PerCpuArray, RingBuf},
    programs::{KProbe, ProgramError},
};
use aya_log::EbpfLogger;
use injector_common::{
    HOOK_PAGE, HOOK_SLAB,
    attempt::MAX_ATTEMPTS,
    config::{
        AddressRange, LIVE_ALLOWED, LIVE_ARMED, LIVE_BUDGET, LIVE_DEADLINE, LIVE_HIT, LIVE_KNOBS, LIVE_LEVEL,
        LIVE_THRESHOLD, Module, ON,
    },
    counters::Counters,
    record::Site,
};
use nix::time::{ClockId, clock_gettime};
use tracing::debug;

use crate::plan::Hook;

use shared::Shared;

pub use attempts::{Attempts, Opening};
pub use canary::CanaryError;
pub use wire::{ResolveError, Sites, Wire};

/// The eBPF object, compiled by the build script.
static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("INJECTOR_EBPF_OBJECT"));

/// aya-log's level for everything.
const LOG_ALL: u8 = 5;

/// Programs that are loaded, attached, and detached when this is dropped.
pub struct Session {
    ebpf: Option<Ebpf>,
    live: Shared,
    spent: Shared,
    counters: PerCpuArray<MapData, Counters>,
    sites: HashMap<MapData, u64, Site>,
    hooks: Vec<Hook>,
    budget: Option<u64>,
    /// What was counted before arming: calls of whoever allocated then, and the canaries.
    before: BTreeMap<Hook, Counters>,
}

/// What streams out of a session, next to what can be asked of it.
pub struct Streams {
    /// A record per failure.
    pub events: RingBuf<MapData>,
    /// Where a sweep opens its attempts; none where sites are not chosen.
    pub attempts: Option<Attempts>,
    /// The eBPF side's diagnostics, if they were asked for.
    pub log: Option<EbpfLogger<&'static dyn log::Log>>,
}

/// Where and which sites are failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arming {
    /// `LEVEL_*` of [`injector_common::config`].
    pub level: u64,
    /// How many failures a site may have that [`Session::allow`] said nothing about.
    pub allowed: u64,
    /// At which hit, from 1.
    pub hit: u32,
}

/// The index that the eBPF side uses for a hook.
#[must_use]
pub fn index(hook: Hook) -> u32 {
    match hook {
        Hook::Slab => HOOK_SLAB,
        Hook::Page => HOOK_PAGE,
        Hook::Filemap | Hook::Bio | Hook::PagePool | Hook::Function(_) => u32::MAX,
    }
}

/// The hook with this index.
#[must_use]
pub fn hook(index: u32) -> Option<Hook> {
    match index {
        HOOK_SLAB => Some(Hook::Slab),
        HOOK_PAGE => Some(Hook::Page),
        _ => None,
    }
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

/// aya's loader, being made ready beside other work: it reads all of the kernel's types, whether it will need them or
/// not (aya 0.14, `EbpfLoader::new`), and that takes as long as finding out everything else about the kernel.
#[derive(Debug)]
pub struct Loader(JoinHandle<EbpfLoader<'static>>);

impl Loader {
    /// Begins to make it ready.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn prepare() -> Result<Self> {
        let thread = thread::Builder::new().name("loader".into()).spawn(EbpfLoader::new);
        Ok(Self(thread.context("can't start a thread for the eBPF loader")?))
    }
}

impl Session {
    /// Loads the programs, specialised to `wire`, attaches them to their hooks unarmed, and proves by a canary
    /// allocation that each of them is called.
    ///
    /// # Errors
    /// When the kernel refuses a program, or a hook is attached and never called.
    pub fn attach(loader: Loader, hooks: &[Hook], wire: &Wire, ebpf_log: bool) -> Result<(Self, Streams)> {
        let log_level = if ebpf_log { LOG_ALL } else { 0 };
        let sites_on = wire.config.sites_on == ON;
        let ranges = u32::try_from(wire.stack_ranges.len()).context("too many address ranges")?.max(1);
        let mut loader: EbpfLoader<'_> = loader.0.join().map_err(|_| anyhow!("the eBPF loader panicked"))?;
        loader
            // Only needed for CO-RE relocations, which Rust eBPF has none of.
            .btf(None)
            .override_global("CONFIG", &wire.config, true)
            .override_global(aya_log::LEVEL, &log_level, false)
            .map_max_entries("STACK_RANGES", ranges)
            .map_max_entries("ATTEMPTS", if sites_on { MAX_ATTEMPTS } else { 1 })
            // Writing its log takes the verifier longer than verifying; a refusal is repeated with the log on.
            .verifier_log_level(VerifierLogLevel::DISABLE);
        let mut ebpf = match load(&mut loader, hooks, wire) {
            Err(error) if error.is::<ProgramError>() => {
                debug!("refused, and again for the verifier's reasons: {error:#}");
                load(loader.verifier_log_level(VerifierLogLevel::default()), hooks, wire)?
            }
            loaded => loaded?,
        };
        let streams = Streams {
            events: RingBuf::try_from(take(&mut ebpf, "EVENTS")?)?,
            attempts: sites_on.then(|| Attempts::new(map(&mut ebpf, "ATTEMPTS")?)).transpose()?,
            log: ebpf_log.then(|| EbpfLogger::init(&mut ebpf)).transpose().context("can't read the eBPF log")?,
        };
        let mut session = Self {
            live: Shared::new(map(&mut ebpf, "LIVE")?, LIVE_KNOBS)?,
            spent: Shared::new(map(&mut ebpf, "SPENT")?, 1)?,
            counters: PerCpuArray::try_from(take(&mut ebpf, "COUNTERS")?)?,
            sites: HashMap::try_from(take(&mut ebpf, "SITES")?)?,
            ebpf: None,
            hooks: hooks.to_vec(),
            budget: None,
            before: BTreeMap::new(),
        };
        for hook in hooks {
            let function = hook.function();
            program(&mut ebpf, *hook)?.attach(function, 0).with_context(|| format!("can't attach to {function}"))?;
        }
        session.ebpf = Some(ebpf);
        debug!("the hooks are attached");
        canary::prove(&session)?;
        debug!("every hook saw its canary");
        Ok((session, streams))
    }

    /// Lets failures happen: `threshold` per 2^32 matches, `budget` in all, and none after `deadline_ns` (CLOCK_MONOTONIC)
    /// unless [`Session::heartbeat`] moves it on.
    ///
    /// # Errors
    /// When the counters can't be read.
    pub fn arm(&mut self, threshold: u64, budget: Option<u64>, deadline_ns: u64) -> Result<()> {
        self.budget = budget;
        self.live.set(LIVE_THRESHOLD, threshold);
        self.live.set(LIVE_BUDGET, budget.unwrap_or(u64::MAX));
        self.heartbeat(deadline_ns);
        for hook in self.hooks.clone() {
            let counters = self.counters(hook)?;
            self.before.insert(hook, counters);
        }
        self.live.set(LIVE_ARMED, 1);
        Ok(())
    }

    /// Where sites are chosen: begins to count at them, and to fail those that may be failed. Unlike [`Session::arm`] it can
    /// be done again, after [`Session::disarm`].
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
        self.live.set(LIVE_ARMED, 0);
        self.ebpf = None;
    }

    /// The attached hooks.
    #[must_use]
    pub fn hooks(&self) -> &[Hook] {
        &self.hooks
    }

    /// Whether the failure budget is used up; never without one.
    #[must_use]
    pub fn is_spent(&self) -> bool {
        self.budget.is_some_and(|budget| self.spent.get(0) >= budget)
    }

    /// A hook's counters since it was armed, summed over the CPUs.
    ///
    /// # Errors
    /// When the map can't be read.
    pub fn counters(&self, hook: Hook) -> Result<Counters> {
        let mut sum = Counters::default();
        for counters in self.counters.get(&index(hook), 0).context("can't read the counters")?.iter() {
            sum.add(counters);
        }
        Ok(self.before.get(&hook).map_or(sum, |before| sum.since(before)))
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

impl Drop for Session {
    fn drop(&mut self) {
        self.detach();
    }
}

/// Makes the maps, fills them, and has the kernel verify the programs.
fn load(loader: &mut EbpfLoader<'_>, hooks: &[Hook], wire: &Wire) -> Result<Ebpf> {
    let mut ebpf = loader.load(OBJECT).context("can't load the eBPF object")?;
    fill(&mut ebpf, wire)?;
    debug!("the object is relocated, its maps are filled");
    for hook in hooks {
        let program = program(&mut ebpf, *hook)?;
        program.load().with_context(|| format!("the kernel refused program {hook}"))?;
        let verified = program.info().ok().and_then(|info| info.verified_instruction_count());
        debug!(verified, "the verifier accepted program {hook}");
    }
    Ok(ebpf)
}

fn program(ebpf: &mut Ebpf, hook: Hook) -> Result<&mut KProbe> {
    let program = ebpf.program_mut(hook.name()).ok_or_else(|| anyhow!("the eBPF object has no program {hook}"))?;
    Ok(program.try_into()?)
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
    Ok(())
}

fn map<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut aya::maps::Map> {
    ebpf.map_mut(name).ok_or_else(|| anyhow!("the eBPF object has no map {name}"))
}

fn take(ebpf: &mut Ebpf, name: &str) -> Result<aya::maps::Map> {
    ebpf.take_map(name).ok_or_else(|| anyhow!("the eBPF object has no map {name}"))
}
