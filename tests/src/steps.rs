//! A workload that is a program: a row of steps, each of which may fail under injection. It goes on and counts.

use std::io;
use std::os::fd::BorrowedFd;
use std::process::ExitCode;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use nix::unistd::alarm;

/// A program that takes this many seconds is ended by SIGALRM: it waits for something that a failure has swallowed.
const LIMIT: u32 = 120;

/// How long a step waits for what another one has sent.
pub const PATIENCE: Duration = Duration::from_millis(PATIENCE_MS as u64);
const PATIENCE_MS: u16 = 2000;

/// The steps of one run.
#[derive(Debug)]
pub struct Steps {
    name: &'static str,
    attempts: u32,
    count: u32,
    failed: u32,
}

impl Steps {
    /// Runs a workload's program: its steps for the verbs `all` and `run` or none, nothing for `setup` and `cleanup`, so
    /// that it can stand where a script of tests/workloads stands.
    pub fn main(name: &'static str, attempts: u32, steps: impl FnOnce(&mut Self)) -> ExitCode {
        match std::env::args().nth(1).as_deref() {
            None | Some("all" | "run") => {}
            Some("setup" | "cleanup") => return ExitCode::SUCCESS,
            Some(_) => {
                eprintln!("usage: {name} [all|setup|run|cleanup]");
                return ExitCode::from(2);
            }
        }
        alarm::set(LIMIT);
        let mut run = Self::new(name, attempts);
        steps(&mut run);
        println!("{name}: {} steps, {} failed", run.count, run.failed);
        if run.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    fn new(name: &'static str, attempts: u32) -> Self {
        Self { name, attempts, count: 0, failed: 0 }
    }

    /// Does one step. What fails with ENOMEM is tried again as often as the program said: a tracer repeats failed
    /// system calls, but not what fails elsewhere.
    pub fn step<T>(&mut self, what: &str, mut action: impl FnMut() -> io::Result<T>) -> Option<T> {
        self.count += 1;
        let mut result = action();
        for _ in 1..self.attempts {
            match &result {
                Err(error) if error.raw_os_error() == Some(libc::ENOMEM) => result = action(),
                _ => break,
            }
        }
        result
            .inspect_err(|error| {
                self.failed += 1;
                eprintln!("{}: failed: {what}: {error}", self.name);
            })
            .ok()
    }
}

/// An error when something other than expected came back.
pub fn expect<T: PartialEq + std::fmt::Debug>(what: &str, got: T, expected: T) -> io::Result<()> {
    if got == expected {
        return Ok(());
    }
    Err(io::Error::other(format!("{what} is {got:?}, not {expected:?}")))
}

/// Waits until something, urgent data too, can be read or accepted. Then the step's own call doesn't wait, so it is made once.
pub fn wait_readable(fd: BorrowedFd<'_>) -> io::Result<()> {
    let mut fds = [PollFd::new(fd, PollFlags::POLLIN | PollFlags::POLLPRI)];
    match poll(&mut fds, PATIENCE_MS)? {
        0 => Err(io::ErrorKind::TimedOut.into()),
        _ => Ok(()),
    }
}

/// The error of a number as the kernel returns it in a completion or a message: negative.
pub fn kernel_result(value: i32) -> io::Result<u32> {
    u32::try_from(value).map_err(|_| Errno::from_raw(-value).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_counted_and_only_enomem_is_repeated() {
        let mut steps = Steps::new("test", 3);
        let mut calls = 0;
        let mut fails = |errno, times| {
            calls = 0;
            let done = steps.step("a", || {
                calls += 1;
                if calls <= times { Err(io::Error::from_raw_os_error(errno)) } else { Ok(()) }
            });
            (done.is_some(), calls)
        };
        assert_eq!(fails(libc::ENOMEM, 2), (true, 3));
        assert_eq!(fails(libc::ENOMEM, 3), (false, 3));
        assert_eq!(fails(libc::EIO, 1), (false, 1));
        assert_eq!((steps.count, steps.failed), (3, 2));
    }

    #[test]
    fn numbers_of_the_kernel_are_results() {
        assert_eq!(kernel_result(5).unwrap(), 5);
        assert_eq!(kernel_result(-libc::ENOMEM).unwrap_err().raw_os_error(), Some(libc::ENOMEM));
    }
}
