//! bpf(2), as far as aya does not do it for us.

pub(crate) mod instructions;

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

use aya::Pod;
use aya_obj::generated::{
    bpf_attr, bpf_cmd, bpf_link_info, bpf_link_type, bpf_map_info, bpf_perf_event_type, bpf_prog_info, bpf_stats_type,
};

use crate::exit::has_exit_code;

// The kernel refuses what was asked of it in the right form.
has_exit_code!(
    aya::EbpfError,
    aya::BtfError,
    aya::maps::MapError,
    aya::programs::ProgramError,
    aya_obj::ParseError,
    aya_obj::relocation::EbpfRelocationError,
    aya_log::Error
    => INTERNAL
);

/// An attribute of which nothing is set.
pub(crate) fn attribute() -> bpf_attr {
    // SAFETY: a union of plain numbers; the kernel takes zeros for what is not said.
    unsafe { std::mem::zeroed() }
}

/// Makes the call.
///
/// # Safety
/// What the attribute points to must be as the command says.
pub(crate) unsafe fn call(command: bpf_cmd, attribute: &mut bpf_attr) -> io::Result<i64> {
    let size = size_of::<bpf_attr>();
    // SAFETY: the attribute is valid for that size; its pointers are the caller's.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command as u32, &raw mut *attribute, size) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Makes a call that returns a file descriptor.
///
/// # Safety
/// As [`call`].
pub(crate) unsafe fn call_for_fd(command: bpf_cmd, attribute: &mut bpf_attr) -> io::Result<OwnedFd> {
    // SAFETY: the caller's; what such a command returns is fresh, and nobody else's.
    unsafe { owned(call(command, attribute)?) }
}

/// What a system call returned: a file descriptor, or -1 and the reason in `errno`.
///
/// # Safety
/// The descriptor is nobody else's.
pub(crate) unsafe fn owned(result: i64) -> io::Result<OwnedFd> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    let fd = i32::try_from(result).map_err(io::Error::other)?;
    // SAFETY: the caller's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// What the kernel knows of an object, of which older kernels know less: the rest is zero.
fn info<T>(fd: BorrowedFd<'_>) -> io::Result<T> {
    // SAFETY: only for the structures of plain numbers below.
    let mut info: T = unsafe { std::mem::zeroed() };
    let mut attribute = attribute();
    attribute.info.bpf_fd = fd.as_raw_fd().unsigned_abs();
    attribute.info.info_len = size_of::<T>() as u32;
    attribute.info.info = (&raw mut info) as u64;
    // SAFETY: `info` is writable for that size.
    unsafe { call(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attribute)? };
    Ok(info)
}

/// What the kernel knows of a program.
pub(crate) fn program_info(fd: BorrowedFd<'_>) -> io::Result<bpf_prog_info> {
    info(fd)
}

/// All entries of a hash map, in no order. One by one each would cost two system calls.
///
/// # Errors
/// The map can't be read, or its keys and values are not of these sizes.
pub(crate) fn entries<K: Pod, V: Pod>(map: BorrowedFd<'_>) -> io::Result<Vec<(K, V)>> {
    /// More than any bucket of a map has.
    const BATCH: usize = 1024;
    const ENOENT: Option<i32> = Some(libc::ENOENT);
    let about: bpf_map_info = info(map)?;
    if (about.key_size as usize, about.value_size as usize) != (size_of::<K>(), size_of::<V>()) {
        return Err(io::Error::other(format!("{} bytes of key and {} of value", about.key_size, about.value_size)));
    }
    let (mut keys, mut values) = (Vec::<K>::with_capacity(BATCH), Vec::<V>::with_capacity(BATCH));
    let mut all = Vec::new();
    let mut position = 0u32;
    let mut begun = false;
    loop {
        let mut attribute = attribute();
        attribute.batch.in_batch = if begun { (&raw const position) as u64 } else { 0 };
        attribute.batch.out_batch = (&raw mut position) as u64;
        attribute.batch.keys = keys.as_mut_ptr() as u64;
        attribute.batch.values = values.as_mut_ptr() as u64;
        attribute.batch.count = BATCH as u32;
        attribute.batch.map_fd = map.as_raw_fd().unsigned_abs();
        // SAFETY: there is room for that many keys and values of the map's sizes, and for a position.
        let result = unsafe { call(bpf_cmd::BPF_MAP_LOOKUP_BATCH, &mut attribute) };
        let is_last = match result {
            Ok(_) => false,
            Err(error) if error.raw_os_error() == ENOENT => true,
            Err(error) => return Err(error),
        };
        // SAFETY: the kernel has written so many of each, and any bytes are valid for what is `Pod`.
        unsafe {
            let count = attribute.batch.count as usize;
            keys.set_len(count);
            values.set_len(count);
        }
        all.extend(keys.drain(..).zip(values.drain(..)));
        if is_last {
            return Ok(all);
        }
        begun = true;
    }
}

/// Has the kernel count how often programs run, [`bpf_prog_info::run_cnt`], for as long as it is kept open.
pub(crate) fn count_runs() -> io::Result<OwnedFd> {
    let mut attribute = attribute();
    attribute.enable_stats.type_ = bpf_stats_type::BPF_STATS_RUN_TIME as u32;
    // SAFETY: nothing is pointed to.
    unsafe { call_for_fd(bpf_cmd::BPF_ENABLE_STATS, &mut attribute) }
}

/// How often a kprobe was hit and its program was not called, since something else was in a kprobe on that CPU. 0 where the
/// kernel does not tell: before 6.7 (`bpf_perf_link_fill_kprobe()`, kernel/bpf/syscall.c).
pub(crate) fn missed_by_kprobe(link: BorrowedFd<'_>) -> u64 {
    let Ok(info) = info::<bpf_link_info>(link) else { return 0 };
    if info.type_ != bpf_link_type::BPF_LINK_TYPE_PERF_EVENT as u32 {
        return 0;
    }
    // SAFETY: numbers, zero where the kernel has written nothing.
    unsafe {
        let event = info.__bindgen_anon_1.perf_event;
        if event.type_ == bpf_perf_event_type::BPF_PERF_EVENT_KPROBE as u32 {
            event.__bindgen_anon_1.kprobe.missed
        } else {
            0
        }
    }
}
