//! The module injector_hooks, loaded and unloaded as tests want it.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::place;

/// The module, as long as it is loaded.
pub const DIRECTORY: &str = "/sys/module/injector_hooks";
const NAME: &std::ffi::CStr = c"injector_hooks";

/// Its file, where guests have it installed.
pub fn file() -> PathBuf {
    place::hooks_module()
}

/// Whether it is loaded.
pub fn is_loaded() -> bool {
    Path::new(DIRECTORY).exists()
}

/// Loads it with these parameters. It must not be loaded.
pub fn load(parameters: &str) {
    let path = file();
    let open = File::open(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let parameters = CString::new(parameters).expect("no NUL");
    // SAFETY: the file is open and the parameters are a C string.
    let result = unsafe { libc::syscall(libc::SYS_finit_module, open.as_raw_fd(), parameters.as_ptr(), 0) };
    assert_eq!(result, 0, "loading {}: {}", path.display(), io::Error::last_os_error());
}

/// Unloads it.
///
/// # Errors
/// It is in use.
pub fn try_unload() -> io::Result<()> {
    // SAFETY: a C string.
    let result = unsafe { libc::syscall(libc::SYS_delete_module, NAME.as_ptr(), libc::O_NONBLOCK) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Unloads it if it is loaded. What was attached goes with its process, the last of it a moment later.
pub fn unload() {
    let start = Instant::now();
    while is_loaded() {
        match try_unload() {
            Ok(()) => return,
            Err(error) => assert!(start.elapsed() < Duration::from_secs(20), "unloading injector_hooks: {error}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A file of the loaded module: `parameters/hooks`.
pub fn text(file: &str) -> String {
    let path = Path::new(DIRECTORY).join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The functions that it hooks for a hook.
pub fn functions(hook: &str) -> Vec<String> {
    let text = text("parameters/hooks");
    let lines = text.lines().filter_map(|line| line.strip_prefix(hook)?.strip_prefix(' '));
    lines.filter_map(|line| Some(line.split(' ').next()?.to_owned())).collect()
}

/// The kernel functions that ftrace calls something for.
pub fn traced() -> Vec<String> {
    let text = std::fs::read_to_string("/sys/kernel/tracing/enabled_functions").expect("tracefs");
    text.lines().filter_map(|line| Some(line.split_whitespace().next()?.to_owned())).collect()
}
