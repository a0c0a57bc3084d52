//! Programs that tests start, with a time limit.

use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

/// Waits for a child; `None` when it takes longer.
pub fn wait(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait().unwrap_or_else(|e| panic!("waiting for {}: {e}", child.id())) {
            return Some(status);
        }
        if Instant::now() >= deadline {
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Runs a program to its end and returns what it wrote; it is killed, and the test panics, at the limit.
pub fn output(program: &str, arguments: &[&str], limit: Duration) -> Output {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|e| panic!("{program}: {e}"));
    let pid = child.id() as i32;
    let (sender, receiver) = std::sync::mpsc::channel::<()>();
    let guard = std::thread::spawn(move || {
        let late = receiver.recv_timeout(limit) == Err(std::sync::mpsc::RecvTimeoutError::Timeout);
        if late {
            // SAFETY: the child is not waited for before the guard is told.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        }
        late
    });
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let stderr = std::thread::spawn(move || read_all(stderr));
    let stdout = read_all(stdout);
    let stderr = stderr.join().expect("reader");
    drop(sender);
    let late = guard.join().expect("guard");
    let status = child.wait().unwrap_or_else(|e| panic!("waiting for {program}: {e}"));
    assert!(
        !late,
        "{program} {arguments:?} takes longer than {limit:?}\nstdout: {}\nstderr: {}",
        String::from_utf8_lossy(&stdout),
        String::from_utf8_lossy(&stderr)
    );
    Output { status, stdout, stderr }
}

fn read_all(from: Option<impl std::io::Read>) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(mut from) = from {
        // What was read before an error is what there is to show.
        let _ = from.read_to_end(&mut bytes);
    }
    bytes
}
