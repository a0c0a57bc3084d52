//! Programs that tests start, with a time limit.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
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
///
/// What it wrote goes through files: a pipe would stay open as long as something that it left behind.
pub fn output(program: &str, arguments: &[&str], limit: Duration) -> Output {
    let mut files = [scratch_file("stdout"), scratch_file("stderr")];
    let [stdout, stderr] = files.each_ref().map(|file| file.try_clone().unwrap_or_else(|e| panic!("dup: {e}")));
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(stdout).stderr(stderr);
    let mut child = command.spawn().unwrap_or_else(|e| panic!("{program}: {e}"));
    let status = wait(&mut child, limit);
    if status.is_none() {
        // Waited for by nobody yet, so it is still ours to kill.
        let _ = child.kill();
        let _ = child.wait();
    }
    let [stdout, stderr] = files.each_mut().map(read_all);
    let Some(status) = status else {
        panic!(
            "{program} {arguments:?} takes longer than {limit:?}\nstdout: {}\nstderr: {}",
            String::from_utf8_lossy(&stdout),
            String::from_utf8_lossy(&stderr)
        );
    };
    Output { status, stdout, stderr }
}

/// A file without a name.
fn scratch_file(name: &str) -> File {
    let path = std::env::temp_dir().join(format!("injector-test-{}-{name}", std::process::id()));
    let file = OpenOptions::new().read(true).append(true).create_new(true).open(&path);
    let file = file.unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    std::fs::remove_file(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    file
}

fn read_all(file: &mut File) -> Vec<u8> {
    let mut bytes = Vec::new();
    let all = file.seek(SeekFrom::Start(0)).and_then(|_| file.read_to_end(&mut bytes));
    all.unwrap_or_else(|e| panic!("reading what a program wrote: {e}"));
    bytes
}
