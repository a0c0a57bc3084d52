//! Small eBPF programs of our own: the emptiest that can sit on a hook, in each way to attach, which the injector's cost is
//! compared with, and one that keeps its CPU busy.

use std::ffi::{CString, c_void};
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

const PROG_LOAD: i64 = 5;
const RAW_TRACEPOINT_OPEN: i64 = 17;
const PROG_TYPE_KPROBE: u32 = 2;
const PROG_TYPE_TRACING: u32 = 26;
const PROG_TYPE_RAW_TRACEPOINT_WRITABLE: u32 = 24;
const MODIFY_RETURN: u32 = 26;
const PERF_EVENT_IOC_ENABLE: u64 = 0x2400;
const PERF_EVENT_IOC_SET_BPF: u64 = 0x4004_2408;
const PERF_FLAG_FD_CLOEXEC: u64 = 8;

/// What a program does.
#[derive(Debug, Clone, Copy)]
pub enum SmallProgram {
    /// Nothing.
    Empty,
    /// It compares the process, and no more: less is not to be had with a target.
    Comparing,
    /// It compares the task's cgroup at one level, and no more: less is not to be had with a cgroup.
    ComparingCgroup,
    /// It takes the stack, and no more: less is not to be had with a filter on stacks, or a histogram of them.
    Walking,
    /// It keeps its CPU busy for milliseconds, interrupts allowed.
    Busy,
}

impl SmallProgram {
    const fn instructions(self) -> &'static [u64] {
        match self {
            Self::Empty => &EMPTY,
            Self::Comparing => &COMPARING,
            Self::ComparingCgroup => &COMPARING_CGROUP,
            Self::Walking => &WALKING,
            Self::Busy => &BUSY,
        }
    }
}

/// Attached as long as it lives.
#[derive(Debug)]
pub struct SmallProbe {
    _attached: OwnedFd,
    _program: OwnedFd,
    _hooks: Option<ModuleHooks>,
}

/// A hook of the module injector_hooks, hooked as long as it lives.
#[derive(Debug)]
pub struct ModuleHooks {
    _device: File,
}

impl ModuleHooks {
    /// Has it hooked.
    pub fn of(hook: &str) -> Self {
        let path = "/dev/injector_hooks";
        let mut device = File::options().write(true).open(path).unwrap_or_else(|e| panic!("{path}: {e}"));
        device.write_all(hook.as_bytes()).unwrap_or_else(|e| panic!("hooking {hook}: {e}"));
        Self { _device: device }
    }
}

/// The members of `union bpf_attr` that BPF_PROG_LOAD needs (include/uapi/linux/bpf.h).
#[repr(C)]
#[derive(Default)]
struct LoadAttributes {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log: [u64; 2],
    version_and_flags: u64,
    name: [u64; 2],
    interface: u32,
    expected_attach_type: u32,
    types: [u64; 4],
    line_info_cnt: u32,
    attach_btf_id: u32,
}

/// `r0 = 0; exit`.
const EMPTY: [u64; 2] = [0xb7, 0x95];
/// `r0 = bpf_get_current_pid_tgid() >> 32; if r0 == 1 goto +0; r0 = 0; exit`.
const COMPARING: [u64; 5] = [0x85 | 14 << 32, 0x077 | 32 << 32, 0x15 | 1 << 32, EMPTY[0], EMPTY[1]];
/// `r1 = 1; r0 = bpf_get_current_ancestor_cgroup_id(r1); if r0 == 1 goto +0; r0 = 0; exit`.
const COMPARING_CGROUP: [u64; 5] = [0x1b7 | 1 << 32, 0x85 | 123 << 32, 0x15 | 1 << 32, EMPTY[0], EMPTY[1]];
/// `r4 = 0; r3 = 512; r2 = r10; r2 -= 512; bpf_get_stack(r1, r2, r3, r4); r0 = 0; exit`: 64 frames.
const WALKING: [u64; 7] =
    [0x4b7, 0x3b7 | 512 << 32, 0xa2bf, 0x207 | 0xffff_fe00 << 32, 0x85 | 67 << 32, EMPTY[0], EMPTY[1]];
/// So often `r1` is counted down in the busy program.
const LOOPS: u64 = 200_000;
/// `r1 = LOOPS; r1 -= 1; if r1 != 0 goto -2; r0 = 0; exit`.
const BUSY: [u64; 5] = [0x1b7 | LOOPS << 32, 0x107 | 0xffff_ffff << 32, 0x155 | 0xfffe << 16, EMPTY[0], EMPTY[1]];

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

impl SmallProbe {
    /// Puts a program on a kernel function, by a kprobe.
    pub fn attach(function: &str, program: SmallProgram) -> Self {
        Self::on_kprobe(function, program.instructions())
    }

    /// The same by fmod_ret: `id` is the function's in vmlinux' BTF.
    pub fn attach_fmod_ret(id: u32, program: SmallProgram) -> Self {
        Self::on_trampoline(id, program.instructions())
    }

    /// The same at the tracepoint of the module injector_hooks that asks for this hook, which is hooked meanwhile.
    pub fn attach_module(hook: &str, program: SmallProgram) -> Self {
        let hooks = ModuleHooks::of(hook);
        let of = LoadAttributes::of(program.instructions());
        let program = load(LoadAttributes { prog_type: PROG_TYPE_RAW_TRACEPOINT_WRITABLE, ..of });
        let name = CString::new(format!("injector_{hook}_tp")).expect("a hook's name has no NUL");
        let mut open = [name.as_ptr() as u64, u64::from(program.as_raw_fd().unsigned_abs()), 0];
        // SAFETY: the name outlives the call.
        let attached = owned("attaching a small program", unsafe {
            libc::syscall(libc::SYS_bpf, RAW_TRACEPOINT_OPEN, &raw mut open, size_of_val(&open))
        });
        Self { _attached: attached, _program: program, _hooks: Some(hooks) }
    }

    fn on_trampoline(id: u32, instructions: &[u64]) -> Self {
        let program = load(LoadAttributes {
            prog_type: PROG_TYPE_TRACING,
            expected_attach_type: MODIFY_RETURN,
            attach_btf_id: id,
            ..LoadAttributes::of(instructions)
        });
        let mut open = [0_u64, u64::from(program.as_raw_fd().unsigned_abs()), 0];
        // SAFETY: the attributes are numbers: no name, since the program knows its function.
        let attached = owned("attaching a small program", unsafe {
            libc::syscall(libc::SYS_bpf, RAW_TRACEPOINT_OPEN, &raw mut open, size_of_val(&open))
        });
        Self { _attached: attached, _program: program, _hooks: None }
    }

    fn on_kprobe(function: &str, instructions: &[u64]) -> Self {
        let program = load(LoadAttributes { prog_type: PROG_TYPE_KPROBE, ..LoadAttributes::of(instructions) });
        let kind = std::fs::read_to_string("/sys/bus/event_source/devices/kprobe/type").expect("the kprobe PMU");
        let function = CString::new(function).expect("a function's name has no NUL");
        let attributes = EventAttributes {
            kind: kind.trim().parse().expect("a PMU's type is a number"),
            size: size_of::<EventAttributes>() as u32,
            kprobe_func: function.as_ptr() as u64,
            ..EventAttributes::default()
        };
        // SAFETY: as above. Any process, CPU 0, no group: a kprobe fires on all CPUs all the same.
        let event = owned("attaching a small program", unsafe {
            libc::syscall(libc::SYS_perf_event_open, &raw const attributes, -1, 0, -1, PERF_FLAG_FD_CLOEXEC)
        });
        for (request, argument) in [(PERF_EVENT_IOC_SET_BPF, program.as_raw_fd()), (PERF_EVENT_IOC_ENABLE, 0)] {
            // SAFETY: both descriptors are open; the requests take a number.
            let result = unsafe { libc::ioctl(event.as_raw_fd(), request, argument as *const c_void) };
            assert_eq!(result, 0, "enabling a small program: {}", io::Error::last_os_error());
        }
        Self { _attached: event, _program: program, _hooks: None }
    }
}

impl LoadAttributes {
    fn of(instructions: &[u64]) -> Self {
        let (insn_cnt, insns) = (instructions.len() as u32, instructions.as_ptr() as u64);
        Self { insn_cnt, insns, license: c"GPL".as_ptr() as u64, ..Self::default() }
    }
}

fn load(mut attributes: LoadAttributes) -> OwnedFd {
    // SAFETY: the attributes and what they point to live longer than the call.
    owned("loading a program", unsafe {
        libc::syscall(libc::SYS_bpf, PROG_LOAD, &raw mut attributes, size_of::<LoadAttributes>())
    })
}

fn owned(what: &str, result: i64) -> OwnedFd {
    assert!(result >= 0, "{what}: {}", io::Error::last_os_error());
    // SAFETY: a fresh descriptor that nobody else owns.
    unsafe { OwnedFd::from_raw_fd(result as i32) }
}
