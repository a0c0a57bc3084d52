//! The system calls of a sweep's tasks: each is an attempt, and so is what the task does until the next one, unless the call is
//! about to be retried. A task stops for its tracer only after a call in which something was failed, or that returned an error:
//! to stop at each call takes longer than the calls.

use aya_ebpf::{
    helpers::{bpf_get_current_pid_tgid, generated::bpf_send_signal_thread},
    macros::raw_tracepoint,
    programs::RawTracePointContext,
};
use injector_common::attempt::{AFTER_CALL, IN_CALL, MAX_ATTEMPTS, NOWHERE, Slot, is_error};

use crate::{
    arch::{EXECVE, EXECVEAT},
    maps::ATTEMPTS,
};

/// A signal that nobody can block or ignore; its tracer keeps it from the task.
const SIGSTOP: u32 = 19;

/// The slot of the current task.
#[inline(always)]
pub fn slot_of_current() -> Option<&'static mut Slot> {
    let tid = bpf_get_current_pid_tgid() as u32;
    let slot = ATTEMPTS.get_ptr_mut(tid & (MAX_ATTEMPTS - 1))?;
    // SAFETY: a valid entry, which nobody else writes to while this task runs, but for its limit.
    let slot = unsafe { &mut *slot };
    (slot.tid == tid).then_some(slot)
}

/// `sys_enter(struct pt_regs *regs, long id)` (include/trace/events/syscalls.h, 6.12).
#[raw_tracepoint(tracepoint = "sys_enter")]
pub fn call_begins(ctx: RawTracePointContext) -> i32 {
    let Some(slot) = slot_of_current() else { return 0 };
    if slot.stopping != 0 {
        // The signal did not come through: what was not looked at yet stays as it is.
        return 0;
    }
    let call = ctx.arg::<u64>(1);
    let repeat = slot.repeat;
    slot.repeat = 0;
    open(slot, IN_CALL, repeat, call);
    if slot.multi == 0 && slot.attempts[AFTER_CALL as usize].failed > 0 {
        // The tracer has not heard of that yet, and could not tell what comes of which.
        slot.attempts[IN_CALL as usize].limit = 0;
    }
    0
}

/// `sys_exit(struct pt_regs *regs, long ret)` (as above).
#[raw_tracepoint(tracepoint = "sys_exit")]
pub fn call_ends(ctx: RawTracePointContext) -> i32 {
    let Some(slot) = slot_of_current() else { return 0 };
    if slot.phase == IN_CALL {
        let result = ctx.arg::<i64>(1);
        slot.result = result;
        let call = slot.attempts[IN_CALL as usize].call;
        let failed = slot.attempts[IN_CALL as usize].failed;
        let untold = slot.attempts[AFTER_CALL as usize].failed;
        // What the task does before it stops (task_work_run() in get_signal(), kernel/signal.c, 6.12) comes after the call, too.
        let again = failed > 0 && is_error(result);
        if again || untold > 0 {
            slot.phase = NOWHERE;
        } else {
            open(slot, AFTER_CALL, 0, call);
        }
        if failed == 0 && untold == 0 && slot.awaited == 0 && !is_error(result) {
            return 0;
        }
        slot.stopping = slot.signals;
    }
    if slot.stopping != 0 {
        // SAFETY: the helper takes a number. When it can't send, the next call's end tries again.
        unsafe { bpf_send_signal_thread(SIGSTOP) };
    }
    0
}

/// Begins the attempt of a phase.
#[inline(always)]
fn open(slot: &mut Slot, phase: u32, repeat: u64, call: u64) {
    let limit = if slot.exec == 0 && (call == EXECVE || call == EXECVEAT) { 0 } else { slot.limit };
    let (tid, multi, number) = (slot.tid, slot.multi, slot.next_number());
    let attempt = &mut slot.attempts[phase as usize];
    attempt.tid = tid;
    attempt.limit = limit;
    attempt.failed = 0;
    attempt.fresh = 0;
    attempt.number = number;
    attempt.repeat = repeat;
    attempt.call = call;
    attempt.hit = 0;
    attempt.multi = multi;
    attempt.repeated = 0;
    slot.phase = phase;
}
