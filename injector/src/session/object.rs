//! The eBPF object: made ready for a rule, loaded, and its maps filled.

use anyhow::{Context as _, Result, anyhow};
use aya::{
    Ebpf, EbpfLoader, VerifierLogLevel,
    maps::{Array, HashMap, Map},
    programs::{KProbe, Program},
};
use injector_common::{
    HOOKS,
    attempt::MAX_ATTEMPTS,
    automaton::Automaton,
    config::{AddressRange, GLOB_CACHE, GLOB_COMM, MAX_WALKS, Module, ON},
};
use tracing::debug;

use super::Wire;

/// The eBPF object, compiled by the build script.
pub(super) static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("INJECTOR_EBPF_OBJECT"));

/// aya-log's level for everything.
const LOG_ALL: u8 = 5;
/// Bytes of the ring for events, and sites in the histogram, of a run with one rule. Several share them.
const RING_BYTES: u32 = 4 << 20;
const MAX_SITES: u32 = 16384;
/// Tasks whose matches are counted, and system calls with failures in them, at a time.
const MAX_TASKS: u32 = 16384;

/// Tells the loader what the programs are told, and how large the maps are. `rules`: how many rules the run has.
pub(super) fn configure<'a>(loader: &mut EbpfLoader<'a>, wire: &'a Wire, rules: usize, ebpf_log: bool) -> Result<()> {
    let log_level: &'static u8 = if ebpf_log { &LOG_ALL } else { &0 };
    let config = &wire.config;
    let ranges = u32::try_from(wire.stack_ranges.len()).context("too many address ranges")?.max(1);
    let share = u32::try_from(rules.next_power_of_two()).context("too many rules")?;
    let only_if = |condition, entries| if condition { entries } else { 1 };
    loader
        // Only needed for CO-RE relocations, which Rust eBPF has none of.
        .btf(None)
        .override_global("CONFIG", config, true)
        .override_global(aya_log::LEVEL, log_level, false)
        .map_max_entries("STACK_RANGES", ranges)
        .map_max_entries("ATTEMPTS", only_if(config.sites_on == ON, MAX_ATTEMPTS))
        .map_max_entries("TASKS", only_if(config.nth_per_task == ON, MAX_TASKS))
        .map_max_entries("WALKS", MAX_WALKS / share)
        .map_max_entries("PENDING", only_if(config.outcome == ON, MAX_TASKS))
        .map_max_entries("COUNTERS", config.cpus * HOOKS as u32)
        .map_max_entries("EVENTS", RING_BYTES / share)
        .map_max_entries("SITES", MAX_SITES / share)
        // Writing its log takes the verifier longer than verifying; a refusal is repeated with the log on.
        .verifier_log_level(VerifierLogLevel::DISABLE);
    Ok(())
}

/// Makes the maps, fills them, and has the kernel verify the programs.
pub(super) fn load(loader: &mut EbpfLoader<'_>, programs: &[&str], wire: &Wire) -> Result<Ebpf> {
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

pub(super) fn program<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Program> {
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

pub(super) fn map<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Map> {
    ebpf.map_mut(name).ok_or_else(|| anyhow!("the eBPF object has no map {name}"))
}

pub(super) fn take(ebpf: &mut Ebpf, name: &str) -> Result<Map> {
    ebpf.take_map(name).ok_or_else(|| anyhow!("the eBPF object has no map {name}"))
}
