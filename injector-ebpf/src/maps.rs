//! Every map and global. All maps are preallocated: an allocation inside the hook would recurse into it.

use core::intrinsics::{AtomicOrdering, atomic_cxchg, atomic_xadd};

use aya_ebpf::{
    helpers::bpf_get_smp_processor_id,
    macros::map,
    maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf},
};
use injector_common::{
    attempt::{MAX_ATTEMPTS, Slot},
    automaton::Automaton,
    config::{
        Config, GLOBS, LIVE_KNOBS, MAX_MODULES, MAX_PIDS, MAX_STACK_RANGES, MAX_WALKS, Module, STATES, StackRange,
    },
    counters::Counters,
    hooks::HOOKS,
    record::{MAX_FRAMES, Pending, SiteRecord},
};

use crate::types::Walk;

/// What the user side sets before load. Read it through [`config!`] only: the compiler sees a constant that
/// is zero, the kernel sees the real one.
#[unsafe(no_mangle)]
pub static CONFIG: Config = Config::ZERO;

/// Reads a member of [`CONFIG`]. The section is frozen, so the verifier knows the value and removes what it makes dead.
macro_rules! config {
    ($($member:tt)+) => {
        // SAFETY: a valid, aligned reference to a static.
        unsafe { core::ptr::read_volatile(&raw const $crate::maps::CONFIG.$($member)+) }
    };
}
pub(crate) use config;

/// `BPF_F_MMAPABLE` (include/uapi/linux/bpf.h): the user side maps it into its memory. A system call on a map would keep
/// every kprobe program off its CPU until it is done (bpf_disable_instrumentation(), kernel/bpf/syscall.c, 6.12), and on a
/// preemptible kernel that may be a while.
const MMAPABLE: u32 = 1 << 10;

/// Adds an entry to a map, and leaves one that is there (include/uapi/linux/bpf.h).
pub const BPF_NOEXIST: u64 = 1;

/// The knobs that change while the programs run: `LIVE_*`.
#[map]
pub static LIVE: Array<u64> = Array::with_max_entries(LIVE_KNOBS, MMAPABLE);

/// What the policy counts: `STATE_*`.
#[map]
pub static STATE: Array<u64> = Array::with_max_entries(STATES, MMAPABLE);

/// The attempts of a sweep's tasks, by tid modulo its size. The user side shrinks it to one where there is no sweep.
#[map]
pub static ATTEMPTS: Array<Slot> = Array::with_max_entries(MAX_ATTEMPTS, MMAPABLE);

/// For each CPU, one row per hook. Not a per-CPU map: those can't be mapped into memory. The user side makes it as large as
/// there are CPUs.
#[map]
pub static COUNTERS: Array<[Counters; HOOKS]> = Array::with_max_entries(1, MMAPABLE);

/// Per-CPU memory that is too large for the stack, a row for each hook. A program does not nest in itself on one CPU: the
/// kernel skips one that is hit while it runs there, interrupted or preempted (`prog->active`, kernel/bpf/trampoline.c, 6.12),
/// and a kprobe's while any other's runs (`bpf_prog_active`, kernel/trace/bpf_trace.c). fmod_ret programs of different hooks
/// do nest.
#[map]
pub static SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(HOOKS as u32, 0);

/// See [`SCRATCH`].
#[repr(C)]
pub struct Scratch {
    /// Address of this CPU's preempt count; 0: not looked up yet.
    pub preempt_count: u64,
    /// See [`Scratch::number`].
    number: u64,
    /// See [`Scratch::opaque`].
    opaque: u32,
    /// How many frames of a stack come before the hook's caller where it is attached by fmod_ret; 0: not looked up yet.
    pub skip: u32,
    /// The stack being looked at, ready to become a row of the histogram.
    pub site: SiteRecord,
    /// Room for a system call's first failure, ready to become a row of [`PENDING`].
    pub pending: Pending,
}

impl Scratch {
    /// An argument of the hooked function as a number. In a trampoline's program the verifier knows which are pointers, and
    /// allows no arithmetic on them, which printing is.
    #[inline(always)]
    pub fn number(&mut self, argument: u64) -> u64 {
        // SAFETY: as below.
        unsafe {
            (&raw mut self.number).write_volatile(argument);
            (&raw const self.number).read_volatile()
        }
    }

    /// The same number, of which the verifier knows nothing any more. It follows each path through a loop for as long as
    /// what it knows of a number differs, so a search of 17 steps would be verified 2^17 times.
    #[inline(always)]
    pub fn opaque(&mut self, number: u32) -> u32 {
        // SAFETY: valid and aligned; volatile, so that the compiler does not see through it either.
        unsafe {
            (&raw mut self.opaque).write_volatile(number);
            (&raw const self.opaque).read_volatile()
        }
    }
}

/// How many matches each task has had, where they are counted by task. Else the user side shrinks it.
#[map]
pub static TASKS: LruHashMap<u32, u64> = LruHashMap::with_max_entries(16384, 0);

/// System calls with failures in them, by thread, until they come back. Else, as above.
#[map]
pub static PENDING: LruHashMap<u32, Pending> = LruHashMap::with_max_entries(16384, 0);

/// The automata of filters on names.
#[map]
pub static NAMES: Array<Automaton> = Array::with_max_entries(GLOBS, 0);

/// Per-CPU memory for what a walk of the stack finds. Not on the program's stack: the verifier of 6.1 looks at the function of
/// a loop once, takes what it did to the stack then for all that it ever does, and removes what depends on more (mended
/// in 6.7, "verify callbacks as if they are called unknown number of times"). Of maps it knows nothing. A row for each hook, as
/// in [`SCRATCH`].
#[map]
pub static WALK: PerCpuArray<Walk> = PerCpuArray::with_max_entries(HOOKS as u32, 0);

/// What walks of stacks have found, by a hash of the raw frames that they look at: to look at each frame again costs thousands of
/// instructions, and most allocations come by stacks that were there before. All that a walk finds depends on the frames, and on
/// what does not change while the programs are loaded. Entries are only added, so that one that is read is not given to another
/// stack meanwhile; when it is full, new stacks are walked each time.
#[map]
pub static WALKS: HashMap<u64, Walk> = HashMap::with_max_entries(MAX_WALKS, 0);

/// The target processes, when there are any.
#[map]
pub static PIDS: HashMap<u32, u32> = HashMap::with_max_entries(MAX_PIDS, 0);

/// Loaded modules, sorted by address.
#[map]
pub static MODULES: Array<Module> = Array::with_max_entries(MAX_MODULES, 0);

/// Address ranges of the stack filters, each filter's sorted: `Config` has which are whose. The user side shrinks it to what the run needs.
#[map]
pub static STACK_RANGES: Array<StackRange> = Array::with_max_entries(MAX_STACK_RANGES, 0);

/// The numbers of a stack's frames, to have bpf_for_each_map_elem() count them where there is no bpf_loop(). Nobody looks at the
/// values.
#[map]
pub static FRAME_NUMBERS: Array<u32> = Array::with_max_entries(MAX_FRAMES as u32, 0);

/// The histogram: signature to site.
#[map]
pub static SITES: HashMap<u64, SiteRecord> = HashMap::with_max_entries(16384, 0);

/// A record per failure, as long as there is room.
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(4 << 20, 0);

/// This CPU's counters of a hook.
#[inline(always)]
pub fn counters(hook: u32) -> Option<&'static mut Counters> {
    // SAFETY: returns a number.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    let rows = COUNTERS.get_ptr_mut(cpu)?;
    // SAFETY: this CPU's rows, of which nobody else has this one: a hook's program does not nest in itself.
    unsafe { (&raw mut (*rows)[hook as usize]).as_mut() }
}

/// This CPU's memory for a hook's walk.
#[inline(always)]
pub fn walk(hook: u32) -> Option<&'static mut Walk> {
    let walk = WALK.get_ptr_mut(hook)?;
    // SAFETY: this CPU's row, and a hook's program does not nest in itself.
    Some(unsafe { &mut *walk })
}

/// This CPU's scratch memory of a hook.
#[inline(always)]
pub fn scratch(hook: u32) -> Option<&'static mut Scratch> {
    let scratch = SCRATCH.get_ptr_mut(hook)?;
    // SAFETY: this CPU's row, and a hook's program does not nest in itself.
    Some(unsafe { &mut *scratch })
}

/// Adds to what the policy counts, and returns what was there.
#[inline(always)]
pub fn add(state: u32, summand: i64) -> Option<u64> {
    Some(fetch_add(STATE.get_ptr_mut(state)?, summand))
}

/// Adds atomically and returns what was there. core has no `fetch_add` for the eBPF target, though its instruction
/// set does. SeqCst, since LLVM 22 makes of a relaxed one the instruction that returns nothing.
#[inline(always)]
pub fn fetch_add(value: *mut u64, summand: i64) -> u64 {
    // SAFETY: an aligned u64 of a map; entries live as long as the program, and every writer is atomic.
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::SeqCst }>(value, summand as u64) }
}

/// Replaces what is `old`; false when it is not.
#[inline(always)]
pub fn replace(value: *mut u64, old: u64, new: u64) -> bool {
    // SAFETY: as above.
    unsafe { atomic_cxchg::<u64, { AtomicOrdering::SeqCst }, { AtomicOrdering::SeqCst }>(value, old, new).1 }
}

/// The value of a live knob.
#[inline(always)]
pub fn live(knob: u32) -> Option<u64> {
    let value = LIVE.get_ptr(knob)?;
    // SAFETY: valid and aligned; the user side writes it in one piece, and volatile keeps it one load.
    Some(unsafe { core::ptr::read_volatile(value) })
}
