//! The injector as users start it: its command line, its exit code, what it writes.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::AsRawFd;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::report::Report;
use crate::{bpf, place, shell};

/// Where the guest has it.
pub const INJECTOR: &str = "/usr/bin/injector";
const ARMED: &str = "injector: armed";
/// Loading and attaching, emulated and on a machine that is busy.
/// A stock kernel in an emulated guest takes five seconds, and several times that on a machine with other work.
const START_LIMIT: Duration = Duration::from_secs(180);
const STOP_LIMIT: Duration = Duration::from_secs(180);

/// A run that is armed.
#[derive(Debug)]
pub struct Injector {
    child: Child,
    arguments: Vec<String>,
    output: PathBuf,
    stderr: Stderr,
    /// From its start until it was armed.
    pub armed_after: Duration,
}

/// What it writes to stderr, read without ever waiting for its end.
#[derive(Debug)]
struct Stderr {
    pipe: std::process::ChildStderr,
    text: Vec<u8>,
}

impl Stderr {
    fn read(&mut self) {
        let mut buffer = [0; 4096];
        loop {
            match self.pipe.read(&mut buffer) {
                Ok(0) => return,
                Ok(length) => self.text.extend_from_slice(&buffer[..length]),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
                Err(error) => panic!("the injector's stderr: {error}"),
            }
        }
    }

    fn text(&mut self) -> String {
        self.read();
        String::from_utf8_lossy(&self.text).into_owned()
    }
}

/// How a run ended.
#[derive(Debug)]
pub struct Finished {
    /// Exit status.
    pub status: ExitStatus,
    /// Diagnostics.
    pub stderr: String,
    /// What it wrote to its output file.
    pub report: Report,
}

impl Injector {
    /// Starts it with `--format json` into a file and these arguments, and returns when it says that it is armed.
    pub fn start(arguments: &[&str]) -> Self {
        let mut injector = Self::spawn(arguments);
        let start = Instant::now();
        loop {
            let text = injector.stderr.text();
            if text.lines().any(|line| line.starts_with(ARMED)) {
                break;
            }
            if let Some(status) = injector.child.try_wait().unwrap_or_else(|e| panic!("waiting: {e}")) {
                panic!("injector {arguments:?} ended before it was armed: {status}\n{}", injector.stderr.text());
            }
            assert!(start.elapsed() < START_LIMIT, "injector {arguments:?} is not armed after {START_LIMIT:?}\n{text}");
            std::thread::sleep(Duration::from_millis(2));
        }
        injector.armed_after = start.elapsed();
        injector
    }

    /// Starts it and does not wait for anything.
    pub fn spawn(arguments: &[&str]) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        crate::module::load();
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let output = std::env::temp_dir().join(format!("injector-{}-{number}.json", std::process::id()));
        let program = place::injector();
        let child = Command::new(&program)
            .args(["--format", "json", "--output"])
            .arg(&output)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = child.unwrap_or_else(|e| panic!("{}: {e}", program.display()));
        let pipe = child.stderr.take().expect("asked for");
        // SAFETY: the descriptor is open.
        unsafe { libc::fcntl(pipe.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) };
        Self {
            child,
            arguments: arguments.iter().map(|&argument| argument.to_owned()).collect(),
            output,
            stderr: Stderr { pipe, text: Vec::new() },
            armed_after: Duration::ZERO,
        }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has said on standard error so far.
    pub fn said(&mut self) -> String {
        self.stderr.text()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: i32) {
        // SAFETY: our own child, not waited for: every way that waits consumes self.
        let result = unsafe { libc::kill(self.child.id() as i32, signal) };
        assert_eq!(result, 0, "signal {signal}: {}", std::io::Error::last_os_error());
    }

    /// What its output file has once that is as wanted, or at the limit.
    pub fn output_so_far(&self, limit: Duration, wanted: impl Fn(&str) -> bool) -> String {
        let start = Instant::now();
        loop {
            let text = std::fs::read_to_string(&self.output).unwrap_or_default();
            if wanted(&text) || start.elapsed() > limit {
                return text;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Ends it as Ctrl-C does, and reads what it wrote. It must end with status 0 and leave nothing behind.
    pub fn stop(self) -> Report {
        self.signal(libc::SIGINT);
        self.finish_well()
    }

    /// As [`Self::stop`], but reads no more than the first and the last line; the others are for `look`, which gets the file.
    pub fn stop_unread<T>(mut self, look: impl FnOnce(&Path) -> T) -> (Report, T) {
        self.signal(libc::SIGINT);
        let (status, stderr) = self.ended();
        assert!(status.success(), "{:?}: {status}\n{stderr}", self.arguments);
        let file = File::open(&self.output).unwrap_or_else(|e| panic!("{}: {e}", self.output.display()));
        let mut lines = BufReader::new(file).lines().map(|line| line.unwrap_or_else(|e| panic!("{e}")));
        let first = lines.next().unwrap_or_default();
        let last = lines.last().unwrap_or_default();
        bpf::gone_within(Duration::from_secs(1), "after the injector's end");
        (Report::parse(&format!("{first}\n{last}\n"), &stderr), look(&self.output))
    }

    /// Waits for its end, which must be a good one, and reads what it wrote.
    pub fn finish_well(self) -> Report {
        let arguments = self.arguments.clone();
        let finished = self.finish();
        assert!(finished.status.success(), "injector {arguments:?}: {}\n{}", finished.status, finished.stderr);
        finished.report
    }

    /// Waits for its end and reads what it wrote. It must leave nothing in the kernel.
    pub fn finish(self) -> Finished {
        let finished = self.finish_unchecked();
        bpf::gone_within(Duration::from_secs(1), "after the injector's end");
        finished
    }

    /// As [`Self::finish`], while another run goes on.
    pub fn finish_unchecked(mut self) -> Finished {
        let (status, stderr) = self.ended();
        let text = std::fs::read_to_string(&self.output)
            .unwrap_or_else(|e| panic!("{}: {e}; it ended with {status}\n{stderr}", self.output.display()));
        let report = Report::parse(&text, &stderr);
        Finished { status, stderr, report }
    }

    /// Waits for its end: the status, and what it said.
    fn ended(&mut self) -> (ExitStatus, String) {
        let status = shell::wait(&mut self.child, STOP_LIMIT);
        let stderr = self.stderr.text();
        let Some(status) = status else {
            panic!("injector {:?} does not end within {STOP_LIMIT:?}\n{stderr}", self.arguments);
        };
        (status, stderr)
    }

    /// Kills it and waits until the process is gone. What is in the kernel is not looked at.
    pub fn kill(mut self) {
        self.signal(libc::SIGKILL);
        let status = self.child.wait().unwrap_or_else(|e| panic!("waiting: {e}"));
        assert!(
            status.signal() == Some(libc::SIGKILL) || status.success(),
            "killed, and it ended with {status}\n{}",
            self.stderr.text()
        );
    }
}

impl Drop for Injector {
    fn drop(&mut self) {
        // A test that panics must not leave the next one a kernel whose allocations fail.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.output);
    }
}

/// Runs it to its end with `--format json` into a file.
pub fn run(arguments: &[&str]) -> Finished {
    Injector::spawn(arguments).finish()
}

/// Runs it with arguments that it must refuse: exit code, one line on stderr that has all of `says`, no output, and
/// nothing in the kernel.
pub fn refused(arguments: &[&str], code: i32, says: &[&str]) {
    let output = shell::output(INJECTOR, arguments, START_LIMIT);
    let stderr = String::from_utf8_lossy(&output.stderr);
    let what = format!("injector {arguments:?} ended with {}, and said:\n{stderr}", output.status);
    assert_eq!(output.status.code(), Some(code), "{what}");
    assert!(output.stdout.is_empty(), "{what}\nand on stdout: {}", String::from_utf8_lossy(&output.stdout));
    assert_eq!(stderr.lines().count(), 1, "not one line: {what}");
    for word in says {
        assert!(stderr.contains(word), "{word:?} is missing: {what}");
    }
    let left = bpf::ours();
    assert!(left.is_empty(), "{what}\nand left {left:?}");
}

/// A file for output that no other test has.
pub fn scratch(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("injector-test-{}-{name}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    // Fails early, and here, when there is no room or no permission.
    drop(File::create(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display())));
    path
}
