//! The emptiest eBPF program that can sit on a hook: what the injector's cost is compared with.

use std::ffi::{CString, c_void};
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

const PROG_LOAD: i64 = 5;
const PROG_TYPE_KPROBE: u32 = 2;
const PERF_EVENT_IOC_ENABLE: u64 = 0x2400;
const PERF_EVENT_IOC_SET_BPF: u64 = 0x4004_2408;
const PERF_FLAG_FD_CLOEXEC: u64 = 8;

/// Attached as long as it lives.
#[derive(Debug)]
pub struct EmptyProbe {
    _event: OwnedFd,
    _program: OwnedFd,
}

/// The members of `union bpf_attr` that BPF_PROG_LOAD needs (include/uapi/linux/bpf.h).
#[repr(C)]
#[derive(Default)]
struct LoadAttributes {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    rest: [u64; 6],
}

/// `struct perf_event_attr` up to config2 (PERF_ATTR_SIZE_VER1, include/uapi/linux/perf_event.h).
#[repr(C)]
#[derive(Default)]
struct EventAttributes {
    kind: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup_events: u32,
    bp_type: u32,
    kprobe_func: u64,
    probe_offset: u64,
}

impl EmptyProbe {
    /// Puts `r0 = 0; exit` on a kernel function.
    pub fn attach(function: &str) -> Self {
        let instructions: [u64; 2] = [0xb7, 0x95];
        let mut load = LoadAttributes {
            prog_type: PROG_TYPE_KPROBE,
            insn_cnt: instructions.len() as u32,
            insns: instructions.as_ptr() as u64,
            license: c"GPL".as_ptr() as u64,
            ..LoadAttributes::default()
        };
        // SAFETY: the attributes and what they point to live longer than the call.
        let program = owned("loading the empty program", unsafe {
            libc::syscall(libc::SYS_bpf, PROG_LOAD, &raw mut load, size_of::<LoadAttributes>())
        });

        let kind = std::fs::read_to_string("/sys/bus/event_source/devices/kprobe/type").expect("the kprobe PMU");
        let function = CString::new(function).expect("a function's name has no NUL");
        let attributes = EventAttributes {
            kind: kind.trim().parse().expect("a PMU's type is a number"),
            size: size_of::<EventAttributes>() as u32,
            kprobe_func: function.as_ptr() as u64,
            ..EventAttributes::default()
        };
        // SAFETY: as above. Any process, CPU 0, no group: a kprobe fires on all CPUs all the same.
        let event = owned("attaching the empty program", unsafe {
            libc::syscall(libc::SYS_perf_event_open, &raw const attributes, -1, 0, -1, PERF_FLAG_FD_CLOEXEC)
        });
        use std::os::fd::AsRawFd as _;
        for (request, argument) in [(PERF_EVENT_IOC_SET_BPF, program.as_raw_fd()), (PERF_EVENT_IOC_ENABLE, 0)] {
            // SAFETY: both descriptors are open; the requests take a number.
            let result = unsafe { libc::ioctl(event.as_raw_fd(), request, argument as *const c_void) };
            assert_eq!(result, 0, "enabling the empty program: {}", io::Error::last_os_error());
        }
        Self { _event: event, _program: program }
    }
}

fn owned(what: &str, result: i64) -> OwnedFd {
    assert!(result >= 0, "{what}: {}", io::Error::last_os_error());
    // SAFETY: a fresh descriptor that nobody else owns.
    unsafe { OwnedFd::from_raw_fd(result as i32) }
}
