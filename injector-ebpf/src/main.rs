//! The eBPF side of the injector: programs for each hook, one path that all of them take ([`hook`]).
//!
//! Everything here fails open: what can't be read, recorded or proven lets the allocation succeed, and is counted.
#![no_std]
#![no_main]
#![feature(core_intrinsics)]
#![allow(internal_features, reason = "the only way to an atomic add on the eBPF target")]

mod arch;
mod attach;
mod calls;
mod family;
mod hook;
mod hooks;
mod kernel_memory;
mod maps;
mod outcome;
mod policy;
mod record;
mod site;
mod sites;
mod task;
mod types;

/// bpf_override_return() is for GPL-compatible programs only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// Never reached: an infinite loop, so that the verifier refuses a program in which it could be.
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}
