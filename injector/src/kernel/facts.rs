//! The facts that a run needs, each source read once.

use super::btf::{Btf, Wanted};
use super::features::Features;
use super::gfp::{self, GfpBits};
use super::hooks::{Injectable, Ways};
use super::hooks_module::HooksModule;
use super::kallsyms::Addresses;
use super::modules::Modules;
use super::options::Options;
use super::{KernelError, KernelFiles, Release};
use injector_common::decide::PreemptMasks;

use crate::arch::{PREEMPT_COUNT, PREEMPT_COUNT_STRUCT};
use crate::plan::Hook;

const PER_CPU_OFFSETS: &str = "__per_cpu_offset";
/// Where kernels have it, the preempt count has bits for how often hardirqs were disabled: the hardirq and NMI counts are above
/// these (include/linux/preempt.h, `HARDIRQ_DISABLE_BITS`, kernel/softirq.c, 7.3).
const DISABLED_HARDIRQS: &str = "local_interrupt_disable_state";
/// The addresses that a run may need, beside those of the hooks' functions.
const SYMBOLS: [&str; 10] = [
    "_stext",
    "_etext",
    "__irqentry_text_start",
    "__irqentry_text_end",
    "__softirqentry_text_start",
    "__softirqentry_text_end",
    PER_CPU_OFFSETS,
    PREEMPT_COUNT_STRUCT,
    PREEMPT_COUNT,
    DISABLED_HARDIRQS,
];

/// Everything that could be found out about the kernel; what could not, says why.
#[derive(Debug)]
pub struct Survey {
    /// Its release.
    pub release: Result<Release, KernelError>,
    /// Members and prototypes from BTF.
    pub types: Result<Types, KernelError>,
    /// GFP bits.
    pub gfp: Result<GfpBits, KernelError>,
    /// Addresses of symbols.
    pub addresses: Result<Addresses, KernelError>,
    /// Functions that may be overridden.
    pub injectable: Result<Injectable, KernelError>,
    /// Loaded modules.
    pub modules: Result<Modules, KernelError>,
    /// Build options.
    pub options: Result<Options, KernelError>,
    /// What there is of eBPF.
    pub features: Features,
    /// How hooks can be attached.
    pub ways: Ways,
    /// The module injector_hooks, if it is loaded.
    pub hooks_module: Option<HooksModule>,
}

/// What a run needs from BTF.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Types {
    /// Member offsets.
    pub offsets: Offsets,
    /// Prototypes of the hooks' functions that the kernel has.
    pub prototypes: Vec<(&'static str, String)>,
    /// The ids of these functions.
    pub ids: Vec<(&'static str, u32)>,
}

/// Byte offsets of structure members; `None`: this kernel has no such member.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offsets {
    /// `task_struct.flags`.
    pub task_flags: Option<u32>,
    /// `kmem_cache.object_size`.
    pub cache_object_size: Option<u32>,
    /// `kmem_cache.name`.
    pub cache_name: Option<u32>,
    /// `task_struct.pid`.
    pub task_pid: Option<u32>,
    /// `task_struct.tgid`.
    pub task_tgid: Option<u32>,
    /// `task_struct.exit_code`.
    pub task_exit_code: Option<u32>,
    /// Where a task's PID namespaces are; none without CONFIG_PID_NS' structures.
    pub pid_namespaces: Option<PidNamespaceOffsets>,
    /// `pcpu_hot.preempt_count` (6.2 to 6.14).
    pub pcpu_hot_preempt_count: Option<u32>,
}

/// Where a task's PID namespaces are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PidNamespaceOffsets {
    /// `task_struct.thread_pid`.
    pub task_thread_pid: u32,
    /// `pid.level`.
    pub pid_level: u32,
    /// `pid.numbers`, an array of `upid`s, one for each level.
    pub pid_numbers: u32,
    /// `upid.ns`, its last member.
    pub upid_ns: u32,
    /// `pid_namespace.ns.inum`.
    pub inum: u32,
}

impl PidNamespaceOffsets {
    fn of(btf: &Btf) -> Option<Self> {
        Some(Self {
            task_thread_pid: btf.member_offset("task_struct", "thread_pid")?,
            pid_level: btf.member_offset("pid", "level")?,
            pid_numbers: btf.member_offset("pid", "numbers")?,
            upid_ns: btf.member_offset("upid", "ns")?,
            inum: btf.member_offset("pid_namespace", "ns")? + btf.member_offset("ns_common", "inum")?,
        })
    }

    /// Where in `struct pid` the pointer to the namespace of a level is.
    #[must_use]
    pub fn namespace(self, level: u32) -> u32 {
        // A pointer ends the upid.
        self.pid_numbers + level * (self.upid_ns + 8) + self.upid_ns
    }
}

/// Symbols come by address: behind the end of the text there are no more functions to find. Where the preempt count
/// and the per-CPU offsets lie has changed, so those are waited for.
fn enough(found: &Addresses) -> bool {
    let has = |name| found.get(name).is_some();
    // Kernels with DISABLED_HARDIRQS have their per-CPU variables behind the text; older ones began at 0.
    let begins_at_zero = || found.get(PREEMPT_COUNT) < found.get("_stext");
    let count = has(PREEMPT_COUNT_STRUCT) || (has(PREEMPT_COUNT) && (begins_at_zero() || has(DISABLED_HARDIRQS)));
    has("_etext") && has(PER_CPU_OFFSETS) && count
}

/// How addresses are had: names, functions whose copies are wanted too, and when it is enough.
type AddressesBy = fn(&KernelFiles, &[&str], &[&str], fn(&Addresses) -> bool) -> Result<Addresses, KernelError>;

/// The functions of all hooks with a name of their own, by whatever name kernels have them.
fn hook_functions() -> Vec<&'static str> {
    Hook::NAMED.into_iter().flat_map(Hook::functions).collect()
}

impl Types {
    fn of(btf: &Btf) -> Self {
        let offsets = Offsets {
            task_flags: btf.member_offset("task_struct", "flags"),
            cache_object_size: btf.member_offset("kmem_cache", "object_size"),
            cache_name: btf.member_offset("kmem_cache", "name"),
            task_pid: btf.member_offset("task_struct", "pid"),
            task_tgid: btf.member_offset("task_struct", "tgid"),
            task_exit_code: btf.member_offset("task_struct", "exit_code"),
            pid_namespaces: PidNamespaceOffsets::of(btf),
            pcpu_hot_preempt_count: btf.member_offset(PREEMPT_COUNT_STRUCT, "preempt_count"),
        };
        let functions = hook_functions();
        let prototypes = functions.iter().filter_map(|function| Some((*function, btf.prototype(function)?))).collect();
        let ids = functions.iter().filter_map(|function| Some((*function, btf.function(function)?))).collect();
        Self { offsets, prototypes, ids }
    }

    /// The id of a hook's function.
    #[must_use]
    pub fn id(&self, function: &str) -> Option<u32> {
        self.ids.iter().find(|(known, _)| *known == function).map(|(_, id)| *id)
    }

    /// The prototype of a hook's function.
    #[must_use]
    pub fn prototype(&self, function: &str) -> Option<&str> {
        self.prototypes.iter().find(|(known, _)| *known == function).map(|(_, prototype)| prototype.as_str())
    }
}

impl Survey {
    /// Reads everything, thoroughly.
    #[must_use]
    pub fn take(files: &KernelFiles) -> Self {
        Self::with(files, Addresses::read, None)
    }

    /// Reads what a run needs, in the quickest way: of copies of hooks only those with usual names are found.
    #[must_use]
    pub fn quick(files: &KernelFiles) -> Self {
        Self::with(files, Addresses::ask, None)
    }

    /// Reads everything of a kernel that is not the running one. `features`: what it said of its eBPF when it ran.
    #[must_use]
    pub fn of_another(files: &KernelFiles, features: Features) -> Self {
        Self::with(files, Addresses::read, Some(features))
    }

    fn with(files: &KernelFiles, addresses: AddressesBy, features: Option<Features>) -> Self {
        let functions = hook_functions();
        let hooks_module = HooksModule::read(files);
        let hooked = hooks_module.iter().flat_map(HooksModule::symbols);
        let with_types: Vec<&str> = functions.iter().copied().chain(hooked).collect();
        let btf = Btf::read(
            files,
            Wanted {
                structs: &[
                    "task_struct",
                    "kmem_cache",
                    "pid",
                    "upid",
                    "pid_namespace",
                    "ns_common",
                    PREEMPT_COUNT_STRUCT,
                ],
                functions: &with_types,
                enumerators: &[gfp::FIRST_ENUMERATOR],
            },
        );
        let hooks_module = match &btf {
            Ok(btf) => hooks_module.map(|module| module.compared(btf)),
            Err(_) => hooks_module,
        };
        let options = Options::read(files);
        let gfp = GfpBits::read(files, btf.as_ref().ok());
        let types = btf.map(|btf| Types::of(&btf));
        let features = features.unwrap_or_else(|| {
            let overridable = |types: &Types| Hook::MEMORY.iter().find_map(|hook| types.id(hook.function()));
            Features::of(files, types.as_ref().ok().and_then(overridable))
        });
        let symbols: Vec<&str> = SYMBOLS.into_iter().chain(functions.iter().copied()).collect();
        Self {
            release: files.release(),
            gfp,
            types,
            addresses: addresses(files, &symbols, &functions, enough),
            injectable: Injectable::read(files),
            modules: Modules::read(files),
            ways: Ways::read(files, options.as_ref().ok(), &features),
            features,
            options,
            hooks_module,
        }
    }

    /// The facts, when nothing that every run needs is missing.
    ///
    /// # Errors
    /// Something is.
    pub fn into_facts(self) -> Result<Facts, KernelError> {
        let Self { release, types, gfp, addresses, injectable, modules, options: _, features, ways, hooks_module } =
            self;
        // With the module, nothing need be in the kernel's list.
        let injectable = if hooks_module.is_some() { injectable.unwrap_or_default() } else { injectable? };
        let (Types { offsets, prototypes: _, ids }, addresses) = (types?, addresses?);
        if addresses.are_hidden() {
            return Err(KernelError::HiddenAddresses);
        }
        let symbol = |name: &'static str| addresses.get(name).ok_or(KernelError::Missing(name));
        let range = |start, end| -> Result<_, KernelError> { Ok((symbol(start)?, symbol(end)?)) };
        let in_hot = || Some(addresses.get(PREEMPT_COUNT_STRUCT)? + u64::from(offsets.pcpu_hot_preempt_count?));
        Ok(Facts {
            release: release?,
            gfp: gfp?,
            text: range("_stext", "_etext")?,
            irq_entry: [
                range("__irqentry_text_start", "__irqentry_text_end")?,
                range("__softirqentry_text_start", "__softirqentry_text_end")?,
            ],
            per_cpu_offsets: addresses.get(PER_CPU_OFFSETS),
            preempt_count: in_hot().or_else(|| addresses.get(PREEMPT_COUNT)),
            preempt_masks: match addresses.get(DISABLED_HARDIRQS) {
                Some(_) => PreemptMasks::WITH_DISABLED,
                None => PreemptMasks::PLAIN,
            },
            offsets,
            ids,
            features,
            ways,
            modules: modules?,
            injectable,
            hooks_module,
            addresses,
        })
    }
}

/// What a run needs to know about the kernel.
#[derive(Debug)]
pub struct Facts {
    /// Its release.
    pub release: Release,
    /// GFP bits, `NOFAIL` among them.
    pub gfp: GfpBits,
    /// Member offsets.
    pub offsets: Offsets,
    /// Ids of the hooks' functions in vmlinux' BTF.
    pub ids: Vec<(&'static str, u32)>,
    /// What there is of eBPF.
    pub features: Features,
    /// How hooks can be attached.
    pub ways: Ways,
    /// Kernel text: `_stext` and `_etext`.
    pub text: (u64, u64),
    /// Where interrupts and softirqs enter: `__irqentry_text_*`, `__softirqentry_text_*`.
    pub irq_entry: [(u64, u64); 2],
    /// `__per_cpu_offset`; `None`: a kernel for one CPU, where per-CPU addresses are plain addresses.
    pub per_cpu_offsets: Option<u64>,
    /// Per-CPU address of the preempt count: in `pcpu_hot` from 6.2 to 6.14, else `__preempt_count`.
    pub preempt_count: Option<u64>,
    /// What its bits mean.
    pub preempt_masks: PreemptMasks,
    /// Loaded modules.
    pub modules: Modules,
    /// Functions that may be overridden.
    pub injectable: Injectable,
    /// The module injector_hooks, if it is loaded.
    pub hooks_module: Option<HooksModule>,
    /// The addresses of the hooks, and all of the above.
    pub addresses: Addresses,
}

impl Facts {
    /// Reads them.
    ///
    /// # Errors
    /// Something that every run needs is missing.
    pub fn read(files: &KernelFiles) -> Result<Self, KernelError> {
        Survey::quick(files).into_facts()
    }
}
