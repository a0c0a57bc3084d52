//! The command under test, stopped at its first instruction until the hooks are armed.
//!
//! It runs in a cgroup of its own. It is traced up to the end of its execve(), as strace does it: so the exec
//! itself isn't hit, and everything after it is.

use std::{
    ffi::OsString,
    fs::{File, OpenOptions},
    io::{self, Write},
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, RawFd},
        unix::process::CommandExt,
    },
    process,
};

use nix::{
    sys::{
        prctl, ptrace,
        signal::{Signal, kill},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};

use super::{OwnCgroup, Process, TargetError};

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandEnd {
    /// It exited with this status.
    Exited(i32),
    /// It was killed by this signal.
    Killed(Signal),
}

impl CommandEnd {
    /// As a shell gives it: the status, or 128 plus the number of the signal.
    #[must_use]
    pub fn code(self) -> i32 {
        match self {
            Self::Exited(status) => status,
            Self::Killed(signal) => 128 + signal as i32,
        }
    }
}

/// A command that has been started. Dropping it kills it, unless it has ended.
#[derive(Debug)]
pub struct Command {
    pid: Pid,
    process: Process,
    stopped: bool,
    ended: Option<CommandEnd>,
}

impl Command {
    /// Starts a command in `cgroup` and leaves it stopped before its first instruction. Its tracer is the calling
    /// thread, which must be the one that calls [`Command::go`]. With `output`, that gets what it writes, and there is
    /// nothing for it to read.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn start(command: &[OsString], cgroup: &OwnCgroup, output: Option<&File>) -> Result<Self, TargetError> {
        let [program, arguments @ ..] = command else { return Err(TargetError::new("there is no command after --")) };
        let cannot =
            |error: &dyn std::fmt::Display| TargetError::new(format!("can't start {}: {error}", program.display()));
        let procs = OpenOptions::new().write(true).open(cgroup.procs()).map_err(|error| cannot(&error))?;
        let mut builder = process::Command::new(program);
        builder.args(arguments);
        if let Some(output) = output {
            let copy = || output.try_clone().map_err(|error| cannot(&error));
            builder.stdin(process::Stdio::null()).stdout(copy()?).stderr(copy()?);
        }
        // A sweep's workload must not outlive the sweep. A run's command may: it was only watched.
        let dies_with_us = output.is_some();
        let join_and_stop = move || {
            if dies_with_us {
                prctl::set_pdeathsig(Signal::SIGKILL)?;
            }
            (&procs).write_all(b"0")?;
            ptrace::traceme().map_err(io::Error::from)
        };
        // SAFETY: between fork and exec it only makes a few system calls; nothing is allocated or locked.
        unsafe { builder.pre_exec(join_and_stop) };
        let child = builder.spawn().map_err(|error| cannot(&error))?;
        let pid = Pid::from_raw(i32::try_from(child.id()).map_err(|error| cannot(&error))?);
        // spawn() returns when the exec has succeeded; the tracing stop follows at once.
        let process = Process::open(child.id())?;
        let mut started = Self { pid, process, stopped: true, ended: None };
        match waitpid(pid, None) {
            Ok(WaitStatus::Stopped(_, _)) => {
                // Killed now, we must not leave it in its stop, or let it run.
                ptrace::setoptions(pid, ptrace::Options::PTRACE_O_EXITKILL).map_err(|error| cannot(&error))?;
                Ok(started)
            }
            Ok(status) => {
                started.note(status);
                Err(cannot(&format_args!("it ended before its first instruction ({status:?})")))
            }
            Err(error) => Err(cannot(&error)),
        }
    }

    /// Its pid.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid.as_raw()
    }

    /// Lets it run, untraced from here on.
    ///
    /// # Errors
    /// When it is gone already.
    pub fn go(&mut self) -> io::Result<()> {
        ptrace::detach(self.pid, None)?;
        self.stopped = false;
        Ok(())
    }

    /// How it ended, if it has; doesn't wait.
    ///
    /// # Errors
    /// When the kernel doesn't know the process, which can't be.
    pub fn outcome(&mut self) -> io::Result<Option<CommandEnd>> {
        if self.ended.is_none() {
            let status = waitpid(self.pid, Some(WaitPidFlag::WNOHANG))?;
            self.note(status);
        }
        Ok(self.ended)
    }

    /// It can't be killed: nobody waits for its end.
    pub fn give_up(&mut self) {
        self.ended = Some(CommandEnd::Killed(Signal::SIGKILL));
    }

    /// Its tracer has seen it end.
    pub fn has_ended(&mut self, outcome: CommandEnd) {
        self.ended = Some(outcome);
    }

    fn note(&mut self, status: WaitStatus) {
        match status {
            WaitStatus::Exited(_, code) => self.ended = Some(CommandEnd::Exited(code)),
            WaitStatus::Signaled(_, signal, _) => self.ended = Some(CommandEnd::Killed(signal)),
            _ => {}
        }
    }

    /// Sends it a signal; nothing happens if it has ended.
    pub fn signal(&self, signal: Signal) {
        if self.ended.is_none() {
            let _ = kill(self.pid, signal);
        }
    }
}

impl AsFd for Command {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.process.as_fd()
    }
}

impl AsRawFd for Command {
    fn as_raw_fd(&self) -> RawFd {
        self.process.as_raw_fd()
    }
}

impl Drop for Command {
    fn drop(&mut self) {
        if self.ended.is_none() {
            self.signal(Signal::SIGKILL);
            let _ = waitpid(self.pid, None);
        }
    }
}
