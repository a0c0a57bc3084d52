//! Which eBPF programs and kprobes are in the kernel, by the bpf(2) system call and debugfs.

use std::time::{Duration, Instant};

const PROG_GET_NEXT_ID: i64 = 11;
const PROG_GET_FD_BY_ID: i64 = 13;
const OBJ_GET_INFO_BY_FD: i64 = 15;
/// Offset of `xlated_prog_len` there.
const TRANSLATED: usize = 20;
/// Offset of `name` in `struct bpf_prog_info` (include/uapi/linux/bpf.h).
const NAME: usize = 64;

fn bpf<T>(command: i64, attributes: &mut T) -> i64 {
    // SAFETY: the attributes are integers and, for OBJ_GET_INFO_BY_FD, a pointer to a buffer of the given length.
    unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<T>()) }
}

/// A loaded program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Its id.
    pub id: u32,
    /// Its name.
    pub name: String,
    /// Bytes of its instructions, as the verifier has left them.
    pub translated: u32,
}

/// All loaded programs.
pub fn programs() -> Vec<Program> {
    let mut programs = Vec::new();
    let mut id = 0;
    loop {
        let mut next = [id, 0_u32, 0];
        if bpf(PROG_GET_NEXT_ID, &mut next) != 0 {
            let error = std::io::Error::last_os_error();
            assert_eq!(error.raw_os_error(), Some(libc::ENOENT), "listing programs: {error}");
            return programs;
        }
        id = next[1];
        let mut by_id = [id, 0_u32, 0];
        let fd = bpf(PROG_GET_FD_BY_ID, &mut by_id);
        if fd < 0 {
            // It went away in between.
            continue;
        }
        let mut info = [0_u8; 128];
        let mut query = [fd as u64 | (info.len() as u64) << 32, info.as_mut_ptr() as u64];
        let result = bpf(OBJ_GET_INFO_BY_FD, &mut query);
        let error = std::io::Error::last_os_error();
        // SAFETY: the descriptor is ours and not used again.
        unsafe { libc::close(fd as i32) };
        assert_eq!(result, 0, "information on program {id}: {error}");
        let name = &info[NAME..NAME + 16];
        let length = name.iter().position(|&byte| byte == 0).unwrap_or(name.len());
        let name = String::from_utf8_lossy(&name[..length]).into_owned();
        let translated = u32::from_ne_bytes(info[TRANSLATED..TRANSLATED + 4].try_into().expect("four bytes"));
        programs.push(Program { id, name, translated });
    }
}

const OURS: [&str; 12] = [
    "slab",
    "page",
    "filemap",
    "bio",
    "page_pool",
    "function0",
    "syscall_exit",
    "task_exit",
    "task_fork",
    "task_free",
    "call_begins",
    "call_ends",
];

impl Program {
    /// The injector's program `name`, whosever calls it looks at, attached in whatever way. The kernel keeps 15 bytes of a name.
    pub fn is(&self, name: &str) -> bool {
        let whose = ["", "_pid", "_cgroup", "_target"];
        let names = whose.iter().flat_map(|whose| ["", "_fmod_ret"].map(|attach| format!("{name}{whose}{attach}")));
        names.into_iter().any(|name| self.name == name[..name.len().min(15)])
    }
}

/// What of the injector is in the kernel: its programs by name, and kprobes on its hooks.
pub fn ours() -> Vec<String> {
    let mut found: Vec<_> = programs()
        .into_iter()
        .filter(|program| OURS.iter().any(|name| program.is(name)))
        .map(|program| format!("program {} {}", program.id, program.name))
        .collect();
    let kprobes = std::fs::read_to_string("/sys/kernel/debug/kprobes/list").unwrap_or_default();
    found.extend(kprobes.lines().filter(|line| line.contains("should_fail")).map(str::to_owned));
    found
}

/// Panics unless nothing of the injector is left within `limit`; returns how long it took.
pub fn gone_within(limit: Duration, when: &str) -> Duration {
    let start = Instant::now();
    loop {
        let found = ours();
        if found.is_empty() {
            return start.elapsed();
        }
        assert!(start.elapsed() < limit, "{when}: after {limit:?} still there: {found:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
