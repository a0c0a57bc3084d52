//! Who is it: the current task, and whether it is really the one that allocates.

use aya_ebpf::helpers::{bpf_get_current_pid_tgid, bpf_get_current_uid_gid, bpf_get_smp_processor_id, generated};
use injector_common::{
    config::{
        FEW_PIDS, GLOB_COMM, KTHREADS_ANY, KTHREADS_ONLY, MAX_CGROUPS, MAX_IDS, MAX_PID_NAMESPACES, ON, TARGET_CGROUPS,
        TARGET_FEW_PIDS, TARGET_MANY_PIDS, TARGET_PID_NAMESPACES,
    },
    decide::{self, PreemptMasks},
    record::{COMM_LEN, CONTEXT_UNKNOWN},
};

use crate::{
    kernel_memory,
    maps::{NAMES, PIDS, Scratch, config},
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
            if is_in_cgroup(i) {
                return true;
            }
        }
    }
    kinds & TARGET_PID_NAMESPACES != 0 && is_in_pid_namespaces().is_some()
}

/// Some if the current task is in one of the target PID namespaces, or in one inside of these. It is known by a number in each
/// namespace that it is in: at the namespace's level stands the namespace itself, or another one.
#[inline(always)]
fn is_in_pid_namespaces() -> Option<()> {
    // SAFETY: returns the address of the task that runs.
    let task = unsafe { generated::bpf_get_current_task() };
    // A task that is about to be gone has none.
    let pid: u64 = kernel_memory::member(task, config!(offsets.task_thread_pid))?;
    let level: u32 = kernel_memory::member(pid, config!(offsets.pid_level))?;
    for i in 0..MAX_PID_NAMESPACES {
        if i as u32 >= config!(target.pid_namespaces_len) {
            break;
        }
        // What stands behind the task's own level is not the task's.
        if level < config!(target.pid_namespaces[i].level) {
            continue;
        }
        let namespace: u64 = kernel_memory::member(pid, config!(target.pid_namespaces[i].namespace))?;
        let inum: u32 = kernel_memory::member(namespace, config!(offsets.pid_namespace_inum))?;
        if inum == config!(target.pid_namespaces[i].inum) {
            return Some(());
        }
    }
    None
}

/// Whether the current task is in the `i`th target cgroup.
#[inline(always)]
pub fn is_in_cgroup(i: usize) -> bool {
    let level = config!(target.cgroups[i].level) as i32;
    // SAFETY: takes a number and returns one.
    let ancestor = unsafe { generated::bpf_get_current_ancestor_cgroup_id(level) };
    ancestor == config!(target.cgroups[i].id)
}

/// Whether the current task belongs to the first of the target processes.
#[inline(always)]
pub fn is_first_pid() -> bool {
    pid() == config!(target.pids[0])
}

/// Whether the current task is one of the targets, or one of the kernel's own threads where those are in scope.
#[inline(always)]
pub fn is_in_scope() -> bool {
    is_target(config!(target.kinds))
        || (config!(kthreads) == ON && flags().is_some_and(|flags| flags & decide::PF_KTHREAD != 0))
}

/// Whether the filters on tasks accept the current one.
#[inline(always)]
pub fn is_accepted(flags: u32) -> bool {
    let filter = config!(kthread_filter);
    // A branch of its own, which the verifier can remove.
    if filter != KTHREADS_ANY && (flags & decide::PF_KTHREAD != 0) != (filter == KTHREADS_ONLY) {
        return false;
    }
    let uids = config!(uids_len);
    if uids != 0 {
        let uid = bpf_get_current_uid_gid() as u32;
        if !(0..MAX_IDS).any(|i| (i as u32) < uids && config!(uids[i]) == uid) {
            return false;
        }
    }
    let not_pids = config!(not_pids_len);
    if not_pids != 0 {
        let pid = pid();
        if (0..MAX_IDS).any(|i| (i as u32) < not_pids && config!(not_pids[i]) == pid) {
            return false;
        }
    }
    if config!(comm_on) == ON {
        let mut comm = [0; COMM_LEN];
        // SAFETY: the helper is given the size of what it fills.
        unsafe { generated::bpf_get_current_comm(comm.as_mut_ptr().cast(), COMM_LEN as u32) };
        return is_name_accepted(GLOB_COMM, &comm);
    }
    true
}

/// Whether an automaton accepts a name.
#[inline(always)]
pub fn is_name_accepted<const N: usize>(which: u32, name: &[u8; N]) -> bool {
    // SAFETY: a valid entry, which nobody writes to while the programs are attached.
    NAMES.get_ptr(which).is_some_and(|automaton| unsafe { (*automaton).accepts(name) })
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
        Some(count) => {
            let masks = PreemptMasks { hardirq: config!(preempt_masks.hardirq), nmi: config!(preempt_masks.nmi) };
            decide::context(count, masks)
        }
        None => CONTEXT_UNKNOWN,
    }
}
