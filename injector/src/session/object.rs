//! The eBPF object: made ready for a rule, and its maps made and filled.

use std::os::fd::AsFd;

use aya::maps::{Array, HashMap};
use aya_obj::Object;
use injector_common::{
    attempt::MAX_ATTEMPTS,
    automaton::Automaton,
    config::{Config, GLOB_CACHE, GLOB_COMM, MAX_WALKS, Module, ON, StackRange},
};
use tracing::debug;

use super::{
    ProgramConfig,
    maps::Maps,
    programs::{Programs, Types},
};
use crate::exit::{Context as _, Result};

/// The eBPF object, compiled by the build script.
static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("INJECTOR_EBPF_OBJECT"));

/// aya-log's level for everything.
const LOG_ALL: u8 = 5;
/// Bytes of the ring for events, and sites in the histogram, of a run with one rule. Several share them.
const RING_BYTES: u32 = 4 << 20;
const MAX_SITES: u32 = 16384;
/// Tasks whose matches are counted, and system calls with failures in them, at a time.
const MAX_TASKS: u32 = 16384;

/// Makes a rule's maps, and those of its programs that are `wanted` ready for the verifier. `rules`: how many rules the run has.
pub(super) fn prepare(wire: &ProgramConfig, rules: usize, ebpf_log: bool, wanted: &[&str]) -> Result<(Programs, Maps)> {
    let mut object = Object::parse(OBJECT)?;
    // What is said to all programs is said to those that are loaded: the object has eight for each hook.
    let others: Vec<_> =
        object.programs.extract_if(|name, _| !wanted.contains(&name.as_str())).map(|(_, other)| other).collect();
    others.iter().for_each(|other| {
        object.functions.remove(&other.function_key());
    });
    let log_level = if ebpf_log { LOG_ALL } else { 0 };
    // Of each, whether the object must have it.
    let globals =
        [("CONFIG", (bytes(&wire.config), true)), (aya_log::LEVEL, (std::slice::from_ref(&log_level), false))];
    object.patch_map_data(globals.into())?;
    for (name, entries) in sizes(wire, rules)? {
        let map = object.maps.get_mut(name).with_context(|| format!("the eBPF object has no map {name}"))?;
        map.set_max_entries(entries);
    }
    let types = Types::load(&mut object)?;
    let mut maps = Maps::make(&object.maps, types.as_fd())?;
    fill(&mut maps, wire)?;
    let programs = Programs::new(object, types, &maps)?;
    debug!("the object is relocated, its maps are filled");
    Ok((programs, maps))
}

/// How many entries the maps have where a plan says it.
fn sizes(wire: &ProgramConfig, rules: usize) -> Result<[(&'static str, u32); 8]> {
    let config = &wire.config;
    let ranges = u32::try_from(wire.stacks.ranges.len()).context("too many address ranges")?.max(1);
    let share = u32::try_from(rules.next_power_of_two()).context("too many rules")?;
    let only_if = |condition, entries| if condition { entries } else { 1 };
    Ok([
        ("STACK_RANGES", ranges),
        ("ATTEMPTS", only_if(config.sites_on == ON, MAX_ATTEMPTS)),
        ("TASKS", only_if(config.nth_per_task == ON, MAX_TASKS)),
        ("WALKS", MAX_WALKS / share),
        ("PENDING", only_if(config.outcome == ON, MAX_TASKS)),
        ("COUNTERS", config.cpus),
        ("EVENTS", RING_BYTES / share),
        ("SITES", MAX_SITES / share),
    ])
}

fn bytes(config: &Config) -> &[u8] {
    // SAFETY: plain numbers without padding (`Config` is `Pod`), readable for its size as long as it is borrowed.
    unsafe { std::slice::from_raw_parts((&raw const *config).cast(), size_of::<Config>()) }
}

/// Puts into the maps what the programs look up.
fn fill(maps: &mut Maps, wire: &ProgramConfig) -> Result<()> {
    let mut pids: HashMap<_, u32, u32> = HashMap::try_from(maps.get("PIDS")?)?;
    for pid in &wire.pids {
        pids.insert(pid, 0, 0).with_context(|| format!("can't make process {pid} a target"))?;
    }
    let mut modules: Array<_, Module> = Array::try_from(maps.get("MODULES")?)?;
    for (i, module) in (0..).zip(&wire.modules) {
        modules.set(i, module, 0).context("can't hand over the module table")?;
    }
    let mut ranges: Array<_, StackRange> = Array::try_from(maps.get("STACK_RANGES")?)?;
    for (i, range) in (0..).zip(&wire.stacks.ranges) {
        ranges.set(i, range, 0).context("can't hand over the stack filter")?;
    }
    let mut names: Array<_, Automaton> = Array::try_from(maps.get("NAMES")?)?;
    for (which, automaton) in [(GLOB_COMM, &wire.comms), (GLOB_CACHE, &wire.caches)] {
        if let Some(automaton) = automaton {
            names.set(which, **automaton, 0).context("can't hand over the filter on names")?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use injector_common::{
        config::Whose,
        hooks::{FUNCTION, HOOKS},
    };

    use super::*;
    use crate::{kernel::hooks::Attach, session::hooks};

    #[test]
    fn the_object_has_every_program() {
        let object = Object::parse(OBJECT).expect("the build script's own");
        for number in 0..HOOKS as u32 {
            for attach in [Attach::Kprobe, Attach::FmodRet { function: 1 }, Attach::Module] {
                // The module has no hooks on other functions.
                if attach == Attach::Module && number >= FUNCTION {
                    continue;
                }
                for whose in [Whose::Anyones, Whose::Pid, Whose::Cgroup, Whose::Target] {
                    let name = hooks::program(number, attach, whose);
                    assert!(object.programs.contains_key(&name), "{name}");
                }
            }
        }
    }
}
