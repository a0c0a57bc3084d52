//! Which eBPF programs and kprobes are in the kernel, by the bpf(2) system call and debugfs.

use std::{
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    time::{Duration, Instant},
};

use injector_common::ABI_VERSION;

const MAP_LOOKUP_ELEM: i64 = 1;
const PROG_GET_NEXT_ID: i64 = 11;
const PROG_GET_FD_BY_ID: i64 = 13;
const MAP_GET_FD_BY_ID: i64 = 14;
const OBJ_GET_INFO_BY_FD: i64 = 15;
// Offsets in `struct bpf_prog_info` (include/uapi/linux/bpf.h).
const TRANSLATED: usize = 20;
const INSTRUCTIONS: usize = 32;
const MAP_COUNT: usize = 52;
const MAP_IDS: usize = 56;
const NAME: usize = 64;
// Offsets in `struct bpf_map_info`.
const VALUE_SIZE: usize = 12;
const MAP_NAME: usize = 24;

fn bpf<T>(command: i64, attributes: &mut T) -> i64 {
    // SAFETY: the attributes are integers and, for OBJ_GET_INFO_BY_FD, a pointer to a buffer of the given length.
    unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<T>()) }
}

/// Bytes of information that are asked for, of programs and of maps.
const INFO: usize = 128;

/// A program or a map by its id; none where it is gone.
fn by_id(command: i64, id: u32) -> Option<OwnedFd> {
    let fd = i32::try_from(bpf(command, &mut [id, 0, 0])).ok()?;
    // SAFETY: the kernel has just made it, for nobody else.
    (fd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(fd) })
}

/// What the kernel knows of a program or a map. `ask` has where it should write more, if anything.
fn info(fd: &OwnedFd, ask: [u8; INFO]) -> [u8; INFO] {
    let mut info = ask;
    let fd = u64::from(fd.as_raw_fd().unsigned_abs());
    let result = bpf(OBJ_GET_INFO_BY_FD, &mut [fd | (INFO as u64) << 32, info.as_mut_ptr() as u64]);
    assert_eq!(result, 0, "information on {fd}: {}", std::io::Error::last_os_error());
    info
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn name(bytes: &[u8]) -> String {
    let name = &bytes[..16];
    let length = name.iter().position(|&byte| byte == 0).unwrap_or(name.len());
    String::from_utf8_lossy(&name[..length]).into_owned()
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
        // It may go away in between.
        let Some(fd) = by_id(PROG_GET_FD_BY_ID, id) else { continue };
        let info = info(&fd, [0; INFO]);
        programs.push(Program { id, name: name(&info[NAME..]), translated: word(&info, TRANSLATED) });
    }
}

const OURS: [&str; 14] = [
    "slab",
    "page",
    "filemap",
    "bio",
    "page_pool",
    "vmalloc",
    "percpu",
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
        let names =
            whose.iter().flat_map(|whose| ["", "_fmod_ret", "_module"].map(|attach| format!("{name}{whose}{attach}")));
        names.into_iter().any(|name| self.name == name[..name.len().min(15)])
    }
}

/// The offsets in the injector's `Config` that a program reads, as the verifier has left it. `pid`: the injector's.
pub fn config_reads(program: &Program, pid: u32) -> Vec<usize> {
    /// `ld_imm64`, and its source register for the address of a map's value (`BPF_PSEUDO_MAP_VALUE`).
    const LOAD_ADDRESS: u8 = 0x18;
    const MAP_VALUE: u8 = 2;
    /// The class of loads from memory (`BPF_LDX`).
    const LOAD: u8 = 1;
    const CALL: u8 = 0x85;

    let fd = by_id(PROG_GET_FD_BY_ID, program.id).expect("it is loaded");
    let counts = info(&fd, [0; INFO]);
    let mut instructions = vec![[0_u8; 8]; word(&counts, TRANSLATED) as usize / 8];
    let mut maps = vec![0_u32; word(&counts, MAP_COUNT) as usize];
    let mut ask = [0; INFO];
    ask[TRANSLATED..TRANSLATED + 4].copy_from_slice(&counts[TRANSLATED..TRANSLATED + 4]);
    ask[INSTRUCTIONS..INSTRUCTIONS + 8].copy_from_slice(&(instructions.as_mut_ptr() as u64).to_ne_bytes());
    ask[MAP_COUNT..MAP_COUNT + 4].copy_from_slice(&counts[MAP_COUNT..MAP_COUNT + 4]);
    ask[MAP_IDS..MAP_IDS + 8].copy_from_slice(&(maps.as_mut_ptr() as u64).to_ne_bytes());
    info(&fd, ask);

    let (rodata, config) = maps.iter().find_map(|id| Some((*id, config_in(*id, pid)?))).expect("a map with the Config");
    let mut reads = Vec::new();
    for (i, [code, registers, ..]) in instructions.iter().enumerate() {
        if *code != LOAD_ADDRESS || registers >> 4 != MAP_VALUE || word(&instructions[i], 4) != rodata {
            continue;
        }
        let address = word(&instructions[i + 1], 4) as usize;
        let register = registers & 0xf;
        for [code, registers, low, high, ..] in &instructions[i + 2..] {
            let class = code & 7;
            if class == LOAD && registers >> 4 == register {
                let address = address.wrapping_add_signed(isize::from(i16::from_ne_bytes([*low, *high])));
                // What stands before it are texts of the log.
                reads.extend(address.checked_sub(config));
            }
            // Loads, constants and arithmetic write to their first register; calls to those of arguments.
            let writes = matches!(class, 0 | LOAD | 4 | 7) && registers & 0xf == register;
            let is_call = *code == CALL && register <= 5;
            if writes || is_call {
                break;
            }
        }
    }
    reads
}

/// Where the injector's `Config` begins in the value of a map; none where it is in another one.
fn config_in(map: u32, pid: u32) -> Option<usize> {
    let fd = by_id(MAP_GET_FD_BY_ID, map).expect("a program keeps its maps");
    let about = info(&fd, [0; INFO]);
    if name(&about[MAP_NAME..]) != ".rodata" {
        return None;
    }
    let mut value = vec![0_u8; word(&about, VALUE_SIZE) as usize];
    let mut key = 0_u32;
    let fd = u64::from(fd.as_raw_fd().unsigned_abs());
    let mut lookup = [fd, std::ptr::from_mut(&mut key) as u64, value.as_mut_ptr() as u64, 0];
    assert_eq!(bpf(MAP_LOOKUP_ELEM, &mut lookup), 0, "map {map}: {}", std::io::Error::last_os_error());
    let begins = |at: &usize| word(&value, *at) == ABI_VERSION && word(&value, at + 4) == pid;
    (0..value.len() - 8).step_by(8).find(begins)
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
