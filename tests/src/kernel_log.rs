//! The kernel's log: did the kernel complain?

use std::fs::File;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;

/// What a healthy kernel does not say.
const SPLATS: &[&str] = &[
    "BUG:",
    "WARNING:",
    "Oops",
    "general protection fault",
    "kernel BUG at",
    "KASAN",
    "UBSAN",
    "list_add corruption",
    "list_del corruption",
    "Kernel panic",
    "soft lockup",
    "blocked for more than",
    "scheduling while atomic",
    "rcu_preempt detected stalls",
];

/// A position in the log.
#[derive(Debug)]
pub struct KernelLog(File);

impl KernelLog {
    /// From now on.
    pub fn from_now() -> Self {
        let file = std::fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open("/dev/kmsg");
        let file = file.unwrap_or_else(|e| panic!("/dev/kmsg: {e}"));
        // SAFETY: the descriptor is open.
        unsafe { libc::lseek(file.as_raw_fd(), 0, libc::SEEK_END) };
        Self(file)
    }

    /// The lines since then or since the last call.
    pub fn lines(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        let mut record = [0; 8192];
        loop {
            match self.0.read(&mut record) {
                Ok(0) => return lines,
                Ok(length) => {
                    let text = String::from_utf8_lossy(&record[..length]).into_owned();
                    lines.push(text.split_once(';').map_or("", |(_, text)| text).trim_end().to_owned());
                }
                // Overwritten before it was read: the next read goes on with what is there.
                Err(error) if error.raw_os_error() == Some(libc::EPIPE) => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return lines,
                Err(error) => panic!("/dev/kmsg: {error}"),
            }
        }
    }

    /// Panics when the kernel complained, and shows with what.
    pub fn assert_no_splat(&mut self) {
        let lines = self.lines();
        if let Some(at) = lines.iter().position(|line| SPLATS.iter().any(|splat| line.contains(splat))) {
            let end = lines.len().min(at + 40);
            panic!("the kernel complains:\n{}", lines[at..end].join("\n"));
        }
    }
}
