//! What is particular to x86-64. Where the arguments of a function are in a kprobe's registers, aya knows.

use aya_ebpf::helpers::generated;

/// execve() (arch/x86/entry/syscalls/syscall_64.tbl, 6.12).
pub const EXECVE: u64 = 59;
/// execveat() (as above).
pub const EXECVEAT: u64 = 322;

/// Number of the system call that the current task entered last. Whether it is still in it, the stack shows.
#[inline(always)]
pub fn syscall() -> u32 {
    /// Where the number is: `struct pt_regs` is ABI (arch/x86/include/uapi/asm/ptrace.h, 6.12).
    const ORIG_AX: usize = 15 * 8;
    // SAFETY: the task runs, so its registers are there; the verifier checks the load against the kernel's types.
    unsafe {
        let registers = generated::bpf_task_pt_regs(generated::bpf_get_current_task_btf()) as *const u8;
        core::ptr::read_volatile(registers.add(ORIG_AX).cast::<u64>()) as u32
    }
}
