//! The only place that reads kernel memory.

use aya_ebpf::helpers::{bpf_probe_read_kernel, generated};
use injector_common::config::ABSENT;

/// Reads a `T` at an address. None when it can't be read.
#[inline(always)]
pub fn read<T>(address: u64) -> Option<T> {
    // SAFETY: the helper checks the address and copies; a bad one is an error, not a fault.
    unsafe { bpf_probe_read_kernel(address as *const T) }.ok()
}

/// Reads the member that lies `offset` bytes into the structure at `base`.
#[inline(always)]
pub fn member<T>(base: u64, offset: i32) -> Option<T> {
    if base == 0 || offset == ABSENT {
        return None;
    }
    read(base.wrapping_add(offset as u64))
}

/// Copies a NUL-terminated string, cut to `to`.
#[inline(always)]
pub fn string<const N: usize>(address: u64, to: &mut [u8; N]) -> Option<()> {
    // SAFETY: `to` is writable for N bytes; the helper checks the address.
    let length = unsafe { generated::bpf_probe_read_kernel_str(to.as_mut_ptr().cast(), N as u32, address as *const _) };
    (length > 0).then_some(())
}

/// Reads a u32 member of the current task. A plain load, which the verifier checks against the kernel's BTF: one
/// instruction where the reading helper costs some sixty.
#[inline(always)]
pub fn current_task_member(offset: i32) -> Option<u32> {
    if offset == ABSENT {
        return None;
    }
    // SAFETY: the task runs, so the pointer is valid; the verifier refuses an offset that is not a u32 of task_struct.
    Some(unsafe {
        let task = generated::bpf_get_current_task_btf().cast::<u8>();
        core::ptr::read_volatile(task.offset(offset as isize).cast::<u32>())
    })
}
