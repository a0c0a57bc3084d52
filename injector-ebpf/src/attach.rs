//! The three ways to attach a hook. What comes of a call is decided by [`hook::verdict`] for all of them.
//!
//! - A kprobe on the function's entry, which replaces the call by bpf_override_return(): any value, on any kernel with
//!   CONFIG_BPF_KPROBE_OVERRIDE.
//! - A BPF_MODIFY_RETURN program in a trampoline, which replaces the call by what it returns, unless that is 0: half of a
//!   kprobe's cost. It can be preempted, and no call on its CPU comes to it until it goes on.
//! - A tracepoint of the module injector_hooks, which asks at the entries of functions and replaces the call if the program
//!   says so: on kernels that allow neither of the others.

use aya_ebpf::{EbpfContext as _, helpers::generated, programs::ProbeContext};

use crate::{
    hook,
    types::{Arguments, Context, Prototype},
};

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
pub fn kprobe(ctx: &ProbeContext, prototype: &Prototype) {
    if let Some(error) = hook::verdict(&Context { pointer: ctx.as_ptr() }, ctx, prototype) {
        // SAFETY: a kprobe's registers, at the entry of a function that the kernel lists as injectable.
        unsafe { generated::bpf_override_return(ctx.regs, i64::from(error) as u64) };
    }
}

/// In a trampoline, of a call that is looked at: what the call returns, or 0 if it is to be made.
#[inline(always)]
pub fn fmod_ret(arguments: *mut u64, prototype: &Prototype) -> i64 {
    hook::verdict(&Context { pointer: arguments.cast() }, &Saved(arguments), prototype).map_or(0, i64::from)
}

/// The arguments of the module's tracepoints (module/trace.h).
pub struct AtTracepoint(*const u64);

impl Arguments for AtTracepoint {
    #[inline(always)]
    fn argument(&self, n: usize) -> Option<u64> {
        // SAFETY: the verifier knows how many arguments the tracepoint has, and refuses to read others.
        Some(unsafe { self.0.add(n).read() })
    }
}

/// The verdict, to which the tracepoint's first argument points. It is loaded each time: the verifier does not let such a pointer
/// be kept on the stack.
#[inline(always)]
fn verdict(arguments: *mut u64) -> *mut i32 {
    // SAFETY: each of the tracepoints has this argument.
    unsafe { arguments.read_volatile() as *mut i32 }
}

/// What the module is told where a failed function returns NULL: any error will do.
const NULL: i32 = -12;

/// At a tracepoint of the module, of a call that is looked at, unless another program fails it already.
#[inline(always)]
pub fn module(arguments: *mut u64, prototype: &Prototype) {
    // SAFETY: an int that programs may read and write.
    if unsafe { verdict(arguments).read_volatile() } != 0 {
        return;
    }
    let context = Context { pointer: arguments.cast() };
    if let Some(error) = hook::verdict(&context, &AtTracepoint(arguments), prototype) {
        // SAFETY: as above.
        unsafe { verdict(arguments).write_volatile(if error == 0 { NULL } else { error }) };
    }
}

/// The programs of a hook, by its name and its function's [`Prototype`]. One program for each answer to
/// [`Whose`](injector_common::config::Whose), by each way to attach; the user side knows them by their names.
///
/// Most calls of the machine are somebody else's than a target's: they are not looked at, and not counted. So what comes of a
/// target's is in a function of its own: the kernel saves the registers that a program uses whenever it is called. Without a
/// target each call is looked at, and a function more is what would cost.
macro_rules! programs {
    ($name:expr, $prototype:expr) => {
        const _: () = {
            use $crate::attach::{self, fmod_ret_program, kprobe_program};
            use $crate::task;

            const PROTOTYPE: $crate::types::Prototype = $prototype;

            #[inline(always)]
            fn at_kprobe(regs: *mut aya_ebpf::bindings::pt_regs) {
                attach::kprobe(&aya_ebpf::programs::ProbeContext { regs }, &PROTOTYPE);
            }
            #[inline(never)]
            fn of_target_at_kprobe(regs: *mut aya_ebpf::bindings::pt_regs) {
                at_kprobe(regs);
            }
            kprobe_program!($name, at_kprobe, true);
            kprobe_program!(concat!($name, "_pid"), of_target_at_kprobe, task::is_first_pid());
            kprobe_program!(concat!($name, "_cgroup"), of_target_at_kprobe, task::is_in_cgroup(0));
            kprobe_program!(concat!($name, "_target"), of_target_at_kprobe, task::is_in_scope());

            #[inline(always)]
            fn in_trampoline(arguments: *mut u64) -> i64 {
                attach::fmod_ret(arguments, &PROTOTYPE)
            }
            #[inline(never)]
            fn of_target_in_trampoline(arguments: *mut u64) -> i64 {
                in_trampoline(arguments)
            }
            fmod_ret_program!(concat!($name, "_fmod_ret"), in_trampoline, true);
            fmod_ret_program!(concat!($name, "_pid_fmod_ret"), of_target_in_trampoline, task::is_first_pid());
            fmod_ret_program!(concat!($name, "_cgroup_fmod_ret"), of_target_in_trampoline, task::is_in_cgroup(0));
            fmod_ret_program!(concat!($name, "_target_fmod_ret"), of_target_in_trampoline, task::is_in_scope());
        };
    };
}
pub(crate) use programs;

/// A program for kprobes.
macro_rules! kprobe_program {
    ($name:expr, $run:ident, $is_looked_at:expr) => {
        const _: () = {
            #[unsafe(export_name = $name)]
            #[unsafe(link_section = "kprobe")]
            extern "C" fn program(regs: *mut aya_ebpf::bindings::pt_regs) -> u32 {
                if $is_looked_at {
                    $run(regs);
                }
                0
            }
        };
    };
}
pub(crate) use kprobe_program;

/// A program for trampolines. Its section is one that aya can parse; the user side loads it as what it is.
macro_rules! fmod_ret_program {
    ($name:expr, $run:ident, $is_looked_at:expr) => {
        const _: () = {
            #[unsafe(export_name = $name)]
            #[unsafe(link_section = "fentry/fmod_ret")]
            extern "C" fn program(arguments: *mut u64) -> i64 {
                if $is_looked_at { $run(arguments) } else { 0 }
            }
        };
    };
}
pub(crate) use fmod_ret_program;

/// The programs of a hook for its tracepoint in the module, as [`programs`] makes them for the other ways.
macro_rules! module_programs {
    ($name:expr, $prototype:expr) => {
        const _: () = {
            use $crate::attach::{self, module_program};
            use $crate::task;

            const PROTOTYPE: $crate::types::Prototype = $prototype;

            #[inline(always)]
            fn at_tracepoint(arguments: *mut u64) {
                attach::module(arguments, &PROTOTYPE);
            }
            #[inline(never)]
            fn of_target_at_tracepoint(arguments: *mut u64) {
                at_tracepoint(arguments);
            }
            module_program!(concat!($name, "_module"), at_tracepoint, true);
            module_program!(concat!($name, "_pid_module"), of_target_at_tracepoint, task::is_first_pid());
            module_program!(concat!($name, "_cgroup_module"), of_target_at_tracepoint, task::is_in_cgroup(0));
            module_program!(concat!($name, "_target_module"), of_target_at_tracepoint, task::is_in_scope());
        };
    };
}
pub(crate) use module_programs;

/// A program for writable tracepoints. Its section is one that aya can parse; the user side loads it as what it is.
macro_rules! module_program {
    ($name:expr, $run:ident, $is_looked_at:expr) => {
        const _: () = {
            #[unsafe(export_name = $name)]
            #[unsafe(link_section = "raw_tp/module")]
            extern "C" fn program(arguments: *mut u64) -> i64 {
                if $is_looked_at {
                    $run(arguments);
                }
                0
            }
        };
    };
}
pub(crate) use module_program;
