//! What is particular to x86-64: the names of functions and symbols, what machine code looks like, and the registers of a task
//! at a system call.

use libc::user_regs_struct;
use nix::{errno::Errno, sys::ptrace, unistd::Pid};

/// Where system calls enter (arch/x86/entry/common.c, 6.1 and 6.12).
pub const SYSCALL_ENTRY: &str = "do_syscall_64";
/// Where page faults enter (arch/x86/mm/fault.c, 6.1 and 6.12).
pub const PAGE_FAULT_ENTRY: &str = "exc_page_fault";
/// The per-CPU symbol that is the preempt count: before 6.2 and from 6.15 on.
pub const PREEMPT_COUNT: &str = "__preempt_count";
/// The per-CPU structure that has a member `preempt_count`: from 6.2 to 6.14.
pub const PREEMPT_COUNT_STRUCT: &str = "pcpu_hot";
/// The prefix of the functions of system calls in stacks.
pub const SYSCALL_PREFIX: &str = "__x64_";

/// The prefixes of the functions of 64-bit system calls. The function of a call without arguments has two names, and the
/// kernel lists the second. (`__ia32_sys_*` and `__ia32_compat_sys_*` are calls of 32-bit programs.)
pub const SYSCALL_FUNCTIONS: [&str; 2] = ["__x64_sys_", "__do_sys_"];
/// System calls whose function has another name (arch/x86/entry/syscalls/syscall_64.tbl, 6.12).
pub const RENAMED_SYSCALLS: [(&str, &str); 6] = [
    ("stat", "newstat"),
    ("fstat", "newfstat"),
    ("lstat", "newlstat"),
    ("sendfile", "sendfile64"),
    ("uname", "newuname"),
    ("umount2", "umount"),
];
/// Functions of system calls that 64-bit programs do not have.
pub const NOT_64_BIT: [&str; 25] = [
    "fadvise64_64",
    "fstatfs64",
    "gethostname",
    "mmap_pgoff",
    "ni_syscall",
    "nice",
    "old_getrlimit",
    "old_readdir",
    "oldumount",
    "olduname",
    "recv",
    "send",
    "sgetmask",
    "signal",
    "sigpending",
    "sigprocmask",
    "sigsuspend",
    "socketcall",
    "ssetmask",
    "statfs64",
    "stime",
    "sync_file_range2",
    "truncate64",
    "ftruncate64",
    "waitpid",
];

/// The longest call instruction, bytes.
pub const LONGEST_CALL: usize = 7;

/// Whether code ends with a call, of a place (`E8`) or through a register or memory (`FF /2`), or within one: when it boots, the
/// kernel writes shorter calls over those of retpolines and of paravirtualization.
#[must_use]
pub fn ends_in_call(code: &[u8]) -> bool {
    let at = |back: usize| code.len().checked_sub(back).and_then(|i| code.get(i)).copied();
    let direct = |back| at(back) == Some(0xe8);
    let indirect = |back| at(back) == Some(0xff) && at(back - 1).is_some_and(|modrm| modrm >> 3 & 7 == 2);
    (2..=5).any(direct) || (2..=LONGEST_CALL).any(indirect)
}

/// The registers of a traced task that has stopped at a system call, or on its way back from one.
///
/// After a system call all registers still hold its arguments but the accumulator, rcx and r11 (arch/x86/entry/entry_64.S, 6.12).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registers(user_regs_struct);

impl Registers {
    /// Those of a stopped task.
    ///
    /// # Errors
    /// It is gone, or not stopped.
    pub fn of(pid: Pid) -> Result<Self, Errno> {
        ptrace::getregs(pid).map(Self)
    }

    /// Gives them to a stopped task.
    ///
    /// # Errors
    /// It is gone, or not stopped.
    pub fn set(self, pid: Pid) -> Result<(), Errno> {
        ptrace::setregs(pid, self.0)
    }

    /// The number of the system call.
    #[must_use]
    pub fn number(self) -> u64 {
        self.0.orig_rax
    }

    /// What the system call returned, after it.
    #[must_use]
    pub fn result(self) -> i64 {
        self.0.rax.cast_signed()
    }

    /// The first two arguments.
    #[must_use]
    pub fn arguments(self) -> [u64; 2] {
        [self.0.rdi, self.0.rsi]
    }

    /// With another result.
    #[must_use]
    pub fn returning(self, result: u64) -> Self {
        Self(user_regs_struct { rax: result, ..self.0 })
    }

    /// With another system call and its arguments, the first five.
    #[must_use]
    pub fn calling(self, number: i64, [a, b, c, d, e]: [u64; 5]) -> Self {
        let orig_rax = number.unsigned_abs();
        Self(user_regs_struct { orig_rax, rdi: a, rsi: b, rdx: c, r10: d, r8: e, ..self.0 })
    }

    /// As the task has them that executes the system call next: it is back at the instruction, with the call's number where the
    /// instruction expects it.
    #[must_use]
    pub fn before_the_call(self) -> Self {
        /// `syscall`, and `int $0x80`, have two bytes.
        const INSTRUCTION: u64 = 2;
        Self(user_regs_struct { rip: self.0.rip - INSTRUCTION, rax: self.0.orig_rax, ..self.0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls() {
        let call: [&[u8]; 8] = [
            &[0x90, 0xe8, 1, 2, 3, 4],
            &[0xff, 0xd0],
            &[0x41, 0xff, 0xd3],
            &[0xff, 0x50, 0x18],
            &[0xff, 0x15, 1, 2, 3, 4],
            &[0xff, 0x94, 0xc8, 1, 2, 3, 4],
            // Where `call *%rax` was written over a call of its thunk, and a direct call over one through pv_ops.
            &[0xe8, 1],
            &[0xff, 0x15, 1, 2, 3],
        ];
        for code in call {
            assert!(ends_in_call(code), "{code:x?}");
        }
        // A jump, a push, one byte, nothing.
        for code in [&[0xe9, 1, 2, 3, 4][..], &[0xff, 0xf0], &[0xff], &[]] {
            assert!(!ends_in_call(code), "{code:x?}");
        }
    }
}
