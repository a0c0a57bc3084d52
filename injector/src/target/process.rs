//! A process under test.

use std::{
    fs, io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::TargetError;

/// A process, held by a pidfd: its pid can't come to mean another one unnoticed.
#[derive(Debug)]
pub struct Process {
    pid: u32,
    fd: OwnedFd,
}

impl Process {
    /// Opens a process by the pid of its main thread.
    ///
    /// # Errors
    /// When there is none, or the number is that of another thread.
    pub fn open(pid: u32) -> Result<Self, TargetError> {
        let fd = pidfd_open(pid).map_err(|error| match error.raw_os_error() {
            Some(libc::ESRCH) => TargetError::new(format!("there is no process {pid}; see ps -e")),
            // pidfd_open(2): the thread exists, but does not lead its group (EINVAL up to 6.8, ENOENT later).
            Some(libc::EINVAL | libc::ENOENT) => match thread_group(pid) {
                Some(leader) => TargetError::new(format!("{pid} is a thread of process {leader}; use --pid {leader}")),
                None => TargetError::new(format!("there is no process {pid}; see ps -e")),
            },
            _ => TargetError::new(format!("can't open process {pid}: {error}")),
        })?;
        Ok(Self { pid, fd })
    }

    /// Its pid.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether it has ended.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        // poll(2) finds a pidfd readable when its process has ended.
        let mut fds = [PollFd::new(self.fd.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
    }
}

impl AsFd for Process {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for Process {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

/// The pid of the process that a thread belongs to.
fn thread_group(tid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{tid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("Tgid:"))?.trim().parse().ok()
}

fn pidfd_open(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: takes numbers only.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    let fd = RawFd::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: a fresh descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_told_from_its_process() {
        let (sender, receiver) = std::sync::mpsc::channel();
        let (quit, wait) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            sender.send(nix::unistd::gettid().as_raw()).unwrap();
            let _ = wait.recv();
        });
        let tid = receiver.recv().unwrap();
        let error = Process::open(tid.unsigned_abs()).unwrap_err().to_string();
        let me = std::process::id();
        assert_eq!(error, format!("{tid} is a thread of process {me}; use --pid {me}"));
        drop(quit);
        thread.join().unwrap();
    }

    #[test]
    fn no_such_process() {
        let error = Process::open(i32::MAX as u32).unwrap_err().to_string();
        assert!(error.starts_with("there is no process 2147483647"), "{error}");
        assert_eq!(Process::open(std::process::id()).unwrap().pid(), std::process::id());
    }
}
