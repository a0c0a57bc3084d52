//! The questions: each is one that a kernel with the feature answers otherwise than one without it.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
};

use aya::{
    maps::MapType,
    programs::ProgramType,
    sys::{BpfHelper, is_helper_supported, is_map_supported, is_program_supported},
};
use aya_obj::generated::{BPF_F_MMAPABLE, bpf_attach_type, bpf_cmd, bpf_map_type, bpf_prog_type};

use super::{Answer, Feature};
use crate::bpf::{
    self,
    instructions::{EXIT, FRAME, R0, R1, compare_exchange, fetch_add, set, store},
};

/// `function`: as in [`super::Features::of`].
pub(super) fn ask(feature: Feature, function: Option<u32>) -> Answer {
    let at_kprobe = |helper| answer(is_helper_supported(ProgramType::KProbe, helper));
    match feature {
        Feature::RingBuffer => answer(is_map_supported(MapType::RingBuf)),
        Feature::MappedArrays => by_errors(mapped_array(), &[libc::EINVAL]),
        Feature::BatchedLookup => by_errors(batched_lookup(), &[libc::EINVAL, ENOTSUPP]),
        Feature::Atomics => by_errors(load(bpf_prog_type::BPF_PROG_TYPE_KPROBE, &ATOMICS, None), &[libc::EINVAL]),
        Feature::KernelMemory => at_kprobe(BpfHelper::BPF_FUNC_probe_read_kernel),
        Feature::Stacks => at_kprobe(BpfHelper::BPF_FUNC_get_stack),
        Feature::Loops => match at_kprobe(BpfHelper::BPF_FUNC_for_each_map_elem) {
            Answer::Present => Answer::Present,
            _ => at_kprobe(BpfHelper::BPF_FUNC_loop),
        },
        Feature::BpfLoop => at_kprobe(BpfHelper::BPF_FUNC_loop),
        Feature::CurrentTask => at_kprobe(BpfHelper::BPF_FUNC_get_current_task_btf),
        Feature::CgroupId => at_kprobe(BpfHelper::BPF_FUNC_get_current_cgroup_id),
        Feature::AncestorCgroupId => at_kprobe(BpfHelper::BPF_FUNC_get_current_ancestor_cgroup_id),
        Feature::UserRegisters => at_kprobe(BpfHelper::BPF_FUNC_task_pt_regs),
        Feature::RawTracepoints => answer(is_program_supported(ProgramType::RawTracePoint)),
        Feature::ThreadSignals => {
            answer(is_helper_supported(ProgramType::RawTracePoint, BpfHelper::BPF_FUNC_send_signal_thread))
        }
        Feature::Override => at_kprobe(BpfHelper::BPF_FUNC_override_return),
        Feature::KprobeLinks => {
            if aya::features().bpf_perf_link() {
                Answer::Present
            } else {
                Answer::Absent
            }
        }
        Feature::ModifyReturn => match function {
            Some(function) => {
                let program = load(bpf_prog_type::BPF_PROG_TYPE_TRACING, &NOTHING, Some(function));
                by_errors(program, &[libc::EINVAL, libc::E2BIG])
            }
            None => Answer::Unknown,
        },
    }
}

/// What the kernel returns for maps without the operation (include/linux/errno.h); user space does not know it.
const ENOTSUPP: i32 = 524;

/// `return 0`
const NOTHING: [u64; 2] = [set(R0, 0), EXIT];

/// `u64 value = 0; atomic_fetch_add(&value, 1); atomic_cmpxchg(&value, 0, 1); return 0`
const ATOMICS: [u64; 9] = [
    set(R0, 0),
    store(FRAME, -8, R0),
    set(R1, 1),
    fetch_add(FRAME, -8, R1),
    set(R1, 1),
    set(R0, 0),
    compare_exchange(FRAME, -8, R1),
    set(R0, 0),
    EXIT,
];

fn answer<E>(supported: Result<bool, E>) -> Answer {
    match supported {
        Ok(true) => Answer::Present,
        Ok(false) => Answer::Absent,
        Err(_) => Answer::Unknown,
    }
}

/// `absent`: the errors of a kernel that does not know what it is asked for.
fn by_errors<T>(result: io::Result<T>, absent: &[i32]) -> Answer {
    match result {
        Ok(_) => Answer::Present,
        Err(error) if error.raw_os_error().is_some_and(|errno| absent.contains(&errno)) => Answer::Absent,
        Err(_) => Answer::Unknown,
    }
}

/// `function`: the one whose return value the program modifies.
fn load(kind: bpf_prog_type, instructions: &[u64], function: Option<u32>) -> io::Result<OwnedFd> {
    let mut attribute = bpf::attribute();
    // SAFETY: all of it is zero, which is valid for each member of the union.
    let of = unsafe { &mut attribute.__bindgen_anon_3 };
    of.prog_type = kind as u32;
    of.insns = instructions.as_ptr() as u64;
    of.insn_cnt = instructions.len() as u32;
    of.license = c"GPL".as_ptr() as u64;
    if let Some(function) = function {
        of.expected_attach_type = bpf_attach_type::BPF_MODIFY_RETURN as u32;
        of.attach_btf_id = function;
    }
    // SAFETY: what is pointed to outlives the call and is as long as is said.
    unsafe { bpf::call_for_fd(bpf_cmd::BPF_PROG_LOAD, &mut attribute) }
}

/// A map of one entry, with keys and values of eight bytes at most.
fn map(kind: bpf_map_type, value_size: u32, flags: u32) -> io::Result<OwnedFd> {
    let mut attribute = bpf::attribute();
    // SAFETY: all of it is zero, which is valid for each member of the union.
    let of = unsafe { &mut attribute.__bindgen_anon_1 };
    of.map_type = kind as u32;
    of.key_size = 4;
    of.value_size = value_size;
    of.max_entries = 1;
    of.map_flags = flags;
    // SAFETY: nothing is pointed to.
    unsafe { bpf::call_for_fd(bpf_cmd::BPF_MAP_CREATE, &mut attribute) }
}

fn mapped_array() -> io::Result<OwnedFd> {
    map(bpf_map_type::BPF_MAP_TYPE_ARRAY, 8, BPF_F_MMAPABLE)
}

/// Of an empty table: the kernel says ENOENT.
fn batched_lookup() -> io::Result<()> {
    let table = map(bpf_map_type::BPF_MAP_TYPE_HASH, 4, 0)?;
    let (mut position, mut key, mut value) = (0_u32, 0_u32, 0_u32);
    let mut attribute = bpf::attribute();
    attribute.batch.out_batch = (&raw mut position) as u64;
    attribute.batch.keys = (&raw mut key) as u64;
    attribute.batch.values = (&raw mut value) as u64;
    attribute.batch.count = 1;
    attribute.batch.map_fd = table.as_fd().as_raw_fd().unsigned_abs();
    // SAFETY: there is room for one key, one value and a position.
    match unsafe { bpf::call(bpf_cmd::BPF_MAP_LOOKUP_BATCH, &mut attribute) } {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        other => other.map(|_| ()),
    }
}
