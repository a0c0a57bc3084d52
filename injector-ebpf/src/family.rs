//! The children of target processes, and theirs, from fork on.

use aya_ebpf::{macros::raw_tracepoint, programs::RawTracePointContext};
use injector_common::hooks;

use crate::{
    kernel_memory,
    maps::{self, PIDS, config},
    task,
};

/// `sched_process_fork(struct task_struct *parent, struct task_struct *child)` (include/trace/events/sched.h, 6.12): before
/// the child runs. The parent is the current task.
#[raw_tracepoint(tracepoint = "sched_process_fork")]
pub fn task_fork(ctx: RawTracePointContext) -> i32 {
    let parent = task::pid();
    // SAFETY: the value is not read.
    if unsafe { PIDS.get(parent) }.is_none() {
        return 0;
    }
    let Some(child) = kernel_memory::member::<u32>(ctx.arg::<u64>(1), config!(offsets.task_tgid)) else { return 0 };
    if child != parent && PIDS.insert(child, 0, 0).is_err() {
        // The table is full: the child is missed.
        if let Some(counters) = maps::counters(hooks::SLAB) {
            counters.unfollowed += 1;
        }
    }
    0
}

/// `sched_process_free(struct task_struct *p)`: the id of a process that is gone is soon another one's.
#[raw_tracepoint(tracepoint = "sched_process_free")]
pub fn task_free(ctx: RawTracePointContext) -> i32 {
    let task = ctx.arg::<u64>(0);
    let (Some(tid), Some(pid)) = (
        kernel_memory::member::<u32>(task, config!(offsets.task_pid)),
        kernel_memory::member::<u32>(task, config!(offsets.task_tgid)),
    ) else {
        return 0;
    };
    // The first thread is the last to go.
    if tid == pid {
        let _ = PIDS.remove(pid);
    }
    0
}
