//! From the plan's words and the kernel's facts to what the eBPF programs are told.

use std::{
    num::{NonZeroU32, NonZeroU64},
    path::Path,
};

use injector_common::{
    ABI_VERSION,
    automaton::Automaton,
    config::{
        ABSENT, AddressRange, BY_FMOD_RET, BY_KPROBE, BY_MODULE, CONTEXTS_ALL, Config, GfpAlternative, GfpBits,
        HookConfig, KTHREADS_ANY, KTHREADS_EXCLUDE, KTHREADS_ONLY, MAX_MODULES, MAX_PATH_LEN, MAX_PATHS,
        MAX_STACK_RANGES, Module, OFF, ON, Offsets, Slice, TARGET_FEW_PIDS, TARGET_MANY_PIDS,
    },
    decide,
    record::{CONTEXT_HARDIRQ, CONTEXT_NMI, CONTEXT_SOFTIRQ, CONTEXT_TASK},
    site,
};
use tracing::{debug, warn};

use super::{
    hooks::{self, Hooks},
    names::{self, TooIntricate},
    stack_patterns::{Matched, StackTable},
};
use crate::{
    arch::{PAGE_FAULT_ENTRY, SYSCALL_ENTRY},
    kernel::{
        self, Facts, KernelError, KernelFiles, allocator,
        caches::{Caches, NoSuchCache},
        features::Feature,
        hooks::{Attach, HookError, HookPoint},
        kallsyms::{Addresses, Kallsyms, NoMatch},
    },
    plan::{
        CachePattern, CommPattern, Contexts, Filter, GfpScope, Glob, Kthreads, NthPer, Plan, Policy, Rule,
        StackPattern, Syscall, TaskFilter, gfp::GfpError, sweep::Shard,
    },
    symbols::{self, LineSources, NoCalls},
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
    /// A function can't be failed as the rule says.
    #[error(transparent)]
    Hooks(#[from] HookError),
    /// No slab cache matches a pattern.
    #[error(transparent)]
    Cache(#[from] NoSuchCache),
    /// The slab caches can't be read.
    #[error("can't read the kernel's slab caches for --cache: {0}")]
    Caches(KernelError),
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
    /// Nothing is called on a line of the sources, or nobody knows.
    #[error(transparent)]
    Line(#[from] NoCalls),
    /// More functions than there are programs for.
    #[error("at most {max} functions can be named in one rule", max = injector_common::hooks::MAX_FUNCTIONS)]
    TooManyFunctions,
    /// More paths than the hook follows.
    #[error(
        "at most {MAX_PATHS} --stack paths of several functions, each of at most {MAX_PATH_LEN}, can be in one rule"
    )]
    TooManyPaths,
    /// A system call that is beyond the table.
    #[error("--syscall {}: its number is too large", .0.name())]
    Syscall(Syscall),
    /// Globs over names that are too much.
    #[error(transparent)]
    Names(#[from] TooIntricate),
    /// Nothing says which PID namespace a task is in.
    #[error("this kernel does not say where a task's PID namespace is; name a cgroup: --cgroup or --container")]
    PidNamespaces,
    /// Targets need to tell a task from an interrupt on top of it.
    #[error(
        "this kernel does not say where its preempt count is, so a target can't be told from interrupts on its CPU; run without a target"
    )]
    Context,
}

crate::exit::has_exit_code!(ResolveError => USAGE);

/// Everything that a rule's programs are told before they are attached.
#[derive(Clone, Debug)]
pub struct ProgramConfig {
    /// `.rodata`.
    pub config: Config,
    /// What they are attached to, and how.
    pub hooks: Vec<(HookPoint, Attach)>,
    /// Target processes.
    pub pids: Vec<u32>,
    /// The module table, sorted by address.
    pub modules: Vec<Module>,
    /// The ranges of the stack filters: `config` has which are whose.
    pub stacks: StackTable,
    /// Names of tasks that match, if they are filtered.
    pub comms: Option<Box<Automaton>>,
    /// Names of caches that match, if they are filtered.
    pub caches: Option<Box<Automaton>>,
}

impl ProgramConfig {
    /// Resolves a plan's rules. Gives back the kernel's symbols too, if some filter needed them.
    ///
    /// # Errors
    /// When the plan names something that this kernel doesn't have.
    pub fn resolve(
        plan: &Plan,
        facts: &Facts,
        files: &KernelFiles,
        targets: &Targets,
    ) -> Result<(Vec<Self>, Option<Kallsyms>), ResolveError> {
        let by_stack = |rule: &Rule| {
            let Filter { stack, syscalls, .. } = &rule.filter;
            !stack.is_all() || !syscalls.is_empty() || rule.filter.lines().next().is_some()
        };
        let symbols = if plan.outcome || plan.rules.iter().any(by_stack) {
            Some(Kallsyms::read(files).map_err(ResolveError::Symbols)?)
        } else {
            None
        };
        let base = base(plan, facts, targets)?;
        let modules = modules(facts);
        let pids: Vec<u32> = targets.processes.iter().map(Process::pid).collect();
        let mut wires = Vec::with_capacity(plan.rules.len());
        for rule in &plan.rules {
            let points = kernel::hooks::resolve(rule, &facts.injectable, files)?;
            let attaches = kernel::hooks::attaches(&points, plan.backend, facts, files)?;
            let mut wire = Self {
                config: base,
                hooks: points.into_iter().zip(attaches).collect(),
                pids: pids.clone(),
                modules: modules.clone(),
                stacks: StackTable::default(),
                comms: None,
                caches: None,
            };
            wire.tell_hooks(facts, files)?;
            wire.tell_filter(&rule.filter, facts, plan.target.is_everybody())?;
            wire.tell_caches(&rule.filter.caches, files)?;
            if let Some(symbols) = &symbols {
                let lines = calls_on_lines(&rule.filter, plan.vmlinux.as_deref(), facts, files)?;
                wire.tell_stacks(&rule.filter, &lines, plan.outcome, symbols)?;
            }
            tell_policy(&mut wire.config, &rule.policy);
            wires.push(wire);
        }
        let by_fmod_ret = |wire: &Self| wire.hooks.iter().any(|(_, attach)| matches!(attach, Attach::FmodRet { .. }));
        if facts.ways.preemptible && wires.iter().any(by_fmod_ret) {
            let kprobe = if facts.ways.kprobe { "--backend kprobe, or " } else { "" };
            warn!(
                "this kernel preempts tasks in the kernel: while a program that is attached by fmod_ret is preempted, calls on \
                 its CPU pass it by (`missed` counts them); {kprobe}booting with preempt=voluntary (CONFIG_PREEMPT_DYNAMIC) avoids that"
            );
        }
        Ok((wires, symbols))
    }

    fn tell_hooks(&mut self, facts: &Facts, files: &KernelFiles) -> Result<(), ResolveError> {
        let numbers = Hooks::new(self.hooks.iter().map(|(point, _)| point.hook));
        for (point, attach) in &self.hooks {
            let number = numbers.number(point.hook).and_then(|number| usize::try_from(number).ok());
            let slot = number.and_then(|number| self.config.hooks.get_mut(number));
            let slot = slot.ok_or(ResolveError::TooManyFunctions)?;
            let (attach, start) = match attach {
                Attach::Kprobe => (BY_KPROBE, 0),
                Attach::FmodRet { .. } => (BY_FMOD_RET, start_of(point.function, facts, files)),
                Attach::Module => (BY_MODULE, 0),
            };
            *slot = HookConfig { start, id: hooks::id(point.hook), error: point.error, attach, _pad: 0 };
        }
        Ok(())
    }

    /// The caches, by the names that the kernel has for them.
    fn tell_caches(&mut self, patterns: &[CachePattern], files: &KernelFiles) -> Result<(), ResolveError> {
        if patterns.is_empty() {
            return Ok(());
        }
        let choice = Caches::read(files).map_err(ResolveError::Caches)?.matching(patterns)?;
        choice.notes().iter().for_each(|note| warn!("{note}"));
        // A name is a glob without anything special in it.
        let beyond: Vec<_> = choice.beyond(patterns).into_iter().filter_map(Glob::new).collect();
        let globs: Vec<_> = patterns.iter().map(CachePattern::glob).chain(&beyond).collect();
        self.config.cache_on = ON;
        self.caches = Some(Box::new(names::automaton(&globs, "--cache")?));
        Ok(())
    }

    /// What the call's arguments and the task must be like.
    fn tell_filter(&mut self, filter: &Filter, facts: &Facts, everybody: bool) -> Result<(), ResolveError> {
        let config = &mut self.config;
        let alternatives = filter.gfp.resolve(&facts.gfp)?;
        for (slot, alternative) in config.gfp.iter_mut().zip(&alternatives) {
            let scoped = bit(facts, "__GFP_IO")? | bit(facts, "__GFP_FS")?;
            *slot = GfpAlternative { necessary: decide::necessary(alternative.test, scoped), ..*alternative };
        }
        config.gfp_len = length(&alternatives);
        config.gfp_effective = on(filter.gfp_scope == GfpScope::Effective);
        config.order_on = on(!filter.order.is_all());
        (config.order_min, config.order_max) = filter.order.bounds();
        config.size_on = on(!filter.size.is_all());
        (config.size_min, config.size_max) = filter.size.bounds();
        let TaskFilter { comms, uids, not_pids } = &filter.task;
        if !comms.is_empty() {
            config.comm_on = ON;
            let globs: Vec<_> = comms.iter().map(CommPattern::glob).collect();
            self.comms = Some(Box::new(names::automaton(&globs, "--comm")?));
        }
        config.uids_len = fill(&mut config.uids, uids);
        config.not_pids_len = fill(&mut config.not_pids, not_pids);
        let signatures = filter.signatures();
        for (slot, signature) in config.signatures.iter_mut().zip(&signatures) {
            *slot = *signature;
        }
        config.signatures_len = length(&signatures).min(length(&config.signatures));
        config.kthread_filter = match filter.kthreads {
            Kthreads::Any => KTHREADS_ANY,
            Kthreads::Only => KTHREADS_ONLY,
            Kthreads::Exclude => KTHREADS_EXCLUDE,
        };
        for syscall in &filter.syscalls {
            config.syscalls_on = ON;
            let number = syscall.number();
            let word = config.syscalls.get_mut(number as usize / 64).ok_or(ResolveError::Syscall(*syscall))?;
            *word |= 1 << (number % 64);
        }
        // In an interrupt the task is a bystander, and so is what is known of it.
        let of_tasks = !everybody || filter.condition_on_task().is_some();
        let contexts = filter.contexts.unwrap_or(if of_tasks { Contexts::TASK } else { Contexts::ALL });
        config.contexts = mask(contexts);
        if config.contexts != CONTEXTS_ALL && config.preempt_count == 0 {
            return Err(ResolveError::Context);
        }
        Ok(())
    }

    /// What the stack must be like.
    fn tell_stacks(
        &mut self,
        filter: &Filter,
        lines: &[StackPattern],
        outcome: bool,
        symbols: &Kallsyms,
    ) -> Result<(), ResolveError> {
        let stack = &filter.stack;
        let single: Vec<StackPattern> = stack
            .any_of
            .iter()
            .filter_map(|path| <[_; 1]>::try_from(path.patterns().to_vec()).ok())
            .flatten()
            .collect();
        self.config.stack_any = self.stacks.add_patterns("--stack", &matched(&single, symbols)?);
        self.config.stack_none = self.stacks.add(&symbols.ranges(&stack.none_of)?);
        // A line of the sources is a caller, too.
        let caller = [stack.caller.as_slice(), lines].concat();
        self.config.stack_caller = self.stacks.add_patterns("--caller", &matched(&caller, symbols)?);
        self.config.stack_depth = stack.depth.map_or(0, NonZeroU32::get);
        if !caller.is_empty() || stack.depth.is_some() {
            self.config.allocator = self.stacks.add(&symbols.ranges_of(allocator::is_its_own));
        }
        for path in stack.any_of.iter().filter(|path| path.patterns().len() > 1) {
            let number = self.config.paths_len as usize;
            if number >= MAX_PATHS || path.patterns().len() > MAX_PATH_LEN {
                return Err(ResolveError::TooManyPaths);
            }
            // The hook sees the innermost frame first, so a path is complete with its outermost function.
            let mut outermost = Slice::default();
            for (i, pattern) in path.patterns().iter().rev().enumerate() {
                outermost = self.stacks.add(&symbols.ranges(std::slice::from_ref(pattern))?);
                self.config.paths[number].functions[i] = outermost;
                self.config.paths[number].len += 1;
            }
            self.stacks.name("--stack", path.to_string(), outermost);
            self.config.paths_len += 1;
        }
        if self.stacks.ranges.len() > MAX_STACK_RANGES as usize {
            return Err(ResolveError::TooManyRanges(self.stacks.ranges.len()));
        }
        if outcome || !filter.syscalls.is_empty() {
            let entry = symbols.function(SYSCALL_ENTRY).ok_or(ResolveError::NoFunction(SYSCALL_ENTRY))?;
            self.config.syscall_entry = AddressRange { start: entry.start, end: entry.end };
        }
        Ok(())
    }
}

/// The calls on the lines of the sources that a filter names.
fn calls_on_lines(
    filter: &Filter,
    vmlinux: Option<&Path>,
    facts: &Facts,
    files: &KernelFiles,
) -> Result<Vec<StackPattern>, NoCalls> {
    let search = LineSources { vmlinux: vmlinux.map(Path::to_owned), files: files.clone(), ..LineSources::default() };
    let build_id = files.build_id();
    let kernel = symbols::Kernel { release: facts.release.as_str(), build_id: build_id.as_deref() };
    let mut calls = Vec::new();
    for line in filter.lines() {
        calls.extend(symbols::calls(line, kernel, &search)?);
    }
    Ok(calls)
}

/// Each pattern with its addresses.
fn matched(patterns: &[StackPattern], symbols: &Kallsyms) -> Result<Vec<Matched>, NoMatch> {
    let of = |pattern: &StackPattern| {
        let addresses = symbols.ranges(std::slice::from_ref(pattern))?;
        Ok(Matched { pattern: pattern.to_string(), addresses })
    };
    patterns.iter().map(of).collect()
}

fn on(condition: bool) -> u32 {
    if condition { ON } else { OFF }
}

fn length<T>(slice: &[T]) -> u32 {
    u32::try_from(slice.len()).unwrap_or(u32::MAX)
}

/// Fills an array from its start; how many there are. The plan has seen to it that they fit.
fn fill(to: &mut [u32], from: &[u32]) -> u32 {
    for (slot, value) in to.iter_mut().zip(from) {
        *slot = *value;
    }
    length(from).min(length(to))
}

fn bit(facts: &Facts, name: &'static str) -> Result<u32, ResolveError> {
    facts.gfp.bit(name).ok_or(ResolveError::Bit(name))
}

/// Where a function begins; 0: not known.
fn start_of(function: &str, facts: &Facts, files: &KernelFiles) -> u64 {
    let asked = || Addresses::ask(files, &[function], &[], |found| found.get(function).is_some()).ok()?.get(function);
    facts.addresses.get(function).or_else(asked).unwrap_or(0)
}

fn mask(contexts: Contexts) -> u32 {
    let Contexts { task, softirq, hardirq, nmi } = contexts;
    let bits = [(task, CONTEXT_TASK), (softirq, CONTEXT_SOFTIRQ), (hardirq, CONTEXT_HARDIRQ), (nmi, CONTEXT_NMI)];
    bits.into_iter().filter(|(is_in, _)| *is_in).fold(0, |mask, (_, context)| mask | 1 << context)
}

/// What all rules of a plan are told.
fn base(plan: &Plan, facts: &Facts, targets: &Targets) -> Result<Config, ResolveError> {
    let offset = |offset: Option<u32>| offset.and_then(|offset| i32::try_from(offset).ok()).unwrap_or(ABSENT);
    let range = |(start, end)| AddressRange { start, end };
    let mut target = targets.wire();
    let namespaces = facts.offsets.pid_namespaces;
    for namespace in target.pid_namespaces.iter_mut().take(target.pid_namespaces_len as usize) {
        let offsets = namespaces.ok_or(ResolveError::PidNamespaces)?;
        namespace.namespace = offset(Some(offsets.namespace(namespace.level)));
    }
    if plan.target.follow {
        // There will be more.
        target.kinds = target.kinds & !TARGET_FEW_PIDS | TARGET_MANY_PIDS;
    }
    let (per_cpu_offsets, preempt_count) = match (facts.per_cpu_offsets, facts.preempt_count) {
        (Some(table), Some(count)) => (table, count),
        _ => {
            debug!("no preempt count: contexts will be unknown");
            (0, 0)
        }
    };
    let modules = facts.modules.as_slice().len().min(MAX_MODULES as usize);
    Ok(Config {
        abi: ABI_VERSION,
        own_pid: std::process::id(),
        init_allowed: on(targets.names_init()),
        // The ring is read even for a quiet run: an event per failure is what `delivered` and `lost` count.
        events: ON,
        dry_run: on(plan.dry_run),
        outcome: on(plan.outcome),
        follow: on(plan.target.follow),
        cpus: cpus(),
        bpf_loop: on(facts.features.has(Feature::BpfLoop)),
        preempt_masks: facts.preempt_masks,
        gfp_bits: GfpBits {
            nofail: bit(facts, "__GFP_NOFAIL")?,
            io: bit(facts, "__GFP_IO")?,
            fs: bit(facts, "__GFP_FS")?,
            _pad: 0,
        },
        offsets: Offsets {
            task_flags: offset(facts.offsets.task_flags),
            cache_object_size: offset(facts.offsets.cache_object_size),
            cache_name: offset(facts.offsets.cache_name),
            task_pid: offset(facts.offsets.task_pid),
            task_tgid: offset(facts.offsets.task_tgid),
            task_exit_code: offset(facts.offsets.task_exit_code),
            task_thread_pid: offset(namespaces.map(|offsets| offsets.task_thread_pid)),
            pid_level: offset(namespaces.map(|offsets| offsets.pid_level)),
            pid_namespace_inum: offset(namespaces.map(|offsets| offsets.inum)),
            _pad: 0,
        },
        text: range(facts.text),
        irq_entry: facts.irq_entry.map(range),
        per_cpu_offsets,
        preempt_count,
        modules_len: u32::try_from(modules).unwrap_or(MAX_MODULES),
        target,
        ..Config::ZERO
    })
}

/// How many CPUs there can be.
fn cpus() -> u32 {
    // It can only fail where sysfs is not mounted; then those that are there have to do.
    let possible = aya::util::nr_cpus().ok().or_else(|| std::thread::available_parallelism().ok().map(usize::from));
    possible.and_then(|cpus| u32::try_from(cpus).ok()).unwrap_or(1)
}

/// When matches are failed, as far as it does not change while the programs run.
fn tell_policy(config: &mut Config, policy: &Policy) {
    let Policy { skip, space, every, nth, nth_per, probability: _, seed, per_site, rate, times: _, errno: _ } = policy;
    config.skip = *skip;
    config.space = *space;
    config.every = every.map_or(0, NonZeroU64::get);
    for (slot, number) in config.nth.iter_mut().zip(nth) {
        *slot = number.get();
    }
    config.nth_len = length(nth).min(length(&config.nth));
    config.nth_per_task = on(*nth_per == NthPer::Task);
    config.seed_on = on(seed.is_some());
    config.seed = seed.unwrap_or(0);
    config.per_site = per_site.map_or(0, NonZeroU64::get);
    config.rate_on = on(rate.is_some());
}

/// The module table.
fn modules(facts: &Facts) -> Vec<Module> {
    if facts.modules.as_slice().len() > MAX_MODULES as usize {
        warn!("only {MAX_MODULES} modules fit into the module table; sites in the others have coarser signatures");
    }
    let mut modules: Vec<Module> = facts.modules.as_slice().iter().map(module).collect();
    modules.truncate(MAX_MODULES as usize);
    modules.sort_by_key(|module| module.range.start);
    modules
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

impl ProgramConfig {
    /// Has the hook fail sites that are chosen one by one, instead of tossing a coin.
    ///
    /// # Errors
    /// When the kernel does not say where page faults enter.
    pub fn choose_sites(&mut self, sites: Sites, symbols: &Kallsyms) -> Result<(), ResolveError> {
        let Sites { kthreads, persistent, shard } = sites;
        let page_fault = symbols.function(PAGE_FAULT_ENTRY).ok_or(ResolveError::NoFunction(PAGE_FAULT_ENTRY))?;
        let config = &mut self.config;
        config.sites_on = ON;
        config.kthreads = on(kthreads);
        config.softirqs = on(kthreads);
        config.contexts |= if kthreads { 1 << CONTEXT_SOFTIRQ } else { 0 };
        config.persistent = on(persistent);
        (config.shard_index, config.shard_count) = shard.map_or((0, 0), |shard| (shard.index, shard.count));
        config.page_fault = AddressRange { start: page_fault.start, end: page_fault.end };
        Ok(())
    }
}

fn module(module: &kernel::modules::Module) -> Module {
    let range = module.range();
    Module { range: AddressRange { start: range.start, end: range.end }, id: site::module_id(&module.name) }
}
