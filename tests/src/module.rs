//! The test module `injector_test`: its grammar is documented in tests/module/injector_test.c.

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Once;

use crate::place;

/// Its file.
pub const RUN: &str = "/sys/kernel/debug/injector_test/run";

/// Loads the module unless it is loaded; mounts debugfs unless it is mounted.
pub fn load() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| load_file(&place::module().to_string_lossy(), "injector_test", RUN));
}

/// Loads the module `name` from `file`, unless it is loaded; afterwards `made`, in debugfs, exists.
pub(crate) fn load_file(file: &str, name: &str, made: &str) {
    if Path::new(made).exists() {
        return;
    }
    if !Path::new("/sys/kernel/debug/kprobes").exists() {
        mount(c"debugfs", c"/sys/kernel/debug");
    }
    if !Path::new("/sys/module").join(name).exists() {
        let open = File::open(file).unwrap_or_else(|e| panic!("{file}: {e}"));
        let no_parameters = CString::default();
        // SAFETY: the file is open and the parameters are a C string.
        let result = unsafe { libc::syscall(libc::SYS_finit_module, open.as_raw_fd(), no_parameters.as_ptr(), 0) };
        assert_eq!(result, 0, "loading {file}: {}", std::io::Error::last_os_error());
    }
    assert!(Path::new(made).exists(), "the module {name} is loaded and {made} does not exist");
}

/// Takes the module out of the kernel again, for machines that go on after this; no file of it may be open.
pub fn unload() {
    // SAFETY: a C string.
    let result = unsafe { libc::syscall(libc::SYS_delete_module, c"injector_test".as_ptr(), libc::O_NONBLOCK) };
    assert_eq!(result, 0, "removing the module injector_test: {}", std::io::Error::last_os_error());
}

/// Mounts a kernel file system without options.
pub(crate) fn mount(kind: &std::ffi::CStr, on: &std::ffi::CStr) {
    // SAFETY: all pointers are C strings or null.
    let result = unsafe { libc::mount(kind.as_ptr(), on.as_ptr(), kind.as_ptr(), 0, std::ptr::null()) };
    assert_eq!(result, 0, "mounting {kind:?}: {}", std::io::Error::last_os_error());
}

/// What came of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Allocations that were made.
    pub calls: u64,
    /// Those that failed.
    pub failed: u64,
    /// How long it took.
    pub ns: u64,
    /// When the first one failed, CLOCK_MONOTONIC; 0: none.
    pub first_failed_ns: u64,
    /// When the last one failed.
    pub last_failed_ns: u64,
    /// Where the last one was made.
    pub cpu: i64,
    /// In what context: `task`, `softirq` or `hardirq`.
    pub context: String,
    /// Process id of `current` there.
    pub pid: u64,
}

impl Outcome {
    /// Reads the module's answer.
    pub fn parse(text: &str) -> Self {
        let mut outcome = Self::default();
        let text = text.trim_end_matches(['\0', '\n']);
        assert!(!text.starts_with("error="), "the test module says {text}");
        for word in text.split_whitespace() {
            let (key, value) = word.split_once('=').unwrap_or_else(|| panic!("{text:?}"));
            let number = || value.parse().unwrap_or_else(|e| panic!("{word}: {e}"));
            match key {
                "calls" => outcome.calls = number(),
                "failed" => outcome.failed = number(),
                "ns" => outcome.ns = number(),
                "first_failed_ns" => outcome.first_failed_ns = number(),
                "last_failed_ns" => outcome.last_failed_ns = number(),
                "pid" => outcome.pid = number(),
                "cpu" => outcome.cpu = value.parse().unwrap_or_else(|e| panic!("{word}: {e}")),
                "context" => outcome.context = value.to_owned(),
                _ => panic!("unknown key in {text:?}"),
            }
        }
        outcome
    }
}

/// An open request file. Opening allocates, requests and results do not: open before arming.
#[derive(Debug)]
pub struct RunFile(File);

impl RunFile {
    /// Opens it, loads the module when that is still to be done.
    pub fn open() -> Self {
        load();
        let file = OpenOptions::new().read(true).write(true).open(RUN);
        Self(file.unwrap_or_else(|e| panic!("{RUN}: {e}")))
    }

    /// Makes the allocations that `request` describes, from this thread.
    pub fn run(&self, request: &str) -> Outcome {
        let written = self.0.write_at(request.as_bytes(), 0);
        let mut answer = [0; 256];
        let length = self.0.read_at(&mut answer, 0).unwrap_or_else(|e| panic!("reading {RUN}: {e}"));
        let answer = String::from_utf8_lossy(&answer[..length]);
        if let Err(error) = written {
            panic!("request {request:?}: {error}; {answer}");
        }
        Outcome::parse(&answer)
    }

    /// The file, for a process that must not allocate.
    pub(crate) fn fd(&self) -> i32 {
        self.0.as_raw_fd()
    }
}

/// Where a function of the module, or of the kernel, lies.
pub fn address(function: &str) -> u64 {
    load();
    let text = std::fs::read_to_string("/proc/kallsyms").unwrap_or_else(|e| panic!("kallsyms: {e}"));
    let line = text.lines().find(|line| line.split_whitespace().nth(2) == Some(function));
    let line = line.unwrap_or_else(|| panic!("no function {function}"));
    let hex = line.split_whitespace().next().unwrap_or_default();
    u64::from_str_radix(hex, 16).unwrap_or_else(|e| panic!("{line}: {e}"))
}
