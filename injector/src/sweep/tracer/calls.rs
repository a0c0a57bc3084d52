//! System calls: their names, and which of them can be retried.

use std::mem::MaybeUninit;

use nix::{errno::Errno, sys::ptrace, unistd::Pid};
use syscalls::Sysno;
use tracing::debug;

use crate::{arch::Registers, sweep::retry_step as step};

/// A system call by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Call(pub u64);

impl Call {
    /// Its name: `openat`.
    #[must_use]
    pub fn name(self) -> String {
        match self.sysno() {
            Some(sysno) => sysno.name().to_owned(),
            None => format!("call {}", self.0),
        }
    }

    fn sysno(self) -> Option<Sysno> {
        Sysno::new(usize::try_from(self.0).ok()?)
    }

    /// Replaces the program: its failures come back as anything, and past the point of no return the task is killed.
    pub(super) fn is_exec(self) -> bool {
        matches!(self.sysno(), Some(Sysno::execve | Sysno::execveat))
    }

    /// Whether it can be retried when it returned an error. The others have done their work all the same.
    pub(super) fn can_be_repeated(self) -> bool {
        !matches!(
            self.sysno(),
            Some(
                Sysno::close
                    | Sysno::close_range
                    | Sysno::rt_sigreturn
                    | Sysno::exit
                    | Sysno::exit_group
                    | Sysno::execve
                    | Sysno::execveat
            )
        )
    }

    /// What a step of a script asks of us, if it is that: of a task that has stopped after it.
    pub(super) fn step(self, pid: Pid) -> Option<u64> {
        if self.sysno() != Some(Sysno::prctl) {
            return None;
        }
        let [magic, asked] = Registers::of(pid).ok()?.arguments();
        (magic == step::MAGIC).then_some(asked)
    }

    /// Waits for another process.
    pub(super) fn waits_for_children(self) -> bool {
        matches!(self.sysno(), Some(Sysno::wait4 | Sysno::waitid))
    }
}

/// Where a task has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Position {
    /// Before a system call.
    Entry(Call),
    /// After one, with what it returned.
    Exit(i64),
    /// Elsewhere.
    None,
}

/// Asks the kernel where a task has stopped (PTRACE_GET_SYSCALL_INFO, since 5.3).
pub(super) fn position(pid: Pid) -> Result<Position, Errno> {
    let mut info = MaybeUninit::<libc::ptrace_syscall_info>::zeroed();
    // SAFETY: the kernel writes at most as many bytes as it is told that there are.
    let result = unsafe {
        libc::ptrace(
            libc::PTRACE_GET_SYSCALL_INFO,
            pid.as_raw(),
            size_of::<libc::ptrace_syscall_info>(),
            info.as_mut_ptr(),
        )
    };
    Errno::result(result)?;
    // SAFETY: all bytes zero is a valid value, and the kernel wrote over it.
    let info = unsafe { info.assume_init() };
    Ok(match info.op {
        libc::PTRACE_SYSCALL_INFO_ENTRY => {
            // SAFETY: `op` says which member of the union it is.
            let entry = unsafe { info.u.entry };
            Position::Entry(Call(entry.nr))
        }
        // SAFETY: as above.
        libc::PTRACE_SYSCALL_INFO_EXIT => Position::Exit(unsafe { info.u.exit.sval }),
        _ => Position::None,
    })
}

/// Who sent the signal before whose delivery a task has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sender {
    /// The kernel itself, as our program has it do.
    Kernel,
    /// Some process.
    Process,
}

/// Asks who sent it. None: the task has not stopped before a signal, but with its whole group.
pub(super) fn sender(pid: Pid) -> Option<Sender> {
    let info = ptrace::getsiginfo(pid).ok()?;
    // Without memory for more, the kernel knows nothing of a signal but its number (collect_signal(), kernel/signal.c, 6.12).
    // SAFETY: that code has a sender.
    let nobody = info.si_code == libc::SI_USER && unsafe { info.si_pid() } == 0;
    Some(if info.si_code == libc::SI_KERNEL || nobody { Sender::Kernel } else { Sender::Process })
}

/// Has a task that has stopped after a system call retry it. `result`: what it returned.
pub(super) fn repeat(pid: Pid, call: Call, result: i64) -> Result<(), Errno> {
    make(pid, after(pid, call, result)?)
}

/// The registers of a task that has stopped after a call. A signal that came late may find it anywhere: then they are none of
/// ours. A helper of BPF has it sent by an irq_work (kernel/trace/bpf_trace.c, 6.12), which is an interrupt of its own where there
/// is a local APIC, waits for the next tick where there is none, and for a thread on PREEMPT_RT.
fn after(pid: Pid, call: Call, result: i64) -> Result<Registers, Errno> {
    let registers = Registers::of(pid)?;
    let is_there = registers.number() == call.0 && registers.result() == result;
    if is_there {
        return Ok(registers);
    }
    let there = Call(registers.number()).name();
    debug!(%pid, "stopped in {there} = {}, not in {} = {result}", registers.result(), call.name());
    Err(Errno::EAGAIN)
}

/// Has a task that is in no system call make one: the registers are those within or after it.
pub(super) fn make(pid: Pid, registers: Registers) -> Result<(), Errno> {
    registers.before_the_call().set(pid)
}

/// Whether a task has stopped when it had left a call that returned `result`: when a signal came late.
pub(super) fn is_past(pid: Pid, call: Call, result: i64) -> bool {
    after(pid, call, result) == Err(Errno::EAGAIN)
}

/// Has the call that a task has stopped after return something else than `result`.
pub(super) fn answer(pid: Pid, call: Call, result: i64, answer: u64) -> Result<(), Errno> {
    after(pid, call, result)?.returning(answer).set(pid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert_eq!(Call(257).name(), "openat");
        assert_eq!(Call(9999).name(), "call 9999");
        assert!(Call(59).is_exec() && !Call(59).can_be_repeated());
        assert!(!Call(3).can_be_repeated(), "close");
        assert!(Call(257).can_be_repeated());
    }
}
