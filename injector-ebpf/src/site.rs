//! The stack: taken, looked up, and if it is a new one, filtered and hashed in one pass.

use core::ffi::c_void;

use aya_ebpf::helpers::{bpf_loop, generated};
use injector_common::{
    config::{
        AddressRange, BY_KPROBE, BY_MODULE, MAX_PATH_LEN, MAX_PATHS, MAX_SIGNATURES, MAX_STACK_RANGES, ON, Slice,
    },
    record::MAX_FRAMES,
    site,
};

use crate::{
    maps::{self, BPF_NOEXIST, FRAME_NUMBERS, MODULES, STACK_RANGES, Scratch, WALKS, config},
    types::{CALLER_ACCEPTED, CALLER_OTHER, CALLER_UNSEEN, Context, Walk},
};

/// A kprobe's stack begins with the hooked function, which is left out (`BPF_F_SKIP_FIELD_MASK` of the helper's flags).
const SKIP_HOOK: u32 = 1;

/// An fmod_ret program's stack begins with the program's functions and the trampoline; one at a tracepoint of the module with
/// the program's functions, the module's, and ftrace's: fewer than so many.
const MAX_SKIP: usize = 16;

/// A trampoline that the hooked function calls returns to its first bytes: behind endbr64 and the call. One that it jumps to
/// returns to its caller (CONFIG_DYNAMIC_FTRACE_WITH_JMP, kernel/bpf/trampoline.c, 7.3).
const MAX_FENTRY: u64 = 16;

/// Reads a [`Slice`] of the configuration.
macro_rules! slice {
    ($($member:tt)+) => {
        Slice { first: config!($($member)+.first), len: config!($($member)+.len) }
    };
}

impl Walk {
    /// Whether some filter looks at stacks.
    #[inline(always)]
    pub fn is_wanted() -> bool {
        config!(stack_any.len) != 0
            || config!(stack_none.len) != 0
            || config!(stack_caller.len) != 0
            || config!(paths_len) != 0
            || config!(syscalls_on) == ON
            || config!(signatures_len) != 0
    }

    /// Whether the filters on stacks accept it.
    #[inline(always)]
    pub fn is_accepted(&self) -> bool {
        self.none == 0
            && ((config!(stack_any.len) == 0 && config!(paths_len) == 0) || self.any != 0)
            && (config!(stack_caller.len) == 0 || self.caller == CALLER_ACCEPTED)
            && (config!(syscalls_on) != ON || self.syscall != 0)
            && self.is_named()
    }

    /// Whether its site is one of those that the rule names.
    #[inline(always)]
    fn is_named(&self) -> bool {
        let len = config!(signatures_len);
        len == 0 || (0..MAX_SIGNATURES).any(|i| (i as u32) < len && config!(signatures[i]) == self.signature)
    }
}

/// Walks the kernel stack into `scratch.site` and looks at each frame. None when there is no stack to be had.
#[inline(always)]
pub fn walk(ctx: &Context, hook: u32, id: u32, scratch: &mut Scratch) -> Option<Walk> {
    let mut bytes = stack(ctx, MAX_FRAMES, frames_before_caller(ctx, hook, scratch)?, scratch);
    if is_by_module(hook) && scratch.site.frames[0] != first_by_module(ctx) {
        // Others trace the same function since: ftrace calls the module in another way.
        scratch.skip = 0;
        bytes = stack(ctx, MAX_FRAMES, frames_before_caller(ctx, hook, scratch)?, scratch);
    }
    if bytes <= 0 {
        return None;
    }
    let frames = bytes as u32 >> 3;
    let raw = hash_of_raw(frames, site::start(id), scratch);
    if let Some(known) = WALKS.get_ptr(raw) {
        // SAFETY: a valid entry, which nobody changes.
        let known = unsafe { known.read() };
        scratch.site.hook = hook;
        scratch.site.frames_len = known.len;
        return Some(known);
    }
    let walk = maps::walk(hook)?;
    *walk = Walk { signature: site::start(id), ..Walk::NONE };
    let mut walking = Walking { frames, hook };
    // SAFETY: the functions are each_frame()'s, and their context outlives the loop.
    unsafe { each_frame(frames, walk_frame, walk_frame_of_entry, (&raw mut walking).cast()) };
    scratch.site.hook = hook;
    scratch.site.frames_len = walk.len;
    // No room, or another CPU was faster: both are fine.
    let _ = WALKS.insert(raw, &*walk, BPF_NOEXIST);
    Some(*walk)
}

/// A function that bpf_loop() calls with a number; 1 ends the loop.
type ByNumber = extern "C" fn(u32, *mut c_void) -> i64;
/// A function that bpf_for_each_map_elem() calls with a map, a key, a value; 1 ends the loop.
type ByEntry = extern "C" fn(*mut c_void, *const u32, *mut c_void, *mut c_void) -> i64;

/// Calls a function for each of `len` frames, from the innermost. bpf_loop() is inlined into the program; kernels before 5.17
/// have bpf_for_each_map_elem() only. Which one it is, is a constant to the verifier.
///
/// # Safety
/// Both functions do the same, with this context. `by_entry` ends the loop after `len` frames.
#[inline(always)]
unsafe fn each_frame(len: u32, by_number: ByNumber, by_entry: ByEntry, context: *mut c_void) {
    // SAFETY: the caller's; the map is one.
    unsafe {
        if config!(bpf_loop) == ON {
            bpf_loop(len, by_number as *mut c_void, context, 0);
        } else {
            let numbers = (&raw const FRAME_NUMBERS).cast_mut().cast();
            generated::bpf_for_each_map_elem(numbers, by_entry as *mut c_void, context, 0);
        }
    }
}

/// Where the hash of raw frames is made.
#[repr(C)]
struct Hashing {
    addresses: *const u64,
    hash: u64,
    frames: u32,
}

/// A hash of the raw frames in `scratch.site` that a walk looks at. It stays on the program's stack, where the verifier of 6.1
/// may take a wrong number for it ([`maps::WALK`] says why): it is a key, and nothing branches on it.
#[inline(always)]
fn hash_of_raw(frames: u32, start: u64, scratch: &mut Scratch) -> u64 {
    let mut hashing = Hashing { addresses: scratch.site.frames.as_ptr(), hash: start, frames };
    // SAFETY: the functions are each_frame()'s, and their context outlives the loop.
    unsafe { each_frame(frames, hash_frame, hash_frame_of_entry, (&raw mut hashing).cast()) };
    // SAFETY: as above; volatile, since the compiler does not know that the callback writes it.
    unsafe { (&raw const hashing.hash).read_volatile() }
}

extern "C" fn hash_frame(i: u32, context: *mut c_void) -> i64 {
    mix(i, context.cast())
}

extern "C" fn hash_frame_of_entry(_: *mut c_void, key: *const u32, _: *mut c_void, context: *mut c_void) -> i64 {
    let hashing = context.cast::<Hashing>();
    // SAFETY: the helper's key and the caller's context.
    let (i, frames) = unsafe { (*key, (*hashing).frames) };
    if i < frames { mix(i, hashing) } else { 1 }
}

/// Mixes frame `i` into the hash; 1 where a walk ends.
#[inline(always)]
fn mix(i: u32, hashing: *mut Hashing) -> i64 {
    if i as usize >= MAX_FRAMES {
        return 1;
    }
    // SAFETY: the caller's, and in bounds of the frames.
    let frame = unsafe {
        let frame = *(*hashing).addresses.add(i as usize);
        (*hashing).hash = site::add((*hashing).hash, frame);
        frame
    };
    i64::from(is_entry_of_interrupt(frame.wrapping_sub(1)))
}

/// Whether an interrupt entered here: what is further down the stack is not the caller.
#[inline(always)]
fn is_entry_of_interrupt(call: u64) -> bool {
    let irq = AddressRange { start: config!(irq_entry[0].start), end: config!(irq_entry[0].end) };
    let softirq = AddressRange { start: config!(irq_entry[1].start), end: config!(irq_entry[1].end) };
    contains(&irq, call) || contains(&softirq, call)
}

/// Writes at most `len` frames of the stack to `scratch.site`, without the first `skip`. How many bytes, or an error.
#[inline(always)]
fn stack(ctx: &Context, len: usize, skip: u32, scratch: &mut Scratch) -> i64 {
    let frames = scratch.site.frames.as_mut_ptr();
    let bytes = len.min(MAX_FRAMES) * size_of::<u64>();
    // SAFETY: `frames` is writable for the size given.
    unsafe { generated::bpf_get_stack(ctx.pointer, frames.cast(), bytes as u32, u64::from(skip)) }
}

/// Whether a hook is attached to a tracepoint of the module.
#[inline(always)]
fn is_by_module(hook: u32) -> bool {
    config!(hooks[hook as usize].attach) == BY_MODULE
}

/// The return address at which the stack begins, as the module says: its second argument (module/trace.h).
#[inline(always)]
fn first_by_module(ctx: &Context) -> u64 {
    // SAFETY: only programs at the module's tracepoints come here, which all have it.
    unsafe { ctx.pointer.cast::<u64>().add(1).read_volatile() }
}

/// How many frames come before the hook's caller. Always the same number for a program on one kernel, so that looking once
/// is enough: those that are not the kernel's own code are the program and its trampoline, then comes the hooked function if it
/// calls the trampoline. The module says itself where the stack begins.
#[inline(always)]
fn frames_before_caller(ctx: &Context, hook: u32, scratch: &mut Scratch) -> Option<u32> {
    if config!(hooks[hook as usize].attach) == BY_KPROBE {
        return Some(SKIP_HOOK);
    }
    if is_by_module(hook) {
        if scratch.skip == 0 {
            let (bytes, first) = (stack(ctx, MAX_SKIP, 0, scratch), first_by_module(ctx));
            for i in 0..MAX_SKIP {
                // SAFETY: in bounds, as MAX_SKIP is less than MAX_FRAMES.
                let address = unsafe { *scratch.site.frames.as_ptr().add(i) };
                if scratch.skip == 0 && ((i * size_of::<u64>()) as i64) < bytes && address == first {
                    scratch.skip = i as u32;
                }
            }
        }
        return (scratch.skip != 0).then_some(scratch.skip);
    }
    if scratch.skip == 0 {
        let bytes = stack(ctx, MAX_SKIP, 0, scratch);
        let text = AddressRange { start: config!(text.start), end: config!(text.end) };
        for i in 0..MAX_SKIP {
            // SAFETY: in bounds, as MAX_SKIP is less than MAX_FRAMES.
            let address = unsafe { *scratch.site.frames.as_ptr().add(i) };
            if scratch.skip == 0 && ((i * size_of::<u64>()) as i64) < bytes && contains(&text, address) {
                scratch.skip = i as u32 + 1;
            }
        }
        // Not in the loop, where the verifier would follow both ways from each frame.
        let start = config!(hooks[hook as usize].start);
        let first = scratch.skip.wrapping_sub(1) as usize & (MAX_SKIP - 1);
        // SAFETY: in bounds, as MAX_SKIP is a power of two and less than MAX_FRAMES.
        let address = unsafe { *scratch.site.frames.as_ptr().add(first) };
        if scratch.skip != 0 && start != 0 && address.wrapping_sub(start) > MAX_FENTRY {
            scratch.skip -= 1;
        }
    }
    (scratch.skip != 0).then_some(scratch.skip)
}

/// Whose stack is walked.
#[repr(C)]
struct Walking {
    frames: u32,
    hook: u32,
}

extern "C" fn walk_frame(i: u32, context: *mut c_void) -> i64 {
    // SAFETY: the caller's.
    look_at(i, unsafe { (*context.cast::<Walking>()).hook })
}

extern "C" fn walk_frame_of_entry(_: *mut c_void, key: *const u32, _: *mut c_void, context: *mut c_void) -> i64 {
    // SAFETY: the helper's key and the caller's context.
    let (i, &Walking { frames, hook }) = unsafe { (*key, &*context.cast::<Walking>()) };
    if i < frames { look_at(i, hook) } else { 1 }
}

/// Looks at frame `i` of a hook's stack; 1 where the walk ends.
#[inline(always)]
fn look_at(i: u32, hook: u32) -> i64 {
    let (Some(walk), Some(scratch)) = (maps::walk(hook), maps::scratch(hook)) else { return 1 };
    // A number of its own: 6.1's verifier forgets the bounds of one that the compiler keeps on the stack meanwhile.
    let index = scratch.opaque(i) as usize;
    if index >= MAX_FRAMES {
        return 1;
    }
    // SAFETY: in bounds, as just tested; spelled out so that no panic path is left.
    let address = unsafe { *scratch.site.frames.as_ptr().add(index) };
    // A return address can lie behind a function that ends in a call: the call itself is what counts.
    let call = address.wrapping_sub(1);

    if is_looked_at(walk, scratch, call) {
        // What a filter accepts is read only where it is on: the load of a constant costs instructions.
        // Also when one was found already: each pattern remembers whether it was ever in a stack.
        if config!(stack_any.len) != 0 && in_ranges(scratch, slice!(stack_any), call) {
            walk.any = 1;
        }
        if config!(stack_none.len) != 0 && in_ranges(scratch, slice!(stack_none), call) {
            walk.none = 1;
            return 1;
        }
        follow_paths(walk, scratch, call);
    }
    if config!(syscalls_on) == ON || config!(outcome) == ON {
        let entry = AddressRange { start: config!(syscall_entry.start), end: config!(syscall_entry.end) };
        if contains(&entry, call) {
            walk.syscall = 1;
        }
    }

    let text = AddressRange { start: config!(text.start), end: config!(text.end) };
    walk.signature = if contains(&text, call) {
        site::frame(walk.signature, site::KERNEL_ID, address - text.start)
    } else if let Some((id, offset)) = in_module(scratch, address) {
        site::frame(walk.signature, id, offset)
    } else {
        walk.unknown = 1;
        site::unknown_frame(walk.signature, address)
    };
    walk.len = i + 1;
    if config!(sites_on) == ON {
        let page_fault = AddressRange { start: config!(page_fault.start), end: config!(page_fault.end) };
        if contains(&page_fault, call) {
            walk.page_fault = 1;
        }
    }

    i64::from(is_entry_of_interrupt(call))
}

/// Whether the filters look at a frame at all; the first that is not the allocator's is the caller.
#[inline(always)]
fn is_looked_at(walk: &mut Walk, scratch: &mut Scratch, call: u64) -> bool {
    let depth = config!(stack_depth);
    if config!(stack_caller.len) == 0 && depth == 0 {
        return true;
    }
    if walk.caller == CALLER_UNSEEN {
        if in_ranges(scratch, slice!(allocator), call) {
            return depth == 0;
        }
        let accepted = config!(stack_caller.len) == 0 || in_ranges(scratch, slice!(stack_caller), call);
        walk.caller = if accepted { CALLER_ACCEPTED } else { CALLER_OTHER };
    }
    walk.callers += 1;
    depth == 0 || walk.callers <= depth
}

/// Looks whether a frame is what a path still lacks.
#[inline(always)]
fn follow_paths(walk: &mut Walk, scratch: &mut Scratch, call: u64) {
    for path in 0..MAX_PATHS {
        if path as u32 >= config!(paths_len) {
            return;
        }
        let found = walk.paths[path];
        let len = config!(paths[path].len);
        if found >= len {
            continue;
        }
        let next = found as usize & (MAX_PATH_LEN - 1);
        let ranges = slice!(paths[path].functions[next]);
        if in_ranges(scratch, ranges, call) {
            walk.paths[path] = found + 1;
            if found + 1 == len {
                walk.any = 1;
            }
        }
    }
}

#[inline(always)]
fn contains(range: &AddressRange, address: u64) -> bool {
    address >= range.start && address < range.end
}

/// Whether an address is in one of the ranges of a slice, which then remembers it.
#[inline(always)]
fn in_ranges(scratch: &mut Scratch, slice: Slice, address: u64) -> bool {
    let Slice { first, len } = slice;
    let starts_before = |i| STACK_RANGES.get(first + i).is_some_and(|entry| entry.range.start <= address);
    let found = search(scratch, len, starts_before);
    if found == 0 {
        return false;
    }
    let Some(entry) = STACK_RANGES.get_ptr_mut(first + found - 1) else { return false };
    // SAFETY: a valid entry; whoever sets it sets the same, and volatile, since nobody here reads it.
    unsafe {
        if address >= (*entry).range.end {
            return false;
        }
        (&raw mut (*entry).hit).write_volatile(1);
    }
    true
}

/// The module that an address lies in: its id, and the offset in it.
#[inline(always)]
fn in_module(scratch: &mut Scratch, address: u64) -> Option<(u64, u64)> {
    let found =
        search(scratch, config!(modules_len), |i| MODULES.get(i).is_some_and(|module| module.range.start <= address));
    let module = MODULES.get(found.checked_sub(1)?)?;
    contains(&module.range, address).then(|| (module.id, address - module.range.start))
}

/// How many of `len` sorted entries, of which there is one at least, start at or before what is looked for: a search by
/// halving. `len` is a constant to the verifier, and so is the number of steps.
#[inline(always)]
fn search(scratch: &mut Scratch, len: u32, starts_before: impl Fn(u32) -> bool) -> u32 {
    let mut found = scratch.opaque(0);
    let mut step = MAX_STACK_RANGES;
    while step > 0 {
        if step <= len {
            let candidate = found.wrapping_add(step);
            if candidate <= len && starts_before(candidate - 1) {
                found = candidate;
            }
            found = scratch.opaque(found);
        }
        step >>= 1;
    }
    found
}
