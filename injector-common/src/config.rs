//! What the user side tells the eBPF programs: constants, frozen before load, so that the verifier removes
//! the branches of filters that are off; and the few knobs that change while they run.

use crate::{arch::MAX_SYSCALLS, decide::PreemptMasks, hooks::HOOKS};

/// How many `--gfp` values one run can have.
pub const MAX_GFP_ALTERNATIVES: usize = 8;
/// How many negated composites (`!NOFS`) one `--gfp` value can have.
pub const MAX_GFP_NEGATED: usize = 4;
/// How many cgroups can be targets of one run.
pub const MAX_CGROUPS: usize = 4;
/// How many PID namespaces can be targets of one run.
pub const MAX_PID_NAMESPACES: usize = 4;
/// Up to so many target processes are compared with constants; more are looked up in a map, which costs a hash.
pub const FEW_PIDS: usize = 4;
/// How many processes can be targets of one run.
pub const MAX_PIDS: u32 = 1024;
/// How many kernel modules the site signature knows. Must be a power of two: the table is searched by halving.
pub const MAX_MODULES: u32 = 512;
/// How many address ranges the stack filters can have in all. A pattern's adjacent functions share a range.
pub const MAX_STACK_RANGES: u32 = 1 << 16;
/// How many paths of several functions the stack filters of a rule can have. A power of two.
pub const MAX_PATHS: usize = 4;
/// How many functions a path can have. A power of two.
pub const MAX_PATH_LEN: usize = 4;
/// How many walks of stacks are remembered.
pub const MAX_WALKS: u32 = 16384;
/// How many user ids, and how many processes that are spared, a rule can name.
pub const MAX_IDS: usize = 8;
/// How many sites a rule can name by their signatures.
pub const MAX_SIGNATURES: usize = 8;
/// How many numbers `--nth` can have.
pub const MAX_NTH: usize = 16;

/// Absent field or symbol.
pub const ABSENT: i32 = -1;

/// A test of GFP flags: holds when `flags & mask == value`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct GfpTest {
    /// The bits that are looked at.
    pub mask: u32,
    /// What they must be.
    pub value: u32,
}

/// One `--gfp` value: the test must hold and none of the negated ones may.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct GfpAlternative {
    /// What must hold.
    pub test: GfpTest,
    /// What the argument must hold for any scope to make `test` hold: [`crate::decide::necessary`].
    pub necessary: GfpTest,
    /// How many of `negated` are used.
    pub negated_len: u32,
    /// Explicit padding.
    pub _pad: u32,
    /// What must not hold.
    pub negated: [GfpTest; MAX_GFP_NEGATED],
}

/// Half-open range of kernel addresses, `start..end`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct AddressRange {
    /// First address inside.
    pub start: u64,
    /// First address after.
    pub end: u64,
}

/// An entry of the table of address ranges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct StackRange {
    /// The addresses of the function.
    pub range: AddressRange,
    /// Set when a frame lies in them.
    pub hit: u64,
}

/// Part of the table of address ranges, sorted by address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Slice {
    /// Index of its first range.
    pub first: u32,
    /// How many there are; 0: no such filter.
    pub len: u32,
}

/// Functions that are in a stack together, the innermost first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Path {
    /// The ranges of each.
    pub functions: [Slice; MAX_PATH_LEN],
    /// How many of `functions` are used.
    pub len: u32,
    /// Explicit padding.
    pub _pad: u32,
}

/// What is particular to a hook in this run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct HookConfig {
    /// Where the hooked function begins, if it is attached by fmod_ret; 0: not known.
    pub start: u64,
    /// What signatures of its sites begin with: the same in every run.
    pub id: u32,
    /// What a failed call returns.
    pub error: i32,
    /// How it is attached: `BY_*`.
    pub attach: u32,
    /// Explicit padding.
    pub _pad: u32,
}

/// `HookConfig::attach`: by a kprobe.
pub const BY_KPROBE: u32 = 0;
/// `HookConfig::attach`: by fmod_ret.
pub const BY_FMOD_RET: u32 = 1;
/// `HookConfig::attach`: to a tracepoint of the module injector_hooks.
pub const BY_MODULE: u32 = 2;

/// A loaded module: what a site signature needs to be the same wherever the module was loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Module {
    /// Where it lies.
    pub range: AddressRange,
    /// [`crate::site::module_id`] of its name.
    pub id: u64,
}

/// A cgroup v2 whose tasks, descendants' included, are targets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Cgroup {
    /// Its id: the inode number of its directory.
    pub id: u64,
    /// Its depth: 0 for the root.
    pub level: u32,
    /// Explicit padding.
    pub _pad: u32,
}

/// A PID namespace whose tasks, those of namespaces inside of it included, are targets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct PidNamespace {
    /// Its number (`ns_common.inum`): the inode number of its file.
    pub inum: u32,
    /// How many namespaces it is inside of: 0 for the initial one.
    pub level: u32,
    /// Offset in `struct pid` of the pointer to a task's namespace of that level.
    pub namespace: i32,
    /// Explicit padding.
    pub _pad: u32,
}

/// GFP bits that the hook itself needs. They move between kernel versions, so they come from the running kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct GfpBits {
    /// `__GFP_NOFAIL`.
    pub nofail: u32,
    /// `__GFP_IO`.
    pub io: u32,
    /// `__GFP_FS`.
    pub fs: u32,
    /// Explicit padding.
    pub _pad: u32,
}

/// Byte offsets of kernel structure members, from the running kernel's BTF; [`ABSENT`] where there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Offsets {
    /// `task_struct.flags`.
    pub task_flags: i32,
    /// `kmem_cache.object_size`.
    pub cache_object_size: i32,
    /// `kmem_cache.name`.
    pub cache_name: i32,
    /// `task_struct.pid`.
    pub task_pid: i32,
    /// `task_struct.tgid`.
    pub task_tgid: i32,
    /// `task_struct.exit_code`.
    pub task_exit_code: i32,
    /// `task_struct.thread_pid`.
    pub task_thread_pid: i32,
    /// `pid.level`.
    pub pid_level: i32,
    /// `pid_namespace.ns.inum`.
    pub pid_namespace_inum: i32,
    /// Explicit padding.
    pub _pad: i32,
}

/// `Target::kinds`: a few processes are targets, all of them in `Target::pids`.
pub const TARGET_FEW_PIDS: u32 = 1;
/// `Target::kinds`: many processes are targets, all of them in a map.
pub const TARGET_MANY_PIDS: u32 = 4;
/// `Target::kinds`: a set of cgroups is a target.
pub const TARGET_CGROUPS: u32 = 2;
/// `Target::kinds`: a set of PID namespaces is a target.
pub const TARGET_PID_NAMESPACES: u32 = 8;

/// Whose calls are failed; several kinds: any of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Target {
    /// `TARGET_*` bits; 0: the whole machine.
    pub kinds: u32,
    /// How many of `cgroups` are used.
    pub cgroups_len: u32,
    /// The processes if they are few; 0 (which is no process) in the rest.
    pub pids: [u32; FEW_PIDS],
    /// The cgroups.
    pub cgroups: [Cgroup; MAX_CGROUPS],
    /// How many of `pid_namespaces` are used.
    pub pid_namespaces_len: u32,
    /// Explicit padding.
    pub _pad: u32,
    /// The PID namespaces.
    pub pid_namespaces: [PidNamespace; MAX_PID_NAMESPACES],
}

/// `Config::order_on`: don't look.
pub const OFF: u32 = 0;
/// `Config::order_on`: look.
pub const ON: u32 = 1;

/// The frozen configuration of a run: `.rodata` of the eBPF object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Config {
    /// [`crate::ABI_VERSION`].
    pub abi: u32,
    /// Process id (tgid) of the injector, whose own threads are never failed.
    pub own_pid: u32,
    /// [`ON`] when PID 1 was named as a target, else it is never failed.
    pub init_allowed: u32,
    /// [`ON`] when each failure goes to the ring buffer.
    pub events: u32,
    /// [`ON`]: everything but the failing.
    pub dry_run: u32,
    /// [`ON`]: what becomes of the system call in which a failure happened is reported.
    pub outcome: u32,
    /// [`ON`]: children of target processes are targets.
    pub follow: u32,
    /// How many CPUs there can be: the rows of the counters.
    pub cpus: u32,
    /// [`ON`]: bpf_loop() makes loops; else bpf_for_each_map_elem() does, which older kernels have too.
    pub bpf_loop: u32,
    /// Explicit padding.
    pub _pad: u32,
    /// What the bits of the preempt count mean.
    pub preempt_masks: PreemptMasks,

    /// By the hook's number.
    pub hooks: [HookConfig; HOOKS],

    /// Bits of this kernel.
    pub gfp_bits: GfpBits,
    /// Offsets of this kernel.
    pub offsets: Offsets,
    /// Kernel text: `_stext.._etext`.
    pub text: AddressRange,
    /// Where interrupts enter: `__irqentry_text_*` and `__softirqentry_text_*`. A stack is cut there, as
    /// `filter_irq_stacks()` does (kernel/stacktrace.c, 6.12): what was interrupted is not the caller.
    pub irq_entry: [AddressRange; 2],
    /// Address of `__per_cpu_offset[]`.
    pub per_cpu_offsets: u64,
    /// Per-CPU address of the preempt count (`__preempt_count`, or the member of `pcpu_hot`); 0: unknown.
    pub preempt_count: u64,
    /// How many entries of the module table are used.
    pub modules_len: u32,

    /// [`ON`]: GFP filters look at the effective flags, [`OFF`]: at the argument.
    pub gfp_effective: u32,
    /// How many of `gfp` are used; 0: any flags.
    pub gfp_len: u32,
    /// [`ON`] when the order is filtered.
    pub order_on: u32,
    /// Smallest order that matches.
    pub order_min: u32,
    /// Largest order that matches.
    pub order_max: u32,
    /// Smallest size that matches, in bytes.
    pub size_min: u64,
    /// Largest size that matches.
    pub size_max: u64,
    /// [`ON`] when the size is filtered.
    pub size_on: u32,
    /// [`ON`] when the cache's name is filtered, by the automaton [`GLOB_CACHE`].
    pub cache_on: u32,
    /// [`ON`] when the task's name is filtered, by the automaton [`GLOB_COMM`].
    pub comm_on: u32,
    /// How many of `uids` are used; 0: any user.
    pub uids_len: u32,
    /// Real user ids of the tasks that match.
    pub uids: [u32; MAX_IDS],
    /// How many of `not_pids` are used.
    pub not_pids_len: u32,
    /// `KTHREADS_*`.
    pub kthread_filter: u32,
    /// Processes that never match.
    pub not_pids: [u32; MAX_IDS],
    /// [`ON`] when the system call is filtered.
    pub syscalls_on: u32,
    /// Contexts that match: bits `1 << CONTEXT_*`; [`CONTEXTS_ALL`]: nobody looks.
    pub contexts: u32,
    /// A bit for each system call that matches, by its number.
    pub syscalls: [u64; MAX_SYSCALLS as usize / 64],
    /// Where system calls enter: `do_syscall_64()`.
    pub syscall_entry: AddressRange,
    /// `--stack` with single functions: some frame is in it.
    pub stack_any: Slice,
    /// `--not-stack`: no frame is in it.
    pub stack_none: Slice,
    /// `--caller`: the first frame that isn't the allocator's is in it.
    pub stack_caller: Slice,
    /// The allocator's own functions; only needed for `stack_caller` and `stack_depth`.
    pub allocator: Slice,
    /// So many frames are looked at, from the allocator's caller on; 0: all.
    pub stack_depth: u32,
    /// How many of `paths` are used: `--stack` with several functions.
    pub paths_len: u32,
    /// Any of them, or `stack_any`.
    pub paths: [Path; MAX_PATHS],
    /// How many of `signatures` are used; 0: any site.
    pub signatures_len: u32,
    /// Explicit padding.
    pub _pad_signatures: u32,
    /// Sites that match.
    pub signatures: [u64; MAX_SIGNATURES],

    /// So many matches pass first.
    pub skip: u64,
    /// Then so many bytes.
    pub space: u64,
    /// Of what is left, every so-many-th may fail; 0: each.
    pub every: u64,
    /// Of what is left, only these may fail, counted from 1.
    pub nth: [u64; MAX_NTH],
    /// How many of `nth` are used; 0: each may.
    pub nth_len: u32,
    /// [`ON`]: `nth` counts each task's matches by themselves.
    pub nth_per_task: u32,
    /// [`ON`]: the coin is made of `seed`, the site, and how often it was hit.
    pub seed_on: u32,
    /// [`ON`]: `LIVE_INTERVAL` limits the rate.
    pub rate_on: u32,
    /// See `seed_on`.
    pub seed: u64,
    /// How many failures a site may have; 0: no limit.
    pub per_site: u64,
    /// [`ON`]: sites are chosen one by one (a sweep) instead of by a coin, and `LIVE_LEVEL` says where.
    pub sites_on: u32,
    /// [`ON`]: with a target, kernel threads are targets too.
    pub kthreads: u32,
    /// [`ON`]: with a target, calls in softirqs match too, whoever is interrupted. `contexts` has them then.
    pub softirqs: u32,
    /// [`ON`]: a site that was failed once in an attempt is failed for the rest of it.
    pub persistent: u32,
    /// Which part of all sites may be failed: those whose signature modulo `shard_count` is this.
    pub shard_index: u32,
    /// Of how many parts; 0 and 1: all sites.
    pub shard_count: u32,
    /// Where page faults enter: `exc_page_fault()`.
    pub page_fault: AddressRange,
    /// The `--gfp` values: any of them.
    pub gfp: [GfpAlternative; MAX_GFP_ALTERNATIVES],
    /// Whose calls can fail.
    pub target: Target,
}

/// Whose calls a hook's program looks at: there is one for each answer. To ask a constant costs an instruction or two even if the
/// verifier knows it and removes what depends on it, and every allocation of the machine comes that way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// Anyone's, or it is found out later.
    Anyones,
    /// One process', the first of `target.pids`.
    Pid,
    /// Those in one cgroup, the first of `target.cgroups`.
    Cgroup,
    /// Whatever `target` says.
    Target,
}

impl Config {
    /// Whose calls are looked at.
    #[must_use]
    pub fn whose(&self) -> Whose {
        let Self { kthreads, softirqs, target, .. } = self;
        let one_pid = target.pids.iter().all(|pid| *pid == target.pids[0]);
        match (target.kinds, target.cgroups_len) {
            // In what context a call is made is found out later.
            _ if *softirqs == ON => Whose::Anyones,
            (0, ..) => Whose::Anyones,
            _ if *kthreads == ON => Whose::Target,
            (TARGET_FEW_PIDS, _) if one_pid => Whose::Pid,
            (TARGET_CGROUPS, 1) => Whose::Cgroup,
            _ => Whose::Target,
        }
    }
}

/// Index into the live knobs: 1 when armed.
pub const LIVE_ARMED: u32 = 0;
/// Index into the live knobs: failure threshold, `0..=1 << 32` ([`crate::decide::coin`]).
pub const LIVE_THRESHOLD: u32 = 1;
/// Index into the live knobs: CLOCK_MONOTONIC nanoseconds after which nothing fails. The daemon's heartbeat
/// moves it on, so a daemon that hangs stops the failures.
pub const LIVE_DEADLINE: u32 = 2;
/// Index into the live knobs: how many failures there may be in all; `u64::MAX`: no limit.
pub const LIVE_BUDGET: u32 = 3;
/// Index into the live knobs, where sites are chosen: `LEVEL_*`.
pub const LIVE_LEVEL: u32 = 4;
/// Index into the live knobs, where sites are chosen: how many failures a site may have that nothing was said about.
pub const LIVE_ALLOWED: u32 = 5;
/// Index into the live knobs, where sites are chosen: at which hit a site is failed, from 1; within an attempt, or at
/// [`LEVEL_RUN`] since it was armed.
pub const LIVE_HIT: u32 = 6;
/// Index into the live knobs: nanoseconds from one failure to the next, if the rate is limited.
pub const LIVE_INTERVAL: u32 = 7;
/// How many live knobs there are.
pub const LIVE_KNOBS: u32 = 8;

/// Index into the state of the policy: how much of the failure budget is spent.
pub const STATE_SPENT: u32 = 0;
/// Index into the state of the policy: matches, for `Config::skip`.
pub const STATE_MATCHES: u32 = 1;
/// Index into the state of the policy: bytes, for `Config::space`.
pub const STATE_BYTES: u32 = 2;
/// Index into the state of the policy: what came through both, for `Config::every` and `Config::nth`.
pub const STATE_COUNTED: u32 = 3;
/// Index into the state of the policy: CLOCK_MONOTONIC nanoseconds when the next failure is due, if the rate is limited.
pub const STATE_DUE: u32 = 4;
/// How much state there is.
pub const STATES: u32 = 5;

/// Index of the automaton for names of tasks.
pub const GLOB_COMM: u32 = 0;
/// Index of the automaton for names of caches.
pub const GLOB_CACHE: u32 = 1;
/// How many automata there are.
pub const GLOBS: u32 = 2;

/// `Config::kthread_filter`: kernel threads are as other tasks.
pub const KTHREADS_ANY: u32 = 0;
/// `Config::kthread_filter`: only they match.
pub const KTHREADS_ONLY: u32 = 1;
/// `Config::kthread_filter`: they don't match.
pub const KTHREADS_EXCLUDE: u32 = 2;

/// `Config::contexts`: every context.
pub const CONTEXTS_ALL: u32 = 0b1111;

/// `LIVE_LEVEL`: sites are recorded, none is failed.
pub const LEVEL_RECORD: u64 = 0;
/// `LIVE_LEVEL`: sites are failed within attempts.
pub const LEVEL_ATTEMPT: u64 = 1;
/// `LIVE_LEVEL`: sites are failed wherever they are reached.
pub const LEVEL_RUN: u64 = 2;
/// `LIVE_LEVEL`: the workload's tasks within attempts, kernel threads and softirqs wherever they reach a site.
pub const LEVEL_MULTI: u64 = 3;

impl Config {
    /// Everything zero: what the object holds before the user side sets it.
    pub const ZERO: Self = Self {
        abi: 0,
        own_pid: 0,
        init_allowed: 0,
        events: 0,
        gfp_bits: GfpBits { nofail: 0, io: 0, fs: 0, _pad: 0 },
        dry_run: 0,
        outcome: 0,
        follow: 0,
        cpus: 0,
        bpf_loop: OFF,
        _pad: 0,
        preempt_masks: PreemptMasks { hardirq: 0, nmi: 0 },
        hooks: [HookConfig { start: 0, id: 0, error: 0, attach: BY_KPROBE, _pad: 0 }; HOOKS],
        offsets: Offsets {
            task_flags: ABSENT,
            cache_object_size: ABSENT,
            cache_name: ABSENT,
            task_pid: ABSENT,
            task_tgid: ABSENT,
            task_exit_code: ABSENT,
            task_thread_pid: ABSENT,
            pid_level: ABSENT,
            pid_namespace_inum: ABSENT,
            _pad: 0,
        },
        text: AddressRange { start: 0, end: 0 },
        irq_entry: [AddressRange { start: 0, end: 0 }; 2],
        per_cpu_offsets: 0,
        preempt_count: 0,
        modules_len: 0,
        gfp_effective: 0,
        gfp_len: 0,
        order_on: 0,
        order_min: 0,
        order_max: 0,
        size_min: 0,
        size_max: 0,
        size_on: 0,
        cache_on: 0,
        comm_on: 0,
        uids_len: 0,
        uids: [0; MAX_IDS],
        not_pids_len: 0,
        kthread_filter: 0,
        not_pids: [0; MAX_IDS],
        syscalls_on: 0,
        contexts: CONTEXTS_ALL,
        syscalls: [0; MAX_SYSCALLS as usize / 64],
        syscall_entry: AddressRange { start: 0, end: 0 },
        stack_any: Slice { first: 0, len: 0 },
        stack_none: Slice { first: 0, len: 0 },
        stack_caller: Slice { first: 0, len: 0 },
        allocator: Slice { first: 0, len: 0 },
        stack_depth: 0,
        paths_len: 0,
        paths: [Path { functions: [Slice { first: 0, len: 0 }; MAX_PATH_LEN], len: 0, _pad: 0 }; MAX_PATHS],
        signatures_len: 0,
        _pad_signatures: 0,
        signatures: [0; MAX_SIGNATURES],
        skip: 0,
        space: 0,
        every: 0,
        nth: [0; MAX_NTH],
        nth_len: 0,
        nth_per_task: 0,
        seed_on: 0,
        rate_on: 0,
        seed: 0,
        per_site: 0,
        sites_on: 0,
        kthreads: 0,
        softirqs: 0,
        persistent: 0,
        shard_index: 0,
        shard_count: 0,
        page_fault: AddressRange { start: 0, end: 0 },
        gfp: [GfpAlternative {
            test: GfpTest { mask: 0, value: 0 },
            necessary: GfpTest { mask: 0, value: 0 },
            negated_len: 0,
            _pad: 0,
            negated: [GfpTest { mask: 0, value: 0 }; MAX_GFP_NEGATED],
        }; MAX_GFP_ALTERNATIVES],
        target: Target {
            kinds: 0,
            cgroups_len: 0,
            pids: [0; FEW_PIDS],
            cgroups: [Cgroup { id: 0, level: 0, _pad: 0 }; MAX_CGROUPS],
            pid_namespaces_len: 0,
            _pad: 0,
            pid_namespaces: [PidNamespace { inum: 0, level: 0, namespace: ABSENT, _pad: 0 }; MAX_PID_NAMESPACES],
        },
    };
}

const _: () = {
    assert!(size_of::<GfpAlternative>() == 24 + 8 * MAX_GFP_NEGATED);
    assert!(size_of::<Module>() == 24 && size_of::<StackRange>() == 24);
    assert!(size_of::<Cgroup>() == 16 && size_of::<PidNamespace>() == 16);
    assert!(size_of::<Target>() == 8 + 4 * FEW_PIDS + 16 * MAX_CGROUPS + 8 + 16 * MAX_PID_NAMESPACES);
    // Members in order of their alignment within each group, so that nothing is between them: the sum of all is the size.
    // No padding: what stands before `hooks`, between it and `gfp`, and the rest. Who adds a member counts it here.
    assert!(
        size_of::<Config>()
            == 48
                + size_of::<HookConfig>() * HOOKS
                + 832
                + size_of::<GfpAlternative>() * MAX_GFP_ALTERNATIVES
                + size_of::<Target>()
    );
    assert!(size_of::<Path>() == 8 + 8 * MAX_PATH_LEN && MAX_PATH_LEN.is_power_of_two() && MAX_PATHS.is_power_of_two());
    assert!(MAX_MODULES.is_power_of_two() && MAX_STACK_RANGES.is_power_of_two());
};

#[cfg(feature = "user")]
mod pod {
    use super::{Config, Module, StackRange};
    // SAFETY: repr(C), integers only, no padding that is not a field (asserted above), any bit pattern is valid.
    unsafe impl aya::Pod for Config {}
    // SAFETY: as above.
    unsafe impl aya::Pod for StackRange {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Module {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whose(target: Target, change: impl Fn(&mut Config)) -> Whose {
        let mut config = Config { target, ..Config::ZERO };
        change(&mut config);
        config.whose()
    }

    #[test]
    fn one_of_a_kind_is_looked_at_by_itself() {
        let pids = |pids| Target { kinds: TARGET_FEW_PIDS, pids, ..Target::default() };
        let cgroups = |cgroups_len| Target { kinds: TARGET_CGROUPS, cgroups_len, ..Target::default() };
        let both = Target { kinds: TARGET_FEW_PIDS | TARGET_CGROUPS, cgroups_len: 1, ..pids([7; FEW_PIDS]) };
        let many = Target { kinds: TARGET_MANY_PIDS, ..Target::default() };
        let namespace = Target { kinds: TARGET_PID_NAMESPACES, pid_namespaces_len: 1, ..Target::default() };
        let mut two = [7; FEW_PIDS];
        two[1] = 8;
        let plainly = |target| whose(target, |_| ());
        assert_eq!(plainly(Target::default()), Whose::Anyones);
        assert_eq!(plainly(pids([7; FEW_PIDS])), Whose::Pid);
        assert_eq!(plainly(cgroups(1)), Whose::Cgroup);
        for target in [pids(two), cgroups(2), both, many, namespace] {
            assert_eq!(plainly(target), Whose::Target);
        }
    }

    #[test]
    fn whoever_else_is_in_scope_is_not_left_out() {
        let target = Target { kinds: TARGET_CGROUPS, cgroups_len: 1, ..Target::default() };
        assert_eq!(whose(target, |config| config.kthreads = ON), Whose::Target);
        // On top of whom a softirq runs does not matter.
        let softirqs = |config: &mut Config| (config.kthreads, config.softirqs) = (ON, ON);
        assert_eq!(whose(target, softirqs), Whose::Anyones);
    }
}
