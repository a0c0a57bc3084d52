//! What becomes of the system call in which a failure happened.

use aya_ebpf::{
    EbpfContext as _,
    helpers::{bpf_get_current_pid_tgid, bpf_ktime_get_ns, generated},
    macros::raw_tracepoint,
    programs::RawTracePointContext,
};
use injector_common::{
    decide,
    record::{
        COMM_LEN, CONTEXT_TASK, MAX_PENDING, NO_SYSCALL, OUTCOME_ENOMEM, OUTCOME_ERROR, OUTCOME_MASKED,
        OUTCOME_OUTSIDE, OUTCOME_SIGNAL, OUTCOMES, OutcomeRecord, Pending,
    },
};

use crate::{
    arch, kernel_memory,
    maps::{self, EVENTS, PENDING, SITES, Scratch, config},
    types::Walk,
};

const ENOMEM: i64 = -12;
/// Above all error numbers (include/linux/err.h, 6.12).
const MAX_ERRNO: i64 = 4095;

/// Takes note of a failure, until its system call comes back. What is in none is told at once.
#[inline(always)]
pub fn remember(walk: &Walk, context: u32, task_flags: u32, scratch: &mut Scratch) {
    if context != CONTEXT_TASK || task_flags & decide::PF_KTHREAD != 0 || walk.syscall == 0 {
        tell(&Told { site: walk.signature, count: 1, syscall: NO_SYSCALL, kind: OUTCOME_OUTSIDE, result: 0 });
        return;
    }
    let tid = bpf_get_current_pid_tgid() as u32;
    if PENDING.get_ptr(tid).is_none() {
        scratch.pending.len = 0;
        if PENDING.insert(tid, &scratch.pending, 0).is_err() {
            return;
        }
    }
    let Some(pending) = PENDING.get_ptr_mut(tid) else { return };
    // SAFETY: a valid entry, which only this task writes to.
    let pending = unsafe { &mut *pending };
    pending.syscall = arch::syscall();
    let len = pending.len;
    let mut i = 0;
    while i < MAX_PENDING {
        if i as u32 >= len {
            pending.sites[i] = walk.signature;
            pending.counts[i] = 1;
            pending.len = i as u32 + 1;
            return;
        }
        if pending.sites[i] == walk.signature {
            pending.counts[i] += 1;
            return;
        }
        i += 1;
    }
}

/// `sys_exit(struct pt_regs *regs, long ret)` (include/trace/events/syscalls.h, 6.12).
#[raw_tracepoint(tracepoint = "sys_exit")]
pub fn syscall_exit(ctx: RawTracePointContext) -> i32 {
    let Some(pending) = of_current() else { return 0 };
    let result = ctx.arg::<i64>(1);
    let kind = if result == ENOMEM {
        OUTCOME_ENOMEM
    } else if (-MAX_ERRNO..0).contains(&result) {
        OUTCOME_ERROR
    } else {
        OUTCOME_MASKED
    };
    settle(pending, kind, result);
    0
}

/// `sched_process_exit(struct task_struct *p)` (include/trace/events/sched.h, 6.12): of system calls that never come back.
#[raw_tracepoint(tracepoint = "sched_process_exit")]
pub fn task_exit(_ctx: RawTracePointContext) -> i32 {
    let Some(pending) = of_current() else { return 0 };
    let status = kernel_memory::current_task_member(config!(offsets.task_exit_code)).unwrap_or(0);
    // The lower seven bits are the signal; without one it is exit() itself in which something failed.
    let kind = if status & 0x7f != 0 { OUTCOME_SIGNAL } else { OUTCOME_MASKED };
    settle(pending, kind, i64::from(status));
    let _ = PENDING.remove(bpf_get_current_pid_tgid() as u32);
    0
}

/// What the current task's system call has had of failures, if any.
#[inline(always)]
fn of_current() -> Option<&'static mut Pending> {
    let pending = PENDING.get_ptr_mut(bpf_get_current_pid_tgid() as u32)?;
    // SAFETY: a valid entry, which only this task writes to.
    let pending = unsafe { &mut *pending };
    (pending.len > 0).then_some(pending)
}

#[inline(always)]
fn settle(pending: &mut Pending, kind: u32, result: i64) {
    let len = pending.len;
    pending.len = 0;
    let mut i = 0;
    while i < MAX_PENDING && (i as u32) < len {
        let (site, count) = (pending.sites[i], pending.counts[i]);
        tell(&Told { site, count, syscall: pending.syscall, kind, result });
        i += 1;
    }
}

/// The fields of an outcome record that the caller knows.
struct Told {
    site: u64,
    count: u64,
    syscall: u32,
    kind: u32,
    result: i64,
}

/// Counts it at its site, which is exact, and sends it, if there is room.
#[inline(never)]
fn tell(told: &Told) {
    let kind = told.kind as usize;
    if let Some(site) = SITES.get_ptr_mut(told.site)
        && kind < OUTCOMES
    {
        // SAFETY: a valid entry, in bounds, and only its address is taken.
        maps::fetch_add(unsafe { (&raw mut (*site).outcomes).cast::<u64>().add(kind) }, told.count as i64);
    }
    let Some(mut entry) = EVENTS.reserve::<OutcomeRecord>(0) else { return };
    let ids = bpf_get_current_pid_tgid();
    // SAFETY: each member is written once, in place; the helper is given the size of what it fills.
    unsafe {
        let outcome = entry.as_mut_ptr();
        (*outcome).time = bpf_ktime_get_ns();
        (*outcome).site = told.site;
        (*outcome).count = told.count;
        (*outcome).result = told.result;
        (*outcome).pid = (ids >> 32) as u32;
        (*outcome).tid = ids as u32;
        (*outcome).syscall = told.syscall;
        (*outcome).kind = told.kind;
        generated::bpf_get_current_comm((&raw mut (*outcome).comm).cast(), COMM_LEN as u32);
    }
    entry.submit(0);
}
