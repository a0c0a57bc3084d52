//! The two ways to attach a hook. What comes of a call is decided by [`hook::verdict`] for both.
//!
//! - A kprobe on the function's entry, which replaces the call by bpf_override_return(): any value, on any kernel with
//!   CONFIG_BPF_KPROBE_OVERRIDE.
//! - A BPF_MODIFY_RETURN program in a trampoline, which replaces the call by what it returns, unless that is 0: half of a
//!   kprobe's cost. It can be preempted, and no call on its CPU comes to it until it goes on.

use core::ffi::c_void;

use aya_ebpf::{EbpfContext, helpers::generated, programs::ProbeContext};

use crate::hook::{self, Call};

/// What the kernel hands to a program, as far as both ways to attach have it: helpers take the pointer.
pub struct Context {
    /// A kprobe's registers or an fmod_ret program's arguments.
    pub pointer: *mut c_void,
}

impl EbpfContext for Context {
    fn as_ptr(&self) -> *mut c_void {
        self.pointer
    }
}

/// The arguments of the hooked function.
pub trait Arguments {
    /// Argument `n`, from 0: of a narrower one only the lower bits mean something.
    fn argument(&self, n: usize) -> Option<u64>;
}

impl Arguments for ProbeContext {
    #[inline(always)]
    fn argument(&self, n: usize) -> Option<u64> {
        self.arg(n)
    }
}

/// The arguments as a trampoline saves them (kernel/bpf/trampoline.c).
pub struct Saved(*const u64);

impl Arguments for Saved {
    #[inline(always)]
    fn argument(&self, n: usize) -> Option<u64> {
        // SAFETY: the verifier knows how many arguments the function has, and refuses to read others.
        Some(unsafe { self.0.add(n).read() })
    }
}

/// At a kprobe, of a call that is looked at.
#[inline(always)]
pub fn kprobe(ctx: &ProbeContext, call: impl Fn(&ProbeContext) -> Option<Call>) {
    let Some(call) = call(ctx) else { return };
    if let Some(error) = hook::verdict(&Context { pointer: ctx.as_ptr() }, &call) {
        // SAFETY: a kprobe's registers, at the entry of a function that the kernel lists as injectable.
        unsafe { generated::bpf_override_return(ctx.regs, i64::from(error) as u64) };
    }
}

/// In a trampoline, of a call that is looked at: what the call returns, or 0 if it is to be made.
#[inline(always)]
pub fn fmod_ret(arguments: *mut u64, call: impl Fn(&Saved) -> Option<Call>) -> i64 {
    let Some(call) = call(&Saved(arguments)) else { return 0 };
    hook::verdict(&Context { pointer: arguments.cast() }, &call).map_or(0, i64::from)
}

/// The programs of a hook, by their names, and the function that makes a [`Call`] of the hooked function's [`Arguments`].
///
/// What comes of a target's call is in a function of its own: the kernel saves the registers that a program uses whenever it is
/// called, and most calls are not the target's. Without a target each call is looked at, and a function more is what would cost.
///
/// The section of an fmod_ret program is one that aya can parse; the user side loads it by itself, as what it is.
macro_rules! programs {
    ($kprobe:ident, $fmod_ret:ident, $call:expr) => {
        #[aya_ebpf::macros::kprobe]
        pub fn $kprobe(ctx: aya_ebpf::programs::ProbeContext) -> u32 {
            #[inline(never)]
            fn of_target(regs: *mut aya_ebpf::bindings::pt_regs) {
                $crate::attach::kprobe(&aya_ebpf::programs::ProbeContext { regs }, $call);
            }
            match $crate::hook::is_looked_at() {
                None => $crate::attach::kprobe(&ctx, $call),
                Some(true) => of_target(ctx.regs),
                Some(false) => {}
            }
            0
        }

        #[unsafe(no_mangle)]
        #[unsafe(link_section = "fentry/fmod_ret")]
        pub extern "C" fn $fmod_ret(arguments: *mut u64) -> i64 {
            #[inline(never)]
            fn of_target(arguments: *mut u64) -> i64 {
                $crate::attach::fmod_ret(arguments, $call)
            }
            match $crate::hook::is_looked_at() {
                None => $crate::attach::fmod_ret(arguments, $call),
                Some(true) => of_target(arguments),
                Some(false) => 0,
            }
        }
    };
}
pub(crate) use programs;
