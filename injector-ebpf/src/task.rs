//! Who is it: the current task, and whether it is really the one that allocates.

use aya_ebpf::helpers::{bpf_get_current_pid_tgid, bpf_get_smp_processor_id, generated};
use injector_common::{
    config::{FEW_PIDS, MAX_CGROUPS, ON, TARGET_CGROUPS, TARGET_FEW_PIDS, TARGET_MANY_PIDS},
    decide,
    record::CONTEXT_UNKNOWN,
};

use crate::{
    kernel_memory,
    maps::{PIDS, Scratch, config},
};

/// Flags of the current task (`PF_*`). None when this kernel's BTF doesn't say where they are.
#[inline(always)]
pub fn flags() -> Option<u32> {
    kernel_memory::current_task_member(config!(offsets.task_flags))
}

/// Process id (tgid) of the current task.
#[inline(always)]
pub fn pid() -> u32 {
    (bpf_get_current_pid_tgid() >> 32) as u32
}

/// Whether the current task is one of the targets, of which there are some.
#[inline(always)]
pub fn is_target(kinds: u32) -> bool {
    let pid = if kinds & (TARGET_FEW_PIDS | TARGET_MANY_PIDS) != 0 { pid() } else { 0 };
    if kinds & TARGET_FEW_PIDS != 0 && (0..FEW_PIDS).any(|i| config!(target.pids[i]) == pid) {
        // An unused slot holds 0, the idle task, which allocates nothing but in interrupts.
        return true;
    }
    if kinds & TARGET_MANY_PIDS != 0 {
        // SAFETY: the value is not read; entries are only added before the programs are armed.
        if unsafe { PIDS.get(pid) }.is_some() {
            return true;
        }
    }
    if kinds & TARGET_CGROUPS != 0 {
        for i in 0..MAX_CGROUPS {
            if i as u32 >= config!(target.cgroups_len) {
                break;
            }
            let level = config!(target.cgroups[i].level) as i32;
            // SAFETY: takes a number and returns one.
            let ancestor = unsafe { generated::bpf_get_current_ancestor_cgroup_id(level) };
            if ancestor == config!(target.cgroups[i].id) {
                return true;
            }
        }
    }
    false
}

/// Whether the current task is one of the targets, or one of the kernel's own threads where those are in scope.
#[inline(always)]
pub fn is_in_scope(kinds: u32) -> bool {
    is_target(kinds) || (config!(kthreads) == ON && flags().is_some_and(|flags| flags & decide::PF_KTHREAD != 0))
}

/// In which context the call is made: `CONTEXT_*`. The preempt count's address is looked up once per CPU. A
/// function of its own: inlined three times it would be a third of the program.
#[inline(never)]
pub fn context(scratch: &mut Scratch) -> u32 {
    if scratch.preempt_count == 0 {
        let (table, variable) = (config!(per_cpu_offsets), config!(preempt_count));
        if table == 0 || variable == 0 {
            return CONTEXT_UNKNOWN;
        }
        // SAFETY: returns a number.
        let cpu = unsafe { bpf_get_smp_processor_id() };
        let Some(base) = kernel_memory::read::<u64>(table + u64::from(cpu) * 8) else { return CONTEXT_UNKNOWN };
        scratch.preempt_count = base.wrapping_add(variable);
    }
    match kernel_memory::read::<u32>(scratch.preempt_count) {
        Some(count) => decide::context(count),
        None => CONTEXT_UNKNOWN,
    }
}
