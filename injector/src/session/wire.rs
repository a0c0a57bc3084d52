//! From the plan's words and the kernel's facts to what the eBPF programs are told.

use injector_common::{
    ABI_VERSION,
    config::{
        ABSENT, AddressRange, Config, GfpAlternative, GfpBits, MAX_MODULES, MAX_STACK_RANGES, Module, OFF, ON, Offsets,
    },
    decide, site,
};
use tracing::{debug, warn};

use crate::{
    kernel::{
        Facts, KernelError, KernelFiles,
        kallsyms::{Kallsyms, NoMatch},
    },
    plan::{GfpScope, Plan, gfp::GfpError, sweep::Shard},
    target::{Process, Targets},
};

/// A plan that doesn't fit this kernel.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// This kernel has no such GFP flag.
    #[error(transparent)]
    Gfp(#[from] GfpError),
    /// No function matches a stack pattern.
    #[error(transparent)]
    Pattern(#[from] NoMatch),
    /// The patterns match more than the table holds.
    #[error("the stack patterns match {0} separate address ranges; at most {MAX_STACK_RANGES}: use narrower ones")]
    TooManyRanges(usize),
    /// The symbols can't be read.
    #[error("can't read the kernel's symbols for --stack: {0}")]
    Symbols(KernelError),
    /// A GFP bit that the hook itself works with.
    #[error("this kernel does not say which bit {0} is")]
    Bit(&'static str),
    /// A function that the hook must know.
    #[error("this kernel has no function {0}, without which a page fault can't be told from a system call")]
    NoFunction(&'static str),
    /// Targets need to tell a task from an interrupt on top of it.
    #[error(
        "this kernel does not say where its preempt count is, so a target can't be told from interrupts on its CPU; run without a target"
    )]
    Context,
}

/// Everything that the programs are told before they are attached.
#[derive(Clone, Debug)]
pub struct Wire {
    /// `.rodata`.
    pub config: Config,
    /// Target processes.
    pub pids: Vec<u32>,
    /// The module table, sorted by address.
    pub modules: Vec<Module>,
    /// The ranges of `--stack`, sorted, then those of `--not-stack`, sorted.
    pub stack_ranges: Vec<AddressRange>,
}

impl Wire {
    /// Resolves a plan. Gives back the kernel's symbols too, if the stack filters needed them.
    ///
    /// # Errors
    /// When the plan names something that this kernel doesn't have.
    pub fn resolve(
        plan: &Plan,
        facts: &Facts,
        files: &KernelFiles,
        targets: &Targets,
    ) -> Result<(Self, Option<Kallsyms>), ResolveError> {
        let filter = &plan.first().filter;
        let mut stack_ranges = Vec::new();
        let mut stack_any_len = 0;
        let mut symbols = None;
        if !filter.stack.is_all() {
            let kallsyms = Kallsyms::read(files).map_err(ResolveError::Symbols)?;
            let mut resolve = |patterns: &[_]| -> Result<usize, ResolveError> {
                if patterns.is_empty() {
                    return Ok(0);
                }
                let ranges = kallsyms.ranges(patterns)?;
                stack_ranges.extend(ranges.iter().map(|range| AddressRange { start: range.start, end: range.end }));
                Ok(ranges.len())
            };
            let any_of: Vec<_> = filter.stack.any_of.iter().flat_map(|path| path.patterns().iter().cloned()).collect();
            stack_any_len = resolve(&any_of)?;
            resolve(&filter.stack.none_of)?;
            symbols = Some(kallsyms);
        }
        let too_many = |_| ResolveError::TooManyRanges(stack_ranges.len());
        let all_len = u32::try_from(stack_ranges.len()).map_err(too_many)?;
        if all_len > MAX_STACK_RANGES {
            return Err(ResolveError::TooManyRanges(stack_ranges.len()));
        }
        let stack_any_len = u32::try_from(stack_any_len).map_err(too_many)?;

        let bit = |name| facts.gfp.bit(name).ok_or(ResolveError::Bit(name));
        let offset = |offset: Option<u32>| offset.and_then(|offset| i32::try_from(offset).ok()).unwrap_or(ABSENT);
        let range = |(start, end)| AddressRange { start, end };
        let target = targets.wire();
        let (per_cpu_offsets, preempt_count) = match (facts.per_cpu_offsets, facts.preempt_count) {
            (Some(table), Some(count)) => (table, count),
            _ if target.kinds != 0 => return Err(ResolveError::Context),
            _ => {
                debug!("no preempt count: contexts will be unknown");
                (0, 0)
            }
        };
        if facts.modules.as_slice().len() > MAX_MODULES as usize {
            warn!("only {MAX_MODULES} modules fit into the module table; sites in the others have coarser signatures");
        }
        let mut modules: Vec<Module> = facts.modules.as_slice().iter().map(module).collect();
        modules.truncate(MAX_MODULES as usize);
        modules.sort_by_key(|module| module.range.start);

        let alternatives = filter.gfp.resolve(&facts.gfp)?;
        let mut gfp = Config::ZERO.gfp;
        for (slot, alternative) in gfp.iter_mut().zip(&alternatives) {
            let scoped = bit("__GFP_IO")? | bit("__GFP_FS")?;
            *slot = GfpAlternative { necessary: decide::necessary(alternative.test, scoped), ..*alternative };
        }
        let (order_min, order_max) = filter.order.bounds();
        let on = |condition| if condition { ON } else { OFF };
        let config = Config {
            abi: ABI_VERSION,
            own_pid: std::process::id(),
            init_allowed: on(targets.names_init()),
            // The ring is read even for a quiet run: an event per failure is what `delivered` and `lost` count.
            events: ON,
            gfp_bits: GfpBits { nofail: bit("__GFP_NOFAIL")?, io: bit("__GFP_IO")?, fs: bit("__GFP_FS")?, _pad: 0 },
            offsets: Offsets {
                task_flags: offset(facts.offsets.task_flags),
                cache_object_size: offset(facts.offsets.cache_object_size),
                cache_name: offset(facts.offsets.cache_name),
                _pad: 0,
            },
            text: range(facts.text),
            irq_entry: facts.irq_entry.map(range),
            per_cpu_offsets,
            preempt_count,
            modules_len: u32::try_from(modules.len()).unwrap_or(MAX_MODULES),
            gfp_effective: on(filter.gfp_scope == GfpScope::Effective),
            gfp_len: u32::try_from(alternatives.len()).unwrap_or(u32::MAX),
            order_on: on(!filter.order.is_all()),
            order_min,
            order_max,
            stack_any_len,
            stack_none_len: all_len - stack_any_len,
            // Failed by a coin, unless `choose_sites` says otherwise.
            sites_on: OFF,
            kthreads: OFF,
            softirqs: OFF,
            persistent: OFF,
            shard_index: 0,
            shard_count: 0,
            page_fault: AddressRange::default(),
            gfp,
            target,
        };
        let pids = targets.processes.iter().map(Process::pid).collect();
        Ok((Self { config, pids, modules, stack_ranges }, symbols))
    }
}

/// How a sweep chooses sites.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sites {
    /// Kernel threads, and softirqs on top of whatever task, are in scope too.
    pub kthreads: bool,
    /// A site that was failed once in an attempt is failed for the rest of it.
    pub persistent: bool,
    /// Only these may be failed.
    pub shard: Option<Shard>,
}

impl Wire {
    /// Has the hook fail sites that are chosen one by one, instead of tossing a coin.
    ///
    /// # Errors
    /// When the kernel does not say where page faults enter.
    pub fn choose_sites(&mut self, sites: Sites, symbols: &Kallsyms) -> Result<(), ResolveError> {
        const PAGE_FAULT: &str = "exc_page_fault";
        let Sites { kthreads, persistent, shard } = sites;
        let on = |condition| if condition { ON } else { OFF };
        let page_fault = symbols.function(PAGE_FAULT).ok_or(ResolveError::NoFunction(PAGE_FAULT))?;
        let config = &mut self.config;
        config.sites_on = ON;
        config.kthreads = on(kthreads);
        config.softirqs = on(kthreads);
        config.persistent = on(persistent);
        (config.shard_index, config.shard_count) = shard.map_or((0, 0), |shard| (shard.index, shard.count));
        config.page_fault = AddressRange { start: page_fault.start, end: page_fault.end };
        Ok(())
    }
}

fn module(module: &crate::kernel::modules::Module) -> Module {
    let range = module.range();
    Module { range: AddressRange { start: range.start, end: range.end }, id: site::module_id(&module.name) }
}
