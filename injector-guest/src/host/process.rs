//! The hypervisor's process, with all processes that it starts.

use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// Where a guest's console comes out of the hypervisor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConsoleAt {
    /// Its standard output.
    Stdout,
    /// Its standard error.
    Stderr,
}

/// What the hypervisor writes.
pub struct Outputs {
    /// The guest's console.
    pub console: Box<dyn Read + Send>,
    /// Its own messages.
    pub messages: Box<dyn Read + Send>,
}

/// A process group; dropping it ends it.
pub struct Process {
    leader: Child,
}

impl Process {
    /// Starts it.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(mut command: Command, console: ConsoleAt) -> io::Result<(Self, Outputs)> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // A group of its own: Ctrl-C is for the command in the guest, not for the hypervisor.
        command.process_group(0);
        // SAFETY: prctl is async-signal-safe, and nothing is allocated between fork and exec.
        unsafe {
            // It must not outlive us, however we end.
            command.pre_exec(|| nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).map_err(io::Error::from));
        }
        let mut leader = command.spawn()?;
        let stdout: Box<dyn Read + Send> = or_nothing(leader.stdout.take());
        let stderr: Box<dyn Read + Send> = or_nothing(leader.stderr.take());
        let outputs = match console {
            ConsoleAt::Stdout => Outputs { console: stdout, messages: stderr },
            ConsoleAt::Stderr => Outputs { console: stderr, messages: stdout },
        };
        Ok((Self { leader }, outputs))
    }

    /// Whether the process that was started has ended.
    pub fn ended(&mut self) -> bool {
        !matches!(self.leader.try_wait(), Ok(None))
    }

    /// Ends the whole group.
    pub fn stop(&mut self) {
        // The leader may have ended and left others behind; as long as one is there, the group keeps its number.
        let _ = killpg(Pid::from_raw(self.leader.id() as i32), Signal::SIGKILL);
        let _ = self.leader.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop();
    }
}

fn or_nothing(source: Option<impl Read + Send + 'static>) -> Box<dyn Read + Send> {
    source.map_or_else(|| Box::new(io::empty()) as Box<dyn Read + Send>, |source| Box::new(source))
}
