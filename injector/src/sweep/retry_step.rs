//! `injector step -- CMD`, inside of a sweep: a command that is repeated as a whole, for what no single system call of it can
//! be repeated in (a file-system context that is marked failed once, a daemon that must be started anew).
//!
//! The command has at most one failure each time it runs, and none of its system calls is retried; it runs again until it
//! has had none. Without a sweep around it, it just runs.

use std::{ffi::OsString, os::unix::process::ExitStatusExt as _, process::Command};

use super::WorkloadError;

/// First argument of prctl(2): no such option exists, so without a tracer it is EINVAL. "inj" and a version.
pub const MAGIC: u64 = 0x696e_6a01;
/// Second argument: what is started from here on is one attempt, until the next such call. Returns how many failures
/// the attempt before had.
pub const BEGIN: u64 = 1;
/// Second argument: the attempt is over. Returns how many failures it had.
pub const END: u64 = 2;

/// Runs the command, again and again inside of a sweep, and gives its last exit status.
///
/// # Errors
/// When it can't be started.
pub fn step(command: &[OsString]) -> Result<i32, WorkloadError> {
    let [program, arguments @ ..] = command else { return Err(WorkloadError("there is no command after --".into())) };
    loop {
        let traced = tell(BEGIN).is_some();
        let status = Command::new(program).args(arguments).status();
        let failures = if traced { tell(END).unwrap_or(0) } else { 0 };
        match status {
            // A failure that the command did not notice is no reason to run it again.
            Ok(status) if failures == 0 || status.success() => {
                return Ok(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)));
            }
            Err(error) if failures == 0 => {
                return Err(WorkloadError(format!("can't start {}: {error}", program.display())));
            }
            _ => {}
        }
    }
}

/// Says something to the tracer of the sweep, and gets its answer; none without one.
fn tell(what: u64) -> Option<u64> {
    // SAFETY: numbers only; the kernel itself knows no such option.
    let answer = unsafe { libc::syscall(libc::SYS_prctl, MAGIC, what, 0, 0, 0) };
    u64::try_from(answer).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_sweep_it_just_runs() {
        assert_eq!(tell(BEGIN), None);
        assert_eq!(step(&["sh".into(), "-c".into(), "exit 7".into()]).unwrap(), 7);
        assert!(step(&["/nonexistent".into()]).unwrap_err().to_string().contains("/nonexistent"));
    }
}
